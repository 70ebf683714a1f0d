"""One run: how it stands and why, and its records."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

from textual.app import ComposeResult
from textual.binding import Binding, BindingType

from tui.fold import data_of
from tui.format import Cell, Piece, age_between, clock, safe, stamp
from tui.model import Change
from tui.screens.base import AreaScreen
from tui.states import cost_of_kill, state_of, why
from tui.widgets.lines import Lines
from tui.widgets.virtual_list import Column, ListRows, VirtualList
from wal.views import HistoryRecord, RunDetail

RECORDS_HELD_MAX = 2_000
COLUMNS = (
    Column("SEQ", (7, 8, 8, 8), ">"),
    Column("TIME", (9, 9, 9, 9)),
    Column("KIND", (16, 22, 24, 24)),
    Column("CALL", (0, 6, 8, 10)),
    Column("NAME", (10, 14, 20, 24)),
    Column("TRY", (0, 3, 3, 3), ">"),
    Column("SAYS", (0, 10, 30, 40), grow=True),
)


class RunDetailScreen(AreaScreen):
    """A run, opened from a list; escape goes back."""

    AREA = "runs"
    BINDINGS: ClassVar[list[BindingType]] = [Binding("escape", "back", "back", id="run.back")]

    def __init__(self, run_id: str) -> None:
        super().__init__()
        self.run_id = run_id
        self.detail: RunDetail | None = None
        self._rows: ListRows[HistoryRecord] = ListRows(lambda record: str(record.seq), self._cells)
        self._records: list[HistoryRecord] = []
        self._loading = False
        self._again = False

    def body(self) -> ComposeResult:
        """What it is, and its records."""
        yield Lines(id="about", classes="about")
        yield VirtualList(COLUMNS, self._rows, id="records", empty=lambda: "reading ...")

    def on_mount(self) -> None:
        """Its records are asked for."""
        self.query_one("#about").styles.height = 5
        self._load_soon()

    def show(self, change: Change) -> None:
        if self.run_id in change.runs:
            self._load_soon()
        self._show_about()
        self.query_one(VirtualList).repaint()

    def _load_soon(self) -> None:
        if self._loading:
            self._again = True
            return
        self._loading = True
        self.run_worker(self._load(), group="detail")

    async def _load(self) -> None:
        self._again = False
        self.detail = await self.ask(lambda source: source.run(self.run_id)) or self.detail
        after = self._records[-1].seq if self._records else 0
        page = await self.ask(lambda source: source.history(self.run_id, after=after, limit=500))
        while page is not None and page.items and len(self._records) < RECORDS_HELD_MAX:
            self._records += page.items
            if page.next is None:
                break
            following = int(page.next)
            page = await self.ask(lambda source, following=following: source.history(self.run_id, following, 500))  # type: ignore[misc]
        self._rows.items = list(reversed(self._records))
        self._loading = False
        self._show_about()
        self.query_one(VirtualList).reload()
        if self._again:
            self._load_soon()

    def _show_about(self) -> None:
        run = self.detail
        if run is None:
            return
        state, now, note = state_of(run), self.dash.now(), self.model.note(run.id)
        glyph = self.dash.glyphs.of(state)
        cost = cost_of_kill(run, bool(note.in_flight))
        payload = bytes(run.input).decode("utf-8", "replace")
        lines = [
            [
                Piece(f"run {run.id} {run.workflow} ", "bold"),
                Piece(f"v{run.version}  " if run.version else " "),
                Piece(f"{glyph} {state.word}", state.look),
                Piece(f"  since {stamp(run.created_at)}  {age_between(run.created_at, now)}  {cost} seq {run.seq}"),
            ],
            [Piece("in  ", "dim"), Piece(payload[:400]), Piece(f"  parent {run.parent_id or '-'}")],
            [Piece("why ", "dim"), Piece(why(run, now, note.waits or note.step))],
        ]
        if run.status == "completed":
            lines.append([Piece("out ", "dim"), Piece(bytes(run.result).decode("utf-8", "replace")[:400])])
        elif run.error is not None:
            lines.append([Piece("err ", "bad"), Piece(safe(f"{run.error.type}: {run.error.message}"))])
        self.query_one("#about", Lines).show(lines)

    def _cells(self, record: HistoryRecord) -> Sequence[Cell]:
        data = data_of(record.data)
        says = " ".join(f"{key}={value}" for key, value in data.items() if value not in (None, [], {}, ""))
        attempt = str(record.attempt) if record.attempt else "-"
        at = clock(record.at, self.dash.time_style, now=self.dash.now())
        return [str(record.seq), at, record.kind, record.call or "-", record.name or "-", attempt, says or "-"]

    def selected_id(self) -> str | None:
        return self.run_id

    def command(self) -> str | None:
        return self.dash.command("runs", "show", self.run_id)

    def open_target(self, target: str) -> None:
        if target != self.run_id:
            self.app.switch_screen(RunDetailScreen(target))

    def action_back(self) -> None:
        self.app.pop_screen()
