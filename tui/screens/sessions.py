"""The sessions, and the audit: who changed what, with why and from where, out of the journal."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import ClassVar

from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Container

from tui.approval_text import rule
from tui.audit import AuditEntry, AuditTrail
from tui.format import Cell, Line, Piece, age_between, clock, short_id, stamp, thousands, until
from tui.messages import RowHighlighted
from tui.model import EVENTS, SESSIONS, Change
from tui.screens.base import AreaScreen
from tui.widgets.lines import Lines
from tui.widgets.virtual_list import Column, ListRows, VirtualList
from wal.views import SessionView

COLUMNS = (
    Column("ST", (7, 7, 7, 7)),
    Column("ID", (16, 18, 18, 32)),
    Column("SUBJECT", (0, 12, 12, 16)),
    Column("TENANT", (0, 8, 8, 12)),
    Column("SINCE", (5, 5, 5, 5), ">"),
    Column("EXPIRES", (7, 7, 7, 7), ">"),
    Column("ON CLOSE", (0, 8, 8, 8), grow=True),
)
AUDIT_COLUMNS = (
    Column("SEQ", (7, 7, 8, 9), ">"),
    Column("TIME", (9, 9, 9, 9)),
    Column("WHO", (10, 10, 12, 16)),
    Column("DID", (18, 20, 22, 24)),
    Column("TO", (0, 12, 18, 24)),
    Column("WHY", (8, 8, 20, 30), grow=True),
    Column("FROM", (0, 0, 18, 26)),
)
_LOOKS = {"open": "ok", "expired": "dim", "closed": "dim"}


class SessionsScreen(AreaScreen):
    """Area 6."""

    AREA = "sessions"
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("a", "audit", "audit whole", id="sessions.audit"),
        Binding("tab", "other_pane", "other pane", id="sessions.pane"),
    ]
    CSS = """
    SessionsScreen #panes { layout: vertical; height: 1fr; width: 100%; }
    SessionsScreen #audit-head { height: 1; }
    SessionsScreen #about { height: 3; }
    SessionsScreen.-short #about { display: none; }
    SessionsScreen.-audit #sessions { display: none; }
    """

    def __init__(self) -> None:
        super().__init__()
        self.rows: ListRows[SessionView] = ListRows(lambda session: session.id, self._cells)
        self.audit: ListRows[AuditEntry] = ListRows(lambda entry: str(entry.seq), self._audit_cells)
        self.trail = AuditTrail()
        self._filter = ""

    def body(self) -> ComposeResult:
        """A line of counts, the sessions, the audit, the thing at the cursor."""
        yield Lines(id="counts", classes="line")
        with Container(id="panes"):
            yield VirtualList(COLUMNS, self.rows, id="sessions", empty=self._empty)
            yield Lines(id="audit-head")
            yield VirtualList(AUDIT_COLUMNS, self.audit, id="audit", empty=self._no_audit)
        yield Lines(id="about")

    # --- what is listed

    @property
    def filter_text(self) -> str:
        return self._filter

    def forget(self) -> None:
        self.trail.clear()
        self._relist_audit()

    def set_filter(self, text: str) -> None:
        self._filter = text
        self._relist()
        self._relist_audit()

    def show(self, change: Change) -> None:
        if SESSIONS in change.topics:
            self._relist()
        else:
            self.query_one("#sessions", VirtualList).repaint()
        if EVENTS in change.topics and self.trail.feed(self.model.events):
            self._relist_audit()
        self._show_lines()

    def _relist(self) -> None:
        words = self._filter.lower().split()
        self.rows.items = [
            one
            for one in self.model.sessions
            if all(word in f"{one.id} {one.subject} {one.tenant} {one.status}".lower() for word in words)
        ]
        self.query_one("#sessions", VirtualList).reload()
        self._show_lines()

    def _relist_audit(self) -> None:
        words = self._filter.lower().split()
        self.audit.items = [
            entry for entry in self.trail.entries if all(word in " ".join(map(str, entry)).lower() for word in words)
        ]
        self.query_one("#audit", VirtualList).reload()
        self._show_lines()

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

    def _audit_cells(self, entry: AuditEntry) -> Sequence[Cell]:
        style = self.dash.time_style
        at = clock(entry.at, style, now=self.dash.now())
        why = f'"{entry.reason}"' if entry.reason else "-"
        thing = short_id(entry.what, max(8, AUDIT_COLUMNS[4].widths[self.dash.width_class]))
        return [str(entry.seq), at, entry.who or "-", entry.deed, thing or "-", why, entry.via or "-"]

    def _empty(self) -> str:
        if self._filter:
            return f"no session matches {self._filter} ({len(self.model.sessions)} exist) - esc clears the filter"
        return "no sessions: a program opens one with `open_session`, runs may belong to it"

    def _no_audit(self) -> str:
        held = thousands(len(self.model.events))
        return f"nobody changed anything in the last {held} records" + (" that matches" if self._filter else "")

    # --- what is shown

    def _show_lines(self) -> None:
        sessions, glyphs, width = self.model.sessions, self.dash.glyphs, self.size.width
        active = sum(1 for session in sessions if session.status == "open")
        text = f"durable sessions {len(sessions)} ({active} open)   filter: {self._filter or '-'}"
        self.query_one("#counts", Lines).show([[Piece(text)]])
        held = thousands(len(self.model.events))
        head = f"audit: what people and programs changed, out of the last {held} records"
        self.query_one("#audit-head", Lines).show([rule(head, width, glyphs)])
        self._show_about()

    def _show_about(self) -> None:
        pane, width, glyphs = self.query_one("#about", Lines), self.size.width, self.dash.glyphs
        if self._on_audit:
            entry = self.audit.item(self.query_one("#audit", VirtualList).cursor_key)
            pane.show([] if entry is None else self._about_entry(entry, rule(f"record {entry.seq}", width, glyphs)))
        else:
            session = self.rows.item(self.query_one("#sessions", VirtualList).cursor_key)
            pane.show([] if session is None else self._about_session(session, rule(session.id, width, glyphs)))

    @staticmethod
    def _about_entry(entry: AuditEntry, head: Line) -> list[Line]:
        via = f" ({entry.via})" if entry.via else ""
        why = f', saying "{entry.reason}"' if entry.reason else ", without a reason"
        return [
            head,
            [Piece(f" {entry.who}{via} did {entry.deed} {entry.what}")],
            [Piece(f" at {stamp(entry.at)}{why}")],
        ]

    @staticmethod
    def _about_session(session: SessionView, head: Line) -> list[Line]:
        ends = f"expires {stamp(session.expires_at)}" if session.expires_at else "does not expire"
        ended = f"   closed {stamp(session.closed_at)}" if session.closed_at else ""
        facts = f" opened {stamp(session.created_at)}   {ends}{ended}   its runs then: {session.on_close}"
        attributes = "  ".join(f"{key}={value}" for key, value in session.attributes.items())
        return [head, [Piece(facts)], [Piece(" attributes ", "dim"), Piece(attributes or "none")]]

    @property
    def _on_audit(self) -> bool:
        return self.has_class("-audit") or self.query_one("#audit", VirtualList).has_focus

    def on_row_highlighted(self, message: RowHighlighted) -> None:
        """Another session or change to show."""
        self._show_about()

    def on_descendant_focus(self) -> None:
        """The other pane."""
        super().on_descendant_focus()
        self._show_about()

    # --- keys

    def action_other_pane(self) -> None:
        """From the sessions to the audit, and back."""
        if not self.has_class("-audit"):
            on = "#sessions" if self.query_one("#audit", VirtualList).has_focus else "#audit"
            self.query_one(on, VirtualList).focus()

    def action_audit(self) -> None:
        """The audit alone, or both."""
        whole = not self.has_class("-audit")
        self.set_class(whole, "-audit")
        self.query_one("#audit" if whole else "#sessions", VirtualList).focus()

    def action_back(self) -> None:
        """Both panes again, then without the filter."""
        if self.has_class("-audit"):
            self.action_audit()
        else:
            super().action_back()

    def open_target(self, target: str) -> None:
        self.query_one("#sessions", VirtualList).move_to_key(target)

    def countdowns(self) -> Iterable[str | None]:
        return [one.expires_at for one in self.model.sessions if one.status == "open"]

    def selected_id(self) -> str | None:
        return self.query_one("#audit" if self._on_audit else "#sessions", VirtualList).cursor_key

    def command(self) -> str | None:
        if self._on_audit:
            return self.dash.command("events")
        key = self.selected_id()
        return self.dash.command("sessions", "list") if key is None else self.dash.command("sessions", "show", key)
