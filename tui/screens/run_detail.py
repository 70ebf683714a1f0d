"""One run: its calls on a line of time, attempts and payloads, what would be undone, and how it stood at any record."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Horizontal
from textual.geometry import Region

from actors.errors import RunNotFound
from tui import run_pages as pages
from tui.forking import KEY
from tui.format import Cell, Line, Piece, clock, duration, micros
from tui.gantt import Axis, axis, bar, heading
from tui.histories import read_history
from tui.history_fold import History
from tui.jump import Jump
from tui.messages import RowHighlighted, RowOpened
from tui.model import Change
from tui.run_actions import ACTIONS
from tui.run_picture import Call, Picture
from tui.run_text import as_of, note_of, why_lines
from tui.screens.action_card import ActionCard
from tui.screens.base import AreaScreen
from tui.screens.fork_card import ForkCard
from tui.source import Source
from tui.states import STATES
from tui.widgets.lines import Lines
from tui.widgets.virtual_list import Column, ListRows, VirtualList
from tui.work import begin
from wal.views import HistoryRecord, RunDetail

STEP_COLUMNS = (
    Column("#", (4, 5, 6, 8), ">"),
    Column("STEP", (14, 16, 22, 30)),
    Column("ST", (7, 7, 7, 7)),
    Column("TRY", (0, 3, 3, 3), ">"),
    Column("DUR", (5, 5, 6, 6), ">"),
    Column("", (8, 12, 30, 60), grow=True),
)
JOURNAL_COLUMNS = (
    Column("SEQ", (7, 8, 8, 8), ">"),
    Column("TIME", (0, 9, 9, 9)),
    Column("KIND", (16, 20, 22, 22)),
    Column("CALL", (0, 5, 6, 8)),
    Column("NAME", (8, 14, 16, 20)),
    Column("SAYS", (0, 8, 10, 20), grow=True),
)
PAGE_COLUMNS = (Column("", (20, 20, 20, 20), grow=True),)


class RunDetailScreen(AreaScreen):
    """A run, opened from a list; escape goes back: from a page to the run, from the past to LIVE, then to the list."""

    AREA = "runs"
    AUTO_FOCUS: ClassVar[str | None] = "#steps"
    CSS = """
    RunDetailScreen #run-head { height: 4; }
    RunDetailScreen #steps { height: 1fr; }
    RunDetailScreen #undo, RunDetailScreen #page-title, RunDetailScreen #time { height: 1; }
    RunDetailScreen #lower { height: 5; }
    RunDetailScreen #journal { height: 4; }
    RunDetailScreen #state, RunDetailScreen #entry { display: none; }
    RunDetailScreen.-short #run-head { height: 2; }
    RunDetailScreen.-normal #run-head { height: 3; }
    RunDetailScreen.-short .header, RunDetailScreen.-normal .header { display: none; }
    RunDetailScreen.-short .tabs, RunDetailScreen.-normal .tabs { display: none; }
    RunDetailScreen.-short #journal, RunDetailScreen.-short #undo { display: none; }
    RunDetailScreen.-tall #lower { height: 14; }
    RunDetailScreen.-tall #journal { height: 9; }
    RunDetailScreen.-xwide #state, RunDetailScreen.-xwide #entry { display: block; width: 30%; }
    RunDetailScreen.expanded #steps, RunDetailScreen.expanded #undo { display: none; }
    RunDetailScreen.expanded #journal { display: none; }
    RunDetailScreen.expanded #state, RunDetailScreen.expanded #entry { display: none; }
    RunDetailScreen.expanded #lower { height: 1fr; }
    """
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("tab", "page(1)", "page", id="run.page", priority=True),
        Binding("shift+tab", "page(-1)", "page before", show=False, id="run.page_back", priority=True),
        Binding("comma", "travel(-1)", "back in time", id="run.back_in_time"),
        Binding("full_stop", "travel(1)", "forth", id="run.forth_in_time"),
        Binding(KEY, "fork", "fork here..", id="run.fork"),
        Binding("less_than_sign", "travel(-2)", "state before", show=False, id="run.state_before"),
        Binding("greater_than_sign", "travel(2)", "state after", show=False, id="run.state_after"),
        Binding("at", "as_of", "at seq..", show=False, id="run.as_of"),
        Binding("i", "open_page('input')", "input", show=False, id="run.input"),
        Binding("o", "open_page('output')", "output", show=False, id="run.output"),
        Binding("J", "journal", "journal here", show=False, id="run.journal"),
        Binding("L", "logs", "logs", show=False, id="run.logs"),
        *(
            Binding(action.key, f"act('{verb}')", f"{verb}..", show=verb in ("cancel", "retry"), id=f"run.{verb}")
            for verb, action in ACTIONS.items()
        ),
        Binding("escape", "back", "back", id="run.back"),
    ]

    def __init__(self, run_id: str) -> None:
        super().__init__()
        self.run_id = run_id
        self.detail: RunDetail | None = None
        self.history = History()
        self.seq: int | None = None
        self.page = pages.PAGES[0]
        self._steps: ListRows[Call] = ListRows(lambda call: call.key, self._step_cells)
        self._journal: ListRows[HistoryRecord] = ListRows(lambda record: str(record.seq), self._journal_cells)
        self._page_rows: ListRows[tuple[int, Line]] = ListRows(lambda row: str(row[0]), _page_cells)
        self._axis = Axis((), 0, 0)
        self._past: tuple[int, Picture, Picture] | None = None
        self._source: Source | None = None
        self._loading = self._again = self._missing = False

    def body(self) -> ComposeResult:
        """What it is, its calls, a page on one of them, its journal, its time."""
        yield Lines(id="run-head")
        yield VirtualList(STEP_COLUMNS, self._steps, id="steps", empty=self._empty)
        yield Lines(id="undo")
        yield Lines(id="page-title", on_row=lambda row: self.action_page(1))
        with Horizontal(id="lower"):
            yield VirtualList(PAGE_COLUMNS, self._page_rows, id="page", heading=False, empty=lambda: "")
            yield Lines(id="state", frame=True)
            yield Lines(id="entry", frame=True)
        yield VirtualList(JOURNAL_COLUMNS, self._journal, id="journal", empty=self._empty)
        yield Lines(id="time")

    def on_mount(self) -> None:
        """Its records are asked for."""
        self._load_soon()

    def show(self, change: Change) -> None:
        if self.run_id in change.runs or self.dash.source is not self._source:
            self._load_soon()
        self._draw(ages_only=not change)

    # --- reading

    def _load_soon(self) -> None:
        if self._loading:
            self._again = True
            return
        self._loading, self._source = True, self.dash.source
        begin(self, self._load, group="detail")

    async def _load(self) -> None:
        self._again = False
        try:
            if (detail := await self.ask(self._ask_run)) is not None:
                self.detail = detail
                await self.ask(lambda source: read_history(source, self.run_id, self.history))
        finally:
            self._loading = False
        self._draw()
        if self._again:
            self._load_soon()

    async def _ask_run(self, source: Source) -> RunDetail:
        self._missing = False
        try:
            return await source.run(self.run_id)
        except RunNotFound:  # any other refusal says nothing of whether there is one
            self._missing = self.detail is None
            raise

    def _empty(self) -> str:
        if self._missing:
            return f"there is no run {self.run_id}"
        if self._loading or self.dash.source is None:
            return "reading ..."
        return "it cannot be read now" if self.detail is None else "no records"

    # --- the run, now or then

    def picture(self) -> Picture:
        """The run as it is, or as of the record that we travelled to."""
        if self.seq is None:
            return self.history.last
        if self._past is None or self._past[0] != self.seq:
            before = self.history.earlier(self.seq)
            past = Picture() if before is None else self.history.at(before)
            self._past = (self.seq, self.history.at(self.seq), past)
        return self._past[1]

    def call(self) -> Call | None:
        """The call at the cursor."""
        return self._steps.item(self._list("steps").cursor_key)

    def _list(self, which: str) -> VirtualList:
        return self.query_one(f"#{which}", VirtualList)

    def _now(self, picture: Picture) -> int:
        """The end of the line of time: now, the record we travelled to, or the run's end."""
        if self.seq is None and not picture.state.ended:
            return self.dash.now()
        return micros(picture.at) or self.dash.now()

    # --- drawing

    def _draw(self, *, ages_only: bool = False) -> None:
        if not self.is_mounted or not self.query("#steps"):  # its parts are being made, or have gone
            return
        picture, width = self.picture(), self.size.width
        self._draw_steps(picture, ages_only=ages_only)
        if self.detail is not None:
            self.query_one("#run-head", Lines).show(self._head(self.detail, picture, width))
        fresh = self.dash.link_state.stream_word(self.dash.now())
        self.query_one("#time", Lines).show([pages.time_line(self.history, self.seq, self.dash.glyphs, width, fresh)])
        if ages_only:
            if self.page == "attempts":
                self._draw_page()
            return
        self.query_one("#undo", Lines).show([pages.undo_line(picture)])
        journal = self._list("journal")
        self._journal.items = list(reversed(self.history.records))
        journal.cursor_key = str(self.seq) if self.seq is not None else None
        if self.seq is None:
            journal.cursor = 0
        journal.reload()
        if self.seq is not None:
            journal.move_to_key(str(self.seq))
        self._draw_page()
        self._draw_panes(picture)

    def _head(self, run: RunDetail, picture: Picture, width: int) -> list[Line]:
        now, note = self.dash.now(), self.model.note(run.id)
        approvals = self.model.approvals_of(run.id)
        if self.seq is not None:
            run, now, note, approvals = as_of(run, picture), self._now(picture), note_of(picture), []
        lines = pages.head(run, self.history, picture, self.dash.glyphs, now, width)
        return lines + why_lines(run, picture, note, approvals, now)

    def _draw_steps(self, picture: Picture, *, ages_only: bool) -> None:
        listing = self._list("steps")
        calls = picture.in_order()
        width = listing.widths()[-1]
        self._axis = axis([span for call in calls for span in call.spans()], self._now(picture), width)
        title = heading(self._axis, self.dash.glyphs)
        if listing.columns[-1].title != title:
            listing.columns = (*STEP_COLUMNS[:-1], STEP_COLUMNS[-1]._replace(title=title))
            listing.refresh(Region(0, 0, listing.size.width, 1))
        self._steps.items = calls
        if ages_only:
            listing.repaint()
        else:
            listing.reload()

    def _step_cells(self, call: Call) -> Sequence[Cell]:
        state, picture = STATES[call.word], self.picture()
        took = duration(((call.closed or self._now(picture)) - call.opened) / 1e6)
        name = f"undo {call.name}" if call.kind == "undo" else call.name
        look = "" if state.look == "dim" else state.look
        return [
            call.key,
            name,
            Piece(f"{self.dash.glyphs.of(state)} {state.word}", state.look),
            str(call.attempts[-1].number) if call.attempts else "-",
            took,
            Piece(bar(call.spans(), self._axis, self.dash.glyphs), look),
        ]

    def _journal_cells(self, record: HistoryRecord) -> Sequence[Cell]:
        at = clock(record.at, self.dash.time_style, now=self.dash.now())
        look = "dim" if self.seq is not None and record.seq > self.seq else ""
        texts = (str(record.seq), at, record.kind, record.call or "-", record.name or "-", pages.says(record))
        return [Piece(text, look) for text in texts]

    def _draw_page(self) -> None:
        call, glyphs = self.call(), self.dash.glyphs
        title: list[Piece] = [Piece(f"{glyphs.h} {f'{call.key} {call.name}' if call else 'run'}   ")]
        for page in pages.PAGES:
            title.append(Piece(f"[{page}] " if page == self.page else f"{page} ", "tab" if page == self.page else ""))
        title.append(Piece(glyphs.h * self.size.width, "frame"))
        self.query_one("#page-title", Lines).show([title])
        self._page_rows.items = list(enumerate(self._page_lines(call)))
        self._list("page").reload()

    def _page_lines(self, call: Call | None) -> list[Line]:
        run, width, whole = self.detail, self._list("page").size.width - 4, self.has_class("expanded")
        if run is None:
            return []
        now, style = self.dash.now(), self.dash.time_style
        match self.page:
            case "attempts":
                return pages.attempts(call, style, now) if call is not None else [[Piece("no call yet", "dim")]]
            case "input":
                raw = b"".join(pages.part_of(call, name) for name in ("args", "detail")) if call else bytes(run.input)
                return pages.payload(raw, width, whole=whole) if raw else [[Piece("it was given nothing", "dim")]]
            case "output":
                raw = b"".join(pages.part_of(call, n) for n in ("result", "value", "decision")) if call else b""
                return pages.payload(raw, width, whole=whole) if raw else [[Piece("no output yet", "dim")]]
            case "error":
                return pages.error(run, call, width)
            case "journal":
                found = pages.records_of(self.history, call)[-pages.LINES_MAX :]
                return [pages.record_line(record, style, now) for record in reversed(found)]
            case _:
                before = self._past[2] if self.seq is not None and self._past is not None else None
                return pages.state(self.picture(), before, run)

    def _draw_panes(self, picture: Picture) -> None:
        """Beside the page, where there is room: the state at the record, and the record."""
        if not self.query_one("#state").display:
            return
        before = self._past[2] if self.seq is not None and self._past is not None else None
        self.query_one("#state", Lines).show(pages.state(picture, before, self.detail), f"State at {picture.seq}")
        place = self.history.place(picture.seq)
        pane = self.query_one("#entry", Lines)
        if place >= 0:
            record = self.history.records[place]
            pane.show(pages.entry(record, pane.room.width), f"Record {record.seq} {record.kind}")

    # --- keys

    def on_row_highlighted(self, message: RowHighlighted) -> None:
        """Another call: its page."""
        if message.list_id == "steps":
            self._draw_page()

    def on_row_opened(self, message: RowOpened) -> None:
        """Enter: the page takes the whole screen, or a record of the journal is travelled to."""
        if message.list_id == "journal":
            self._travel_to(int(message.key))
        elif message.list_id == "steps":
            self._expand(True)

    def _expand(self, expanded: bool) -> None:
        self.set_class(expanded, "expanded")
        self._list("page" if expanded else "steps").focus()
        self.call_after_refresh(self._draw)

    def action_page(self, by: int) -> None:
        """The next page."""
        self.page = pages.PAGES[(pages.PAGES.index(self.page) + by) % len(pages.PAGES)]
        self._draw_page()

    def action_open_page(self, page: str) -> None:
        """Open one page."""
        self.page = page
        self._draw_page()

    def action_travel(self, by: int) -> None:
        """One record back or forth, or (by two) to where the state changed; past the last one is LIVE."""
        if not self.history.records:
            return
        here = self.history.records[-1].seq if self.seq is None else self.seq
        change = abs(by) == 2
        if by < 0:
            there = self.history.earlier(here, change=change)
            self._travel_to(here if there is None else there)
        elif self.seq is not None:
            self._travel_to(self.history.later(here, change=change))

    def _travel_to(self, seq: int | None) -> None:
        last = self.history.records[-1].seq if self.history.records else 0
        self.seq = None if seq is None or seq >= last else max(seq, self.history.records[0].seq)
        self._past = None
        self._draw()

    def action_as_of(self) -> None:
        """Ask for a seq to travel to."""
        self.dash.prompt("as of seq", "", self._as_of)

    def _as_of(self, text: str) -> None:
        if text.isdecimal() and self.history.records:
            place = max(0, self.history.place(int(text[:18])))
            self._travel_to(self.history.records[place].seq)
        elif text:
            self.dash.toast(f"{text} is no seq", severity="warning")

    def action_journal(self) -> None:
        """The journal at this record."""
        self.dash.go(Jump("journal", target=str(self.picture().seq)))

    def action_logs(self) -> None:
        """The logs of this run."""
        self.dash.go(Jump("logs", filter=f"run:{self.run_id}"))

    def action_act(self, verb: str) -> None:
        """Open the card that asks for it."""
        if self.seq is not None:
            self.dash.toast("this is the past: esc goes back to LIVE", severity="warning")
        elif self.detail is not None:
            self.app.push_screen(ActionCard(ACTIONS[verb], [self.detail]), self._acted)

    def action_fork(self) -> None:
        """Open the card for a fork at the record that we travelled to, or at the last one: also of the past, and of a
        run that is over."""
        if self.detail is not None and self.history.records:
            here = self.history.records[-1].seq if self.seq is None else self.seq
            card = ForkCard(self.detail, self.history, here)
            self.app.push_screen(card, lambda outcome: self._forked(card, outcome))

    def _forked(self, card: ForkCard, outcome: str | None) -> None:
        if outcome:
            self.dash.toast(outcome)
            if card.made:
                self.app.push_screen(RunDetailScreen(card.made))

    def _acted(self, outcome: str | None) -> None:
        if outcome:
            self.dash.toast(outcome)
            self._load_soon()

    def action_back(self) -> None:
        if self.has_class("expanded"):
            self._expand(False)
        elif self.seq is not None:
            self._travel_to(None)
        else:
            self.app.pop_screen()

    # --- what the app asks

    def selected_id(self) -> str | None:
        return self.run_id

    def command(self) -> str | None:
        return self.dash.command("runs", "history" if self.seq is not None else "show", self.run_id)

    def set_filter(self, text: str) -> None:
        """A filter is of the list: back to it."""
        self.app.pop_screen()
        if (below := self.dash.area_screen) is not None:
            below.set_filter(text)

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:
        """There is nothing to filter in one run."""
        return False if action == "filter" else super().check_action(action, parameters)

    def open_target(self, target: str) -> None:
        if target != self.run_id:
            self.app.switch_screen(RunDetailScreen(target))


def _page_cells(row: tuple[int, Line]) -> Sequence[Cell]:
    """A line of a page as the one cell of a row; where its pieces differ in look, the most telling one stands."""
    line = row[1]
    look = next((piece.look for piece in line if piece.look not in ("", "dim")), line[0].look if len(line) == 1 else "")
    return [Piece("".join(piece.text for piece in line), look)]
