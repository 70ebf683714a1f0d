"""`/openapi.json`: OpenAPI 3.1 out of the route table and the wire types."""

from __future__ import annotations

import inspect
import re
from collections.abc import Iterable
from functools import cache
from typing import TYPE_CHECKING, Any, Final, get_args, get_origin

import msgspec
from msgspec import Raw

from runtimed import wire
from runtimed.http.replies import Reply, encode
from runtimed.http.requests import Request
from runtimed.http.surface import RuntimeSurface

if TYPE_CHECKING:
    from runtimed.http.app import Route

REF: Final = "#/components/schemas/{name}"
KEYED: Final = "POST"
BEARER: Final = {"type": "http", "scheme": "bearer", "description": "Over TCP; the unix socket knows its peers."}
_PARAM: Final = re.compile(r"\{(\w+)(?::\w+)?\}")


async def show(rt: RuntimeSurface, request: Request) -> Reply:
    """This document."""
    return Reply(200, _rendered())


@cache
def _rendered() -> bytes:
    from runtimed.http.app import ROUTES  # here, because the table has this handler in it

    return encode(document(ROUTES))


def document(routes: Iterable[Route]) -> dict[str, Any]:
    """The whole document for a table of routes."""
    routes = tuple(routes)
    schemas = _Schemas(routes)
    paths: dict[str, dict[str, Any]] = {}
    for route in routes:
        path = _PARAM.sub(r"{\1}", route.path)
        paths.setdefault(path, {})[route.method.lower()] = _operation(route, schemas)
    return {
        "openapi": "3.1.0",
        "info": {"title": "runtimed", "version": "1", "description": "Durable execution for one host."},
        "paths": paths,
        "components": {"schemas": schemas.components, "securitySchemes": {"bearer": BEARER}},
    }


class _Schemas:
    """The schemas of all types that the routes name, made once."""

    def __init__(self, routes: Iterable[Route]) -> None:
        named = [wire.Problem]
        for route in routes:
            for kind in (route.request, *route.answers.values()):
                named += _alternatives(kind)
        kinds = list(dict.fromkeys(named))
        schemas, self.components = msgspec.json.schema_components(map(_without_raw, kinds), ref_template=REF)
        self._schemas = dict(zip(kinds, schemas, strict=True))

    def of(self, kind: Any) -> Any:
        """The schema of a type, or of any of several: references for Structs."""
        schemas = [self._schemas[each] for each in _alternatives(kind)]
        return schemas[0] if len(schemas) == 1 else {"anyOf": schemas}


def _alternatives(kind: Any) -> tuple[Any, ...]:
    return () if kind is None else kind if isinstance(kind, tuple) else (kind,)


def _operation(route: Route, schemas: _Schemas) -> dict[str, Any]:
    doc = inspect.getdoc(route.handler) or ""
    answers = {str(status): _answer(route, kind, schemas) for status, kind in route.answers.items()}
    problem = {"application/problem+json": {"schema": schemas.of(wire.Problem)}}
    operation: dict[str, Any] = {
        "summary": doc.split("\n")[0],
        "operationId": f"{route.method.lower()}{re.sub(r'[^A-Za-z0-9]+', '_', route.path).rstrip('_')}",
        "x-level": route.level.name.lower(),
        "parameters": [*_path_parameters(route), *_query_parameters(route), *_header_parameters(route)],
        "responses": answers | {"default": {"description": "A problem.", "content": problem}},
    }
    if route.level.name != "PUBLIC":
        operation["security"] = [{"bearer": []}]
    if route.request is not None:
        content = {"application/json": {"schema": schemas.of(route.request)}}
        operation["requestBody"] = {"content": content, "required": _required(route.request)}
    return operation


def _answer(route: Route, kind: Any, schemas: _Schemas) -> dict[str, Any]:
    schema = {"type": "string"} if kind is None and route.media != "application/json" else {}
    return {
        "description": "As asked.",
        "content": {route.media: {"schema": schema if kind is None else schemas.of(kind)}},
    }


def _required(kind: Any) -> bool:
    """An empty body counts as `{}`, so it is required only where a field is."""
    if not (isinstance(kind, type) and issubclass(kind, msgspec.Struct)):
        return True
    return any(field.required for field in msgspec.structs.fields(kind))


def _path_parameters(route: Route) -> list[dict[str, Any]]:
    return [
        {"name": name, "in": "path", "required": True, "schema": {"type": "string"}}
        for name in _PARAM.findall(route.path)
    ]


def _query_parameters(route: Route) -> list[dict[str, Any]]:
    parameters: list[dict[str, Any]] = []
    for field in msgspec.structs.fields(route.query):
        parameters.append({"name": field.encode_name, "in": "query", "schema": msgspec.json.schema(field.type)})
    if route.query is wire.RunsQuery:
        schema = {"type": "object", "additionalProperties": {"type": "string"}}
        parameters.append({"name": "attr", "in": "query", "description": "attr.NAME=VALUE", "schema": schema})
    return parameters


def _header_parameters(route: Route) -> list[dict[str, Any]]:
    names = []
    if route.method not in ("GET", "HEAD") and route.level.name != "PUBLIC":
        names.append("Runtimed-Reason")
    if route.method == KEYED:
        names.append("Idempotency-Key")
    if route.path.startswith("/v1/state/") and route.method in ("PUT", "DELETE"):
        names += ["If-Match", "If-None-Match"]
    if route.query is wire.EventsQuery:
        names.append("Last-Event-ID")
    return [{"name": name, "in": "header", "schema": {"type": "string"}} for name in names]


@cache
def _without_raw(kind: Any) -> Any:
    """A Struct whose `Raw` fields, and those of what it lists, have no `Raw` default: msgspec cannot write one into a
    schema."""
    if get_origin(kind) is list:
        return list[_without_raw(get_args(kind)[0])]  # type: ignore[misc] # a type made at run time
    if not (isinstance(kind, type) and issubclass(kind, msgspec.Struct)):
        return kind
    fields = msgspec.structs.fields(kind)
    if not any(isinstance(field.default, Raw) or _without_raw(field.type) != field.type for field in fields):
        return kind
    bare = [(f.name, Any, None) if f.type is Raw and not f.required else _same(f) for f in fields]
    forbid = kind.__struct_config__.forbid_unknown_fields
    made = msgspec.defstruct(kind.__name__, bare, kw_only=True, forbid_unknown_fields=forbid)
    made.__doc__ = kind.__doc__
    return made


def _same(field: msgspec.structs.FieldInfo) -> Any:
    if field.required:
        return (field.name, _without_raw(field.type))
    if field.default is not msgspec.NODEFAULT:
        return (field.name, field.type, field.default)
    return (field.name, field.type, msgspec.field(default_factory=field.default_factory))
