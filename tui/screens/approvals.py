"""The approvals: what waits for people, and what was decided last."""

from __future__ import annotations

from collections.abc import Sequence

from textual.app import ComposeResult

from tui.format import Cell, Piece, age_between, safe, short_id, until
from tui.messages import RowHighlighted
from tui.model import APPROVALS, Change
from tui.screens.base import AreaScreen
from tui.widgets.lines import Lines
from tui.widgets.virtual_list import Column, ListRows, VirtualList
from wal.views import ApprovalView

COLUMNS = (
    Column("RISK", (4, 4, 6, 6)),
    Column("#", (6, 6, 7, 8), ">"),
    Column("WHAT", (20, 24, 36, 40), grow=True),
    Column("RUN", (0, 10, 14, 18)),
    Column("WAITS", (5, 5, 5, 5), ">"),
    Column("EXPIRES", (0, 7, 7, 7), ">"),
    Column("VOTES", (5, 5, 5, 5), ">"),
)
_RISK_LOOKS = {"high": "need", "medium": "warn"}


class ApprovalsScreen(AreaScreen):
    """Area 3."""

    AREA = "approvals"

    def __init__(self) -> None:
        super().__init__()
        self.rows: ListRows[ApprovalView] = ListRows(lambda view: view.id, self._cells)
        self._filter = ""

    def body(self) -> ComposeResult:
        """A line of counts, the inbox, the request at the cursor."""
        yield Lines(id="counts", classes="line")
        yield VirtualList(COLUMNS, self.rows, id="inbox", empty=self._empty)
        yield Lines(id="request", classes="request")

    def on_mount(self) -> None:
        """Half of the screen is for the request."""
        self.query_one("#request").styles.height = "40%"

    @property
    def filter_text(self) -> str:
        return self._filter

    def set_filter(self, text: str) -> None:
        self._filter = text
        self.show(Change(frozenset({APPROVALS})))

    def show(self, change: Change) -> None:
        views = sorted(
            self.model.approvals.values(), key=lambda view: (view.expires_at or "9", view.requested_at or "")
        )
        self.rows.items = [view for view in views if self._filter.lower() in f"{view.title} {view.run_id}".lower()]
        listing = self.query_one(VirtualList)
        if APPROVALS in change.topics:
            listing.reload()
        else:
            listing.repaint()
        counts = f"open {len(views)}  decided {len(self.model.decided)} lately"
        self.query_one("#counts", Lines).show(
            [[Piece(counts), Piece(f"   filter: {self._filter}" if self._filter else "")]]
        )
        self._show_request()

    def _cells(self, view: ApprovalView) -> Sequence[Cell]:
        now = self.dash.now()
        given = sum(1 for vote in view.votes if vote.approve)
        return [
            Piece(view.risk.upper()[:4], _RISK_LOOKS.get(view.risk, "")),
            view.id,
            view.title,
            short_id(view.run_id, COLUMNS[3].widths[self.dash.width_class]),
            age_between(view.requested_at, now),
            until(view.expires_at, now),
            f"{given}/{view.quorum}",
        ]

    def _show_request(self) -> None:
        pane = self.query_one("#request", Lines)
        view = self.rows.item(self.query_one(VirtualList).cursor_key)
        if view is None:
            pane.show([])
            return
        glyphs, now = self.dash.glyphs, self.dash.now()
        detail = bytes(view.detail).decode("utf-8", "replace")
        lines = [
            [Piece(f"{glyphs.h} {view.id}  {view.title} ", "bold"), Piece(glyphs.h * 200, "frame")],
            [Piece(" asks      ", "dim"), Piece(f"{view.workflow} call {view.call}, run {view.run_id}")],
            [
                Piece(" since     ", "dim"),
                Piece(f"{age_between(view.requested_at, now)}, expires {until(view.expires_at, now)}"),
            ],
            [Piece(" roles     ", "dim"), Piece(f"{', '.join(view.roles) or 'anybody'}, {view.quorum} of them")],
            [Piece(" payload   ", "dim"), Piece(f"sha256 {view.payload_hash[:8]}..  {len(detail)} B")],
            [Piece(" detail    ", "dim"), Piece(detail[:1000])],
        ]
        for vote in view.votes:
            word = "APPROVE" if vote.approve else "DENY"
            lines.append(
                [Piece(" vote      ", "dim"), Piece(safe(f'{vote.by} {word} {vote.at} "{vote.reason or ""}"'))]
            )
        pane.show(lines)

    def _empty(self) -> str:
        return (
            f"nothing matches {self._filter} - esc clears the filter"
            if self._filter
            else "nobody is asked for anything"
        )

    def on_row_highlighted(self, message: RowHighlighted) -> None:
        """Another request to show."""
        self._show_request()

    def open_target(self, target: str) -> None:
        self.query_one(VirtualList).move_to_key(target)

    def selected_id(self) -> str | None:
        return self.query_one(VirtualList).cursor_key

    def command(self) -> str | None:
        key = self.selected_id()
        return None if key is None else self.dash.command("approvals", "show", key)
