"""Forks: a run that begins with the past of another, as that was at one of its records.

The past is read first, in a thread, by whoever asks for the fork: what is recorded does not change. What it is, and how
the fork's code goes through it, is in `flow.forks`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import msgspec
from msgspec.structs import replace

from actors import messages as m
from actors.checks import check_id, decode_input
from actors.errors import InvalidInput, Overloaded, PayloadTooLarge, RunNotFound, UnknownWorkflow
from actors.flow.definitions import NAME
from actors.flow.forks import forked as forked_at
from actors.mailbox import Letter
from actors.run_starts import RunStarts
from actors.saga_engine import SagaEngine
from wal import records as r
from wal.queries import Reader
from wal.records import Entry
from wal.retention import RUN_SCOPE

PAST_BYTES_MAX = 32 << 20
"""A past is one record, in one commit with the state: as much as a batch of runs may have."""
NAMES_MAX = 100
"""So many forks of one place get a name that says which; then it is an id like any."""


def fork_of(reader: Reader, run_id: str, at_seq: int, **asked: Any) -> m.ForkRun:
    """The command that forks a run as it was at one of its records; `asked` are its other fields. Reads all of the run
    up to there. Raises InvalidInput for what is no record of it, ForkRefused, PayloadTooLarge."""
    with reader.one_instant():
        return _fork_of(reader, check_id(run_id, "run id"), at_seq, asked)


def _fork_of(reader: Reader, run_id: str, at_seq: int, asked: dict[str, Any]) -> m.ForkRun:
    row = reader.run(run_id)
    if row is None:  # a repeat of a request that was answered is answered so again, though the run is forgotten
        return m.ForkRun(run_id=run_id, at_seq=at_seq, **asked)
    entries = reader.history(row.run_key, last_seq=at_seq) if row.first_seq <= at_seq <= row.last_seq else []
    if not entries or (entries[-1].seq, entries[-1].run_key) != (at_seq, row.run_key):
        raise InvalidInput(
            f"$.at_seq: {at_seq} is no record of run {run_id!r}", hint=f"See `runtimed runs history {run_id}`."
        )
    forked, begins = forked_at(entries), entries[0].record
    first, attributes, state = _held(reader, entries, run_id)
    taken_over = len(msgspec.json.encode(forked.past)), len(msgspec.json.encode(state))
    if sum(taken_over) > PAST_BYTES_MAX:
        raise PayloadTooLarge(
            f"the past of run {run_id!r} at record {at_seq} is {taken_over[0]} bytes and its state {taken_over[1]}; "
            f"a fork takes over up to {PAST_BYTES_MAX}"
        )
    assert isinstance(begins, (r.RunStarted, r.RunContinued)), begins
    input = begins.started.input if isinstance(begins, r.RunContinued) else begins.input
    started = replace(first, input=input, attributes=attributes, parent_id=None, parent_call=None, start_at=None)
    start = m.ForkStart(started, replace(forked, values=len(state)), taken_over[0], state)
    return m.ForkRun(run_id=run_id, at_seq=at_seq, start=start, **asked)


def _held(
    reader: Reader, entries: list[Entry], run_id: str
) -> tuple[r.RunStarted, dict[str, Any], list[r.StateWritten]]:
    """How the run was started, and its attributes and the values of its own state at the end of this history."""
    facts = reader.facts(_whole(entries), ["run_started", "attributes_set", "state_written"])
    attributes: dict[str, Any] = {}
    state: dict[str, r.StateWritten] = {}
    for fact in facts:
        if isinstance(fact, (r.RunStarted, r.AttributesSet)):
            attributes |= fact.attributes
        elif isinstance(fact, r.StateWritten) and fact.scope == f"{RUN_SCOPE}{run_id}":
            state[fact.name] = fact
    first = facts[0]
    assert isinstance(first, r.RunStarted), first
    return first, attributes, list(state.values())


def _whole(entries: list[Entry]) -> int:
    """The last record up to which its state is a run's at this point. What a transaction writes, which nobody else has
    put (`by`), counts with its completion: where that is not there, the fork runs it anew. What a fork began with
    counts with its past."""
    upto = len(entries)
    while upto > 1 and _is_of_a_transaction(entries[upto - 1].record):
        upto -= 1
    forked = entries[1] if len(entries) > 1 else entries[0]
    return max(entries[upto - 1].seq, forked.seq + (forked.record.values if type(forked.record) is r.RunForked else 0))


def _is_of_a_transaction(record: r.Fact) -> bool:
    return isinstance(record, r.StateWritten) and not record.key and record.by is None


class ForkDesk:
    """Handles `ForkRun`. `owner_of` gives an open session's tenant and classification, `accept` answers."""

    def __init__(
        self,
        engine: SagaEngine,
        starts: RunStarts,
        owner_of: Callable[[str], tuple[str | None, str]],
        accept: Callable[[Letter, m.Message], None],
    ) -> None:
        self._engine, self._starts, self._owner_of, self._accept = engine, starts, owner_of, accept

    def fork(self, command: m.ForkRun, letter: Letter) -> None:
        """Start the fork: like a run of its own that is asked for now, in the session and queue of the other."""
        engine, origin, start = self._engine, command.origin, command.start
        if start is None:
            raise RunNotFound(f"there is no run {command.run_id!r}")
        if engine.writer.crowded:
            raise Overloaded("too many records wait for the disk")
        started = start.started
        workflow = engine.registry.workflows.get(started.workflow)
        if workflow is None:
            raise UnknownWorkflow(f"no workflow {started.workflow!r} is registered")
        decode_input(workflow, started.input)
        if started.session_id is not None:
            self._owner_of(started.session_id)  # only for what it raises: a session that has ended takes no more runs
        record = replace(
            started,
            id=self._named(command) if command.id is None else check_id(command.id, "run id"),
            version=workflow.version,
            queue=started.queue if started.queue is not None and started.queue in engine.queues else None,
            trace_id=origin.trace_id,
            traceparent=origin.traceparent,
            by=origin.by,
        )
        run = self._starts.record_new(record)
        seq = engine.append(run, replace(start.forked, by=origin.by, reason=command.reason), start.past_bytes)
        run.begun = True  # it begins from its records, like a run that comes back
        for value in start.state:
            kept = replace(value, key="", scope=f"{RUN_SCOPE}{run.id}", by=origin.by, trace_id=origin.trace_id)
            engine.state.written(kept, engine.append(run, kept, len(kept.value)))
        self._starts.begin_in_turn(run)
        self._accept(letter, m.Accepted(seq=seq, id=run.id))

    def _named(self, command: m.ForkRun) -> str:
        """An id that says what it is a fork of, and is free."""
        name = f"{command.run_id}:f{command.at_seq}"
        for number in range(1, NAMES_MAX):
            made = name if number == 1 else f"{name}.{number}"
            if NAME.match(made) and not self._starts.is_taken(made):
                return made
        return self._starts.new_id()
