"""The characters that are not ASCII, and what stands for them where the terminal or the locale has none."""

from __future__ import annotations

from typing import NamedTuple

from tui.states import State


class Glyphs(NamedTuple):
    """One set of drawing characters. Box: horizontal, vertical and corners; `bars` from empty to full."""

    h: str
    v: str
    top_left: str
    top_right: str
    bottom_left: str
    bottom_right: str
    up: str
    full: str
    bars: str
    ellipsis: str
    check: str
    cross: str
    arrow: str
    fold_mark: str
    dot: str
    utf8: bool

    def of(self, state: State) -> str:
        """The glyph of a state."""
        return state.glyph if self.utf8 else state.ascii


UTF8 = Glyphs("─", "│", "┌", "┐", "└", "┘", "●", "█", "▁▂▃▄▅▆▇█", "…", "✓", "✗", "▸", "‖", "·", True)
ASCII = Glyphs("-", "|", "+", "+", "+", "+", "*", "#", "_.-=+*#@", "~", "+", "x", ">", "!", ".", False)
