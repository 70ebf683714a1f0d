"""A window on what is due next: the earliest entries in memory, the rest in the journal. Pure.

A million timers may be set; only those due soonest are held. `horizon` is the entry up to which the window has seen all
there is: a later one is left to the journal until the window has moved on, and what is loaded next follows it there. It
is an entry and not an instant, because a hundred thousand runs may be due at the same midnight. Entries are never
removed early, because whoever is told that something is due checks whether it still stands. And nothing is loaded anew
because it still stands in the journal after it was told: those that cannot go on yet would hide all that come later.
"""

from __future__ import annotations

import heapq
from collections import deque
from collections.abc import Sequence

Due = tuple[int, int, str]  # instant (microseconds), owner, key; in this order the journal lists them too
NOTHING: Due = (-1 << 62, 0, "")
FOREVER: Due = (1 << 62, 0, "")


class DueWindow:
    """Holds at most about `2 * size_max` entries, and notes of those beyond whose records are not durable yet."""

    def __init__(self, size_max: int = 1_000) -> None:
        self.size_max = size_max
        self.horizon = NOTHING
        self._heap: list[tuple[Due, int]] = []  # with the seq of its record, 0 if it was read from the journal
        self._beyond: deque[tuple[int, Due]] = deque()  # (seq, entry), in the order of seq

    def load(self, page: Sequence[Due], *, more: bool, durable_seq: int) -> None:
        """Take the entries of the journal that follow the horizon, read when `durable_seq` was durable; `more` says
        that there are later ones. What is not durable yet cannot have been read, and is added from memory."""
        self.forget_durable(durable_seq)
        self._heap = sorted([*self._heap, *((entry, 0) for entry in page)])
        self.horizon = page[-1] if more and page else FOREVER
        waiting, self._beyond = sorted(self._beyond), deque()
        for seq, entry in waiting:
            self.add(seq, entry)

    def add(self, seq: int, entry: Due) -> bool:
        """An entry was recorded as `seq` (0: the journal is known to hold it). True if it is now the next one due."""
        if entry > self.horizon:
            if seq:
                self._beyond.append((seq, entry))
            return False
        heapq.heappush(self._heap, (entry, seq))
        if len(self._heap) > 2 * self.size_max:
            self._shrink()
        return bool(self._heap) and self._heap[0][0] is entry

    def pop_due(self, now_us: int) -> list[Due]:
        """Take out what is due."""
        due = []
        while self._heap and self._heap[0][0][0] <= now_us:
            due.append(heapq.heappop(self._heap)[0])
        return due

    @property
    def next_us(self) -> int | None:
        """When the next entry in the window is due, or None for an empty window."""
        return self._heap[0][0][0] if self._heap else None

    @property
    def exhausted(self) -> bool:
        """Whether the window is empty while the journal may hold later entries: load the next page."""
        return not self._heap and self.horizon < FOREVER

    def forget_durable(self, durable_seq: int) -> None:
        """Drop the notes of entries that the journal holds by now."""
        while self._beyond and self._beyond[0][0] <= durable_seq:
            self._beyond.popleft()

    def __len__(self) -> int:
        return len(self._heap)

    def _shrink(self) -> None:
        self._heap.sort()
        self.horizon = self._heap[self.size_max - 1][0]
        cut = [(seq, entry) for entry, seq in self._heap[self.size_max :] if seq]
        del self._heap[self.size_max :]
        self._beyond = deque(sorted([*self._beyond, *cut]))
