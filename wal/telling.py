"""Records as people are told them: kind, call, name, attempt, and the rest as data, instants as RFC 3339. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import msgspec
from msgspec import Raw

from wal.records import Fact
from wal.views import HistoryRecord, rfc3339

BEGINNINGS = frozenset({"run_started", "run_continued"})
"""The kinds with which the history of a run's code begins."""
_INSTANTS = ("start_at", "retry_at", "due_at", "expires_at", "until")
_OUTSIDE_DATA = ("kind", "key", "name", "attempt")

_TOKEN_CREATED = Raw(b'"token_created"')

_fields_decoder = msgspec.json.Decoder(dict[str, Raw])
_encoder = msgspec.json.Encoder()


class _Heading(msgspec.Struct):
    kind: str
    key: str = ""
    name: str | None = None
    attempt: int | None = None


class _Forked(msgspec.Struct):
    past: list[tuple[int, int, Raw]] = []


def heading(record: Fact) -> tuple[str, str | None, str | None, int | None]:
    """The kind of a record, its call, name and attempt."""
    return (
        record.kind,
        getattr(record, "key", None) or None,
        getattr(record, "name", None),
        getattr(record, "attempt", None),
    )


def record_data(body: str | Raw) -> Raw:
    """What a record says beside its place, kind, call, name and attempt, as a JSON object; instants as RFC 3339. What a
    token is recognised by is for the daemon alone."""
    fields = _fields_decoder.decode(body)
    if fields.get("kind") == _TOKEN_CREATED:
        fields.pop("digest", None)
    for name in _OUTSIDE_DATA:
        fields.pop(name, None)
    for name in _INSTANTS:
        if name in fields:
            fields[name] = Raw(_encoder.encode(rfc3339(msgspec.json.decode(fields[name]))))
    return Raw(_encoder.encode(fields))


def past_of(data: Raw | bytes) -> list[HistoryRecord]:
    """The past that a fork took over, out of the data of its `run_forked`: records of the run that it was forked from,
    with their seqs and instants there, the one with which that began before all. In the past of a fork of a fork
    another `run_started` says whose the records are from there on. Kinds of a later version are told as they are.
    Raises `msgspec.DecodeError` where this is no such data."""
    return [_told(*one) for one in msgspec.json.decode(data, type=_Forked).past]


def _told(seq: int, at: int, body: Raw) -> HistoryRecord:
    said = msgspec.json.decode(body, type=_Heading)
    return HistoryRecord(
        seq, rfc3339(at) or "", said.kind, said.key or None, said.name, said.attempt, record_data(body)
    )


def with_past(history: Iterable[HistoryRecord]) -> Iterator[HistoryRecord]:
    """A history in which what a fork took over stands before the record that says so, without its beginnings."""
    for record in history:
        if record.kind == "run_forked":
            yield from (one for one in past_of(record.data) if one.kind not in BEGINNINGS)
        yield record
