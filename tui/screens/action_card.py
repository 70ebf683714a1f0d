"""The card for what people do to runs: cancel, retry, pause, resume, signal, resolve; of one run or of many."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from runtimed.client_wire import Broken
from tui.acting import act
from tui.format import Line, Piece, age_between, fit, short_id, stamp
from tui.histories import read_history
from tui.history_fold import History
from tui.run_actions import (
    EACH,
    RESOLVE,
    SIGNAL,
    Action,
    Form,
    body,
    command_words,
    consequences,
    in_doubt,
    missing,
    quoted,
    refusal,
)
from tui.run_text import kill_line, why_line
from tui.screens.card_base import OPEN, CardBase, FormRow
from tui.states import state_of
from tui.widgets.fields import Choice, Field
from tui.work import begin
from wal.errors import RuntimedError
from wal.views import RunView

HISTORIES_READ_MAX = 20
"""Of so many runs the undos are listed on one card; of the rest only that there may be some."""
LISTED_RUNS_MAX = 1_000
TOLD_EVERY = 25


class ActionCard(CardBase):
    """Asks the daemon to do one thing to one run or to several."""

    LEVEL = "operator"

    def __init__(self, action: Action, runs: Sequence[RunView]) -> None:
        super().__init__()
        self.action = action
        self.runs = list(runs)[:LISTED_RUNS_MAX]
        self.histories: dict[str, History] = {}
        self.answers: dict[str, str] = {}
        self._asked = ""
        self._taken: tuple[Form, str | None, list[RunView]] = (Form(), None, [])
        self._read_at: dict[str, int] = {}
        self._reading = False

    # --- what it is about

    def views(self) -> list[RunView]:
        """The runs as they are now."""
        known = self.dash.model.runs
        return [known.get(run.id, run) for run in self.runs]

    def affected(self) -> list[RunView]:
        """Those that this can still be asked of."""
        return [run for run in self.views() if not refusal(self.action.verb, run) and run.id not in self.answers]

    @property
    def single(self) -> bool:
        """Whether the card is about one run."""
        return len(self.runs) == 1

    def on_mount(self) -> None:
        """The histories say what would be undone and what is waited for."""
        self._follow()

    def draw(self) -> None:
        """What a run did since its history was read is read too: what would be undone is what it has done by now."""
        super().draw()
        if self.is_mounted and self.phase == OPEN:
            self._follow()

    def _follow(self) -> None:
        if not self._reading and self.dash.source is not None and self._behind():
            self._reading = True
            begin(self, self._read, group="card-read")

    def _behind(self) -> list[RunView]:
        """The runs that have gone on since their histories were read, as far as these are read."""
        return [
            run
            for run in self.views()[:HISTORIES_READ_MAX]
            if run.seq > self._read_at.get(run.id, -1)
            and not (run.id in self.histories and self.histories[run.id].truncated)
        ]

    async def _read(self) -> None:
        try:
            if (source := self.dash.source) is None:
                return
            for run in self._behind():
                self._read_at[run.id] = run.seq  # once for each seq, whatever comes of it
                self.histories[run.id] = await read_history(source, run.id, self.histories.get(run.id))
                self.draw()
        except (RuntimedError, Broken) as error:
            if self.phase == OPEN:  # else the line says what became of what was sent
                self.say(f" its history cannot be read: {error}", "warn")
        finally:
            self._reading = False

    # --- what it shows

    def head(self) -> tuple[Line, Line]:
        if not self.single:
            return [Piece(f"{self.action.verb} {len(self.runs)} runs", "bold")], []
        run = self.views()[0]
        state, glyph = state_of(run), self.dash.glyphs.of(state_of(run))
        left = [Piece(f"{self.action.verb} run {run.id}  {run.workflow} ", "bold")]
        left.append(Piece(f"v{run.version}" if run.version else ""))
        aged = age_between(run.updated_at, self.dash.now())
        right = [Piece(f"{glyph} {state.word}", state.look), Piece(f"  since {stamp(run.updated_at)} ({aged})")]
        return left, right

    def facts(self) -> Sequence[Line]:
        return self._one() if self.single else self._many()

    def _one(self) -> list[Line]:
        run, history = self.views()[0], self.histories.get(self.runs[0].id)
        picture, note = (history.last if history is not None else None), self.dash.model.note(run.id)
        reason = why_line(run, picture, note, self.dash.model.approvals_of(run.id), self.dash.now())
        lines = [
            *self.labelled("RUN", [Piece(f"{run.id}  {run.workflow}  record {run.seq}")]),
            *self.labelled("WHY", [Piece(reason)]),
            *self.labelled("KILL -9", [Piece(kill_line(run, picture, note))]),
        ]
        for number, line in enumerate(consequences(self.action.verb, run, history)):
            lines += self.labelled("THEN" if number == 0 else "", line)
        return lines

    def _many(self) -> list[Line]:
        asked, verb = {run.id for run in self.affected()}, self.action.verb
        lines = [
            *self.labelled("ASKED OF", [Piece(f"{len(asked)} runs", "bold"), Piece(f" of {len(self.runs)} marked")]),
            *self.labelled("EACH", EACH[verb]),
            [],
        ]
        for run in self.views():
            state = state_of(run)
            note = self.answers.get(run.id) or refusal(verb, run)
            piece = Piece(f"not asked: {note}", "dim") if run.id not in asked else Piece(self._undoing(run.id))
            if run.id in self.answers:
                piece = Piece(self.answers[run.id], "good" if self.answers[run.id].startswith("record") else "bad")
            lines.append(
                [
                    Piece(" "),
                    Piece(fit(f"{self.dash.glyphs.of(state)} {state.word}", 8), state.look),
                    Piece(fit(short_id(run.id, 20), 21)),
                    Piece(fit(run.workflow, 17)),
                    piece,
                ]
            )
        return lines

    def _undoing(self, run_id: str) -> str:
        history = self.histories.get(run_id)
        if self.action.verb != "cancel":
            return ""
        if history is None:
            return "what it has done is undone"
        names = [undo.name for undo in history.last.to_undo()]
        return f"undo: {', then '.join(names)}" if names else "nothing to undo"

    def fields(self) -> Iterable[FormRow]:
        verb = self.action.verb
        if verb == SIGNAL:
            yield FormRow("Name", Field(id="name", hint="the signal's name"), "required")
            yield FormRow("Value", Field(id="value", hint='JSON: true, 3, "text", {"a": 1}; empty is null'))
        if verb == RESOLVE:
            yield FormRow("Outcome", Choice((("yes", "it happened"), ("no", "it did not happen")), id="happened"))
            yield FormRow("Result", Field(id="value", hint="JSON of what it returned, if it happened; empty is null"))
        if self.action.takes_reason:
            yield FormRow("Reason", Field(id="reason"), "required" if self.action.wants_reason else "recorded")
        if not self.single:
            yield FormRow("Confirm", Field(id="confirm", limit=5), "type the number of runs")

    def form(self) -> Form:
        """What is filled in."""
        held = {str(field.id): field.value.strip() for field in self.query(Field)}
        chosen = self.query_one(Choice).chosen if self.action.verb == RESOLVE else None
        return Form(
            held.get("reason", ""), held.get("name", ""), held.get("value", ""), chosen, held.get("confirm", "")
        )

    def missing(self) -> str:
        return missing(self.action, self.form(), len(self.affected()), several=not self.single)

    def why_not(self) -> str:
        forbidden = super().why_not()
        if forbidden or self.phase != OPEN:
            return forbidden
        if self.single:
            return refusal(self.action.verb, self.views()[0])
        return "" if self.affected() else "none of these runs can be asked this"

    def command(self) -> str:
        ids = [run.id for run in self.runs] if self.single else [run.id for run in self.affected()]
        words = command_words(self.action, ids, self.form(), self._call())
        return self.dash.command(*(word if word.isprintable() else quoted(word) for word in words))

    def _call(self) -> str | None:
        history = self.histories.get(self.runs[0].id)
        doubt = in_doubt(history.last if history is not None else None)
        return doubt[0] if doubt is not None else None

    # --- what it sends

    def take(self) -> None:
        self._taken = self.form(), self._call(), self.affected()

    async def send(self) -> str:
        form, call, wanted = self._taken
        places = {run.id: place for place, run in enumerate(self.runs)}
        for number, run in enumerate(wanted):
            self._asked = run.id
            self.asked_key = f"{self.key}-{places[run.id]}"  # the same for a run however often it is submitted
            request = body(self.action, form, call)
            try:
                seq = await act(self.dash.link.client, run.id, self.action.verb, request, self.asked_key)
            except RuntimedError as error:
                if self.single or error.status in (0, 403) or error.status >= 500:
                    raise
                self.answers[run.id] = f"refused: {error}"
            else:
                self.answers[run.id] = f"record {seq}"
            if number % TOLD_EVERY == TOLD_EVERY - 1:
                self.say(f" sending ... {number + 1} of {len(wanted)}", "dim")
        return self._summary()

    def found(self, seq: int, answer: Mapping[str, Any]) -> None:
        """The request of which the answer was lost is journaled; what was not sent yet is sent only by Submit."""
        self.answers[self._asked] = f"record {seq}"
        if self.affected():
            self.phase = OPEN
            self.say(f" {self._summary()}; the other {len(self.affected())} were not sent: [Submit] sends them", "warn")
        else:
            self.succeed(f"it did happen: {self._summary()}")

    def _summary(self) -> str:
        done = [answer for answer in self.answers.values() if answer.startswith("record")]
        if self.single:
            return f"{self.action.done} {self.runs[0].id}: journaled as {done[0]}" if done else "refused"
        refused = len(self.answers) - len(done)
        return f"{self.action.done} {len(done)} of {len(self.runs)} runs" + (f", {refused} refused" if refused else "")
