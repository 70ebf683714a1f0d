"""What a run's history comes to at a record: its calls with their attempts, what would be undone, what is kept. Values.

`tui.history_fold` makes them out of records; nothing here reads one.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from tui.gantt import FAILED, WAIT, WORK, Span
from wal import run_status
from wal.run_status import RunState

NOT_BEGUN = RunState(run_status.QUEUED)


class Attempt(NamedTuple):
    """One try: `outcome` is running, ok, failed, cancelled, interrupted or unknown; instants in microseconds. `made_as`
    names the run with its generation that made it, where that is another, which this was forked from: `order-7/0`."""

    number: int
    began: int
    ended: int | None = None
    outcome: str = "running"
    note: str = ""
    seq: int = 0
    retry_at: int | None = None
    made_as: str = ""


@dataclass(frozen=True)
class Call:
    """One call of the workflow. `kind` is step, undo, timer, signal, approval or child; `word` its state as shown."""

    key: str
    name: str
    kind: str
    word: str
    opened: int
    opened_seq: int
    closed: int | None = None
    attempts: tuple[Attempt, ...] = ()
    seqs: tuple[int, ...] = ()
    data: Mapping[str, Any] = field(default_factory=dict)

    @property
    def open(self) -> bool:
        """Whether it has not ended."""
        return self.closed is None

    @property
    def at_most_once(self) -> bool:
        """Whether it is not made again after a crash in it: a person is asked."""
        return bool(self.data.get("at_most_once"))

    def spans(self) -> list[Span]:
        """Its bars: attempts as work or as failed, waits between them and of calls that only wait."""
        if self.kind not in ("step", "undo"):
            return [Span(self.opened, self.closed, WAIT)]
        spans: list[Span] = []
        for one, following in zip(self.attempts, (*self.attempts[1:], None), strict=True):
            spans.append(Span(one.began, one.ended, FAILED if one.outcome in _BAD else WORK))
            if one.ended is not None and one.outcome in _BAD:
                until = self.closed if following is None else following.began
                if until is None or until > one.ended:
                    spans.append(Span(one.ended, until, WAIT))
        return spans


_BAD = frozenset({"failed", "interrupted", "unknown", "cancelled"})


class Undo(NamedTuple):
    """Something that is undone if the run fails or is cancelled: a completed step, or an undo that the code added."""

    key: str
    name: str
    added: bool = False


class Origin(NamedTuple):
    """What a fork was forked from: a run, as it was at one of its records."""

    run_id: str
    seq: int


@dataclass(frozen=True)
class Picture:
    """The run as of one record."""

    seq: int = 0
    at: str = ""
    state: RunState = NOT_BEGUN
    calls: Mapping[str, Call] = field(default_factory=dict)
    undo: tuple[Undo, ...] = ()
    undone: tuple[str, ...] = ()
    signals: tuple[str, ...] = ()
    attributes: Mapping[str, Any] = field(default_factory=dict)
    emitted: int = 0
    input: Any = None
    cancel_asked: bool = False
    generation: int = 0
    origin: Origin | None = None

    @property
    def status(self) -> str:
        """The status of the public contract."""
        return self.state.status

    def in_order(self) -> list[Call]:
        """The calls in the order in which they were opened."""
        return sorted(self.calls.values(), key=lambda call: (call.opened_seq, call.key))

    def to_undo(self) -> list[Undo]:
        """What a cancellation would undo, in the order in which it would: the last completed first."""
        return list(reversed(self.undo))

    def in_flight(self) -> list[Call]:
        """Attempts that are under way."""
        return [call for call in self.in_order() if call.attempts and call.attempts[-1].outcome == "running"]


def difference(before: Picture, after: Picture) -> Iterator[tuple[str, str]]:
    """What changed between two pictures, as a name and what became of it."""
    if before.status != after.status or before.state.waiting_on != after.state.waiting_on:
        yield "status", f"{_status(before)} -> {_status(after)}"
    for call in after.in_order():
        held = before.calls.get(call.key)
        if held is None:
            yield f"call {call.key}", f"+ {call.name} {call.word}"
        elif held.word != call.word or len(held.attempts) != len(call.attempts):
            tries = f" try {call.attempts[-1].number}" if call.attempts else ""
            yield f"call {call.key}", f"{call.name} {held.word} -> {call.word}{tries}"
    if before.undo != after.undo:
        yield "undo", f"{_undo(before)} -> {_undo(after)}"
    if before.signals != after.signals:
        yield "signals", f"{', '.join(before.signals) or 'none'} -> {', '.join(after.signals) or 'none'}"
    for name in {**before.attributes, **after.attributes}:
        if before.attributes.get(name) != after.attributes.get(name):
            yield f"attribute {name}", f"{before.attributes.get(name, '-')} -> {after.attributes.get(name, '-')}"
    if before.emitted != after.emitted:
        yield "output", f"{before.emitted} -> {after.emitted} values"
    if before.origin != after.origin and after.origin is not None:
        yield "forked from", f"{after.origin.run_id} at record {after.origin.seq}"


def _status(picture: Picture) -> str:
    return picture.status + (f" on {picture.state.waiting_on}" if picture.state.waiting_on else "")


def _undo(picture: Picture) -> str:
    return " ".join(undo.name for undo in picture.to_undo()) or "nothing"
