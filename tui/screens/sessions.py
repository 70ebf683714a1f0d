"""The sessions: whose they are, how long they live, newest first."""

from __future__ import annotations

from collections.abc import Sequence

from textual.app import ComposeResult

from tui.format import Cell, Piece, age_between, until
from tui.model import SESSIONS, Change
from tui.screens.base import AreaScreen
from tui.widgets.lines import Lines
from tui.widgets.virtual_list import Column, ListRows, VirtualList
from wal.views import SessionView

COLUMNS = (
    Column("ST", (7, 7, 7, 7)),
    Column("ID", (16, 20, 26, 32)),
    Column("SUBJECT", (0, 14, 20, 24)),
    Column("TENANT", (0, 10, 14, 18)),
    Column("SINCE", (5, 5, 5, 5), ">"),
    Column("EXPIRES", (7, 7, 7, 7), ">"),
    Column("ON CLOSE", (0, 8, 10, 20), grow=True),
)
_LOOKS = {"open": "ok", "expired": "dim", "closed": "dim"}


class SessionsScreen(AreaScreen):
    """Area 6."""

    AREA = "sessions"

    def __init__(self) -> None:
        super().__init__()
        self.rows: ListRows[SessionView] = ListRows(lambda session: session.id, self._cells)
        self._filter = ""

    def body(self) -> ComposeResult:
        """A line of counts and the list."""
        yield Lines(id="counts", classes="line")
        yield VirtualList(COLUMNS, self.rows, id="sessions", empty=self._empty)

    @property
    def filter_text(self) -> str:
        return self._filter

    def set_filter(self, text: str) -> None:
        self._filter = text
        self.show(Change(frozenset({SESSIONS})))

    def show(self, change: Change) -> None:
        sessions = self.model.sessions
        self.rows.items = [
            one for one in sessions if self._filter in f"{one.id} {one.subject} {one.tenant} {one.status}"
        ]
        listing = self.query_one(VirtualList)
        if SESSIONS in change.topics:
            listing.reload()
        else:
            listing.repaint()
        active = sum(1 for session in sessions if session.status == "open")
        text = f"sessions {len(sessions)} ({active} open)   filter: {self._filter or '-'}"
        self.query_one("#counts", Lines).show([[Piece(text)]])

    def _cells(self, session: SessionView) -> Sequence[Cell]:
        now = self.dash.now()
        return [
            Piece(session.status, _LOOKS.get(session.status, "")),
            session.id,
            session.subject or "-",
            session.tenant or "-",
            age_between(session.created_at, now),
            until(session.expires_at, now) if session.status == "open" else "-",
            session.on_close,
        ]

    def _empty(self) -> str:
        return f"no sessions match {self._filter} - esc clears" if self._filter else "no sessions yet"

    def open_target(self, target: str) -> None:
        self.query_one(VirtualList).move_to_key(target)

    def selected_id(self) -> str | None:
        return self.query_one(VirtualList).cursor_key

    def command(self) -> str | None:
        key = self.selected_id()
        return self.dash.command("sessions", "list") if key is None else self.dash.command("sessions", "show", key)
