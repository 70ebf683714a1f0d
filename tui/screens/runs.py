"""The runs: a list of any length under a filter, a preview of the one at the cursor, and what can be done to them."""

from __future__ import annotations

import time
from collections.abc import Iterable
from functools import partial
from typing import ClassVar

from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Horizontal
from textual.timer import Timer

from tui.filters import BadFilter
from tui.format import Cell, Line, Piece, age_between, short_id, spread, thousands
from tui.histories import HistoryCache
from tui.history_fold import History
from tui.link_state import STALE
from tui.messages import RowHighlighted, RowOpened, RowsNeeded
from tui.model import LINK, RUNS, Change, RunNote
from tui.run_actions import ACTIONS
from tui.run_query import HELP, parse_query
from tui.run_rows import SORTS, RunRows
from tui.run_text import chain, step_lines, waits_on, why_lines
from tui.runs_index import HELD_RUNS_MAX, PAGE_RUNS, RunsIndex
from tui.screens.action_card import ActionCard
from tui.screens.base import AreaScreen
from tui.source import Source
from tui.states import OPEN_STATUSES, cost_of_kill, state_of, word_of
from tui.widgets.lines import Lines
from tui.widgets.virtual_list import Column, MarkingList
from tui.work import begin
from wal.views import RunView

COLUMNS = (
    Column("ST", (7, 7, 7, 7)),
    Column("ID", (12, 10, 14, 18)),
    Column("WORKFLOW", (0, 12, 16, 18)),
    Column("VER", (0, 0, 0, 4)),
    Column("STEP", (0, 14, 16, 18)),
    Column("TRY", (0, 3, 3, 3), ">"),
    Column("AGE", (0, 4, 4, 4), ">"),
    Column("KILL9", (0, 0, 0, 5)),
    Column("WAITS ON", (10, 13, 16, 20), grow=True),
)
PREVIEW_DELAY_SECONDS, FILL_DELAY_SECONDS = 0.12, 0.3
"""The cursor must rest so long before the history of a run is read, the list before those of the runs on screen are."""
REFUSED_SECONDS = 5.0
"""After a page that was not given the next is asked for only so much later, or when the link is well again."""
SCAN_PAGE = 500
SCAN_ROWS_MAX = 5_000
"""Rows that are read at one go to find those that only the rows themselves can tell; `M` reads on."""


class RunsScreen(AreaScreen):
    """Area 2."""

    AREA = "runs"
    CSS = """
    RunsScreen #side { display: none; width: 44%; height: 1fr; }
    RunsScreen.-wide #side, RunsScreen.-xwide #side { display: block; }
    RunsScreen.-wide #preview, RunsScreen.-xwide #preview, RunsScreen.-narrow #preview { display: none; }
    """
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("s", "sort", "sort", id="runs.sort"),
        Binding("S", "sort_back", "sort back", show=False, id="runs.sort_back"),
        Binding("exclamation_mark", "problems", "problems only", show=False, id="runs.problems"),
        Binding("M", "read_on", "read on", show=False, id="runs.read_on"),
        *(
            Binding(action.key, f"act('{verb}')", f"{verb}..", show=verb in ("cancel", "retry"), id=f"runs.{verb}")
            for verb, action in ACTIONS.items()
        ),
    ]

    def __init__(self) -> None:
        super().__init__()
        self._query = parse_query("st:live")
        self.index = RunsIndex(self._query)
        self._rows = RunRows(self.index, self.cells)
        self._source: Source | None = None
        self._fetching = False
        self._not_before = 0.0
        self._scanned, self._scan_until = 0, SCAN_ROWS_MAX
        self._marked: dict[str, RunView] = {}
        self._histories = HistoryCache(self.ask)
        self._previewed = ("", 0)
        self._preview_timer: Timer | None = None
        self._fill_timer: Timer | None = None

    def body(self) -> ComposeResult:
        """The filter's line, the list, the preview below or beside it."""
        yield Lines(id="filter", classes="line")
        with Horizontal(classes="panes"):
            yield MarkingList(COLUMNS, self._rows, id="runs", empty=self._empty)
            yield Lines(id="side", frame=True)
        yield Lines(id="preview", classes="preview")

    # --- what the app asks

    @property
    def filter_text(self) -> str:
        return self._query.source

    def forget(self) -> None:
        self._histories.clear()
        self._previewed = ("", 0)

    def set_filter(self, text: str) -> None:
        try:
            query = parse_query(text)
        except BadFilter as error:
            self.dash.toast(f"{error}  ({HELP})", severity="warning")
            return
        self._query = query
        self.index.clear(query)
        self._scanned, self._scan_until = 0, SCAN_ROWS_MAX
        self._list.cursor_key = None
        self._list.move_to(0)
        self._not_before = 0.0
        self._fetch([None])

    def show(self, change: Change) -> None:
        if LINK in change.topics and self.dash.link_state.name != STALE:
            self._not_before = 0.0
        if not len(self.index) and self.index.more:
            self._fetch([None])
        if self.dash.source is not self._source:
            self._read_anew()
        runs = self.model.runs
        missed = runs if RUNS in change.topics and not change.runs else change.runs  # what it did not see when hidden
        for run in [runs[run_id] for run_id in missed if run_id in runs]:
            self._update(run)
        if change:
            self._rows.sort()
            self._list.reload()
        else:
            self._list.repaint()
        self._show_about()

    def on_screen_resume(self) -> None:
        """Where not every open run is held, nobody asked for what happened to others while they were not on screen."""
        super().on_screen_resume()
        if self.model.complete or not len(self.index):
            return
        if self._query.by_rows:
            self._read_anew()
            return
        first, last = self._list.first_row, self._list.first_row + self._list.rows_on_screen
        held = self.index.keep(0, len(self.index)) if self._rows.sortable else self.index.keep(first, last)
        begin(self, partial(self._load, held), group="pages")

    def open_target(self, target: str) -> None:
        from tui.screens.run_detail import RunDetailScreen

        known = [*self.model.runs, *(key for n in range(self._rows.count()) if (key := self._rows.key(n)))]
        found = target if target in known else next((run_id for run_id in known if target in run_id), target)
        self.app.push_screen(RunDetailScreen(found))

    def shows_run(self, run_id: str) -> bool:
        return self.index.get(run_id) is not None

    def countdowns(self) -> Iterable[str | None]:
        first, last = self._list.first_row, self._list.first_row + self._list.rows_on_screen
        yield from (run.waiting_until for number in range(first, last) if (run := self._rows.run(number)) is not None)

    def selected_id(self) -> str | None:
        return self._list.cursor_key

    def command(self) -> str | None:
        key = self._list.cursor_key
        return None if key is None else self.dash.command("runs", "show", key)

    def remark(self) -> str:
        return f"{len(self._list.marks)} marked" if self._list.marks else ""

    def _read_anew(self) -> None:
        """Another connection, or the file: what is held may be old."""
        self._source = self.dash.source
        self._scanned = 0
        self.index.clear()
        self._fetch([None])

    # --- the list

    def cells(self, run: RunView) -> list[Cell]:
        """A row."""
        state, now, note = state_of(run), self.dash.now(), self.note(run)
        step = note.step or (run.error.step if run.error and run.error.step else "-")
        cost = cost_of_kill(run, bool(note.in_flight), bool(note.once))
        waits = waits_on(run, note, self.model.approvals_of(run.id), now, self.dash.time_style)
        return [
            Piece(f"{self.dash.glyphs.of(state)} {state.word}", state.look),
            short_id(run.id, COLUMNS[1].widths[self.dash.width_class]),
            run.workflow,
            run.version or "-",
            step,
            str(note.attempt) if note.step else "-",
            age_between(run.created_at, now),
            Piece(cost or "-", "warn" if cost == "REDO" else "need" if cost == "DOUBT" else ""),
            waits,
        ]

    def note(self, run: RunView) -> RunNote:
        """Where a run is: what its history said when it came on screen, else what the events tell."""
        return self._histories.note(run.id, run.seq) or self.model.note(run.id)

    def _fill_soon(self) -> None:
        """Once the list stands still, the runs on screen of which no event told are looked up."""
        if self._fill_timer is not None:
            self._fill_timer.stop()
        self._fill_timer = self.set_timer(
            FILL_DELAY_SECONDS, lambda: begin(self, self._fill, group="fill", exclusive=True)
        )

    async def _fill(self) -> None:
        listing = self._list
        for number in range(listing.first_row, listing.first_row + listing.rows_on_screen):
            run = self._rows.run(number)
            if run is None or run.status not in OPEN_STATUSES or self.note(run).step:
                continue
            if await self._histories.read(run.id, run.seq) is None:
                return
            listing.repaint()

    @property
    def _list(self) -> MarkingList:
        return self.query_one("#runs", MarkingList)

    def _empty(self) -> str:
        if self._fetching or self.dash.source is None:
            return "reading ..."
        if self._not_before:
            return "not read: it is asked for again soon"
        if self.filter_text:
            return f"no runs match {self.filter_text} ({thousands(self.model.total)} exist) - esc clears the filter"
        return "no runs yet: runtimed runs start WORKFLOW"

    def _show_about(self) -> None:
        self._show_line()
        self._show_preview()

    def _show_line(self) -> None:
        left = [Piece("filter: ", "dim"), Piece(self.filter_text or "-")]
        count = self.index.total
        if self._query.by_rows:
            count = len(self.index)
            if self.index.more:
                left.append(
                    Piece(f"  found in {thousands(self._scanned)} of {thousands(self.index.total)}, M reads on", "warn")
                )
        shown = f"{thousands(count)} of {thousands(self.model.total)}"
        word, look = self.dash.link_state.stream_word(self.dash.now())
        right = [Piece(f"{shown}  sort {self._rows.order}  "), Piece(word, look)]
        self.query_one("#filter", Lines).show([spread(left, right, self.size.width)])

    # --- pages

    def _fetch(self, cursors: list[str | None]) -> None:
        may = not self._fetching and time.monotonic() >= self._not_before
        if may and self.dash.source is not None and cursors:
            self._fetching = True
            begin(self, partial(self._load, cursors), group="pages")

    async def _load(self, cursors: list[str | None]) -> None:
        query = self._query
        limit = SCAN_PAGE if query.by_rows else PAGE_RUNS
        try:
            for cursor in cursors:
                page = await self.ask(lambda source, cursor=cursor: source.runs(query, cursor, limit))  # type: ignore[misc]
                self._not_before = time.monotonic() + REFUSED_SECONDS if page is None else 0.0
                if page is None or query is not self._query:
                    break
                self._scanned += len(page.items)
                items = [run for run in page.items if query.matches(run, word_of(run))] if query.by_rows else page.items
                self.index.put(cursor, items, page.next, page.total, page.seq)
                self._catch_up(page.seq)
        finally:
            self._fetching = False
        if query is not self._query:
            self._not_before = 0.0
            self._fetch([None])
            return
        if self._not_before:  # to draw the list again would be to ask again at once, for ever
            self._show_line()
            return
        listing = self._list
        self.index.trim(listing.first_row, listing.first_row + listing.rows_on_screen)
        self._rows.sort()
        listing.reload()
        self._fill_soon()
        self._show_about()

    def _catch_up(self, seq: int) -> None:
        """What changed after the seq that a page is of, while the page was on its way."""
        for run in [run for run in self.model.runs.values() if run.seq > seq]:
            self._update(run)

    def _update(self, run: RunView) -> None:
        held = self.index.get(run.id)
        if held is None or held.seq < run.seq:
            self.index.update(run, word_of(run))

    def on_rows_needed(self, message: RowsNeeded) -> None:
        """The list shows what is not held."""
        if not (self._query.by_rows and self._scanned >= self._scan_until):
            self._fetch(self.index.wanted(message.first, message.last + 1)[:2])

    def action_read_on(self) -> None:
        """Look for rows that match farther back."""
        self._scan_until = self._scanned + SCAN_ROWS_MAX
        self._list.repaint()

    # --- sorting

    def action_sort(self) -> None:
        """The next column to sort by."""
        self._sort_by(1)

    def action_sort_back(self) -> None:
        """The one before."""
        self._sort_by(-1)

    def _sort_by(self, step: int) -> None:
        if not self._rows.sortable:
            self.dash.toast(
                f"newest first: {thousands(self.index.total)} runs are too many to sort here,"
                f" filter down to {thousands(HELD_RUNS_MAX)}",
                severity="warning",
            )
            return
        self._rows.sort(SORTS[(SORTS.index(self._rows.order) + step) % len(SORTS)])
        self._list.reload()
        self._show_line()

    # --- the preview

    def on_row_highlighted(self, message: RowHighlighted) -> None:
        """Another run to preview; its history once the cursor rests."""
        self._show_preview()
        self._fill_soon()

    def _preview_soon(self) -> None:
        if self._preview_timer is not None:
            self._preview_timer.stop()
        self._preview_timer = self.set_timer(PREVIEW_DELAY_SECONDS, self._read_preview)

    def _read_preview(self) -> None:
        run = self._run_at_cursor()
        if run is not None and self.dash.width_class > 0:
            begin(self, partial(self._read, run), group="preview", exclusive=True)

    async def _read(self, run: RunView) -> None:
        await self._histories.read(run.id, run.seq)
        self._show_preview()

    def _show_preview(self) -> None:
        run = self._run_at_cursor()
        below, side = self.query_one("#preview", Lines), self.query_one("#side", Lines)
        if run is None:
            below.show([])
            side.show([], "no run")
            return
        history = self._histories.get(run.id)
        if not self._histories.current(run.id, run.seq) and self._previewed != (run.id, run.seq):
            self._previewed = run.id, run.seq
            self._preview_soon()
        if self.dash.width_class >= 2:
            side.show(self._side(run, history), self._title(run))
        else:
            below.show(self._below(run, history))

    def _run_at_cursor(self) -> RunView | None:
        key = self._list.cursor_key or ""
        return self.index.get(key) or self.model.runs.get(key)

    def _title(self, run: RunView) -> str:
        state = state_of(run)
        age = age_between(run.created_at, self.dash.now())
        return f"{run.id} {run.workflow} v{run.version or '-'}   {self.dash.glyphs.of(state)} {state.word}   {age}"

    def _below(self, run: RunView, history: History | None) -> list[Line]:
        glyphs = self.dash.glyphs
        picture = history.last if history is not None else None
        steps = chain(picture, glyphs) if picture is not None else []
        head = [Piece(f"{glyphs.h} {run.id} {run.workflow}   "), *steps, Piece(glyphs.h * self.size.width, "frame")]
        return [head, *self._why(run, history)]

    def _why(self, run: RunView, history: History | None) -> list[Line]:
        picture = history.last if history is not None else None
        return why_lines(run, picture, self.note(run), self.model.approvals_of(run.id), self.dash.now())

    def _side(self, run: RunView, history: History | None) -> list[Line]:
        lines = self._why(run, history)
        if run.attributes:
            words = "  ".join(f"{key}={value}" for key, value in run.attributes.items())
            lines.append([Piece("attributes: ", "dim"), Piece(words)])
        lines.append([])
        if history is None:
            lines.append([Piece("reading its steps ...", "dim")])
        else:
            lines += step_lines(history.last, self.dash.glyphs, self.dash.now())
        return lines[: self.query_one("#side", Lines).room.height]

    # --- acting

    def on_row_opened(self, message: RowOpened) -> None:
        """The run whole."""
        self.open_target(message.key)

    def on_marks_changed(self) -> None:
        """The count stays on screen; what is marked is remembered, also when its page is dropped."""
        marks = self._list.marks
        self._marked = {key: run for key in marks if (run := self.index.get(key) or self._marked.get(key)) is not None}
        self.update_keys()

    def action_act(self, verb: str) -> None:
        """Open the card that asks for it: for those marked, else for the one at the cursor."""
        one = self._run_at_cursor()
        marked = sorted(self._marked.values(), key=lambda run: run.created_at or "", reverse=True)
        runs = marked or ([one] if one is not None else [])
        action = ACTIONS[verb]
        if not runs:
            self.dash.toast("there is no run here", severity="warning")
        elif len(runs) > 1 and not action.several:
            self.dash.toast(f"{verb} takes one run at a time", severity="warning")
        else:
            self.app.push_screen(ActionCard(action, runs), self._acted)

    def _acted(self, outcome: str | None) -> None:
        if outcome:
            self.dash.toast(outcome)
            self._list.clear_marks()

    def action_problems(self) -> None:
        """Only what is blocked or failed, or all again."""
        self.set_filter("st:live" if self.filter_text == "st:problem" else "st:problem")

    def action_back(self) -> None:
        if self._list.marks:
            self._list.clear_marks()
        elif self.filter_text:
            self.set_filter("")
