"""The journal as rows by seq, the newest first: of any length, a window of it held, the rest asked for. Pure.

A row's place follows from its seq, so the list needs no index of what it does not hold. Records that are gone
(retention) keep their place and say so.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

from tui.format import Cell
from wal.views import EventView

PAGE_RECORDS = 200
HELD_MAX = 2_000


class SeqRows:
    """Rows 0, 1, .. are the seqs `head`, `head - 1`, ..; `cells` makes a record's cells, `gone` a missing one's."""

    def __init__(self, cells: Callable[[EventView], Sequence[Cell]], gone: Callable[[int], Sequence[Cell]]) -> None:
        self.head = 0
        self._events: dict[int, EventView] = {}
        self._gone: set[int] = set()
        self._cells, self._gone_cells = cells, gone

    def count(self) -> int:
        return self.head

    def key(self, number: int) -> str | None:
        seq = self.head - number
        return str(seq) if seq in self._events or seq in self._gone else None

    def cells(self, number: int) -> Sequence[Cell] | None:
        seq = self.head - number
        event = self._events.get(seq)
        if event is not None:
            return self._cells(event)
        return self._gone_cells(seq) if seq in self._gone else None

    def number_of(self, key: str) -> int | None:
        if not key.isdecimal() or not 1 <= int(key) <= self.head:
            return None
        return self.head - int(key)

    def event(self, key: str | None) -> EventView | None:
        """The record of a row, if it is held."""
        return self._events.get(int(key)) if key is not None and key.isdecimal() else None

    def wanted(self, first: int, last: int, coming: tuple[int, int] | None = None) -> tuple[int, int] | None:
        """What to ask for to hold the rows `first` to `last`: records up to a seq, and how many; None for nothing, also
        where what was asked for before, and is `coming`, will do."""
        missing = [seq for seq in range(max(1, self.head - last), self.head - first + 1) if not self._held(seq)]
        if not missing or (coming is not None and coming[0] - coming[1] < missing[0] and missing[-1] <= coming[0]):
            return None
        upto = min(self.head, max(missing) + PAGE_RECORDS // 4)  # a little beyond, for who scrolls back
        return upto, PAGE_RECORDS

    def _held(self, seq: int) -> bool:
        return seq in self._events or seq in self._gone

    def clear(self) -> None:
        """Forget all: the seqs are those of another journal."""
        self.head = 0
        self._events.clear()
        self._gone.clear()

    def put(self, upto: int, count: int, events: Iterable[EventView]) -> None:
        """The answer to `wanted`: what is not among it is gone."""
        found = {event.seq: event for event in events}
        self._events |= found
        self._gone |= {seq for seq in range(max(1, upto - count + 1), upto + 1) if seq not in found}
        self._bound(upto)

    def note(self, events: Iterable[EventView]) -> None:
        """Records as they come."""
        newest = 0
        for event in events:
            self._events[event.seq] = event
            newest = max(newest, event.seq)
        self._bound(newest)

    def _bound(self, near: int) -> None:
        """Forget what is furthest from what was asked for last."""
        if len(self._events) + len(self._gone) <= HELD_MAX:
            return
        by_distance = sorted([*self._events, *self._gone], key=lambda seq: abs(seq - near))
        for seq in by_distance[HELD_MAX // 2 :]:
            self._events.pop(seq, None)
            self._gone.discard(seq)
