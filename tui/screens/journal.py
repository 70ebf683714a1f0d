"""The journal: every record by its seq, the newest first, of any length; one whole, with its place in the chain."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import ClassVar

import msgspec
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Container

from tui.approval_text import rule, wrap
from tui.chain_figure import ChainFigure, chain_figure
from tui.event_text import says
from tui.fold import data_of
from tui.format import Cell, Line, Piece, clock, short_id, size, thousands
from tui.jump import Jump
from tui.messages import RowHighlighted, RowOpened, RowsNeeded
from tui.model import EVENTS, LINK, Change
from tui.screens.base import AreaScreen
from tui.seq_rows import SeqRows
from tui.widgets.lines import Lines
from tui.widgets.virtual_list import Column, ListRows, VirtualList
from tui.work import begin
from wal.views import EventView

COLUMNS = (
    Column("SEQ", (8, 7, 8, 10), ">"),
    Column("TIME", (9, 9, 9, 9)),
    Column("KIND", (18, 20, 20, 22)),
    Column("RUN", (0, 8, 8, 12)),
    Column("BY", (0, 0, 0, 12)),
    Column("BYTES", (0, 5, 5, 6), ">"),
    Column("SUMMARY", (10, 12, 12, 20), grow=True),
)
DATA_SHOWN_BYTES = 16_384
DATA_LINES_MAX = 400


class Records(VirtualList):
    """The list, which says what enter does."""

    BINDINGS: ClassVar[list[BindingType]] = [Binding("enter", "open", "expand", id="list.open")]


class JournalScreen(AreaScreen):
    """Area 7."""

    AREA = "journal"
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("f", "follow", "follow", id="journal.follow"),
        Binding("L", "logs", "logs here", id="journal.logs"),
        Binding("V", "verify", "verify", id="journal.verify"),
    ]
    CSS = """
    JournalScreen #panes { layout: vertical; height: 1fr; width: 100%; }
    JournalScreen #record { height: 8; }
    JournalScreen.-short #record { height: 4; }
    JournalScreen.-wide #panes, JournalScreen.-xwide #panes { layout: horizontal; }
    JournalScreen.-wide #record, JournalScreen.-xwide #record { height: 1fr; width: 38%; }
    JournalScreen.-expanded #panes { layout: vertical; }
    JournalScreen.-expanded #record { height: 1fr; width: 100%; }
    JournalScreen.-expanded #records { height: 4; }
    """

    def __init__(self) -> None:
        super().__init__()
        self.by_seq = SeqRows(self._cells, lambda seq: [str(seq), "-", Piece("not kept any more", "dim")])
        self.found: ListRows[EventView] = ListRows(lambda event: str(event.seq), self._cells)
        self.following = True
        self._filter = ""
        self._noted = 0
        self._coming: tuple[int, int] | None = None
        self._chain: tuple[int, ChainFigure] = (0, ChainFigure(""))

    def body(self) -> ComposeResult:
        """A line of figures, the list, the record at the cursor."""
        yield Lines(id="figures", classes="line")
        with Container(id="panes"):
            yield Records(COLUMNS, self.by_seq, id="records", empty=self._empty)
            yield Lines(id="record")

    # --- what is listed

    @property
    def filter_text(self) -> str:
        return self._filter

    def forget(self) -> None:
        self.workers.cancel_group(self, "page")
        self.by_seq.clear()
        self._noted, self._coming, self._chain = 0, None, (0, ChainFigure(""))
        self.following = True
        self.query_one(VirtualList).move_to(0)

    def set_filter(self, text: str) -> None:
        self._filter = text
        listing = self.query_one(VirtualList)
        listing.rows = self.found if text else self.by_seq
        listing.cursor_key = None
        self._relist()
        listing.refresh()

    def show(self, change: Change) -> None:
        if EVENTS in change.topics or LINK in change.topics:
            fresh = [event for event in self.model.events if event.seq > self._noted]
            self._noted = fresh[-1].seq if fresh else self._noted
            self.by_seq.note(fresh)
            if fresh or LINK in change.topics:
                self._relist()
        self._show_figures()

    def _relist(self) -> None:
        listing = self.query_one(VirtualList)
        if self.following or self.by_seq.head == 0 or self.by_seq.head > self.model.seq:
            self.by_seq.head = self.model.seq
        if self._filter:
            self.found.items = [event for event in reversed(self.model.events) if self._matches(event)]
        if self.following:
            listing.cursor, listing.cursor_key = 0, None
        listing.reload()
        self._show_figures()
        self._show_record()

    def _matches(self, event: EventView) -> bool:
        data = bytes(event.data)[:DATA_SHOWN_BYTES].decode("utf-8", "replace")
        about = f"{event.seq} kind:{event.kind} {event.run_id} {event.name} {event.workflow} {data}".lower()
        return all(word in about for word in self._filter.lower().split())

    def _cells(self, event: EventView) -> Sequence[Cell]:
        run = "-" if event.run_id is None else short_id(event.run_id, COLUMNS[3].widths[self.dash.width_class])
        style = self.dash.time_style
        at = clock(event.at, style, now=self.dash.now())
        by = data_of(event.data).get("by")
        return [
            str(event.seq),
            at,
            event.kind,
            run,
            by if isinstance(by, str) else "-",
            size(len(bytes(event.data))),
            says(event),
        ]

    def _empty(self) -> str:
        if self._filter:
            held = thousands(len(self.model.events))
            return f"none of the last {held} records matches {self._filter} - esc clears the filter"
        return "the journal is empty"

    def on_rows_needed(self, message: RowsNeeded) -> None:
        """Records that are not held: ask for them."""
        wanted = self.by_seq.wanted(message.first, message.last, self._coming) if not self._filter else None
        if wanted is not None:
            self._coming = wanted
            begin(self, partial(self._fetch, *wanted), group="page", exclusive=True)

    async def _fetch(self, upto: int, count: int) -> None:
        try:
            events = await self.ask(lambda source: source.events_before(upto, count))
        finally:
            if self._coming == (upto, count):  # else another range has taken its place
                self._coming = None
        if events is not None:
            self.by_seq.put(upto, count, events)
            self.query_one(VirtualList).reload()  # the cursor may stand on a row that had no name yet
            self._show_record()

    # --- what is shown

    def _show_figures(self) -> None:
        figures = self.model.figures
        parts = [f"seq {thousands(self.model.seq)}"]
        for name, label in (("db_bytes", "db"), ("sqlite_wal_bytes", "wal"), ("disk_free_bytes", "disk free")):
            if name in figures:
                parts.append(f"{label} {size(figures[name])}")
        behind = self.model.seq - self.by_seq.head
        follow = "ON" if self.following else f"off ({thousands(behind)} new)" if behind else "off"
        text = "  ".join(parts) + f"   follow {follow}   filter: {self._filter or '-'}"
        if self._filter:
            text += f" ({len(self.found.items)} of the last {thousands(len(self.model.events))})"
        self.query_one("#figures", Lines).show([[Piece(text)]])

    def _current(self) -> EventView | None:
        key = self.query_one(VirtualList).cursor_key
        return self.found.item(key) if self._filter else self.by_seq.event(key)

    def _show_record(self) -> None:
        pane, event = self.query_one("#record", Lines), self._current()
        expanded = self.has_class("-expanded")
        pane.frame = self.dash.width_class >= 2 and not expanded
        if event is None:
            pane.show([], title="")
            return
        chain = self._chain[1] if self._chain[0] == event.seq else ChainFigure("")
        width = max(20, pane.room.width - 1)
        head = f"{event.seq} {event.kind}   {clock(event.at)}"
        lines: list[Line] = (
            [] if pane.frame else [rule(f"{head}   {chain.text}", width + 1, self.dash.glyphs, look="bold")]
        )
        if pane.frame:
            lines = [[Piece(event.at)], [Piece(chain.text, chain.look)], []]
        lines += [[Piece(" " + part)] for part in _data_lines(event, width, whole=pane.frame or expanded)]
        pane.show(lines, title=f"{event.seq} {event.kind}")

    def on_row_highlighted(self, message: RowHighlighted) -> None:
        """Another record to show; leaving the newest ends following."""
        if self.following and self.query_one(VirtualList).cursor > 0:
            self.following = False
            self._show_figures()
        if message.key is not None and message.key.isdecimal() and int(message.key) != self._chain[0]:
            begin(self, partial(self._look_up_chain, int(message.key)), group="chain", exclusive=True)
        self._show_record()

    async def _look_up_chain(self, seq: int) -> None:
        glyphs = self.dash.glyphs
        figure = await chain_figure(self.dash.source, self.dash.options.journal, seq, glyphs.check, glyphs.cross)
        self._chain = (seq, figure)
        self._show_record()

    # --- keys

    def on_row_opened(self, message: RowOpened) -> None:
        """The record whole, or the list again."""
        self.toggle_class("-expanded")
        self.call_after_refresh(self._show_record)

    def action_back(self) -> None:
        """The list again, then without the filter."""
        if self.has_class("-expanded"):
            self.remove_class("-expanded")
            self.call_after_refresh(self._show_record)
        else:
            super().action_back()

    def action_follow(self) -> None:
        """Stay at the newest, or stand still."""
        self.following = not self.following
        self.query_one(VirtualList).move_to(0)
        self._relist()

    def action_logs(self) -> None:
        """The log at this record."""
        key = self.selected_id()
        if key is not None:
            self.dash.go(Jump("logs", target=key))

    def action_verify(self) -> None:
        """The whole chain is checked by a command: it takes long, and reads the file."""
        command = self.dash.command("journal", "verify")
        self.dash.copy(command)
        self.dash.toast(f"run `{command}` to check the whole chain")

    def open_target(self, target: str) -> None:
        if not target.isdecimal() or not 1 <= int(target) <= self.model.seq:
            self.dash.toast(f"there is no record {target}; the last is {self.model.seq}", severity="warning")
            return
        if self._filter:
            self.set_filter("")
        self.following = False
        self._relist()
        listing, number = self.query_one(VirtualList), self.by_seq.head - int(target)
        listing.move_to(number)
        listing.scroll_to(y=max(0, number - listing.rows_on_screen // 2), animate=False)  # with what is around it

    def selected_id(self) -> str | None:
        return self.query_one(VirtualList).cursor_key

    def command(self) -> str | None:
        event = self._current()
        if event is not None and event.run_id is not None:
            return self.dash.command("runs", "history", event.run_id)
        return self.dash.command("events", "-f")


def _data_lines(event: EventView, width: int, *, whole: bool) -> list[str]:
    """What a record says, as JSON: laid out where there is room, else in a row; the first 16 KiB of a large one."""
    raw = bytes(event.data)
    text = raw[:DATA_SHOWN_BYTES].decode("utf-8", "replace")
    if whole and len(raw) <= DATA_SHOWN_BYTES:
        text = msgspec.json.format(raw, indent=2).decode("utf-8", "replace")
    lines: list[str] = []
    for part in text.split("\n"):
        lines += wrap(part, width, DATA_LINES_MAX) if part.strip() else [""]
        if len(lines) >= DATA_LINES_MAX:
            break
    if len(raw) > DATA_SHOWN_BYTES:
        lines.append(f"first {size(DATA_SHOWN_BYTES)} of {size(len(raw))}B")
    return lines
