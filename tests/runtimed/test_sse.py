"""Server-sent events: whole events out of any pieces of bytes."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from runtimed import sse
from runtimed.sse import Event, Parser, TooLarge


@pytest.mark.parametrize("end", [b"\n", b"\r\n", b"\r"])
def test_fields_and_line_ends(end: bytes) -> None:
    """id, event and data are read with each line end; comments and unknown fields are not."""
    lines = [
        b": hello",
        b"id: 7",
        b"event: step_failed",
        b"data: a",
        b"data:b",
        b"odd: x",
        b"",
        b"data: next",
        b"",
        b": end",
    ]

    events = Parser().feed(end.join(lines) + end + b"x")

    assert events == [Event("7", "step_failed", b"a\nb"), Event("7", "message", b"next")]


def test_an_event_is_whole_or_not_there() -> None:
    """What the stream's end cut off is no event."""
    parser = Parser()

    assert parser.feed(b"id: 1\ndata: x\n") == []
    assert parser.feed(b"\n") == [Event("1", "message", b"x")]


@given(st.binary(max_size=60), st.lists(st.integers(0, 59), max_size=5))
def test_pieces_make_no_difference(tail: bytes, cuts: list[int]) -> None:
    """However the bytes are cut, the same events come out."""
    data = b": c\r\nid: 1\r\ndata: a\r\n\r\n" + tail + b"\n\ndata: z\n\n"
    places = sorted({0, *cuts, len(data)})
    parser = Parser()

    pieces = [event for a, b in itertools.pairwise(places) for event in parser.feed(data[a:b])]

    assert pieces == Parser().feed(data)


def test_what_has_no_end_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """A line or an event that grows for ever does not fill memory."""
    monkeypatch.setattr(sse, "EVENT_MAX_BYTES", 100)
    with pytest.raises(TooLarge):
        Parser().feed(b"data: " + b"x" * 200)
    with pytest.raises(TooLarge):
        Parser().feed(b"data: 0123456789\n" * 20)


def test_a_large_event_in_many_pieces_is_looked_through_once() -> None:
    """A line of many megabytes, as that of a fork with a long past, is not searched and copied anew for each piece."""
    parser, piece = Parser(), Counted(b"x" * 1_000)
    parser.feed(b"data: ")

    assert not any(parser.feed(piece) for _ in range(50))
    assert [event.data for event in parser.feed(b"\n\n")] == [b"x" * 50_000]
    assert Counted.added == 0


class Counted(bytes):
    """Counts how often it is added to something that was kept."""

    added = 0

    def __radd__(self, other: bytes) -> bytes:
        Counted.added += 1
        return bytes(other) + bytes(self)
