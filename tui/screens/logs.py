"""The log: what happened, for people, out of the records; the newest below, followed until somebody scrolls."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

from textual.app import ComposeResult
from textual.binding import Binding, BindingType

from tui.event_text import LEVELS, level_of, says, source_of
from tui.format import Cell, Piece, clock, short_id
from tui.model import EVENTS, Change
from tui.screens.base import AreaScreen
from tui.widgets.lines import Lines
from tui.widgets.virtual_list import Column, ListRows, VirtualList
from wal.views import EventView

COLUMNS = (
    Column("TIME", (9, 9, 9, 9)),
    Column("LEVEL", (5, 5, 5, 5)),
    Column("ABOUT", (0, 8, 10, 12)),
    Column("RUN", (10, 10, 14, 18)),
    Column("WHAT", (20, 30, 60, 90), grow=True),
)
_LOOKS = {"ERROR": "bad", "WARN": "warn", "DEBUG": "dim"}


class LogsScreen(AreaScreen):
    """Area 8."""

    AREA = "logs"
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("f", "follow", "follow", id="logs.follow"),
        Binding("l", "level", "level", id="logs.level"),
    ]

    def __init__(self) -> None:
        super().__init__()
        self.rows: ListRows[EventView] = ListRows(lambda event: str(event.seq), self._cells)
        self._filter = ""
        self.level = "INFO"
        self.following = True

    def body(self) -> ComposeResult:
        """What is shown, and the lines."""
        yield Lines(id="what", classes="line")
        yield VirtualList(COLUMNS, self.rows, id="lines", heading=False, empty=lambda: "nothing of this level yet")

    @property
    def filter_text(self) -> str:
        return self._filter

    def set_filter(self, text: str) -> None:
        self._filter = text
        self.show(Change(frozenset({EVENTS})))

    def show(self, change: Change) -> None:
        listing = self.query_one(VirtualList)
        if EVENTS in change.topics:
            least = LEVELS.index(self.level)
            shown = (e for e in self.model.events if LEVELS.index(level_of(e)) >= least and self._matches(e))
            self.rows.items = list(shown)
            listing.reload()
            if self.following:
                listing.move_to(len(self.rows.items) - 1)
        text = f"level>={self.level}  filter: {self._filter or '-'}   follow {'ON' if self.following else 'off'}"
        self.query_one("#what", Lines).show([[Piece(f"{text}   {len(self.rows.items)} lines")]])

    def _matches(self, event: EventView) -> bool:
        return not self._filter or self._filter in f"{event.kind} {event.run_id} {event.name} {event.workflow}"

    def _cells(self, event: EventView) -> Sequence[Cell]:
        level = level_of(event)
        run = "-" if event.run_id is None else short_id(event.run_id, COLUMNS[3].widths[self.dash.width_class])
        at = clock(event.at, self.dash.time_style, now=self.dash.now())
        what = f"{event.kind.replace('_', ' ')} {event.workflow or ''} {says(event)}"
        return [at, Piece(level, _LOOKS.get(level, "")), source_of(event), run, what]

    def action_follow(self) -> None:
        self.following = not self.following
        self.show(Change(frozenset({EVENTS})))

    def action_level(self) -> None:
        self.level = LEVELS[(LEVELS.index(self.level) + 1) % len(LEVELS)]
        self.show(Change(frozenset({EVENTS})))

    def selected_id(self) -> str | None:
        return self.query_one(VirtualList).cursor_key

    def command(self) -> str | None:
        return self.dash.command("events", "-f")
