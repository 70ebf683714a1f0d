"""What a type would have taken at a path, where it takes one of a few: msgspec names the wrong value alone."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import msgspec
from msgspec import inspect

SHOWN_MAX = 20
_WRONG = re.compile(r"Invalid enum value .* - at `[$?]?(?P<path>[^`]*)`\Z", re.DOTALL)
_PART = re.compile(r"\.(?P<name>[^.\[\]]+)|\[(?P<index>\d+|\.\.\.)\]")


def with_choices(text: str, kind: Any) -> str:
    """A decoder's complaint about a value of an enumeration, and what may stand there; any other as it is.

    `kind` is the type that the decoder is for. A place that cannot be followed to (a key, a type that inspection does
    not know) leaves the complaint as it was.
    """
    found = _WRONG.match(text)
    if found is None:
        return text
    try:
        at = [inspect.type_info(kind)]
    except TypeError:
        return text
    for part in _PART.finditer(found["path"]):
        at = [inner for info in at for inner in _inside(info, part)]
    allowed = list(dict.fromkeys(value for info in at for value in _values(info)))
    if not allowed:
        return text
    shown = ", ".join(allowed[:SHOWN_MAX]) + (", .." if len(allowed) > SHOWN_MAX else "")
    complaint, _, place = text.rpartition(" - at `")
    return f"{complaint}, expected one of {shown} - at `{place}"


def _inside(info: inspect.Type, part: re.Match[str]) -> Iterator[inspect.Type]:
    """The types one step further: of a field, or of the items of a collection."""
    match info:
        case inspect.UnionType():
            for each in info.types:
                yield from _inside(each, part)
        case inspect.Metadata():
            yield from _inside(info.type, part)
        case inspect.StructType() | inspect.DataclassType() | inspect.TypedDictType():
            yield from (field.type for field in info.fields if field.encode_name == part["name"])
        case inspect.DictType():
            yield info.value_type
        case inspect.CollectionType():
            yield info.item_type
        case inspect.TupleType():
            yield from info.item_types[int(part["index"] or 0) :][:1]


def _values(info: inspect.Type) -> Iterator[str]:
    match info:
        case inspect.UnionType():
            for each in info.types:
                yield from _values(each)
        case inspect.Metadata():
            yield from _values(info.type)
        case inspect.LiteralType():
            yield from (repr(value) for value in info.values)
        case inspect.EnumType():
            yield from (repr(msgspec.to_builtins(member)) for member in info.cls)
        case inspect.IntType():
            yield "a whole number"
