"""The overview: what needs a person, how the runs are, what `kill -9` would cost, health, the last events."""

from __future__ import annotations

from textual.app import ComposeResult
from textual.containers import Horizontal

from tui.event_text import NOTABLE, says, state_of_event
from tui.format import Line, Piece, age_between, clock, short_id, until
from tui.messages import RowOpened
from tui.model import Change, Need
from tui.rates import current
from tui.screens.base import AreaScreen
from tui.states import STATES
from tui.widgets.bars import bar, sparkline
from tui.widgets.lines import Lines
from tui.widgets.virtual_list import Column, ListRows, VirtualList


class OverviewScreen(AreaScreen):
    """Area 1."""

    AREA = "overview"

    def __init__(self) -> None:
        super().__init__()
        self.needs: ListRows[Need] = ListRows(lambda need: f"{need.kind} {need.id}", self._need_cells)

    def body(self) -> ComposeResult:
        """Panels."""
        yield VirtualList(
            (Column("", (50, 70, 100, 100), grow=True),),
            self.needs,
            id="needs",
            heading=False,
            empty=lambda: "nothing needs you",
        )
        with Horizontal(classes="panes"):
            yield Lines(title="Runs", frame=True, id="states")
            yield Lines(title="kill -9 right now?", frame=True, id="kill9")
        with Horizontal(classes="panes"):
            yield Lines(title="Throughput 15m", frame=True, id="rates")
            yield Lines(title="Health", frame=True, id="health")
        yield Lines(id="events")

    def show(self, change: Change) -> None:
        self.needs.items = self.model.needs()
        if change:
            self.query_one("#needs", VirtualList).reload()
        else:
            self.query_one("#needs", VirtualList).repaint()
        self.query_one("#states", Lines).show(self._states())
        self.query_one("#kill9", Lines).show(self._kill9())
        self.query_one("#rates", Lines).show(self._rates())
        self.query_one("#health", Lines).show(self._health())
        self.query_one("#events", Lines).show(self._events())

    def _need_cells(self, need: Need) -> list[Piece]:
        now = self.dash.now()
        tail = f"waits {age_between(need.since, now)}  expires {until(need.until, now)}" if need.word == "APPR" else ""
        return [Piece(f"{need.word:<5} {need.what}  run {short_id(need.run_id, 12)}  {tail}")]

    def _states(self) -> list[Line]:
        words = self.model.words()
        largest = max(words.values(), default=0)
        return [
            [Piece(f"{word:<5} {words[word]:>5} "), Piece(bar(words[word], largest, 20, self.dash.glyphs), state.look)]
            for word, state in STATES.items()
            if words[word] and not state.ended
        ]

    def _kill9(self) -> list[Line]:
        meter = self.model.kill9()
        return [
            [Piece(f"SAFE  {meter.safe:>4}  resume at journaled step")],
            [Piece(f"REDO  {meter.redo:>4}  re-run, same idem. key")],
            [Piece(f"DOUBT {meter.doubt:>4}  a human will be asked")],
            [Piece(f"LOST  {meter.lost:>4}  (always 0, or page us)")],
        ]

    def _rates(self) -> list[Line]:
        now, rates, glyphs = self.dash.now(), self.model.rates, self.dash.glyphs
        return [
            [Piece(f"{name:<9} {current(values):>6.1f} "), Piece(sparkline(values, 15, glyphs), "ok")]
            for name, values in (
                ("steps/s", rates.steps(now)),
                ("fail/min", rates.fails(now)),
                ("records/s", rates.records(now)),
            )
        ]

    def _health(self) -> list[Line]:
        words = self.model.actor_words()
        lines: list[Line] = [[Piece(self.model.health_status or "-")]]
        lines.append(
            [Piece("actors " + ", ".join(f"{words.get(name, 0)} {name}" for name in ("up", "failed", "restarting")))]
        )
        return lines + [[Piece(reason, "warn")] for reason in self.model.reasons]

    def _events(self) -> list[Line]:
        lines: list[Line] = []
        for event in reversed(self.model.events):
            if event.kind in NOTABLE:
                state = state_of_event(event)
                word = f"{self.dash.glyphs.of(state)} {state.word}" if state else event.kind.replace("_", " ")
                run = "" if event.run_id is None else f"run {short_id(event.run_id, 12)} "
                at = clock(event.at, self.dash.time_style, now=self.dash.now())
                lines.append(
                    [
                        Piece(f"{at} {run}"),
                        Piece(word, state.look if state else ""),
                        Piece(f" {event.workflow or ''} {says(event)}"),
                    ]
                )
            if len(lines) >= 20:
                break
        return lines

    def on_row_opened(self, message: RowOpened) -> None:
        """Go to what needs us."""
        from tui.jump import Jump

        kind, _, target = message.key.partition(" ")
        area = {"approval": "approvals", "run": "runs", "actor": "actors"}[kind]
        self.dash.go(Jump(area, target=target))
