"""The second line: the eight areas, the current one in brackets; a click goes there."""

from __future__ import annotations

from textual import events

from tui.areas import AREAS, Area
from tui.format import Line, Piece, line_cells, spread
from tui.messages import AreaChosen
from tui.widgets.lines import Lines, dashboard


class Tabs(Lines):
    """The areas' names, shorter where the screen is narrower; below 80 columns only the current one."""

    def __init__(self, area: str) -> None:
        super().__init__(classes="tabs")
        self._area = area
        self._spans: list[tuple[int, int, str]] = []

    def update_tabs(self) -> None:
        """Make the line anew: a count may have changed."""
        self.show([self._line()])

    def on_resize(self) -> None:
        """Another width has room for longer names."""
        self.update_tabs()

    def on_click(self, event: events.Click) -> None:
        """A tab takes us there."""
        for first, last, area in self._spans:
            if first <= event.x < last:
                self.post_message(AreaChosen(area))

    def _line(self) -> Line:
        app = dashboard(self)
        pieces: list[Piece] = []
        self._spans = []
        for area in AREAS:
            if app.width_class == 0 and area.name != self._area:
                continue
            label = self._label(area, app.width_class)
            current = area.name == self._area
            start = line_cells(pieces)
            pieces.append(Piece(f"[{label}]" if current else f"{label}", "tab" if current else ""))
            self._spans.append((start, line_cells(pieces), area.name))
            pieces.append(Piece("   " if app.width_class >= 2 else " "))
        pieces.pop()
        hints = ":jump  /filter  ctrl+p palette  ? help" if app.width_class >= 2 else ":jump /find ?help"
        return spread(pieces, [Piece(hints, "dim")], self.size.width)

    def _label(self, area: Area, step: int) -> str:
        name = area.title if step >= 2 or step == 0 else area.short
        count = dashboard(self).area_badge(area.name)
        number = f"{area.number}/{len(AREAS)}" if step == 0 else str(area.number)
        return f"{number} {name}" + (f"({count})" if count else "")
