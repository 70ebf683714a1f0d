"""Bars and sparklines as text: pure."""

from __future__ import annotations

from collections.abc import Sequence

from tui.glyphs import Glyphs


def bar(value: int, largest: int, width: int, glyphs: Glyphs) -> str:
    """A bar of at most `width` cells; anything above zero shows at least one."""
    if value <= 0 or largest <= 0 or width <= 0:
        return ""
    return glyphs.full * max(1, min(width, round(value * width / largest)))


def sparkline(values: Sequence[float], width: int, glyphs: Glyphs) -> str:
    """The last `width` values as one line of heights, scaled to the largest."""
    shown = list(values)[-width:] if width > 0 else []
    largest = max(shown, default=0.0)
    steps = glyphs.bars
    if largest <= 0:
        return steps[0] * len(shown)
    return "".join(steps[min(len(steps) - 1, int(value / largest * (len(steps) - 1) + 0.5))] for value in shown)
