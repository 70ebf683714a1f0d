"""The journal: the newest records first, all kinds, as they come."""

from __future__ import annotations

from collections.abc import Sequence

from textual.app import ComposeResult

from tui.event_text import says
from tui.format import Cell, Piece, clock, short_id, size
from tui.messages import RowHighlighted
from tui.model import EVENTS, Change
from tui.screens.base import AreaScreen
from tui.widgets.lines import Lines
from tui.widgets.virtual_list import Column, ListRows, VirtualList
from wal.views import EventView

COLUMNS = (
    Column("SEQ", (8, 8, 9, 10), ">"),
    Column("TIME", (9, 9, 9, 9)),
    Column("KIND", (18, 20, 22, 24)),
    Column("RUN", (0, 10, 14, 18)),
    Column("BYTES", (0, 5, 5, 6), ">"),
    Column("SUMMARY", (10, 12, 30, 40), grow=True),
)


class JournalScreen(AreaScreen):
    """Area 7."""

    AREA = "journal"

    def __init__(self) -> None:
        super().__init__()
        self.rows: ListRows[EventView] = ListRows(lambda event: str(event.seq), self._cells)
        self._filter = ""

    def body(self) -> ComposeResult:
        """A line of figures, the list, the record at the cursor."""
        yield Lines(id="figures", classes="line")
        yield VirtualList(COLUMNS, self.rows, id="records", empty=lambda: "no records")
        yield Lines(id="record", classes="preview")

    @property
    def filter_text(self) -> str:
        return self._filter

    def set_filter(self, text: str) -> None:
        self._filter = text
        self.show(Change(frozenset({EVENTS})))

    def show(self, change: Change) -> None:
        listing = self.query_one(VirtualList)
        if EVENTS in change.topics:
            found = (e for e in reversed(self.model.events) if self._matches(e))
            self.rows.items = list(found)
            listing.reload()
        figures = self.model.figures
        wal = figures.get("sqlite_wal_bytes")
        text = f"seq {self.model.seq}" + (f"  wal {size(wal)}" if wal is not None else "")
        self.query_one("#figures", Lines).show([[Piece(f"{text}   filter: {self._filter or '-'}")]])
        self._show_record()

    def _matches(self, event: EventView) -> bool:
        return not self._filter or self._filter in f"{event.kind} {event.run_id} {event.name} {event.workflow}"

    def _cells(self, event: EventView) -> Sequence[Cell]:
        run = "-" if event.run_id is None else short_id(event.run_id, COLUMNS[3].widths[self.dash.width_class])
        at = clock(event.at, self.dash.time_style, now=self.dash.now())
        return [str(event.seq), at, event.kind, run, size(len(bytes(event.data))), says(event)]

    def _show_record(self) -> None:
        event = self.rows.item(self.query_one(VirtualList).cursor_key)
        glyphs = self.dash.glyphs
        if event is None:
            self.query_one("#record", Lines).show([])
            return
        text = bytes(event.data).decode("utf-8", "replace")
        head = [Piece(f"{glyphs.h} {event.seq} {event.kind} ", "bold"), Piece(glyphs.h * 200, "frame")]
        width = max(20, self.size.width - 2)
        self.query_one("#record", Lines).show(
            [head, [Piece(" " + text[:width])], [Piece(" " + text[width : 2 * width])]]
        )

    def on_row_highlighted(self, message: RowHighlighted) -> None:
        """Another record to show."""
        self._show_record()

    def open_target(self, target: str) -> None:
        self.query_one(VirtualList).move_to_key(target)

    def selected_id(self) -> str | None:
        return self.query_one(VirtualList).cursor_key

    def command(self) -> str | None:
        return self.dash.command("events")
