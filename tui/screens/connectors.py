"""The connectors; this daemon has none that it tells of yet, and the screen says so."""

from __future__ import annotations

from textual.app import ComposeResult

from tui.model import Change
from tui.screens.base import AreaScreen
from tui.widgets.virtual_list import Column, ListRows, VirtualList

COLUMNS = (
    Column("NAME", (14, 16, 20, 24)),
    Column("KIND", (0, 8, 10, 10)),
    Column("ST", (10, 12, 12, 12)),
    Column("LAST POLL", (0, 9, 9, 9)),
    Column("LAG", (5, 5, 6, 6), ">"),
    Column("CURSOR", (0, 12, 20, 30), grow=True),
)


class ConnectorsScreen(AreaScreen):
    """Area 5."""

    AREA = "connectors"

    def __init__(self) -> None:
        super().__init__()
        self.rows: ListRows[tuple[str, ...]] = ListRows(lambda row: row[0], lambda row: row)

    def body(self) -> ComposeResult:
        """The list."""
        yield VirtualList(COLUMNS, self.rows, id="connectors", empty=lambda: "no connectors are configured")

    def show(self, change: Change) -> None:
        if change:
            self.query_one(VirtualList).reload()

    def command(self) -> str | None:
        return self.dash.command("connectors", "list")
