"""Reads a run's history whole, in pages, as far as it is held; and keeps those that were looked at last."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from tui.history_fold import History
from tui.model import RunNote
from tui.run_text import note_of
from tui.source import Source

PAGE_RECORDS = 500
HELD_BYTES_MAX, NOTES_HELD_MAX = 8 * 1024**2, 2_000
"""So much of records in all is kept beside the history that was read last; decoded they take about four times that."""

Ask = Callable[[Callable[[Source], Awaitable[History]]], Awaitable[History | None]]


async def read_history(source: Source, run_id: str, history: History | None = None) -> History:
    """The records of a run, or those after the ones that are held. Raises what the source raises."""
    history = history if history is not None else History()
    after: int | None = history.records[-1].seq if history.records else 0
    while after is not None:
        page = await source.history(run_id, after=after, limit=PAGE_RECORDS)
        history.append(page.items)
        after = None if page.next is None else int(page.next)
        if after is not None and history.full:
            history.truncated = True
            break
    return history


class HistoryCache:
    """The histories that were looked at last, and of many more runs only where they stand."""

    def __init__(self, ask: Ask) -> None:
        """`ask` asks the source, and gives None (having said why) where there is no answer."""
        self._ask = ask
        self._held: dict[str, History] = {}
        self._notes: dict[str, tuple[int, RunNote]] = {}

    def clear(self) -> None:
        """Forget all: a run of the same id may be another one."""
        self._held.clear()
        self._notes.clear()

    def get(self, run_id: str) -> History | None:
        """A history that is held."""
        return self._held.get(run_id)

    def note(self, run_id: str, seq: int) -> RunNote | None:
        """Where a run stood when its history was read, if that was at this seq or later."""
        read_at, note = self._notes.get(run_id, (-1, None))
        return note if read_at >= seq else None

    def current(self, run_id: str, seq: int) -> bool:
        """Whether the history is held as far as this seq, or as far as it ever will be."""
        history = self._held.get(run_id)
        return history is not None and (history.truncated or history.last.seq >= seq)

    async def read(self, run_id: str, seq: int) -> History | None:
        """A history, or what is new of one that is held; it is kept. `seq` is what the run's view says is its last."""
        held = self._held.pop(run_id, None)
        history = await self._ask(lambda source: read_history(source, run_id, held))
        if history is None:
            return held
        self._held[run_id] = history
        self._notes.pop(run_id, None)
        self._notes[run_id] = max(seq, history.last.seq), note_of(history.last)
        total = sum(held.size for held in self._held.values())
        while total > HELD_BYTES_MAX and len(self._held) > 1:
            total -= self._held.pop(next(iter(self._held))).size
        while len(self._notes) > NOTES_HELD_MAX:
            del self._notes[next(iter(self._notes))]
        return history
