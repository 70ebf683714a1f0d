"""The state surface: what is written and not durable yet lies over what the journal holds."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
from msgspec import Raw

from actors.flow.calls import ANY, StateGet, StatePut
from actors.state_table import StateTable
from tests.actors.hand_writer import HandWriter as Writer
from tests.actors.hand_writer import writer as writer
from wal import records as r


def get(item: str = "k") -> StateGet:
    call = StateGet("global", item, ANY, None, False)
    call.key = "0"
    return call


def put(value: Any, expect: int | None = None, item: str = "k") -> StatePut:
    call = StatePut("global", item, None if value is None else Raw(msgspec.json.encode(value)), expect)
    call.key = "0"
    return call


def write(table: StateTable, writer: Writer, call: StatePut) -> r.Fact:
    fact = table.answer(call, None, "platform")
    if isinstance(fact, r.StateWritten):
        table.written(fact, writer.append(fact))
    return fact


def read(table: StateTable, item: str = "k") -> tuple[bool, bytes, int]:
    fact = table.answer(get(item), None, "platform")
    assert isinstance(fact, r.StateRead)
    return fact.found, bytes(fact.value), fact.version


@pytest.mark.parametrize("durable", [False, True])
def test_a_write_is_seen_before_and_after_it_is_durable(writer: Writer, durable: bool) -> None:
    """Reads see the newest write at once, and the same from the journal; versions count writes and deletions."""
    table = StateTable(writer.journal.reader(), writer.when_durable)
    assert read(table) == (False, b"null", 0)
    for value, expected in (
        (1, (True, b"1", 1)),
        (2, (True, b"2", 2)),
        (None, (False, b"null", 0)),
        (4, (True, b"4", 4)),
    ):
        write(table, writer, put(value))
        if durable:
            writer.flush()
            assert table._undurable == {}
        assert read(table) == expected


def test_a_condition_is_checked_against_the_newest(writer: Writer) -> None:
    """A write that expects another version is refused, with what was found; 0 stands for absence, also deleted."""
    table = StateTable(writer.journal.reader(), writer.when_durable)
    assert isinstance(write(table, writer, put(1, expect=0)), r.StateWritten)
    refused = write(table, writer, put(2, expect=0))
    assert isinstance(refused, r.StateRefused) and (refused.expected, refused.found) == (0, 1)
    write(table, writer, put(None, expect=1))
    assert isinstance(write(table, writer, put(3, expect=0)), r.StateWritten)
    writer.flush()
    assert read(table) == (True, b"3", 3)


def test_a_later_write_outlives_the_durability_of_an_earlier(writer: Writer) -> None:
    """The first write becoming durable does not uncover it over the second, which is not."""
    table = StateTable(writer.journal.reader(), writer.when_durable)
    write(table, writer, put(1))
    then = writer.then.copy()
    write(table, writer, put(2))
    for _, call, args in then:
        call(*args)
    assert read(table) == (True, b"2", 2)
