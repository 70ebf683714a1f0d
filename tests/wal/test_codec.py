"""Records as JSON and back."""

from __future__ import annotations

from typing import Any, get_args, get_type_hints

import msgspec
import pytest
from msgspec import Raw

from wal import records
from wal.codec import decode_record, encode_record, kind_of, payload_fault
from wal.errors import JournalCorrupt
from wal.records import RECORD_TYPES, Entry, Fact

SAMPLES: dict[Any, Any] = {
    str: "text",
    int: 7,
    float: 1.5,
    bool: True,
    Raw: Raw(b'{ "a": [1, "\\u0000"] }'),
    records.ErrorData: records.ErrorData("ValueError", "no", "charge", "Traceback"),
    dict[str, Any]: {"city": "Rome"},
    list[str]: ["ops"],
    list[int]: [3, 4],
    dict[str, list[Raw]]: {"go": [Raw(b'{ "x": 1}')]},
    records.RunStarted: records.RunStarted("order-1", "checkout", Raw(b'{ "cents": 1 }')),
    dict[str, str]: {"content-type": "application/json"},
    dict[str, int]: {"tok1": 7},
    list[records.StoredItem]: [records.StoredItem("k1", Raw(b'{"id":1}'), True)],
    list[records.PastRecord]: [records.PastRecord(3, 5, records.StepCompleted("0", "charge", Raw(b'"ch_1"')))],
    list[records.OpenCallData]: [records.OpenCallData("0", "signal", "go")],
}


def sample(kind: type[Fact]) -> Fact:
    """A record of this type with every field away from its default."""
    hints = {name: hint for name, hint in get_type_hints(kind).items() if name in kind.__struct_fields__}
    values = {
        name: next(SAMPLES[one] for one in (hint, *get_args(hint)) if one in SAMPLES) for name, hint in hints.items()
    }
    return kind(**values)


def comparable(record: Fact) -> dict[str, Any]:
    return {
        name: bytes(value) if isinstance(value, Raw) else value
        for name, value in msgspec.structs.asdict(record).items()
    }


@pytest.mark.parametrize("kind", RECORD_TYPES, ids=lambda kind: kind.__name__)
def test_every_record_makes_the_round_trip(kind: type[Fact]) -> None:
    """Each kind comes back as it was, payloads letter for letter."""
    record = sample(kind)
    found = decode_record(encode_record(record))

    assert type(found) is kind
    assert comparable(found) == comparable(record)


@pytest.mark.parametrize("kind", RECORD_TYPES, ids=lambda kind: kind.__name__)
def test_the_kind_comes_first(kind: type[Fact]) -> None:
    """The body begins with the kind, which readers and other programs rely on."""
    record = sample(kind)
    assert encode_record(record).startswith(b'{"kind":"%s"' % record.kind.encode())
    assert len(record.kind) < 60


@pytest.mark.parametrize(
    ("payload", "fault"),
    [
        (b"1", None),
        ('"é"'.encode(), None),
        (b'"\xff"', "is not UTF-8 (byte 1)"),
        (b'"\xed\xa0\x80"', "is not UTF-8 (byte 1)"),
        (b"[" * 100 + b"]" * 100, None),
        (b"[" * 101 + b"]" * 101, "nests deeper than 100 levels"),
        (b'{"a":' * 101 + b"1" + b"}" * 101, "nests deeper than 100 levels"),
        (b"[" + b",".join([b"[]"] * 5_000) + b"]", None),
        (b'"' + b"[" * 500 + b'"', None),
        (b'["' + b"[" * 500 + b'\\"", "\\\\"]', None),
    ],
)
def test_what_msgspec_lets_pass_and_the_journal_cannot_keep(payload: bytes, fault: str | None) -> None:
    """Broken UTF-8 and bottomless nesting inside a raw payload are found at the door."""
    assert payload_fault(payload) == fault
    if fault is None:
        msgspec.json.decode(payload)
        record = records.RunCompleted(Raw(payload))
        assert bytes(decode_record(encode_record(record).decode()).result) == payload  # type: ignore[union-attr]


def test_the_kind_of_a_body_is_read_off_its_beginning() -> None:
    """The kind is known without parsing a payload, however deep."""
    deep = records.RunCompleted(Raw(b"[" * 5_000 + b"]" * 5_000))
    assert kind_of(encode_record(deep).decode()) == "run_completed"
    assert kind_of('{"other":1}') is None
    assert kind_of("") is None


def test_the_union_names_every_record() -> None:
    """A record that is declared can be committed: none is missing in the union."""
    assert set(get_args(records.Record)) == set(RECORD_TYPES)
    assert len({sample(kind).kind for kind in RECORD_TYPES}) == len(RECORD_TYPES)


def test_an_entry_makes_the_round_trip() -> None:
    """An entry on the wire is an array: seq, run_key, prev_seq, at, record."""
    entry = Entry(3, 2, 1, 9, records.RunPaused(by="uid:0"))
    text = msgspec.json.encode(entry)

    assert text == b'[3,2,1,9,{"kind":"run_paused","by":"uid:0"}]'
    assert msgspec.json.decode(text, type=Entry) == entry


@pytest.mark.parametrize(
    "body", ["", "null", "{}", '{"kind":"unheard_of"}', '{"kind":"run_paused","by":5}', '{"kind":"step_scheduled"}']
)
def test_what_is_no_record_is_corrupt(body: str) -> None:
    """A body that this version cannot read is never guessed at."""
    with pytest.raises(JournalCorrupt, match="cannot be read"):
        decode_record(body)


def test_an_old_kind_is_brought_up_to_date_step_by_step() -> None:
    """An upcaster leads to a newer kind, which may be old itself; payloads survive."""
    upcasters = {
        "run_halted": lambda fields: {**fields, "kind": "run_held"},
        "run_held": lambda fields: {"kind": "run_paused", "by": fields["who"]},
    }
    assert decode_record('{"kind":"run_halted","who":"uid:0"}', upcasters) == records.RunPaused(by="uid:0")


def test_the_old_kinds_in_the_past_of_a_fork_are_brought_up_to_date() -> None:
    """A fork holds records of another run, which are of that run's time."""
    body = '{"kind":"run_forked","from_id":"a","from_seq":3,"past":[[3,5,{"kind":"run_halted","who":"uid:0"}]]}'
    upcasters = {"run_halted": lambda fields: {"kind": "run_paused", "by": fields["who"]}}
    found = decode_record(body, upcasters)
    assert isinstance(found, records.RunForked)
    assert found.past == [records.PastRecord(3, 5, records.RunPaused(by="uid:0"))]


def test_upcasters_in_a_circle_are_found() -> None:
    """A circle of upcasters is an error, not an endless loop."""
    with pytest.raises(JournalCorrupt, match="do not come to an end"):
        decode_record('{"kind":"a"}', {"a": lambda fields: {"kind": "b"}, "b": lambda fields: {"kind": "a"}})
