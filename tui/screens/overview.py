"""The overview: what needs a person, how the runs are, what `kill -9` would cost, health, the last events."""

from __future__ import annotations

import time

from textual.app import ComposeResult
from textual.containers import Grid, Horizontal

from tui.format import Line, Piece
from tui.jump import Jump
from tui.link_state import OFFLINE
from tui.messages import RowOpened
from tui.model import TOPICS, Change, Need
from tui.overview_text import actor_lines, event_lines, health_lines, kill9_lines, need_cells, rate_lines, state_lines
from tui.screens.base import AreaScreen
from tui.widgets.lines import Lines
from tui.widgets.virtual_list import Column, ListRows, VirtualList

COLUMNS = (
    Column("", (7, 7, 7, 7)),
    Column("", (20, 24, 30, 40), grow=True),
    Column("", (0, 12, 16, 20)),
    Column("", (10, 25, 26, 28)),
)
EVENTS_SECONDS = 0.95
"""Between two drawings of the events while many come: each moves all lines, which is most of what goes over the wire.
The first one is drawn at once, the last one by the next second's tick."""
_AREAS = {"approval": "approvals", "run": "runs", "actor": "actors", "connector": "connectors"}
_COMMANDS = {
    "approval": ("approvals", "show"),
    "run": ("runs", "explain"),
    "actor": ("actors", "tree"),
    "connector": ("connectors", "show"),
}


class OverviewScreen(AreaScreen):
    """Area 1."""

    AREA = "overview"

    def __init__(self) -> None:
        super().__init__()
        self.needs: ListRows[Need] = ListRows(lambda need: f"{need.kind} {need.id}", self._need_cells)
        self._events_at = 0.0

    def body(self) -> ComposeResult:
        """Panels; which of them there are and where is in style.tcss, by the screen's size."""
        with Horizontal(id="over-top"):
            yield VirtualList(COLUMNS, self.needs, id="needs", heading=False, frame="Needs you", empty=self._nothing)
            yield Lines(title="kill -9 right now?", frame=True, id="kill9-wide")
        with Grid(id="over-grid"):
            yield Lines(title="Runs", frame=True, id="states")
            yield Lines(title="kill -9 right now?", frame=True, id="kill9")
            yield Lines(title="Throughput 15m", frame=True, id="rates")
            yield Lines(title="Health", frame=True, id="health")
        with Horizontal(id="over-foot"):
            yield Lines(title="Actors (worst first)", frame=True, id="worst")
            yield Lines(id="events")
            yield Lines(title="Events (follow)", frame=True, id="events-wide")

    def show(self, change: Change) -> None:
        needs = self.query_one("#needs", VirtualList)
        if change:
            self.needs.items = self.model.needs()
            needs.set_frame(f"Needs you ({len(self.needs.items)})" if self.needs.items else "Needs you")
            needs.reload()
        else:
            needs.repaint()
        now, glyphs = self.dash.now(), self.dash.glyphs
        online = self.dash.link_state.name != OFFLINE
        for pane in self._panes("#kill9", "#kill9-wide"):
            pane.show(kill9_lines(self.model, pane.room.width, glyphs))
        for pane in self._panes("#states"):
            pane.show(state_lines(self.model, pane.room.width, pane.room.height, glyphs))
        for pane in self._panes("#rates"):
            pane.show(rate_lines(self.model, now, pane.room.width, glyphs))
        for pane in self._panes("#health"):
            pane.show(health_lines(self.model, online, glyphs))
        for pane in self._panes("#worst"):
            pane.show(actor_lines(self.model))
        if change.topics == TOPICS or time.monotonic() >= self._events_at + EVENTS_SECONDS:
            self._events_at = time.monotonic()
            self._show_events(now)

    def _panes(self, *names: str) -> list[Lines]:
        """Those of these panels that this screen has room for."""
        panes = [self.query_one(name, Lines) for name in names]
        return [pane for pane in panes if pane.display and pane.size.height > 0]

    def _show_events(self, now: int) -> None:
        style, glyphs = self.dash.time_style, self.dash.glyphs
        for pane in self._panes("#events", "#events-wide"):
            count = pane.room.height if pane.frame else max(0, pane.room.height - 1)
            events = reversed(self.model.events)
            lines: list[Line] = [*event_lines(events, style, now, pane.room.width, count, glyphs)]
            if not pane.frame:
                rule = glyphs.h * max(0, pane.size.width - 9)
                lines.insert(0, [Piece(glyphs.h, "frame"), Piece(" events ", "bold"), Piece(rule, "frame")])
            pane.show(lines)

    def _need_cells(self, need: Need) -> list[Piece | str]:
        step = self.dash.width_class
        return list(need_cells(need, self.dash.now(), COLUMNS[2].widths[step] - 4, short=step == 0))

    def _nothing(self) -> str:
        return "nothing needs you" if self.dash.source is not None else "connecting ..."

    def on_row_opened(self, message: RowOpened) -> None:
        """Go to what needs us."""
        kind, _, target = message.key.partition(" ")
        self.dash.go(Jump(_AREAS[kind], target=target))

    def selected_id(self) -> str | None:
        need = self.needs.item(self.query_one("#needs", VirtualList).cursor_key)
        return None if need is None else need.id

    def command(self) -> str | None:
        need = self.needs.item(self.query_one("#needs", VirtualList).cursor_key)
        if need is None:
            return self.dash.command("status")
        return self.dash.command(*_COMMANDS[need.kind], *([] if need.kind == "actor" else [need.id]))
