"""The supervision tree: each actor with its restarts, its mailbox and its last error."""

from __future__ import annotations

from collections.abc import Sequence

from textual.app import ComposeResult

from tui.format import Cell, Piece
from tui.model import ACTORS, Change
from tui.screens.base import AreaScreen
from tui.widgets.lines import Lines
from tui.widgets.virtual_list import Column, ListRows, VirtualList
from wal.views import ActorView

COLUMNS = (
    Column("ACTOR", (22, 26, 40, 44)),
    Column("POLICY", (0, 12, 12, 14)),
    Column("ST", (6, 6, 6, 6)),
    Column("RST", (3, 3, 4, 4), ">"),
    Column("MBOX", (0, 9, 10, 10), ">"),
    Column("LAST ERROR", (10, 8, 30, 40), grow=True),
)
_WORDS = {"up": ("UP", "ok"), "restarting": ("REST", "warn"), "stopped": ("STOP", "dim"), "failed": ("DOWN", "need")}


class ActorsScreen(AreaScreen):
    """Area 4."""

    AREA = "actors"

    def __init__(self) -> None:
        super().__init__()
        self.rows: ListRows[ActorView] = ListRows(lambda actor: actor.path, self._cells)
        self._filter = ""

    def body(self) -> ComposeResult:
        """A line of counts and the tree."""
        yield Lines(id="counts", classes="line")
        yield VirtualList(COLUMNS, self.rows, id="actors", empty=self._empty)

    @property
    def filter_text(self) -> str:
        return self._filter

    def set_filter(self, text: str) -> None:
        self._filter = text
        self.show(Change(frozenset({ACTORS})))

    def show(self, change: Change) -> None:
        self.rows.items = [actor for actor in self.model.actors if self._filter in actor.path]
        listing = self.query_one(VirtualList)
        if ACTORS in change.topics:
            listing.reload()
        words = self.model.actor_words()
        restarts = sum(actor.restarts for actor in self.model.actors)
        text = "  ".join(f"{words.get(name, 0)} {name}" for name in ("up", "restarting", "failed"))
        self.query_one("#counts", Lines).show(
            [[Piece(f"{text}   restarts {restarts}   filter: {self._filter or '-'}")]]
        )

    def _cells(self, actor: ActorView) -> Sequence[Cell]:
        word, look = _WORDS.get(actor.status, (actor.status.upper(), "warn"))
        depth = actor.path.count("/")
        glyph = self.dash.glyphs.up if actor.status == "up" else "~"
        return [
            "  " * depth + actor.path.rpartition("/")[2],
            actor.strategy or "-",
            Piece(f"{glyph} {word}", look),
            str(actor.restarts),
            f"{actor.mailbox_size}/{actor.mailbox_limit}" if actor.mailbox_limit else "-",
            actor.last_error or "-",
        ]

    def _empty(self) -> str:
        return (
            "only a running daemon has actors" if self.dash.source and self.dash.source.offline else "no actors match"
        )

    def open_target(self, target: str) -> None:
        self.query_one(VirtualList).move_to_key(target)

    def selected_id(self) -> str | None:
        return self.query_one(VirtualList).cursor_key

    def command(self) -> str | None:
        return self.dash.command("actors", "tree")
