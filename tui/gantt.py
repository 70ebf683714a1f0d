"""Times as bars: an axis on which idle time is folded, and the bars of one call on it. Pure.

What happened in seconds and what waited for days stand on one line of the terminal: a stretch in which nothing worked,
longer than all work together, takes a few cells between fold marks, and the rest is to scale.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import NamedTuple

from tui.format import age, clock
from tui.glyphs import Glyphs
from wal.views import rfc3339

FOLD_CELLS, WIDE_FOLD_CELLS = 3, 12
FOLD_MIN_SECONDS = 5.0
WORK, FAILED, WAIT = "work", "failed", "wait"
_INKS_UTF8 = {WORK: "█", FAILED: "░", WAIT: "▒"}
_INKS_ASCII = {WORK: "#", FAILED: "x", WAIT: "-"}
_RANK = {WORK: 3, FAILED: 2, WAIT: 1}


class Span(NamedTuple):
    """Something that took time: from when to when, in microseconds; `end` None while it goes on."""

    start: int
    end: int | None
    ink: str = WORK


class Stretch(NamedTuple):
    """A part of the axis: an interval of time on an interval of cells."""

    start: int
    end: int
    first: int
    cells: int
    folded: bool


class Axis(NamedTuple):
    """Time from left to right."""

    stretches: tuple[Stretch, ...]
    width: int
    now: int

    def interval(self, cell: int) -> tuple[int, int, bool]:
        """The time that a cell stands for, and whether it is in a fold."""
        for part in self.stretches:
            if part.first <= cell < part.first + part.cells:
                length, offset = part.end - part.start, cell - part.first
                if part.folded:
                    return part.start, part.end, True
                start = part.start + length * offset // part.cells
                return start, max(start + 1, part.start + length * (offset + 1) // part.cells), False
        return self.now, self.now + 1, False


def axis(spans: Iterable[Span], now: int, width: int) -> Axis:
    """The axis for these spans, `width` cells wide. Without any it is empty."""
    listed = list(spans)
    if not listed or width <= 0:
        return Axis((), max(0, width), now)
    begin = min(span.start for span in listed)
    end = max(max(now if span.end is None else span.end, span.start) for span in listed)
    parts = _parts(_busy(listed, now), begin, end)
    folds = sum(1 for _, _, folded in parts if folded)
    fold_cells = WIDE_FOLD_CELLS if folds * WIDE_FOLD_CELLS * 2 <= width else FOLD_CELLS
    room = width - folds * fold_cells
    if room < len(parts) - folds:  # too narrow for folds: all to scale
        parts, room = [(begin, end, False)], width
    return Axis(tuple(_placed(parts, room, fold_cells)), width, now)


def _busy(spans: Sequence[Span], now: int) -> list[tuple[int, int]]:
    """When anything worked, as merged intervals; a wait counts as its two ends."""
    pieces: list[tuple[int, int]] = []
    for span in spans:
        stop = now if span.end is None else span.end
        pieces += [(span.start, span.start), (stop, stop)] if span.ink == WAIT else [(span.start, stop)]
    merged: list[tuple[int, int]] = []
    for start, stop in sorted(pieces):
        if merged and start <= merged[-1][1]:
            merged[-1] = (merged[-1][0], max(merged[-1][1], stop))
        else:
            merged.append((start, max(start, stop)))
    return merged


def _parts(busy: Sequence[tuple[int, int]], begin: int, end: int) -> list[tuple[int, int, bool]]:
    worked = sum(stop - start for start, stop in busy)
    least = max(FOLD_MIN_SECONDS * 1e6, worked)
    parts: list[tuple[int, int, bool]] = []
    at = begin
    for start, stop in busy:
        if start - at > least:
            parts.append((at, start, True))
            at = start
        if parts and not parts[-1][2]:
            parts[-1] = (parts[-1][0], stop, False)
        else:
            parts.append((at, stop, False))
        at = stop
    if end > at:
        parts.append((at, end, end - at > least))
    return parts


def _placed(parts: Sequence[tuple[int, int, bool]], room: int, fold_cells: int) -> list[Stretch]:
    total = sum(stop - start for start, stop, folded in parts if not folded) or 1
    plain = sum(1 for *_, folded in parts if not folded)
    spare, placed, first = room - plain, [], 0
    for start, stop, folded in parts:
        cells = fold_cells if folded else 1 + int(spare * (stop - start) / total)
        placed.append(Stretch(start, stop, first, cells, folded))
        first += cells
    return placed


def bar(spans: Sequence[Span], on: Axis, glyphs: Glyphs) -> str:
    """The bars of one call, at most `on.width` characters; a call that goes on ends with an arrow."""
    inks = _INKS_UTF8 if glyphs.utf8 else _INKS_ASCII
    drawn: list[str] = []
    marks = _marks(on)
    last = max((part.first + part.cells for part in on.stretches), default=0)
    for cell in range(last):
        start, stop, folded = on.interval(cell)
        found = [span for span in spans if _touches(span, start, stop, on.now)]
        ink = max((span.ink for span in found), key=lambda name: _RANK[name], default="")
        drawn.append(" " if not ink else inks[ink])
        if ink and folded and cell in marks:
            drawn[-1] = glyphs.fold_mark
    if drawn and any(span.end is None for span in spans):
        drawn[-1] = glyphs.arrow
    return "".join(drawn).rstrip()


def _touches(span: Span, start: int, stop: int, now: int) -> bool:
    end = max(span.start + 1, (now if span.end is None else span.end))
    return span.start < stop and end > start


def _marks(on: Axis) -> set[int]:
    """The cells of fold marks: in the middle of a narrow fold, at both ends of a wide one."""
    marks: set[int] = set()
    for part in on.stretches:
        if part.folded and part.cells <= FOLD_CELLS:
            marks.add(part.first + part.cells // 2)
        elif part.folded:
            marks |= {part.first, part.first + part.cells - 1}
    return marks


def heading(on: Axis, glyphs: Glyphs) -> str:
    """The line above the bars: when each stretch begins, how long a fold is."""
    text = [" "] * on.width

    def put(at: int, words: str) -> None:
        room = on.width - at
        if at >= 0 and len(words) <= room and not "".join(text[at : at + len(words)]).strip():
            text[at : at + len(words)] = words

    for cell in _marks(on):
        put(cell, glyphs.fold_mark)
    for part in on.stretches:
        idle = f"idle {age((part.end - part.start) / 1e6)}"
        if not part.folded:
            put(part.first, clock(rfc3339(part.start)))
        elif part.cells > FOLD_CELLS:
            put(part.first + 2, idle[: part.cells - 4])
        else:
            put(part.first - len(idle), idle)
    return "".join(text).rstrip()
