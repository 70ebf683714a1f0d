"""The rows of the list of runs: as the daemon gives them, newest first, or sorted where all of them are held."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from tui.format import Cell
from tui.runs_index import RunsIndex
from tui.states import STATES, word_of
from wal.views import RunView

NEWEST = "newest"
_PLACES = {word: place for place, word in enumerate(STATES)}
_KEYS: Mapping[str, Callable[[RunView], Any]] = {
    "oldest": lambda run: (run.created_at or "",),
    "ST": lambda run: (_PLACES[word_of(run)], run.id),
    "WORKFLOW": lambda run: (run.workflow, run.id),
    "ID": lambda run: (run.id,),
    "WAITS ON": lambda run: (run.waiting_on or "~", run.waiting_until or "~", run.id),
}
SORTS = (NEWEST, *_KEYS)


class RunRows:
    """The rows, out of an index; `cells` makes those of one run."""

    def __init__(self, index: RunsIndex, cells: Callable[[RunView], Sequence[Cell]]) -> None:
        self._index, self._cells = index, cells
        self._sorted: list[RunView] | None = None
        self.order = NEWEST

    @property
    def sortable(self) -> bool:
        """Whether every run of the list is held: the daemon gives them newest first, other orders are made here."""
        index = self._index
        return len(index) > 0 and not index.more and index.held == len(index)

    def sort(self, order: str | None = None) -> None:
        """Sort, or sort anew; what cannot be sorted is newest first."""
        self.order = (order or self.order) if self.sortable else NEWEST
        self._sorted = None
        if self.order != NEWEST:
            held = [run for number in range(len(self._index)) if (run := self._index.row(number)) is not None]
            self._sorted = sorted(held, key=_KEYS[self.order])

    def count(self) -> int:
        return len(self._index) if self._sorted is None else len(self._sorted)

    def run(self, number: int) -> RunView | None:
        """The run in a row; None if it is not held."""
        if self._sorted is None:
            return self._index.row(number)
        return self._sorted[number] if 0 <= number < len(self._sorted) else None

    def key(self, number: int) -> str | None:
        run = self.run(number)
        return None if run is None else run.id

    def number_of(self, key: str) -> int | None:
        if self._sorted is None:
            return self._index.number_of(key)
        return next((number for number, run in enumerate(self._sorted) if run.id == key), None)

    def cells(self, number: int) -> Sequence[Cell] | None:
        run = self.run(number)
        return None if run is None else self._cells(run)
