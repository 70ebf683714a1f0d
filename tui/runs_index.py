"""The list of runs as pages: newest first, held in parts, kept current by views as they change.

A page is known by the cursor it was asked for with, so one that was dropped can be asked for again and a hundred
thousand runs are walked with two thousand in memory. New runs enter the first page; a run that no longer matches the
filter leaves its page.
"""

from __future__ import annotations

import msgspec

from wal.views import RunView

PAGE_RUNS = 200
HELD_RUNS_MAX = 2_000


class RunFilter(msgspec.Struct, frozen=True):
    """Which runs a list shows; what `GET /v1/runs` takes, and words that the rows themselves must have."""

    statuses: tuple[str, ...] = ()
    words: tuple[str, ...] = ()
    workflow: str | None = None
    session_id: str | None = None
    tenant: str | None = None
    attributes: dict[str, str] = {}
    text: str = ""

    def matches(self, run: RunView, word: str) -> bool:
        """Whether a run belongs into the list."""
        if self.statuses and run.status not in self.statuses:
            return False
        if self.words and word not in self.words:
            return False
        if self.workflow is not None and run.workflow != self.workflow:
            return False
        if self.session_id is not None and run.session_id != self.session_id:
            return False
        if self.tenant is not None and run.tenant != self.tenant:
            return False
        if any(str(run.attributes.get(key)) != value for key, value in self.attributes.items()):
            return False
        return not self.text or self.text in run.id or self.text in run.workflow


class _Part:
    """One page: the cursor that asks for it, and its runs, or only how many there were and when the last began."""

    __slots__ = ("cursor", "last", "next", "runs", "size")

    def __init__(self, cursor: str | None, runs: list[RunView], next_cursor: str | None) -> None:
        self.cursor = cursor
        self.runs: list[RunView] | None = runs
        self.size = len(runs)
        self.next = next_cursor
        self.last = ""

    def drop(self) -> None:
        """Keep only where it lies."""
        if self.runs:
            self.last = self.runs[-1].created_at or ""
        self.runs = None


class RunsIndex:
    """The rows of one list, numbered from 0. A row that is not held is None, and `wanted` says what to ask for."""

    def __init__(self, filter: RunFilter | None = None) -> None:
        self.filter = filter or RunFilter()
        self.total: int | None = None
        self.seq = 0
        self._parts: list[_Part] = []
        self._known: dict[str, RunView] = {}

    def clear(self, filter: RunFilter | None = None) -> None:
        """Forget all; with a filter, the list is of those from now on."""
        if filter is not None:
            self.filter = filter
        self.total, self.seq = None, 0
        self._parts.clear()
        self._known.clear()

    # --- reading

    def __len__(self) -> int:
        return sum(part.size for part in self._parts)

    @property
    def more(self) -> bool:
        """Whether there are runs beyond the last row."""
        return not self._parts or self._parts[-1].next is not None

    @property
    def held(self) -> int:
        """How many runs are in memory."""
        return len(self._known)

    def row(self, number: int) -> RunView | None:
        """The run in a row; None if it is not held."""
        for part in self._parts:
            if number < part.size:
                return None if part.runs is None else part.runs[number]
            number -= part.size
        return None

    def get(self, run_id: str) -> RunView | None:
        """A run that is held."""
        return self._known.get(run_id)

    def number_of(self, run_id: str) -> int | None:
        """The row of a run that is held."""
        start = 0
        for part in self._parts:
            for offset, run in enumerate(part.runs or ()):
                if run.id == run_id:
                    return start + offset
            start += part.size
        return None

    # --- pages

    def wanted(self, first: int, last: int) -> list[str | None]:
        """The cursors to ask for so that these rows are held, nearest first; None is the cursor of the first page."""
        cursors: list[str | None] = []
        start = 0
        for part in self._parts:
            if part.runs is None and start <= last and start + part.size > first:
                cursors.append(part.cursor)
            start += part.size
        if not self._parts:
            cursors.append(None)
        elif last >= start and self._parts[-1].next is not None:
            cursors.append(self._parts[-1].next)
        return cursors

    def put(
        self, cursor: str | None, runs: list[RunView], next_cursor: str | None, total: int | None, seq: int
    ) -> None:
        """A page that was asked for has come. One that nobody asked for (any more) is left out."""
        for number, part in enumerate(self._parts):
            if part.cursor == cursor:
                self._drop(part)
                if part.next != next_cursor:
                    self._move(number + 1, next_cursor)
                part.runs, part.size, part.next = list(runs), len(runs), next_cursor
                break
        else:
            if self._parts and self._parts[-1].next != cursor:
                return
            if not self._parts and cursor is not None:
                return
            self._parts.append(_Part(cursor, list(runs), next_cursor))
        self.total, self.seq = total, max(self.seq, seq)
        for run in runs:
            self._known[run.id] = run

    def _move(self, number: int, cursor: str | None) -> None:
        """A page begins elsewhere, because the one before it has lost or gained runs: it must be asked for anew, and
        there may be none any more."""
        for part in self._parts[number : number + 1] if cursor is not None else self._parts[number:]:
            self._drop(part)
            part.cursor, part.size = cursor, max(1, part.size)
        if cursor is None:
            del self._parts[number:]

    def keep(self, first: int, last: int) -> list[str | None]:
        """The cursors of the pages that are held and have rows from `first` up to `last`, to be asked for anew; the
        other pages are dropped."""
        start, cursors = 0, []
        for part in self._parts:
            if part.runs is not None and start < last and first < start + part.size:
                cursors.append(part.cursor)
            else:
                self._drop(part)
            start += part.size
        return cursors

    def trim(self, first: int, last: int) -> None:
        """Forget the pages farthest from these rows until the limit holds."""
        while len(self._known) > HELD_RUNS_MAX:
            far, distance = None, 0
            start = 0
            for part in self._parts:
                gap = max(first - (start + part.size), start - last)
                if part.runs is not None and gap > distance:
                    far, distance = part, gap
                start += part.size
            if far is None:
                return
            self._drop(far)

    def _drop(self, part: _Part) -> None:
        for run in part.runs or ():
            self._known.pop(run.id, None)
        part.drop()

    # --- changes

    def update(self, run: RunView, word: str) -> bool:
        """A run has changed or is new: it takes its place or leaves it. Whether the list looks different now."""
        matches = self.filter.matches(run, word)
        if run.id in self._known:
            if matches:
                self._replace(run)
            else:
                self._remove(run.id)
            return True
        return matches and self._insert(run)

    def _replace(self, run: RunView) -> None:
        self._known[run.id] = run
        for part in self._parts:
            for offset, each in enumerate(part.runs or ()):
                if each.id == run.id:
                    assert part.runs is not None
                    part.runs[offset] = run
                    return

    def _remove(self, run_id: str) -> None:
        del self._known[run_id]
        for part in self._parts:
            kept = [run for run in part.runs or () if run.id != run_id]
            if part.runs is not None and len(kept) < len(part.runs):
                part.runs, part.size = kept, len(kept)
                self.total = None if self.total is None else max(0, self.total - 1)
                return

    def _insert(self, run: RunView) -> bool:
        """Among those held, by its creation; what belongs beyond them comes with its page."""
        if not self._parts:
            return False
        created = run.created_at or ""
        for part in self._parts:
            if part.runs is None:
                if part.last and created >= part.last:
                    return False  # it is in this page, or comes with it
                continue
            last_of_all = part is self._parts[-1] and part.next is None
            if part.runs and created < (part.runs[-1].created_at or "") and not last_of_all:
                continue
            at = next((n for n, each in enumerate(part.runs) if (each.created_at or "") <= created), len(part.runs))
            part.runs.insert(at, run)
            part.size += 1
            self._known[run.id] = run
            self.total = None if self.total is None else self.total + 1
            return True
        return False
