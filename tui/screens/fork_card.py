"""The card for a fork: a new run with the past of one up to a record; also of the past, and of runs that are over."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from tui.acting import fork
from tui.forking import command_words, consequences, refusal
from tui.format import Line, Piece, age_between, stamp
from tui.history_fold import History
from tui.run_actions import quoted
from tui.run_text import as_of
from tui.screens.card_base import OPEN, CardBase, FormRow
from tui.states import state_of
from tui.widgets.fields import Field
from wal.views import RunDetail

LABEL_CELLS = 11


class ForkCard(CardBase):
    """Asks the daemon for one fork, at the record that it was opened at: what comes after that changes nothing here."""

    LEVEL = "operator"

    def __init__(self, run: RunDetail, history: History, seq: int) -> None:
        super().__init__()
        self.run_id, self.at_seq = run.id, seq
        self.made = ""
        self._history = history
        self._picture = history.at(seq)
        self._run = as_of(run, self._picture)
        self._refusal = refusal(history, seq)
        self._body: dict[str, Any] = {}

    # --- what it shows

    def head(self) -> tuple[Line, Line]:
        run, state = self._run, state_of(self._run)
        left = [Piece(f"fork run {run.id}  {run.workflow} ", "bold")]
        left.append(Piece(f"v{run.version}" if run.version else ""))
        return left, [
            Piece(f"{self.dash.glyphs.of(state)} {state.word}", state.look), Piece(f"  at record {self.at_seq}")
        ]  # fmt: skip

    def facts(self) -> Sequence[Line]:
        run, at = self._run, self._picture.at
        aged = age_between(at, self.dash.now())
        lines = self._fact("RUN", [Piece(f"{run.id}  as it was at record {self.at_seq}, {stamp(at)} ({aged} ago)")])
        if self._refusal:
            return [*lines, *self._fact("NOT HERE", [Piece(self._refusal, "warn")])]
        for label, line in consequences(run.id, self._history, self.at_seq, self._picture):
            lines += self._fact(label, line)
        return lines

    def _fact(self, label: str, line: Line) -> list[Line]:
        return self.labelled(label, line, LABEL_CELLS)

    def fields(self) -> Iterable[FormRow]:
        """What the new run is called, and why it is made."""
        yield FormRow("Id", Field(id="new-id", hint="empty: one is made of both"), "of the new run")
        yield FormRow("Reason", Field(id="reason"), "recorded")

    def why_not(self) -> str:
        forbidden = super().why_not()
        if forbidden or self.phase != OPEN or not self._refusal:
            return forbidden
        return f"it cannot be forked at record {self.at_seq}"

    def command(self) -> str:
        words = command_words(self.run_id, self.at_seq, self.text("new-id"), self.text("reason"))
        return self.dash.command(*(word if word.isprintable() else quoted(word) for word in words))

    # --- what it sends

    def take(self) -> None:
        new_id, reason = self.text("new-id"), self.text("reason")
        self._body = {"at_seq": self.at_seq, **({"id": new_id} if new_id else {})}
        self._body |= {"reason": reason} if reason else {}

    async def send(self) -> str:
        answer = await fork(self.dash.link.client, self.run_id, self._body, self.asked_key)
        return self._made(answer.id, answer.seq)

    def found(self, seq: int, answer: Mapping[str, Any]) -> None:
        """The request of which the answer was lost is journaled, with the new run's id."""
        self.succeed(f"it did happen: {self._made(str(answer.get('id', '')), seq)}")

    def succeed(self, done: str) -> None:
        """It is on disk; the screen below opens the new run."""
        super().succeed(done)
        self.say(f" {done}. esc opens it", "good")

    def _made(self, run_id: str, seq: int) -> str:
        self.made = run_id
        return f"{run_id} is a fork of {self.run_id} at record {self.at_seq}: journaled as record {seq}"
