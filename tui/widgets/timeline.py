"""A run's steps on one axis of time, with stretches in which nothing happened folded away: pure.

`spans_of` makes spans out of a history, `Axis` maps instants to cells, `gantt` draws one span as text. An idle stretch
longer than a quarter of the whole takes `FOLD_CELLS` cells with a mark on either side, whatever its length.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import NamedTuple

from tui.format import age, micros
from tui.glyphs import Glyphs
from wal.views import HistoryRecord

FOLD_CELLS = 8
SPANS_MAX = 500


class Attempt(NamedTuple):
    """One try of a step: when it began and ended (microseconds; None while it goes on), and how: `done`, `failed`,
    `unknown`, `interrupted` or empty."""

    began: int
    ended: int | None
    outcome: str
    number: int
    says: str = ""


class Span(NamedTuple):
    """One call of a run, in the order of its first record."""

    call: str
    name: str
    kind: str
    began: int
    ended: int | None
    outcome: str
    attempts: tuple[Attempt, ...] = ()


_OUTCOMES = {
    "step_completed": "done",
    "compensation_completed": "done",
    "step_failed": "failed",
    "compensation_failed": "failed",
    "step_unknown": "unknown",
    "step_interrupted": "interrupted",
}


class _Building:
    """A span while its records are read."""

    def __init__(self, call: str, name: str, kind: str, at: int) -> None:
        self.call, self.name, self.kind, self.began = call, name, kind, at
        self.ended: int | None = None
        self.outcome = ""
        self.attempts: list[Attempt] = []
        self.trying: int | None = at if kind in ("step", "undo") else None

    def finish(self) -> Span:
        attempts = list(self.attempts)
        if self.trying is not None and self.ended is None:
            attempts.append(Attempt(self.trying, None, "", len(attempts) + 1))
        return Span(self.call, self.name, self.kind, self.began, self.ended, self.outcome, tuple(attempts))


def spans_of(records: Sequence[HistoryRecord]) -> list[Span]:
    """The calls of a history: steps with their attempts, undos, timers, signals, approvals."""
    spans: dict[str, _Building] = {}
    for record in records:
        at = micros(record.at)
        if at is not None and record.call and len(spans) <= SPANS_MAX:
            _take(spans, record, record.call, at)
    return [building.finish() for building in spans.values()]


def _take(spans: dict[str, _Building], record: HistoryRecord, call: str, at: int) -> None:
    kind = record.kind
    opened = {
        "step_scheduled": "step",
        "compensation_scheduled": "undo",
        "timer_set": "timer",
        "approval_requested": "approval",
    }.get(kind)
    held = spans.get(call)
    if opened is not None and held is None:
        spans[call] = _Building(call, record.name or opened, opened, at)
        return
    if held is None:
        return
    if kind in _OUTCOMES:
        _settle(held, record, at)
    elif kind == "timer_fired":
        if held.kind == "timer":
            held.ended, held.outcome = at, "done"
        elif held.trying is None:
            held.trying, held.ended, held.outcome = at, None, ""  # the next attempt begins
    elif kind in ("timer_cancelled", "approval_withdrawn") and held.kind in ("timer", "approval"):
        held.ended, held.outcome = at, "withdrawn"
    elif kind == "approval_decided":
        held.ended, held.outcome = at, "done"
    elif kind == "step_resolved":
        held.ended, held.outcome = at, "resolved"


def _settle(held: _Building, record: HistoryRecord, at: int) -> None:
    outcome = _OUTCOMES[record.kind]
    number = record.attempt or len(held.attempts) + 1
    held.attempts.append(Attempt(held.trying if held.trying is not None else at, at, outcome, number))
    again = outcome == "interrupted"
    held.trying = at if again else None
    held.ended, held.outcome = (None, "") if again else (at, outcome)


class Axis:
    """Instants as cells. `width` cells from the first instant to the last, long idle stretches folded."""

    def __init__(self, spans: Sequence[Span], now: int, width: int) -> None:
        self.width = max(1, width)
        self.start = min((span.began for span in spans), default=now)
        self.end = max([now if span.ended is None else span.ended for span in spans], default=now)
        self.end = max(self.end, self.start + 1)
        self.fold = self._longest_idle(spans)
        whole = self.end - self.start
        if self.fold is not None:
            whole -= self.fold[1] - self.fold[0]
        room = self.width - (FOLD_CELLS if self.fold is not None else 0)
        self._per_cell = max(1.0, whole / max(1, room))

    def _longest_idle(self, spans: Sequence[Span]) -> tuple[int, int] | None:
        """The longest stretch without a begin, an end or an attempt under way, if it is worth a fold."""
        points = {self.start, self.end}
        busy: list[tuple[int, int]] = []
        for span in spans:
            points |= {span.began, span.ended if span.ended is not None else self.end}
            for attempt in span.attempts:
                points |= {attempt.began, attempt.ended if attempt.ended is not None else self.end}
                busy.append((attempt.began, attempt.ended if attempt.ended is not None else self.end))
        ordered = sorted(points)
        idle = [
            (first, last)
            for first, last in pairwise(ordered)
            if not any(began < last and ended > first for began, ended in busy)
        ]
        longest = max(idle, key=lambda pair: pair[1] - pair[0], default=None)
        if longest is None or self.width <= 2 * FOLD_CELLS:
            return None
        return longest if (longest[1] - longest[0]) * 4 > self.end - self.start else None

    def cell(self, at: int) -> int:
        """The cell of an instant."""
        at = max(self.start, min(at, self.end))
        if self.fold is None or at <= self.fold[0]:
            return min(self.width - 1, int((at - self.start) / self._per_cell))
        before = int((self.fold[0] - self.start) / self._per_cell)
        if at < self.fold[1]:
            return min(self.width - 1, before + FOLD_CELLS // 2)
        return min(self.width - 1, before + FOLD_CELLS + int((at - self.fold[1]) / self._per_cell))

    def fold_cells(self) -> tuple[int, int] | None:
        """The first and the last cell of the fold."""
        return None if self.fold is None else (self.cell(self.fold[0]) + 1, self.cell(self.fold[1]) - 1)

    def heading(self, glyphs: Glyphs) -> str:
        """The axis as text: the fold says how long it is."""
        cells = [" "] * self.width
        fold = self.fold_cells()
        if fold is not None and self.fold is not None:
            length = age((self.fold[1] - self.fold[0]) / 1e6).center(max(1, fold[1] - fold[0] - 1))
            text = glyphs.fold_mark + length + glyphs.fold_mark
            cells[fold[0] : fold[0] + len(text)] = text
        return "".join(cells)[: self.width]


def gantt(span: Span, axis: Axis, glyphs: Glyphs, now: int) -> str:
    """One span on the axis: failed attempts light, others full, waiting in between, an arrow if it goes on."""
    light, full, wait = ("░", glyphs.full, "▒") if glyphs.utf8 else ("-", "#", "=")
    cells = [" "] * axis.width
    last = axis.cell(now if span.ended is None else span.ended)
    if span.kind not in ("step", "undo"):
        _fill(cells, axis.cell(span.began), last, wait)
    for attempt in span.attempts:
        mark = full if attempt.outcome in ("done", "") else light
        _fill(cells, axis.cell(attempt.began), axis.cell(now if attempt.ended is None else attempt.ended), mark)
    fold = axis.fold_cells()
    if fold is not None and axis.cell(span.began) < fold[0] and last > fold[1]:
        cells[fold[0]] = cells[min(fold[1], axis.width - 1)] = glyphs.fold_mark
    if span.ended is None:
        cells[last] = glyphs.arrow
    return "".join(cells)


def _fill(cells: list[str], first: int, last: int, mark: str) -> None:
    for cell in range(first, min(last, len(cells) - 1) + 1):
        cells[cell] = mark
