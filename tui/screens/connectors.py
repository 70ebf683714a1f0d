"""The connectors: what brings outside events in, how each stands, why it does not poll now; steering through cards."""

from __future__ import annotations

from typing import ClassVar

from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Container

from runtimed.connector_words import WEBHOOK, standing
from tui.approval_text import rule
from tui.connector_text import PAUSE, POLL, RESET, RESUME, cells_of, counts_line, pane_lines, refusal
from tui.format import Line, Piece
from tui.jump import Jump
from tui.messages import RowHighlighted, RowOpened
from tui.model import CONNECTORS, Change
from tui.screens.base import AreaScreen
from tui.screens.card_base import wrapped
from tui.screens.connector_card import ConnectorCard
from tui.widgets.lines import Lines
from tui.widgets.virtual_list import Column, ListRows, VirtualList
from wal.views import ConnectorView

COLUMNS = (
    Column("NAME", (14, 14, 20, 24)),
    Column("KIND", (0, 9, 10, 10)),
    Column("ST", (10, 10, 12, 12)),
    Column("LAST POLL", (0, 9, 9, 9)),
    Column("NEXT", (0, 5, 5, 5), ">"),
    Column("LAG", (5, 5, 6, 6), ">"),
    Column("CURSOR", (0, 12, 20, 30), grow=True),
    Column("NEW/15m", (0, 0, 7, 7), ">"),
    Column("ERR", (0, 4, 6, 6), ">"),
)
SENTENCE_ROWS_MAX = 3


class ConnectorsScreen(AreaScreen):
    """Area 5."""

    AREA = "connectors"
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("n", "act('poll')", "poll now..", id="connectors.poll"),
        Binding("z", "act('pause')", "pause..", id="connectors.pause"),
        Binding("Z", "act('resume')", "resume..", id="connectors.resume"),
        Binding("C", "act('reset')", "set cursor..", id="connectors.reset"),
    ]
    CSS = """
    ConnectorsScreen #panes { layout: vertical; height: 1fr; width: 100%; }
    ConnectorsScreen #detail { height: 10; }
    ConnectorsScreen.-narrow #detail { height: 3; }
    ConnectorsScreen.-short #detail { height: 3; }
    ConnectorsScreen.-xwide #panes { layout: horizontal; }
    ConnectorsScreen.-xwide #detail { height: 1fr; width: 40%; }
    """

    def __init__(self) -> None:
        super().__init__()
        self.rows: ListRows[ConnectorView] = ListRows(
            lambda view: f"webhook:{view.name}" if view.kind == WEBHOOK else view.name,
            lambda view: cells_of(view, self.dash.now(), self.dash.time_style, self.dash.glyphs, offline=self._offline),
        )
        self._filter = ""

    def body(self) -> ComposeResult:
        """A line of counts, the list, the connector at the cursor."""
        yield Lines(id="counts", classes="line")
        with Container(id="panes"):
            yield VirtualList(COLUMNS, self.rows, id="connectors", empty=self._empty)
            yield Lines(id="detail")

    # --- what is listed

    @property
    def filter_text(self) -> str:
        return self._filter

    def set_filter(self, text: str) -> None:
        self._filter = text
        self._relist()

    def show(self, change: Change) -> None:
        if CONNECTORS in change.topics:
            self._relist()
        else:
            self.query_one(VirtualList).repaint()
            self._show_panes()

    def _relist(self) -> None:
        words = self._filter.lower().split()
        self.rows.items = [
            view
            for view in self.model.connectors
            if all(word in f"{view.name} {view.kind} {view.status}".lower() for word in words)
        ]
        self.query_one(VirtualList).reload()
        self._show_panes()

    def _empty(self) -> str:
        if self._filter:
            many = len(self.model.connectors)
            return f"no connector matches {self._filter} ({many} exist) - esc clears the filter"
        if self._offline:
            return "the daemon is down, and its file tells of no connector that has read anything"
        return "none configured: no app declares one, so nothing polls and no webhook is open"

    # --- beside

    @property
    def _offline(self) -> bool:
        """Whether what is shown is out of the file."""
        return self.dash.source is not None and self.dash.source.offline

    def _show_panes(self) -> None:
        self.query_one("#counts", Lines).show([counts_line(self.model.connectors, self._filter)])
        pane, view = self.query_one("#detail", Lines), self._current()
        pane.frame = self.dash.width_class >= 3
        if view is None:
            pane.show([], title="")
            return
        width = pane.room.width if pane.frame else self.size.width
        lines = pane_lines(view, self._sentence(view, width), self.dash.now(), offline=self._offline)
        if pane.frame:
            pane.show(lines, title=view.name)
        else:
            pane.show([rule(view.name, self.size.width, self.dash.glyphs, look="bold"), *lines])

    def _sentence(self, view: ConnectorView, width: int) -> list[Line]:
        """How it stands and what would wake it, broken at words."""
        said = standing(view, offline=self._offline)
        return [[Piece(" "), *row] for row in wrapped([Piece(said)], max(20, width - 2), SENTENCE_ROWS_MAX)]

    def _current(self) -> ConnectorView | None:
        return self.rows.item(self.query_one(VirtualList).cursor_key)

    def on_row_highlighted(self, message: RowHighlighted) -> None:
        """Another connector to show."""
        self._show_panes()

    # --- keys

    def action_act(self, verb: str) -> None:
        """The card for one thing to do; nothing happens before its Submit."""
        assert verb in (POLL, PAUSE, RESUME, RESET)
        view = self._current()
        if view is None:
            return
        if problem := refusal(verb, view):
            self.dash.toast(f"{view.name}: {problem}", severity="warning")
        else:
            self.app.push_screen(ConnectorCard(verb, view))

    def on_row_opened(self, message: RowOpened) -> None:
        """Its records in the journal."""
        self.dash.go(Jump("journal", filter=self.selected_id()))

    def open_target(self, target: str) -> None:
        self.query_one(VirtualList).move_to_key(target)

    def selected_id(self) -> str | None:
        view = self._current()
        return None if view is None else view.name

    def command(self) -> str | None:
        view = self._current()
        return self.dash.command("connectors", *(("list",) if view is None else ("show", view.name)))
