"""The runs: a list of any length under a filter, and a preview of the one at the cursor."""

from __future__ import annotations

from collections.abc import Sequence

from textual.app import ComposeResult

from tui.filters import BadFilter, parse_filter
from tui.format import Cell, Piece, age_between, clock, short_id, spread, thousands
from tui.messages import RowHighlighted, RowOpened, RowsNeeded
from tui.model import Change
from tui.runs_index import RunsIndex
from tui.screens.base import AreaScreen
from tui.states import cost_of_kill, state_of, why, word_of
from tui.widgets.lines import Lines
from tui.widgets.virtual_list import Column, MarkingList
from wal.views import RunView

COLUMNS = (
    Column("ST", (7, 7, 7, 7)),
    Column("ID", (12, 12, 16, 20)),
    Column("WORKFLOW", (0, 14, 18, 22)),
    Column("STEP", (0, 14, 18, 22)),
    Column("TRY", (0, 3, 3, 3), ">"),
    Column("AGE", (4, 4, 4, 4), ">"),
    Column("KILL9", (0, 0, 5, 5)),
    Column("WAITS ON", (10, 12, 20, 24), grow=True),
)


class RunRows:
    """The rows of the list, out of the index; what the events told comes from the model."""

    def __init__(self, screen: RunsScreen) -> None:
        self._screen = screen

    def count(self) -> int:
        return len(self._screen.index)

    def key(self, number: int) -> str | None:
        run = self._screen.index.row(number)
        return None if run is None else run.id

    def number_of(self, key: str) -> int | None:
        return self._screen.index.number_of(key)

    def cells(self, number: int) -> Sequence[Cell] | None:
        run = self._screen.index.row(number)
        return None if run is None else self._screen.cells(run)


class RunsScreen(AreaScreen):
    """Area 2."""

    AREA = "runs"

    def __init__(self) -> None:
        super().__init__()
        self._filter_text = "st:live"
        self.index = RunsIndex(parse_filter(self._filter_text))
        self._fetching = False
        self._loaded_seq = -1

    def body(self) -> ComposeResult:
        """The filter's line, the list, the preview."""
        yield Lines(id="filter", classes="line")
        yield MarkingList(COLUMNS, RunRows(self), id="runs", empty=self._empty)
        yield Lines(id="preview", classes="preview")

    @property
    def filter_text(self) -> str:
        return self._filter_text

    def set_filter(self, text: str) -> None:
        try:
            which = parse_filter(text)
        except BadFilter as error:
            self.dash.toast(str(error), severity="warning")
            return
        self._filter_text = text
        self.index.clear(which)
        self._list.cursor_key = None
        self._list.move_to(0)
        self._fetch([None])

    def show(self, change: Change) -> None:
        if not len(self.index) and self.index.more:
            self._fetch([None])
        different = False
        for run_id in change.runs:
            run = self.model.runs.get(run_id)
            if run is not None:
                different |= self.index.update(run, word_of(run))
        if different or change:
            self._list.reload()
        else:
            self._list.repaint()
        self._show_line()
        self._show_preview()

    def cells(self, run: RunView) -> list[Cell]:
        """A row."""
        state, now, note = state_of(run), self.dash.now(), self.model.note(run.id)
        glyph = self.dash.glyphs.of(state)
        waits = note.waits if run.status == "waiting" and note.waits else run.waiting_on or "-"
        if run.status == "blocked" and run.error is not None:
            waits = run.error.type
        if run.waiting_until:
            waits += f" {clock(run.waiting_until, self.dash.time_style, now=now)}"
        step = note.step or (run.error.step if run.error and run.error.step else "-")
        cost = cost_of_kill(run, bool(note.in_flight))
        return [
            Piece(f"{glyph} {state.word}", state.look),
            short_id(run.id, self._id_width()),
            run.workflow,
            step,
            str(note.attempt) if note.step else "-",
            age_between(run.created_at, now),
            Piece(cost or "-", "warn" if cost == "REDO" else "need" if cost == "DOUBT" else ""),
            waits,
        ]

    def _id_width(self) -> int:
        return COLUMNS[1].widths[self.dash.width_class]

    def open_target(self, target: str) -> None:
        from tui.screens.run_detail import RunDetailScreen

        found = next((run_id for run_id in self.model.runs if run_id == target), None)
        found = found or next((run_id for run_id in self.model.runs if target in run_id), target)
        self.app.push_screen(RunDetailScreen(found))

    def selected_id(self) -> str | None:
        return self._list.cursor_key

    def command(self) -> str | None:
        key = self._list.cursor_key
        return None if key is None else self.dash.command("runs", "show", key)

    def remark(self) -> str:
        return f"{len(self._list.marks)} marked" if self._list.marks else ""

    # --- parts

    @property
    def _list(self) -> MarkingList:
        return self.query_one("#runs", MarkingList)

    def _empty(self) -> str:
        if self._fetching or self.dash.source is None:
            return "reading ..."
        if self._filter_text:
            return f"no runs match {self._filter_text} ({thousands(self.model.total)} exist) - esc clears the filter"
        return "no runs yet: runtimed runs start WORKFLOW"

    def _show_line(self) -> None:
        shown = f"{thousands(len(self.index))} of {thousands(self.index.total)}"
        left = [Piece("filter: ", "dim"), Piece(self._filter_text or "-")]
        self.query_one("#filter", Lines).show([spread(left, [Piece(f"{shown}  newest first")], self.size.width)])

    def _show_preview(self) -> None:
        preview = self.query_one("#preview", Lines)
        run = self.index.get(self._list.cursor_key or "")
        if run is None:
            preview.show([])
            return
        note = self.model.note(run.id)
        cost = cost_of_kill(run, bool(note.in_flight))
        glyphs = self.dash.glyphs
        preview.show(
            [
                [Piece(f"{glyphs.h} {run.id} {run.workflow} "), Piece(glyphs.h * 200, "frame")],
                [Piece("why: ", "dim"), Piece(why(run, self.dash.now(), note.waits or note.step))],
                [Piece("if killed now: ", "dim"), Piece(f"{cost or 'nothing: it has ended'}, record {run.seq}")],
            ]
        )

    def _fetch(self, cursors: list[str | None]) -> None:
        if not self._fetching and self.dash.source is not None:
            self._fetching = True
            self.run_worker(self._load(cursors), group="pages")

    async def _load(self, cursors: list[str | None]) -> None:
        which = self.index.filter
        for cursor in cursors[:2]:
            page = await self.ask(lambda source, cursor=cursor: source.runs(which, cursor))  # type: ignore[misc]
            if page is not None and which is self.index.filter:
                self.index.put(cursor, page.items, page.next, page.total, page.seq)
        self._fetching = False
        listing = self._list
        self.index.trim(listing.first_row, listing.first_row + listing.rows_on_screen)
        listing.reload()
        self._show_line()
        self._show_preview()

    def on_rows_needed(self, message: RowsNeeded) -> None:
        """The list shows what is not held."""
        cursors = self.index.wanted(message.first, message.last)
        if cursors:
            self._fetch(cursors)

    def on_row_highlighted(self, message: RowHighlighted) -> None:
        """Another run to preview."""
        self._show_preview()

    def on_row_opened(self, message: RowOpened) -> None:
        """The run whole."""
        self.open_target(message.key)

    def on_marks_changed(self) -> None:
        """The count stays on screen."""
        self.update_keys()

    def action_back(self) -> None:
        if self._list.marks:
            self._list.clear_marks()
        elif self._filter_text:
            self.set_filter("")
