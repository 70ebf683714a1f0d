"""A widget that shows lines: it redraws only those that have changed, with or without a frame round them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, cast

from textual import events
from textual.geometry import Region, Size
from textual.strip import Strip
from textual.widget import Widget

from tui.format import Line, Piece, cells, fit, fit_line, safe

if TYPE_CHECKING:
    from tui.app import Dashboard


def dashboard(widget: Widget) -> Dashboard:
    """The app of a widget, as the one it is."""
    return cast("Dashboard", widget.app)


class Lines(Widget):
    """Lines of text, set with `show`; a line per row, cut at the right edge, none beyond the bottom.

    `frame` draws a box with the title in its upper edge, below 80 columns only the title. It is drawn here rather than
    by a style because it must do without box characters, and because one widget less a panel is one repaint less.
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
            old = before[row] if row < len(before) else ()
            new = self.lines[row] if row < len(self.lines) else ()
            if old != new:
                first, last = difference(old, new)
                inset = (self.size.width - self.room.width) // 2
                end = self.size.width if last is None else min(inset + last, self.size.width)
                self.refresh(Region(inset + first, row + offset, max(1, end - inset - first), 1))

    @property
    def room(self) -> Size:
        """The cells there are for the lines."""
        if not self.frame:
            return self.size
        boxed = dashboard(self).width_class > 0
        return Size(max(0, self.size.width - (4 if boxed else 0)), max(0, self.size.height - (2 if boxed else 1)))

    def render_line(self, y: int) -> Strip:
        """One row, as Textual asks for it."""
        app, width = dashboard(self), self.size.width
        if not self.frame:
            return app.looks.strip(self.lines[y] if y < len(self.lines) else (), width)
        content = self.lines[y - 1] if 0 < y <= len(self.lines) else ()
        return app.looks.strip(boxed(app, content, self.title, width, y, self.size.height), width)

    def on_click(self, event: events.Click) -> None:
        """A click on a row goes to whoever wants to know."""
        if self._on_row is not None:
            self._on_row(event.y - (1 if self.frame else 0))


def boxed(app: Dashboard, content: Line, title: str, width: int, y: int, height: int) -> Line:
    """Row `y` of a box of this height round content; below 80 columns the title and the content alone."""
    g = app.glyphs
    if app.width_class == 0:
        return [Piece(title, "bold")] if y == 0 else content
    if y == 0:
        shown = fit(title, min(len(title), max(0, width - 6)))
        rest = " " + g.h * (width - len(shown) - 4) + g.top_right
        return [Piece(g.top_left + " ", "frame"), Piece(shown, "bold"), Piece(rest, "frame")]
    if y == height - 1:
        return [Piece(g.bottom_left + g.h * (width - 2) + g.bottom_right, "frame")]
    side = Piece(g.v, "frame")
    return [side, Piece(" "), *fit_line(content, width - 4), Piece(" "), side]


def difference(old: Line, new: Line) -> tuple[int, int | None]:
    """The cells in which two lines differ, from the first up to the last; None for the end of the line, which is the
    answer where a cell is not a character. A figure that changes then costs its digits and not its line."""
    before, after = _letters(old), _letters(new)
    if before is None or after is None:
        return 0, None
    shared = min(len(before), len(after))
    first = next((n for n in range(shared) if before[n] != after[n]), shared)
    if len(before) != len(after):
        return first, None
    last = next(n for n in range(shared, first, -1) if before[n - 1] != after[n - 1]) if first < shared else shared
    return first, last


def _letters(line: Line) -> list[tuple[str, str]] | None:
    """Each cell's character and look; None for a line with characters that take two cells, or none, or are escaped."""
    letters: list[tuple[str, str]] = []
    for piece in line:
        if safe(piece.text) != piece.text or cells(piece.text) != len(piece.text):
            return None
        letters += [(char, piece.look) for char in piece.text]
    return letters
