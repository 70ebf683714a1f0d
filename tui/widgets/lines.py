"""A widget that shows lines: it redraws only those that have changed, with or without a frame round them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, cast

from textual import events
from textual.geometry import Region, Size
from textual.strip import Strip
from textual.widget import Widget

from tui.format import Line, Piece, fit, fit_line

if TYPE_CHECKING:
    from tui.app import Dashboard


def dashboard(widget: Widget) -> Dashboard:
    """The app of a widget, as the one it is."""
    return cast("Dashboard", widget.app)


class Lines(Widget):
    """Lines of text, set with `show`; a line per row, cut at the right edge, none beyond the bottom.

    `frame` draws a box with the title in its upper edge. It is drawn here rather than by a style because it must do
    without box characters, and because one widget less a panel is one repaint less.
    """

    def __init__(
        self,
        *,
        title: str = "",
        frame: bool = False,
        id: str | None = None,
        classes: str | None = None,
        on_row: Callable[[int], None] | None = None,
    ) -> None:
        super().__init__(id=id, classes=classes)
        self.lines: list[Line] = []
        self.title = title
        self.frame = frame
        self._on_row = on_row

    def show(self, lines: Sequence[Line], title: str | None = None) -> None:
        """Show these lines; what is as before stays untouched on the terminal."""
        before, self.lines = self.lines, list(lines)
        offset = 1 if self.frame else 0
        if title is not None and title != self.title:
            self.title = title
            self.refresh(Region(0, 0, self.size.width, 1))
        for row in range(max(len(before), len(self.lines))):
            old = before[row] if row < len(before) else None
            new = self.lines[row] if row < len(self.lines) else None
            if old != new:
                self.refresh(Region(0, row + offset, self.size.width, 1))

    @property
    def room(self) -> Size:
        """The cells there are for the lines."""
        inset = 2 if self.frame else 0
        return Size(max(0, self.size.width - 2 * inset), max(0, self.size.height - inset))

    def render_line(self, y: int) -> Strip:
        """One row, as Textual asks for it."""
        app, width = dashboard(self), self.size.width
        if not self.frame:
            return app.looks.strip(self.lines[y] if y < len(self.lines) else (), width)
        height = self.size.height
        if y == 0 or y == height - 1:
            return app.looks.strip(self._edge(width, top=y == 0), width)
        content = self.lines[y - 1] if y - 1 < len(self.lines) else ()
        side = Piece(app.glyphs.v, "frame")
        return app.looks.strip([side, Piece(" "), *fit_line(content, width - 4), Piece(" "), side], width)

    def _edge(self, width: int, *, top: bool) -> list[Piece]:
        g = dashboard(self).glyphs
        left, right = (g.top_left, g.top_right) if top else (g.bottom_left, g.bottom_right)
        if not top or not self.title:
            return [Piece(left + g.h * (width - 2) + right, "frame")]
        title = fit(self.title, min(len(self.title), max(0, width - 6)))
        return [
            Piece(left + " ", "frame"),
            Piece(title, "bold"),
            Piece(" " + g.h * (width - len(title) - 4) + right, "frame"),
        ]

    def on_click(self, event: events.Click) -> None:
        """A click on a row goes to whoever wants to know."""
        if self._on_row is not None:
            self._on_row(event.y - (1 if self.frame else 0))
