"""A list of any length that draws only what is on screen, and redraws only rows whose text has changed.

The rows are elsewhere (`Rows`): the list knows how many there are, asks for the text of those on screen, and says which
it needs that are not held. A table widget with its rows inside took eight seconds for 100,000; this takes none.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, ClassVar, Generic, NamedTuple, Protocol, TypeVar

from textual import events
from textual.binding import Binding, BindingType
from textual.geometry import Region, Size
from textual.scroll_view import ScrollView
from textual.strip import Strip

from tui.format import Align, Cell, Line, Piece, fit
from tui.messages import MarksChanged, RowHighlighted, RowOpened, RowsNeeded
from tui.widgets.lines import boxed, dashboard

T = TypeVar("T")
MARKS_MAX = 1_000


class Column(NamedTuple):
    """A column: its title, and its width in cells for each class of screen width (narrow, std, wide, xwide), 0 where it
    is left out. One column may `grow` into what is left."""

    title: str
    widths: tuple[int, int, int, int]
    align: Align = "<"
    grow: bool = False


class Rows(Protocol):
    """Where a list's rows come from."""

    def count(self) -> int: ...
    def key(self, number: int) -> str | None:
        """The row's lasting name; None if the row is not held."""

    def cells(self, number: int) -> Sequence[Cell] | None:
        """A cell a column, escaped by the list; None if the row is not held."""

    def number_of(self, key: str) -> int | None: ...


class ListRows(Generic[T]):
    """Rows out of a plain list: `cells` makes a row's cells, `key` its name."""

    def __init__(self, key: Callable[[T], str], cells: Callable[[T], Sequence[Cell]]) -> None:
        self.items: Sequence[T] = ()
        self._key, self._cells = key, cells

    def count(self) -> int:
        return len(self.items)

    def key(self, number: int) -> str | None:
        return self._key(self.items[number]) if 0 <= number < len(self.items) else None

    def cells(self, number: int) -> Sequence[Cell] | None:
        return self._cells(self.items[number]) if 0 <= number < len(self.items) else None

    def number_of(self, key: str) -> int | None:
        return next((number for number, item in enumerate(self.items) if self._key(item) == key), None)

    def item(self, key: str | None) -> T | None:
        """The item of this name."""
        return next((item for item in self.items if self._key(item) == key), None)


class VirtualList(ScrollView, can_focus=True):
    """The rows with a heading and a cursor. Posts `RowHighlighted`, `RowOpened`, `RowsNeeded`."""

    DEFAULT_CSS = """
    VirtualList { height: 1fr; width: 1fr; scrollbar-size-vertical: 1; overflow-x: hidden; background: $background; }
    """
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("j,down", "move(1)", "down", show=False, id="list.down"),
        Binding("k,up", "move(-1)", "up", show=False, id="list.up"),
        Binding("ctrl+d,pagedown", "page(1)", "page down", show=False, id="list.page_down"),
        Binding("ctrl+u,pageup", "page(-1)", "page up", show=False, id="list.page_up"),
        Binding("g,home", "top", "first", show=False, id="list.first"),
        Binding("G,end", "bottom", "last", show=False, id="list.last"),
        Binding("enter", "open", "open", id="list.open"),
    ]

    def __init__(
        self,
        columns: Sequence[Column],
        rows: Rows,
        *,
        id: str | None = None,
        classes: str | None = None,
        empty: Callable[[], str] = lambda: "nothing here",
        heading: bool = True,
        frame: str | None = None,
    ) -> None:
        super().__init__(id=id, classes=classes)
        self.columns, self.rows, self.empty = columns, rows, empty
        self.heading, self.frame = heading, frame
        self.cursor = 0
        self.cursor_key: str | None = None
        self.marks: set[str] = set()
        self._drawn: dict[int, tuple[Any, ...]] = {}

    # --- what is shown

    def reload(self) -> None:
        """The rows may have changed: keep the cursor on its row, draw what is different."""
        count = self.rows.count()
        place = None if self.cursor_key is None else self.rows.number_of(self.cursor_key)
        if place is not None:
            self.cursor = place
        self.cursor = max(0, min(self.cursor, count - 1))
        size = Size(self.size.width, count + self._top + self._foot)
        if size != self.virtual_size:
            self.virtual_size = size
        self._tell_cursor()
        self.repaint()

    def repaint(self) -> None:
        """Draw the rows on screen whose text is different from what stands there."""
        shown = self._text_rows()
        for y in range(self._top, self.size.height - self._foot):
            before, after = self._drawn.get(y), shown[y]
            if before != after:
                self.refresh(self._difference(y, before, after))
        self._ask_for_missing()

    def _difference(self, y: int, before: tuple[Any, ...] | None, after: tuple[Any, ...]) -> Region:
        """The part of a line that looks different: from the first to the last cell whose text has changed, so that an
        age costs a few bytes and not a line."""
        whole = Region(0, y, self.size.width, 1)
        if not before or len(before) != 4 or len(after) != 4 or before[1:] != after[1:] or not (before[0] and after[0]):
            return whole
        first, last, x = self.size.width, 0, 2 + self._inset // 2
        for width, old, new in zip(self.widths(), before[0], after[0], strict=False):
            if old != new and width > 0:
                first, last = min(first, x), x + width
            x += width + 2 if width > 0 else 0
        return Region(first, y, last - first, 1) if last else whole

    def _text_rows(self) -> dict[int, tuple[Any, ...]]:
        return {y: self._content(y) for y in range(self._top, self.size.height - self._foot)}

    @property
    def _top(self) -> int:
        """Lines above the rows: the upper edge, the heading."""
        return (self.frame is not None) + self.heading

    @property
    def _foot(self) -> int:
        """Lines below the rows: the lower edge, from 80 columns."""
        return int(self.frame is not None and dashboard(self).width_class > 0)

    @property
    def _inset(self) -> int:
        """Cells that the edges take from a row."""
        return 4 * self._foot

    @property
    def first_row(self) -> int:
        """The number of the first row on screen."""
        return int(self.scroll_offset.y)

    @property
    def rows_on_screen(self) -> int:
        """How many rows fit."""
        return max(1, self.size.height - self._top - self._foot)

    def _content(self, y: int) -> tuple[Any, ...]:
        """What decides how line `y` looks: the row's cells, cursor, mark."""
        number = self.first_row + y - self._top
        count = self.rows.count()
        if number >= count:
            return ("empty", self.empty()) if count == 0 and y == self._top else ()
        cells = self.rows.cells(number)
        key = self.rows.key(number)
        return (None if cells is None else tuple(cells), number == self.cursor, key in self.marks, self.has_focus)

    def set_frame(self, title: str) -> None:
        """Another title in the upper edge."""
        if title != self.frame:
            self.frame = title
            self.refresh(Region(0, 0, self.size.width, 1))

    def render_line(self, y: int) -> Strip:
        """One line, as Textual asks for it."""
        app, width, height = dashboard(self), self.size.width, self.size.height
        if self.frame is None:
            line, at_cursor = self._line(y)
            return app.looks.strip(line, width, cursor=at_cursor)
        if y == 0 or (self._foot and y == height - 1):
            return app.looks.strip(boxed(app, (), self.frame, width, y, height), width)
        line, at_cursor = self._line(y)
        if not self._foot:
            return app.looks.strip(line, width, cursor=at_cursor)
        inner = app.looks.strip(line, width - self._inset, cursor=at_cursor)
        left, right = Piece(app.glyphs.v + " ", "frame"), Piece(" " + app.glyphs.v, "frame")
        return Strip.join([app.looks.strip([left], 2), inner, app.looks.strip([right], 2)])

    def _line(self, y: int) -> tuple[Line, bool]:
        """What stands on a line between the edges, and whether it is the cursor's."""
        if self.heading and y == self._top - 1:
            return [Piece("  "), *self._row([Piece(column.title, "dim") for column in self.columns])], False
        content = self._content(y)
        self._drawn[y] = content
        if not content:
            return (), False
        if content[0] == "empty":
            return [Piece("  "), Piece(content[1], "dim")], False
        cells, at_cursor, marked, focused = content
        if cells is None:
            return [Piece("  "), Piece(dashboard(self).glyphs.ellipsis, "dim")], bool(at_cursor)
        lead = Piece(">" if at_cursor and focused else " "), Piece("*", "mark") if marked else Piece(" ")
        return [*lead, *self._row(cells)], bool(at_cursor and focused)

    def _row(self, cells: Sequence[Cell]) -> Line:
        ellipsis = dashboard(self).glyphs.ellipsis
        widths = self.widths()
        pieces: list[Piece] = []
        for column, width, cell in zip(self.columns, widths, cells, strict=False):
            if width <= 0:
                continue
            text, look = cell if isinstance(cell, Piece) else (cell, "")
            pieces.append(Piece(fit(text, width, column.align, ellipsis=ellipsis), look))
            pieces.append(Piece("  "))
        return pieces

    def widths(self) -> list[int]:
        """The columns' widths on this screen."""
        step = dashboard(self).width_class
        widths = [column.widths[step] for column in self.columns]
        spare = self.size.width - self._inset - 2 - sum(width + 2 for width in widths if width) + 2
        for number, column in enumerate(self.columns):
            if column.grow and widths[number]:
                widths[number] = max(4, widths[number] + spare)
        return widths

    # --- the cursor

    def move_to(self, number: int) -> None:
        """Put the cursor on a row and bring it onto the screen."""
        count = self.rows.count()
        number = max(0, min(number, count - 1))
        self.cursor = number
        self.cursor_key = self.rows.key(number) if count else None
        first = self.first_row
        if number < first:
            self.scroll_to(y=number, animate=False)
        elif number >= first + self.rows_on_screen:
            self.scroll_to(y=number - self.rows_on_screen + 1, animate=False)
        self._tell_cursor()
        self.repaint()

    def move_to_key(self, key: str) -> bool:
        """Put the cursor on the row of this name, if it is held."""
        number = self.rows.number_of(key)
        if number is None:
            return False
        self.move_to(number)
        return True

    def _tell_cursor(self) -> None:
        key = self.rows.key(self.cursor) if self.rows.count() else None
        if key != self.cursor_key or key is None:
            self.cursor_key = key
        self.post_message(RowHighlighted(self.id, key))

    def _ask_for_missing(self) -> None:
        first, last = self.first_row, self.first_row + self.rows_on_screen - 1
        count = self.rows.count()
        missing = any(self.rows.key(number) is None for number in range(first, min(last + 1, count)))
        if missing or last >= count - 1:
            self.post_message(RowsNeeded(self.id, first, last))

    def action_move(self, by: int) -> None:
        self.move_to(self.cursor + by)

    def action_page(self, by: int) -> None:
        self.move_to(self.cursor + by * self.rows_on_screen)

    def action_top(self) -> None:
        self.move_to(0)

    def action_bottom(self) -> None:
        self.move_to(self.rows.count() - 1)

    def action_open(self) -> None:
        if self.cursor_key is not None:
            self.post_message(RowOpened(self.id, self.cursor_key))

    # --- Textual's events

    def on_resize(self, event: events.Resize) -> None:
        """Another width is another layout of all rows."""
        self._drawn.clear()
        self.reload()
        self.refresh()

    def watch_scroll_y(self, old_value: float, new_value: float) -> None:
        """Scrolling shows other rows."""
        super().watch_scroll_y(old_value, new_value)
        if round(old_value) != round(new_value):
            self._drawn.clear()
            self._ask_for_missing()

    def on_focus(self) -> None:
        self.repaint()

    def on_blur(self) -> None:
        self.repaint()

    def on_click(self, event: events.Click) -> None:
        """A click puts the cursor there; a second one opens."""
        number = self.first_row + event.y - self._top
        if event.y < self._top or number >= self.rows.count():
            return
        again = number == self.cursor and event.chain > 1
        self.move_to(number)
        if again:
            self.action_open()


class MarkingList(VirtualList):
    """A list whose rows can be marked, for what is done to several at once."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("space", "mark", "mark", id="list.mark"),
        Binding("asterisk", "mark_range", "mark range", show=False, id="list.mark_range"),
    ]

    def action_mark(self) -> None:
        if self.cursor_key is None:
            return
        self._mark({self.cursor_key} ^ self.marks if self.cursor_key in self.marks else self.marks | {self.cursor_key})
        self.action_move(1)

    def action_mark_range(self) -> None:
        """From the nearest mark above to the cursor."""
        above = [n for n in range(self.cursor) if self.rows.key(n) in self.marks]
        start = above[-1] if above else self.cursor
        keys = {key for n in range(start, self.cursor + 1) if (key := self.rows.key(n)) is not None}
        self._mark(self.marks | keys)

    def clear_marks(self) -> None:
        """Unmark all."""
        self._mark(set())

    def _mark(self, marks: set[str]) -> None:
        if len(marks) > MARKS_MAX:
            self.notify(f"at most {MARKS_MAX} rows can be marked", severity="warning")
            return
        self.marks = marks
        self.post_message(MarksChanged(self.id, frozenset(marks)))
        self.repaint()
