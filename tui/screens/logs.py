"""The log: what happened, for people, out of the records; the newest first, by level and by what it is about."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

from textual.app import ComposeResult
from textual.binding import Binding, BindingType

from tui.approval_text import rule, wrap
from tui.event_text import LEVELS, level_of, says, source_of
from tui.fold import data_of
from tui.format import Cell, Line, Piece, clock, short_id, thousands
from tui.jump import Jump
from tui.messages import RowHighlighted, RowOpened
from tui.model import EVENTS, Change
from tui.screens.base import AreaScreen
from tui.widgets.lines import Lines
from tui.widgets.virtual_list import Column, ListRows, VirtualList
from wal.views import EventView

COLUMNS = (
    Column("TIME", (9, 9, 9, 9)),
    Column("LEVEL", (5, 5, 5, 5)),
    Column("ABOUT", (0, 8, 10, 12)),
    Column("RUN", (8, 8, 12, 18)),
    Column("WHAT", (20, 30, 60, 90), grow=True),
)
_LOOKS = {"ERROR": "bad", "WARN": "warn", "DEBUG": "dim"}
ALL = "*"
RUN = "run:"
"""A word of the filter that begins so names the one run that is meant."""
DETAIL_LINES_MAX = 200


class LogLines(VirtualList):
    """The list, which says what enter does."""

    BINDINGS: ClassVar[list[BindingType]] = [Binding("enter", "open", "expand", id="list.open")]


class LogsScreen(AreaScreen):
    """Area 8."""

    AREA = "logs"
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("f", "follow", "follow", id="logs.follow"),
        Binding("l", "level", "level", id="logs.level"),
        Binding("s", "source", "source", id="logs.source"),
        Binding("e", "error(1)", "next error", id="logs.error"),
        Binding("E", "error(-1)", "error before", show=False, id="logs.error_before"),
        Binding("J", "journal", "journal here", id="logs.journal"),
    ]
    CSS = """
    LogsScreen #detail { height: 6; }
    LogsScreen.-short #detail { height: 3; }
    LogsScreen.-tall #detail { height: 14; }
    LogsScreen.-expanded #detail { height: 1fr; }
    LogsScreen.-expanded #lines { height: 5; }
    """

    def __init__(self) -> None:
        super().__init__()
        self.rows: ListRows[EventView] = ListRows(lambda event: str(event.seq), self._cells)
        self._filter = ""
        self.level, self.source = "INFO", ALL
        self.following = True
        self._hidden = 0
        self._upto = 0

    def body(self) -> ComposeResult:
        """What is shown, the lines, the one at the cursor."""
        yield Lines(id="what", classes="line")
        yield LogLines(COLUMNS, self.rows, id="lines", heading=False, empty=self._empty)
        yield Lines(id="detail")

    # --- what is listed

    @property
    def filter_text(self) -> str:
        return self._filter

    def set_filter(self, text: str) -> None:
        self._filter = text
        self._relist()

    def show(self, change: Change) -> None:
        if EVENTS in change.topics:
            self._relist()
        else:
            self.query_one(VirtualList).repaint()
            self._show_what()

    def _relist(self) -> None:
        """Choose anew. Standing still, what came later is only counted."""
        events = self.model.events
        if self.following or not self._upto:
            self._upto = events[-1].seq if events else 0
        shown = [event for event in reversed(events) if event.seq <= self._upto and self._matches(event)]
        self._hidden = len(events) - len(shown)
        self.rows.items = shown
        listing = self.query_one(VirtualList)
        if self.following:
            listing.cursor, listing.cursor_key = 0, None
        listing.reload()
        self._show_what()
        self._show_detail()

    def _matches(self, event: EventView) -> bool:
        if LEVELS.index(level_of(event)) < LEVELS.index(self.level):
            return False
        if self.source not in (ALL, source_of(event)):
            return False
        if not self._filter:
            return True
        about = f"{event.kind} {event.run_id} {event.name} {event.workflow} {says(event)}".lower()
        return all(
            event.run_id == word.removeprefix(RUN) if word.startswith(RUN) else word.lower() in about
            for word in self._filter.split()
        )

    def _cells(self, event: EventView) -> Sequence[Cell]:
        level = level_of(event)
        run = "-" if event.run_id is None else short_id(event.run_id, COLUMNS[3].widths[self.dash.width_class])
        style = self.dash.time_style
        at = clock(event.at, style, now=self.dash.now())
        what = f"{event.kind.replace('_', ' ')} {event.workflow or ''} {says(event)}"
        return [at, Piece(level, _LOOKS.get(level, "")), source_of(event), run, " ".join(what.split())]

    def _empty(self) -> str:
        held = thousands(len(self.model.events))
        if not self.model.events:
            return "nothing has happened yet"
        return f"none of the last {held} records is {self.level} or worse, from {self.source}, and matches the filter"

    # --- what is shown

    def _show_what(self) -> None:
        events = self.model.events
        fresh = sum(1 for event in reversed(events) if event.seq > self._upto) if not self.following else 0
        follow = "ON" if self.following else f"off ({thousands(fresh)} new)"
        text = f"level>={self.level}  src:{self.source}  filter: {self._filter or '-'}   follow {follow}"
        text += f"   {thousands(self.rows.count())} lines, {thousands(self._hidden)} hidden"
        self.query_one("#what", Lines).show([[Piece(text)]])

    def _show_detail(self) -> None:
        pane, event = self.query_one("#detail", Lines), self.rows.item(self.query_one(VirtualList).cursor_key)
        if event is None:
            pane.show([])
            return
        width = max(20, self.size.width - 2)
        level = level_of(event)
        head = f"{clock(event.at)} {level} {source_of(event)}   record {event.seq}   run {event.run_id or '-'}"
        lines: list[Line] = [rule(head, self.size.width, self.dash.glyphs, look=_LOOKS.get(level, "bold"))]
        for part in _told(event):
            lines += [[Piece(" " + row)] for row in wrap(part, width, DETAIL_LINES_MAX)]
        pane.show(lines[:DETAIL_LINES_MAX])

    def on_row_highlighted(self, message: RowHighlighted) -> None:
        """Another line to show; leaving the newest ends following."""
        if self.following and self.query_one(VirtualList).cursor > 0:
            self.following = False
            self._show_what()
        self._show_detail()

    # --- keys

    def on_row_opened(self, message: RowOpened) -> None:
        """The line whole, with a traceback if it has one, or the list again."""
        self.toggle_class("-expanded")
        self.call_after_refresh(self._show_detail)

    def action_back(self) -> None:
        """The list again, then without the filter."""
        if self.has_class("-expanded"):
            self.remove_class("-expanded")
        else:
            super().action_back()

    def action_follow(self) -> None:
        """Stay at the newest, or stand still."""
        self.following = not self.following
        self._relist()

    def action_level(self) -> None:
        """The next level, round and round."""
        self.level = LEVELS[(LEVELS.index(self.level) + 1) % len(LEVELS)]
        self._relist()

    def action_source(self) -> None:
        """The next of the nouns that there are."""
        nouns = [ALL, *sorted({source_of(event) for event in self.model.events})]
        place = nouns.index(self.source) if self.source in nouns else 0
        self.source = nouns[(place + 1) % len(nouns)]
        self._relist()

    def action_error(self, by: int) -> None:
        """The next error down, or the one above."""
        listing = self.query_one(VirtualList)
        place = listing.cursor + by
        while 0 <= place < self.rows.count():
            if level_of(self.rows.items[place]) == "ERROR":
                listing.move_to(place)
                return
            place += by
        self.dash.toast("no more errors that way")

    def action_journal(self) -> None:
        """The journal at this record."""
        key = self.selected_id()
        if key is not None:
            self.dash.go(Jump("journal", target=key))

    def open_target(self, target: str) -> None:
        """The line of a record, or the one before it; all levels are shown for it."""
        if not target.isdecimal():
            return
        self.level, self.source, self.following, self._filter = LEVELS[0], ALL, False, ""
        self._upto = self.model.events[-1].seq if self.model.events else 0
        self._relist()
        place = next((n for n, event in enumerate(self.rows.items) if event.seq <= int(target)), None)
        if place is None:
            self.dash.toast(f"record {target} is older than the log; the journal has it", severity="warning")
        else:
            self.query_one(VirtualList).move_to(place)

    def selected_id(self) -> str | None:
        return self.query_one(VirtualList).cursor_key

    def command(self) -> str | None:
        return self.dash.command("events", "-f")


def _told(event: EventView) -> list[str]:
    """A record in full lines: what it says, and the traceback of an error as it is."""
    lines = [f"{event.kind.replace('_', ' ')} {event.workflow or ''} {says(event)}".strip()]
    data = data_of(event.data)
    error = data.get("error")
    traceback = error.get("traceback") if isinstance(error, dict) else data.get("traceback")
    if isinstance(traceback, str):
        lines += [line for line in traceback.split("\n") if line.strip()]
    return lines
