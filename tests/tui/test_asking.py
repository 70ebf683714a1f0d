"""Finding out what became of a request whose answer was lost."""

from __future__ import annotations

import pytest

from tests.tui.fake_daemon import event
from tui import asking
from tui.asking import Unfindable, find_answer
from tui.source import Source
from wal.views import EventView

pytestmark = pytest.mark.anyio


class Journal:
    """A source that holds records and notes how far back it was read."""

    offline = False

    def __init__(self, events: list[EventView]) -> None:
        self.events = events
        self.asked: list[tuple[int, int]] = []

    async def runs(self, which: object, cursor: str | None = None, limit: int = 1) -> Journal:
        return self

    @property
    def seq(self) -> int:
        return self.events[-1].seq

    async def events_before(self, seq: int, limit: int = 200) -> list[EventView]:
        self.asked.append((seq, limit))
        return [event for event in self.events if seq - limit < event.seq <= seq]


def journal(count: int, *, answered_at: int | None = None) -> Journal:
    events = [event(seq, "step_completed", "r") for seq in range(1, count + 1)]
    if answered_at is not None:
        events[answered_at - 1] = event(
            answered_at, "request_answered", idempotency_key="ours", body={"seq": answered_at - 1, "id": "r"}
        )
    return Journal(events)


async def find(source: Journal, after: int) -> asking.Found:
    found: Source = source  # type: ignore[assignment]
    return await find_answer(found, "ours", after)


async def test_an_answer_is_found_by_its_key_however_far_back() -> None:
    """Page by page back to where the request was sent; what it gives is the seq of what was asked."""
    source = journal(1_700, answered_at=130)
    assert (await find(source, 100)).seq == 129
    assert source.asked == [(1700, 500), (1200, 500), (700, 500), (200, 100)]


async def test_what_was_written_before_the_request_is_not_read() -> None:
    """A key that stands before the request was sent is none of ours, and is not looked for."""
    source = journal(300, answered_at=50)
    assert await find(source, 250) == asking.Found(None, 300, {})
    assert source.asked == [(300, 50)]


async def test_the_search_has_an_end() -> None:
    """Where too much was written since, the card says so instead of reading for minutes."""
    with pytest.raises(Unfindable, match="look at the history"):
        await find(journal(asking.LOOK_BACK_RECORDS_MAX + 2), 1)
