"""The dedup key of a record that is raw JSON, read without decoding the rest of the record."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import msgspec
from msgspec import Raw

Reader = Callable[[Raw], str]
FIELDS_MAX = 16

_encode = msgspec.json.encode


class NoKey(ValueError):
    """A record has no key, or one that is neither text nor a whole number."""


def key_reader(paths: Sequence[Sequence[str]]) -> Reader:
    """A function that reads the key at these paths (each a list of names, outermost first) from a record.

    One field gives its text as it is; several are joined as a JSON array, so that no two different keys are one text.
    The function raises NoKey. Raises ValueError for no path or more than `FIELDS_MAX`.
    """
    if not 0 < len(paths) <= FIELDS_MAX or not all(paths):
        raise ValueError(f"a key has 1 to {FIELDS_MAX} fields, not {len(paths)}")
    refusal = f"its key {', '.join('.'.join(path) for path in paths)} is missing, or neither text nor a whole number"
    values = _flat(paths) if all(len(path) == 1 for path in paths) else _deep(paths)

    def read_one(record: Raw) -> str:
        try:
            return str(values(record)[0])
        except (msgspec.MsgspecError, LookupError, TypeError):
            raise NoKey(refusal) from None

    def read_all(record: Raw) -> str:
        try:
            return _encode(values(record)).decode()
        except (msgspec.MsgspecError, LookupError, TypeError):
            raise NoKey(refusal) from None

    return read_one if len(paths) == 1 else read_all


def _flat(paths: Sequence[Sequence[str]]) -> Callable[[Raw], tuple[Any, ...]]:
    """Fields of the record itself: everything else in it is skipped, which is most of the speed."""
    names = [f"field_{place}" for place in range(len(paths))]
    rename = dict(zip(names, (path[0] for path in paths), strict=True))
    decode = msgspec.json.Decoder(msgspec.defstruct("Key", [(name, int | str) for name in names], rename=rename)).decode
    if len(paths) == 1:
        return lambda record: (decode(record).field_0,)  # type: ignore[attr-defined]
    return lambda record: msgspec.structs.astuple(decode(record))


def _deep(paths: Sequence[Sequence[str]]) -> Callable[[Raw], tuple[Any, ...]]:
    def values(record: Raw) -> tuple[Any, ...]:
        whole = msgspec.json.decode(record)
        return tuple([_walk(whole, path) for path in paths])

    return values


def _walk(value: Any, path: Sequence[str]) -> int | str:
    for name in path:
        value = value[name]
    if isinstance(value, bool) or not isinstance(value, int | str):
        raise TypeError(name)
    return value
