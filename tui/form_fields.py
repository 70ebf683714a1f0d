"""An approval's form as fields to fill in, and what was filled in as the data to send. Pure.

The form is JSON Schema as msgspec writes it. What has no simple field (lists, objects, unions) is typed as JSON. The
daemon checks the data against the workflow's own type; here only what could not be sent at all is told.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

import msgspec
from msgspec import Raw

from tui.format import cells, safe

FIELDS_MAX = 40
"""A form of more fields is filled in with the command line, where it can be a file."""
CHOICE_CELLS_MAX = 48
WHOLE = ""
"""The name of the one field of a form that is no object."""
TEXT, INTEGER, NUMBER, CHOICE, JSON = "text", "integer", "number", "choice", "json"


class FormField(NamedTuple):
    """One field. `options` are the values of a CHOICE as JSON, each with what stands there for it."""

    name: str
    kind: str
    required: bool
    hint: str = ""
    options: tuple[tuple[str, str], ...] = ()


class BadForm(ValueError):
    """What was filled in cannot be sent; the text names the field and what it wants."""


def fields_of(form: Raw) -> list[FormField]:
    """The fields of a form, in its order; none for an approval without one. Raises `BadForm` for one that cannot be
    filled in here."""
    try:
        schema = msgspec.json.decode(form)
    except msgspec.DecodeError:
        raise BadForm("the form is not JSON") from None
    if schema is None:
        return []
    resolved = _resolved(schema, schema)
    properties = resolved.get("properties")
    if not isinstance(properties, dict):
        return [_field(WHOLE, resolved, schema, required=True)]
    if len(properties) > FIELDS_MAX:
        raise BadForm(
            f"a form of {len(properties)} fields is too long for a card: use `approvals approve --data @FILE`"
        )
    required = resolved.get("required")
    wanted = set(required) if isinstance(required, list) else set()
    return [_field(str(name), each, schema, required=name in wanted) for name, each in properties.items()]


def data_of(fields: list[FormField], filled_in: Mapping[str, str]) -> Any:
    """The data to send, out of what stands in the fields by name; fields left empty are left out. Raises `BadForm`."""
    values: dict[str, Any] = {}
    for field in fields:
        text = filled_in.get(field.name, "").strip()
        if text:
            values[field.name] = _value(field, text)
        elif field.required:
            raise BadForm(f"{safe(field.name) or 'the form'} is required")
    if len(fields) == 1 and fields[0].name == WHOLE:
        return values[WHOLE]
    return values if fields else None


def _value(field: FormField, text: str) -> Any:
    name = safe(field.name) or "the form"
    if field.kind == TEXT:
        return text
    try:
        if field.kind == INTEGER:
            return int(text)
        if field.kind == NUMBER:
            return _number(text)
        return msgspec.json.decode(text)
    except (ValueError, msgspec.DecodeError):
        wants = {INTEGER: "a whole number", NUMBER: "a number"}.get(field.kind, "JSON")
        raise BadForm(f"{name} must be {wants}") from None


def _number(text: str) -> float:
    number = float(text)
    if number in (float("inf"), float("-inf")) or number != number:
        raise ValueError(text)
    return number


def _resolved(schema: Any, root: Any) -> dict[str, Any]:
    """The schema itself, or what its reference within the document names; of a union with null the other half."""
    for _ in range(8):  # a reference to a reference; never a circle
        if not isinstance(schema, dict):
            return {}
        reference, union = schema.get("$ref"), schema.get("anyOf")
        if isinstance(reference, str) and isinstance(root, dict):
            definitions = root.get("$defs")
            schema = definitions.get(reference.removeprefix("#/$defs/")) if isinstance(definitions, dict) else None
            continue
        others = [each for each in union if each != {"type": "null"}] if isinstance(union, list) else []
        if len(others) == 1 and isinstance(others[0], dict):
            schema = {**schema, **others[0]}
            schema.pop("anyOf")
            continue
        return schema
    return {}


def _field(name: str, schema: Any, root: Any, *, required: bool) -> FormField:
    told = _resolved(schema, root)
    kind = told.get("type")
    hint = _hint(told, required)
    if kind == "boolean":
        return FormField(name, CHOICE, required, hint, (("true", "yes"), ("false", "no")))
    options = told.get("enum")
    if isinstance(options, list) and options:
        pairs = tuple((_json(value), value if isinstance(value, str) else _json(value)) for value in options)
        if sum(cells(safe(shown)) + 8 for _, shown in pairs) <= CHOICE_CELLS_MAX:
            return FormField(name, CHOICE, required, hint, pairs)
        listed = " | ".join(shown for _, shown in pairs)
        texts = all(isinstance(value, str) for value in options)
        return FormField(name, TEXT if texts else JSON, required, f"{listed}  {hint}".strip())
    simple = {"string": TEXT, "integer": INTEGER, "number": NUMBER}.get(str(kind), JSON)
    return FormField(name, simple, required, hint)


def _hint(schema: dict[str, Any], required: bool) -> str:
    """What the field wants, in a few words."""
    words = [str(schema.get("type") or schema.get("format") or "JSON") if "enum" not in schema else ""]
    for key, sign in (("minimum", ">="), ("exclusiveMinimum", ">"), ("maximum", "<="), ("exclusiveMaximum", "<")):
        if key in schema:
            words.append(f"{sign} {schema[key]}")
    if "pattern" in schema:
        words.append(f"like {schema['pattern']}")
    if not required and "default" in schema:
        words.append(f"empty is {_json(schema['default'])}")
    return " ".join(word for word in words if word)


def _json(value: Any) -> str:
    return msgspec.json.encode(value).decode()
