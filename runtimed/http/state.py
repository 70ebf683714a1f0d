"""The state surface: versioned values under a scope and a key."""

from __future__ import annotations

import re
from typing import Final

import msgspec

from actors.errors import InvalidInput
from actors.messages import DeleteState, PutState, StateReply
from runtimed.http.errors import BadRequest, StateNotFound
from runtimed.http.replies import Header, Reply, encode, json_reply
from runtimed.http.requests import Request, check_utf8
from runtimed.http.surface import Reader, RuntimeSurface
from runtimed.wire import PAGE_ITEMS_MAX, PutStateRequest, StatesQuery
from wal.views import StateView, rfc3339

KEY_CHARACTERS_MAX: Final = 512

_PUT: Final = msgspec.json.Decoder(PutStateRequest)
_SCOPE: Final = re.compile(r"global|(tenant|session|run):[A-Za-z0-9._:-]{1,200}")
_VERSION: Final = re.compile(r'(")?([0-9]{1,18})(?(1)"|)')


async def show(rt: RuntimeSurface, request: Request) -> Reply:
    """A value with its version, which is its ETag too."""
    scope, key = _place(request)
    row = await rt.read(lambda reader: reader.state(scope, key))
    if row is None or row.deleted:
        raise StateNotFound(f"there is no {key!r} in {scope}")
    view = StateView(scope, key, row.value, row.version, row.tenant, row.classification, rfc3339(row.updated_at))
    return json_reply(view, 200, (_etag(view),))


async def list_states(rt: RuntimeSurface, request: Request) -> Reply:
    """A page of a scope's values, by key."""
    scope, query = _scope(request), request.query(StatesQuery)

    def page(reader: Reader) -> bytes:
        return encode(reader.states(scope, limit=min(query.limit, PAGE_ITEMS_MAX), cursor=query.cursor))

    return Reply(200, await rt.read(page))


async def put(rt: RuntimeSurface, request: Request) -> Reply:
    """Write a value; with `If-Match` only in place of that version, with `If-None-Match: *` only where none is."""
    scope, key = _place(request)
    expected = _expected(request)
    body = await request.body()
    check_utf8(body)
    value = request.decode(_PUT, body).value.copy()
    command = PutState(scope=scope, key=key, value=value, expect_version=expected, origin=request.origin())
    reply: StateReply = await rt.ask(command)
    return json_reply(reply.state, 201 if reply.created else 200, (_etag(reply.state),))


async def delete(rt: RuntimeSurface, request: Request) -> Reply:
    """Delete a value; with `If-Match` only that version."""
    scope, key = _place(request)
    await request.body()  # none is wanted; but it belongs to this request, and the caller is located with it
    command = DeleteState(scope=scope, key=key, expect_version=_expected(request), origin=request.origin())
    return json_reply(await rt.ask(command))


def _place(request: Request) -> tuple[str, str]:
    key = request.params["key"]
    if not 1 <= len(key) <= KEY_CHARACTERS_MAX or not key.isprintable() or "\ufffd" in key:
        raise InvalidInput(f"the key in the path is 1 to {KEY_CHARACTERS_MAX} printable characters in UTF-8")
    return _scope(request), key


def _scope(request: Request) -> str:
    scope = request.params["scope"]
    if _SCOPE.fullmatch(scope) is None:
        raise InvalidInput(f"{scope[:200]!r} in the path is no scope: global, tenant:ID, session:ID or run:ID")
    return scope


def _etag(view: StateView) -> Header:
    return (b"etag", b'"%d"' % view.version)


def _expected(request: Request) -> int | None:
    """The version that must be there, 0 for none, None for any."""
    match, none_match = request.header(b"if-match"), request.header(b"if-none-match")
    if none_match is not None:
        if none_match.strip() != "*" or match is not None:
            raise BadRequest("If-None-Match takes `*` alone, and stands alone")
        return 0
    if match is None:
        return None
    found = _VERSION.fullmatch(match.strip())
    if found is None:
        raise BadRequest("If-Match takes a version, for example 3")
    return int(found[2])
