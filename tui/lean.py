"""Repaints that write the cells which differ and nothing beside them.

Textual marks regions as dirty, and then writes each touched line of a widget from its left edge, with the cell right of
the region (the scrollbar): an age that ticks in the seventh column costs the whole row. With forty live runs that was
half of all bytes to the terminal, which ssh has to carry. `tests/tui/test_lean.py` fails when Textual's own way moves.
"""

from __future__ import annotations

from rich.console import Console
from rich.control import Control
from textual._compositor import ChopsUpdate, Compositor


class LeanUpdate(ChopsUpdate):
    """A repaint of some spans of some lines: (y, first cell, cell after the last)."""

    def render_segments(self, console: Console) -> str:
        """The bytes for the terminal: the cursor to where a span begins, and the span."""
        written: list[str] = []
        for y, first, beyond in self.spans:
            for end, (x, strip) in zip(self.chop_ends[y], self.chops[y].items(), strict=False):
                if strip is None or x >= beyond or end <= first:
                    continue
                left, right = max(x, first), min(end, beyond)
                part = strip if (left, right) == (x, end) else strip.crop(left - x, right - x)
                written.append(Control.move_to(left, y).segment.text + part.render(console))
        return "".join(written)


class LeanCompositor(Compositor):
    """Textual's compositor; its partial repaints are lean."""

    def render_partial_update(self) -> ChopsUpdate | None:
        """What has to be written now, if anything."""
        update = super().render_partial_update()
        return None if update is None else LeanUpdate(update.chops, update.spans, update.chop_ends)
