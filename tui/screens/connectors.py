"""The connectors: what brings outside events in. Without any, the screen says why it is empty."""

from __future__ import annotations

from textual.app import ComposeResult

from tui.format import Piece
from tui.model import Change
from tui.screens.base import AreaScreen
from tui.widgets.lines import Lines
from tui.widgets.virtual_list import Column, ListRows, VirtualList

COLUMNS = (
    Column("NAME", (14, 14, 20, 24)),
    Column("KIND", (0, 6, 10, 10)),
    Column("ST", (10, 10, 12, 12)),
    Column("LAST POLL", (0, 9, 9, 9)),
    Column("NEXT", (0, 5, 5, 5), ">"),
    Column("LAG", (5, 5, 6, 6), ">"),
    Column("CURSOR", (0, 12, 20, 30), grow=True),
    Column("ERR", (0, 4, 6, 6), ">"),
)


class ConnectorsScreen(AreaScreen):
    """Area 5."""

    AREA = "connectors"

    def __init__(self) -> None:
        super().__init__()
        self.rows: ListRows[tuple[str, ...]] = ListRows(lambda row: row[0], lambda row: row)

    def body(self) -> ComposeResult:
        """A line of counts and the list."""
        yield Lines(id="counts", classes="line")
        yield VirtualList(COLUMNS, self.rows, id="connectors", empty=self._empty)

    def show(self, change: Change) -> None:
        self.query_one("#counts", Lines).show([[Piece("0 connectors")]])
        if change:
            self.query_one(VirtualList).reload()

    def _empty(self) -> str:
        source = self.dash.source
        if source is not None and source.offline:
            return "the daemon is down: only a running one has connectors"
        return "none configured: no app declares one, so nothing polls and no webhook is open"

    def command(self) -> str | None:
        return self.dash.command("connectors", "list")
