"""Records as JSON text and back, with old kinds brought up to date on the way in.

What is stored is what msgspec encodes: an object with `kind` and the fields that differ from their defaults. A kind
never changes its meaning. When one no longer fits, a new kind replaces it and an upcaster here, keyed by the old
kind, turns the old object into the new one each time that it is read; the file itself is never rewritten.
"""

from __future__ import annotations

import re
from array import array
from collections.abc import Callable, Mapping
from itertools import accumulate
from typing import Any

import msgspec

from wal.errors import JournalCorrupt
from wal.records import Entry, Record

Upcaster = Callable[[dict[str, Any]], dict[str, Any]]

UPCASTERS: Mapping[str, Upcaster] = {}
"""Old kind -> function from its object to the object of a newer kind. Empty: version 1 has no past."""

UPCAST_STEPS_MAX = 100
"""More steps than this for one record can only be a circle of upcasters."""

PAYLOAD_DEPTH_MAX = 100
"""How deep a payload may nest. Decoders recurse, and stop at a depth that depends on who calls them."""

_KIND = re.compile(r'\{"kind":"([a-z_]+)"')
_STRING = re.compile(rb'"(?:[^"\\]|\\.)*"')
_UP_AND_DOWN = bytes.maketrans(b"[{]}", b"\x01\x01\xff\xff")  # +1 and -1 as signed bytes
_NO_BRACKETS = bytes(set(range(256)) - set(b"[]{}"))

_encoder = msgspec.json.Encoder()
_decoder = msgspec.json.Decoder(Record)


encode_record: Callable[[Record], bytes] = _encoder.encode
"""A record as the JSON that the journal keeps (UTF-8)."""


def decode_record(body: str | bytes, upcasters: Mapping[str, Upcaster] = UPCASTERS) -> Record:
    """The record in a stored body. Raises `JournalCorrupt` if it is no record that this version knows."""
    try:
        return _decoder.decode(body)  # type: ignore[no-any-return]
    except msgspec.MsgspecError as error:
        return _decode_old(body, upcasters, error)


def decode_entry(seq: int, run_key: int, prev_seq: int, at: int, body: str | bytes) -> Entry:
    """One row of the table `records` as an entry. Raises `JournalCorrupt` as `decode_record` does."""
    return Entry(seq, run_key, prev_seq, at, decode_record(body))


def kind_of(body: str) -> str | None:
    """The kind that a stored body begins with, without parsing the rest; None if it begins otherwise."""
    match = _KIND.match(body)
    return match and match[1]


def payload_fault(payload: bytes) -> str | None:
    """Why JSON that msgspec took as `Raw` cannot be kept, as a sentence, or None. To be asked at every door through
    which payloads come in as bytes: msgspec skips over raw text without looking whether it is UTF-8, and one record
    that cannot be stored ends the writer; one that nests almost too deeply to be read there is too deep elsewhere."""
    try:
        payload.decode()
    except UnicodeDecodeError as error:
        return f"is not UTF-8 (byte {error.start})"
    if payload.count(b"[") + payload.count(b"{") <= PAYLOAD_DEPTH_MAX:
        return None  # nearly always: too few brackets to be deep
    steps = array("b", _STRING.sub(b"", payload).translate(_UP_AND_DOWN, _NO_BRACKETS))
    deepest = max(accumulate(steps), default=0)
    return f"nests deeper than {PAYLOAD_DEPTH_MAX} levels" if deepest > PAYLOAD_DEPTH_MAX else None


def _decode_old(body: str | bytes, upcasters: Mapping[str, Upcaster], cause: Exception) -> Record:
    """The slow path: only for kinds that are not of today."""
    try:
        fields: dict[str, Any] = _up_to_date(msgspec.json.decode(body, type=dict[str, Any]), upcasters)
        if fields.get("kind") == "run_forked":  # it holds records of another run
            fields["past"] = [[seq, at, _up_to_date(past, upcasters)] for seq, at, past in fields.get("past", ())]
        # By way of JSON, because payloads are kept as raw JSON text.
        return _decoder.decode(_encoder.encode(fields))  # type: ignore[no-any-return]
    except msgspec.MsgspecError:
        raise JournalCorrupt(f"a stored record cannot be read: {cause}") from cause


def _up_to_date(fields: dict[str, Any], upcasters: Mapping[str, Upcaster]) -> dict[str, Any]:
    for _ in range(UPCAST_STEPS_MAX):
        upcaster = upcasters.get(str(fields.get("kind")))
        if upcaster is None:
            return fields
        fields = upcaster(fields)
    raise JournalCorrupt(f"the upcasters of kind {fields.get('kind')!r} do not come to an end")
