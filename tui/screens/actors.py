"""The supervision tree: each actor with its restarts, its mailbox, its last error; restart through a card."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Container

from tui.actor_tree import NOT_RESTARTED, Row, figures_of, restarted_with, rows_of
from tui.approval_text import rule
from tui.format import Cell, Line, Piece
from tui.messages import RowHighlighted, RowOpened
from tui.model import ACTORS, Change
from tui.screens.base import AreaScreen
from tui.screens.restart_card import RestartCard
from tui.widgets.lines import Lines
from tui.widgets.virtual_list import Column, ListRows, VirtualList

COLUMNS = (
    Column("ACTOR", (26, 28, 26, 44)),
    Column("POLICY", (0, 12, 12, 14)),
    Column("ST", (6, 6, 6, 6)),
    Column("RST", (3, 3, 3, 4), ">"),
    Column("MBOX", (0, 7, 7, 12), ">"),
    Column("LAST ERROR", (8, 8, 8, 20), grow=True),
)
_WORDS = {
    "up": ("UP", "ok"),
    "restarting": ("REST", "warn"),
    "stopped": ("STOP", "dim"),
    "failed": ("DOWN", "need"),
}
MAILBOX_HIGH = 0.8


class Tree(VirtualList):
    """The list, where space folds a branch."""

    BINDINGS: ClassVar[list[BindingType]] = [Binding("enter", "open", "fold", show=False, id="list.open")]


class ActorsScreen(AreaScreen):
    """Area 4."""

    AREA = "actors"
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("space", "fold", "fold", id="actors.fold"),
        Binding("v", "flat", "tree/flat", id="actors.flat"),
        Binding("b", "restart", "restart..", id="actors.restart"),
    ]
    CSS = """
    ActorsScreen #panes { layout: vertical; height: 1fr; width: 100%; }
    ActorsScreen #detail { height: 5; }
    ActorsScreen.-narrow #detail { height: 3; }
    ActorsScreen.-wide #panes, ActorsScreen.-xwide #panes { layout: horizontal; }
    ActorsScreen.-wide #detail, ActorsScreen.-xwide #detail { height: 1fr; width: 40%; }
    """

    def __init__(self) -> None:
        super().__init__()
        self.rows: ListRows[Row] = ListRows(lambda row: row.actor.path, self._cells)
        self.flat = False
        self._folded: set[str] = set()
        self._filter = ""

    def body(self) -> ComposeResult:
        """A line of counts, the tree, the actor at the cursor."""
        yield Lines(id="counts", classes="line")
        with Container(id="panes"):
            yield Tree(COLUMNS, self.rows, id="actors", empty=self._empty)
            yield Lines(id="detail")

    @property
    def filter_text(self) -> str:
        return self._filter

    def set_filter(self, text: str) -> None:
        self._filter = text
        self._relist()

    def show(self, change: Change) -> None:
        if ACTORS in change.topics:
            self._relist()
        else:
            self._show_panes()

    def _relist(self) -> None:
        rows = rows_of(self.model.actors, self._folded, flat=self.flat or bool(self._filter))
        self.rows.items = [row for row in rows if self._filter.lower() in row.actor.path.lower()]
        self.query_one(VirtualList).reload()
        self._show_panes()

    def _cells(self, row: Row) -> Sequence[Cell]:
        actor, glyphs = row.actor, self.dash.glyphs
        word, look = _WORDS.get(actor.status, (actor.status.upper(), "warn"))
        name = actor.path.rpartition("/")[2]
        mark = (">" if row.folded else "v") + " " if row.parent else "  "
        shown = "  " * row.depth + mark + name if not (self.flat or self._filter) else actor.path
        full = actor.mailbox_limit > 0 and actor.mailbox_size >= MAILBOX_HIGH * actor.mailbox_limit
        mailbox = f"{actor.mailbox_size}/{actor.mailbox_limit}" if actor.mailbox_limit else "-"
        return [
            shown,
            actor.strategy or "",
            Piece(f"{glyphs.up if actor.status == 'up' else '~'} {word}", look),
            Piece(str(actor.restarts), "warn" if actor.restarts else ""),
            Piece(mailbox, "need" if full else ""),
            actor.last_error or "-",
        ]

    def _empty(self) -> str:
        source = self.dash.source
        if source is not None and source.offline:
            return "the daemon is down: only a running one has actors"
        if self._filter:
            return f"no actor matches {self._filter} - esc clears the filter"
        return "the daemon has not told its actors yet"

    # --- beside

    def _show_panes(self) -> None:
        words = self.model.actor_words()
        restarts = sum(actor.restarts for actor in self.model.actors)
        pieces = [Piece(f"{words.get('up', 0)} up")]
        for status, look in (("restarting", "warn"), ("stopped", "dim"), ("failed", "need")):
            pieces.append(Piece(f"  {words.get(status, 0)} {status}", look if words.get(status) else ""))
        shape = "flat" if self.flat else "tree"
        pieces.append(Piece(f"   restarts {restarts}   {shape}   filter: {self._filter or '-'}", "dim"))
        self.query_one("#counts", Lines).show([pieces])
        pane = self.query_one("#detail", Lines)
        pane.frame = self.dash.width_class >= 2
        row = self.rows.item(self.query_one(VirtualList).cursor_key)
        if row is None:
            pane.show([], title="")
        elif pane.frame:
            pane.show(self._detail(row, long=True), title=row.actor.path)
        else:
            head = rule(row.actor.path, self.size.width, self.dash.glyphs, look="bold")
            pane.show([head, *self._detail(row, long=False)])

    def _detail(self, row: Row, *, long: bool) -> list[Line]:
        actor = row.actor
        taken = [path for path in restarted_with(self.model.actors, actor.path) if path != actor.path]
        along = f"takes along {', '.join(taken)}" if taken else "takes along nobody else"
        if actor.path in NOT_RESTARTED:
            along = "together with the daemon only"
        lines: list[Line] = [
            [Piece(" restart    ", "dim"), Piece(along)],
            [Piece(" last error ", "dim"), Piece(actor.last_error or "none", "warn" if actor.last_error else "")],
        ]
        figures = figures_of(actor.statistics)
        if not long:
            told = "  ".join(f"{name} {value}" for name, value in figures)
            return [*lines, [Piece(" figures    ", "dim"), Piece(told or "none")]]
        lines.append([Piece(" mailbox    ", "dim"), Piece(f"{actor.mailbox_size} of {actor.mailbox_limit or 'none'}")])
        return [*lines, [], *([Piece(f" {name:<24}", "dim"), Piece(value)] for name, value in figures)]

    def on_row_highlighted(self, message: RowHighlighted) -> None:
        """Another actor to show."""
        self._show_panes()

    # --- keys

    def on_row_opened(self, message: RowOpened) -> None:
        """Enter folds, too."""
        self.action_fold()

    def action_fold(self) -> None:
        """Fold a branch away, or unfold it."""
        row = self.rows.item(self.query_one(VirtualList).cursor_key)
        if row is not None and row.parent:
            self._folded ^= {row.actor.path}
            self._relist()

    def action_flat(self) -> None:
        """The tree, or all with the worst first."""
        self.flat = not self.flat
        self._relist()

    def action_restart(self) -> None:
        """The card for a restart."""
        row = self.rows.item(self.query_one(VirtualList).cursor_key)
        if row is None:
            return
        if row.actor.path in NOT_RESTARTED:
            self.dash.toast(f"{row.actor.path} is restarted with the daemon only", severity="warning")
        else:
            self.app.push_screen(RestartCard(row.actor))

    def open_target(self, target: str) -> None:
        self._folded.clear()
        self._relist()
        self.query_one(VirtualList).move_to_key(target)

    def selected_id(self) -> str | None:
        return self.query_one(VirtualList).cursor_key

    def command(self) -> str | None:
        return self.dash.command("actors", "tree")
