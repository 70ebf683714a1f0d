"""What the saga coordinator does for each command: check, record, and answer once that is durable.

Everything is checked before anything is recorded, so a refusal leaves no trace. Reads here are single point reads on
a connection of the coordinator's own: 10 microseconds, against 60 and
more for a hop to a thread. Lists never come here.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import msgspec

from actors import messages as m
from actors.active_run import ActiveRun
from actors.answers import Answers
from actors.approvals import ApprovalDesk
from actors.checks import at_path, check_id, check_words
from actors.children import Children
from actors.connector_spec import ConnectorSpec
from actors.errors import (
    Conflict,
    InvalidInput,
    NotBlocked,
    NotFound,
    PayloadTooLarge,
    RunEnded,
    RunNotFound,
)
from actors.flow.calls import AttemptCall
from actors.fork_desk import ForkDesk
from actors.intake_desk import IntakeDesk
from actors.mailbox import Letter
from actors.retention_desk import RetentionDesk
from actors.run_starts import ReadyQueue, RunStarts
from actors.saga_engine import SagaEngine
from actors.session_desk import SessionDesk
from actors.state_desk import StateDesk
from wal import records as r
from wal.errors import RuntimedError
from wal.queries import Reader
from wal.rows import RunRow

REPLIES: dict[type[m.Message], type[m.Message]] = {
    m.StartRuns: m.StartedRuns,
    m.SignalRun: m.Accepted,
    m.CancelRun: m.Accepted,
    m.PauseRun: m.Accepted,
    m.ResumeRun: m.Accepted,
    m.RetryRun: m.Accepted,
    m.ResolveCall: m.Accepted,
    m.ForkRun: m.Accepted,
    m.PutState: m.StateReply,
    m.DeleteState: m.Accepted,
    m.DecideApproval: m.ApprovalReply,
    m.NoteSecret: m.Accepted,
    m.CreateToken: m.Accepted,
    m.RevokeToken: m.Accepted,
    m.ForgetRuns: m.Forgotten,
    m.OpenSession: m.SessionReply,
    m.TouchSession: m.SessionReply,
    m.CloseSession: m.SessionReply,
    m.PauseConnector: m.Accepted,
    m.ResumeConnector: m.Accepted,
    m.ResetConnector: m.Accepted,
}


MANY = frozenset({m.TakePage, m.StartRuns})
"""Messages of many items: their desks look at each of those."""


class SagaCommands:
    """Handles the commands about runs and state."""

    def __init__(
        self,
        engine: SagaEngine,
        reader: Reader,
        answers: Answers,
        ready: ReadyQueue,
        new_id: Callable[[], str],
        connectors: Mapping[str, ConnectorSpec],
        connector_changed: Callable[[str], None],
    ) -> None:
        self._engine, self._reader, self._answers = engine, reader, answers
        self._writer = engine.writer
        self.sessions = SessionDesk(engine, reader, self._cancel_run)
        starts = RunStarts(engine, reader, ready, new_id, self.sessions.owner_of, self._accept)
        state = StateDesk(engine, self._owner, self._open, self._rest, self._accept)
        engine.begin_later = ready.put
        engine.children = Children(
            starts.start_child, self._open, self._cancel_run, reader.run_view, engine.tell, self._told
        )
        approvals = ApprovalDesk(engine, reader, self._open, self._accept, self._repeated, at_path)
        intake = IntakeDesk(engine, reader, starts, self._send_signal, self._accept, connectors, connector_changed)
        self.handlers: dict[type[m.Message], Callable[[Any, Letter], None]] = {
            m.StartRuns: starts.start,
            m.SignalRun: self._signal,
            m.CancelRun: self._cancel,
            m.PauseRun: self._pause,
            m.ResumeRun: self._resume,
            m.RetryRun: self._retry,
            m.ResolveCall: self._resolve,
            m.ForkRun: ForkDesk(engine, starts, self.sessions.owner_of, self._accept).fork,
            m.PutState: state.put,
            m.DeleteState: state.delete,
            m.DecideApproval: approvals.decide,
            m.NoteSecret: self._note_secret,
            m.ForgetRuns: RetentionDesk(engine, reader, self._accept).forget,
            **self.sessions.handlers,
            **intake.handlers,
        }

    def handle(self, letter: Letter) -> None:
        """Carry a command out, or refuse it; a refusal has recorded nothing."""
        message = letter.message
        self._writer.keep_whole()
        try:
            if type(message) not in MANY:
                check_words(message, self._engine.limits.payload_max_bytes)
            if not (hasattr(message, "origin") and self._repeated(letter)):
                self.handlers[type(message)](message, letter)
        except RuntimedError as error:
            letter.refuse(error)
            run = self._engine.active.by_id.get(getattr(message, "run_id", ""))
            if run is not None:
                self._rest(run)  # it may have been brought into memory for this
        self._engine.close_group()

    def _once_loaded(self, run: ActiveRun, letter: Letter, then: Callable[[], None]) -> None:
        """Carry a command out once the run's history is here. Another with its key may have been answered by then."""

        def carry_out() -> None:
            try:
                if not self._repeated(letter):
                    then()
            except RuntimedError as error:
                letter.refuse(error)
            self._engine.close_group()

        run.when_loaded.append(carry_out)
        if not run.loading:
            self._engine.load(run)

    def _repeated(self, letter: Letter) -> bool:
        """Whether this request had an answer before, which is then given again. Raises KeyReused."""
        known = self._answers.find(letter.message.origin.request)
        if known is None:
            return False
        reply = msgspec.json.decode(known.body, type=REPLIES[type(letter.message)])
        self._writer.when_durable(known.seq, letter.reply, reply)
        return True

    def _accept(self, letter: Letter, reply: m.Message) -> None:
        """Answer once everything recorded so far is durable, with who asked; keep the answer if a key asks for that."""
        self._answers.accept(letter.message, reply)
        self._writer.when_durable(self._writer.seq, letter.reply, reply)

    # --- runs that exist

    def _find(self, run_id: str) -> tuple[ActiveRun | None, RunRow | None]:
        """A run in memory, or its row. Raises RunNotFound."""
        run = self._engine.active.by_id.get(check_id(run_id, "run id"))
        if run is not None:
            return run, None
        row = self._reader.run(run_id)
        if row is None:
            raise RunNotFound(f"there is no run {run_id!r}")
        return None, row

    def _open(self, run_id: str) -> ActiveRun:
        """A run that has not ended, brought into memory (asleep) if it was not there."""
        run, row = self._find(run_id)
        if run is not None and run.ended:
            raise RunEnded(f"run {run_id!r} has ended")
        if row is not None:
            if row.ended_at is not None:
                raise RunEnded(f"run {run_id!r} has ended: it is {row.status}")
            run = self._engine.active.add(ActiveRun.from_row(row))
        assert run is not None
        return run

    def _signal(self, command: m.SignalRun, letter: Letter) -> None:
        seq, repeated = self._send_signal(command)
        reply = m.Accepted(seq=seq, id=command.run_id)
        if repeated:
            self._writer.when_durable(seq, letter.reply, reply)
        else:
            self._accept(letter, reply)

    def _send_signal(self, command: m.SignalRun) -> tuple[int, bool]:
        """Record a signal to a run; gives its seq, and whether it was there before under the same signal id."""
        check_id(command.name, "signal name")
        run, row = self._find(command.run_id)
        seen = self._seen(run, row, command.signal_id)
        if seen is not None:
            return seen, True
        self._check_signal(run.workflow if run is not None else row.workflow if row else "", command)
        run = self._open(command.run_id)
        origin = command.origin
        record = r.SignalReceived(command.name, command.value, command.signal_id, origin.by, origin.trace_id)
        run.waiting = None  # it runs by this signal until it says again that it waits
        seq = self._engine.deliver(run, record, len(command.value))
        if command.signal_id is not None:
            run.signal_ids[command.signal_id] = seq  # until the journal can say so
            self._writer.when_durable(seq, _drop, run.signal_ids, command.signal_id)
        self._rest(run)
        return seq, False

    def _seen(self, run: ActiveRun | None, row: RunRow | None, signal_id: str | None) -> int | None:
        if signal_id is None:
            return None
        check_id(signal_id, "signal id")
        if run is not None and signal_id in run.signal_ids:
            return run.signal_ids[signal_id]
        run_key = run.run_key if run is not None else row.run_key if row is not None else 0
        return self._reader.signal_seen(run_key, signal_id)

    def _check_signal(self, workflow_name: str, command: m.SignalRun) -> None:
        limit = self._engine.limits.payload_max_bytes
        if len(command.value) > limit:
            raise PayloadTooLarge(f"the signal's value is {len(command.value)} bytes, over the limit of {limit}")
        workflow = self._engine.registry.workflows.get(workflow_name)
        decoder = workflow.signal_decoders.get(command.name) if workflow is not None else None
        if decoder is not None:
            try:
                decoder.decode(command.value)
            except Exception as error:  # noqa: BLE001 - a type's own check may raise anything
                raise InvalidInput(f"signal {command.name!r}: {at_path(error, '$.value', decoder.type)}") from None

    def _cancel(self, command: m.CancelRun, letter: Letter) -> None:
        self._accept(letter, m.Accepted(seq=self._cancel_run(command), id=command.run_id))

    def _cancel_run(self, command: m.CancelRun) -> int:
        run = self._open(command.run_id)
        origin, engine = command.origin, self._engine
        record = r.RunCancelRequested(command.reason, origin.by, origin.trace_id)
        run.cancel_reason = command.reason
        if run.start_at is not None:  # it has not begun: there is nothing to undo
            seq = engine.append(run, record)
            engine.append(run, r.RunCancelled(command.reason))
            engine.end_unbegun(run)
        else:
            if run.paused:  # recorded, so that a crash does not find the run paused and leave it so
                run.paused = False
                engine.append(run, r.RunResumed(origin.by, "it is cancelled"))
            was_blocked, run.blocked = run.blocked, False
            if was_blocked:
                seq = engine.reload_with(run, record)
            else:
                seq = engine.deliver_all(run, record)
        return seq

    def _pause(self, command: m.PauseRun, letter: Letter) -> None:
        run = self._open(command.run_id)
        seq = self._engine.append(run, r.RunPaused(command.origin.by, command.reason))
        run.paused = True
        self._engine.active.idle.pop(run.run_key, None)
        self._rest(run)
        self._accept(letter, m.Accepted(seq=seq, id=command.run_id))

    def _resume(self, command: m.ResumeRun, letter: Letter) -> None:
        run = self._open(command.run_id)
        if not run.paused:
            raise Conflict(f"run {command.run_id!r} is not paused")
        run.paused = False
        seq = self._engine.append(run, r.RunResumed(command.origin.by, command.reason))
        self._engine.go_on(run)
        self._accept(letter, m.Accepted(seq=seq, id=command.run_id))

    def _retry(self, command: m.RetryRun, letter: Letter) -> None:
        run = self._open(command.run_id)
        if not run.blocked:
            raise NotBlocked(f"run {command.run_id!r} is not blocked")
        row = self._reader.run(command.run_id)
        if row is not None and row.error is not None and row.error.type == "outcome_unknown":
            # A signal may have ended the wait for that call since: whether it still holds the run, its code must say.
            self._once_loaded(run, letter, lambda: self._retry_loaded(run, command, letter))
        else:
            self._retry_now(run, command, letter)

    def _retry_loaded(self, run: ActiveRun, command: m.RetryRun, letter: Letter) -> None:
        hold = run.flow.hold if run.flow is not None else None
        if not run.blocked:
            raise NotBlocked(f"run {command.run_id!r} is not blocked")
        if hold is not None and hold.code == "outcome_unknown":
            raise NotBlocked(
                f"run {command.run_id!r} waits for somebody to say whether {hold.key or 'a step'} happened",
                hint="Look outside, then `runtimed runs resolve`.",
            )
        self._retry_now(run, command, letter)

    def _retry_now(self, run: ActiveRun, command: m.RetryRun, letter: Letter) -> None:
        run.blocked = False
        origin = command.origin
        seq = self._engine.reload_with(run, r.RunRetried(origin.by, command.reason, origin.trace_id))
        self._accept(letter, m.Accepted(seq=seq, id=command.run_id))

    def _resolve(self, command: m.ResolveCall, letter: Letter) -> None:
        run = self._open(command.run_id)
        if not run.blocked:
            raise NotBlocked(f"run {command.run_id!r} is not blocked")
        self._once_loaded(run, letter, lambda: self._resolve_loaded(run, command, letter))

    def _resolve_loaded(self, run: ActiveRun, command: m.ResolveCall, letter: Letter) -> None:
        flow = run.flow
        key = command.call
        if flow is None or not flow.is_held(key):
            held = ", ".join(flow.held_keys()) if flow is not None else ""
            raise NotFound(f"call {key!r} of run {run.id!r} is not waiting to be resolved; held: {held or 'none'}")
        call = flow.calls[key]
        if command.happened and isinstance(call, AttemptCall):
            try:
                call.step.signature.result.decode(command.result)
            except Exception as error:  # noqa: BLE001 - a type's own check may raise anything
                kind = call.step.signature.result.type
                raise InvalidInput(f"the result of {call.name}: {at_path(error, '$.result', kind)}") from None
        run.blocked = False
        origin = command.origin
        record = r.StepResolved(key, command.happened, command.result, origin.by, command.reason, origin.trace_id)
        seq = self._engine.deliver_all(run, record, len(command.result))
        self._accept(letter, m.Accepted(seq=seq, id=command.run_id))

    def _told(self, run: ActiveRun) -> None:
        self._engine.told(run)
        self._rest(run)

    def _rest(self, run: ActiveRun) -> None:
        """What was woken only to be written down may go back to sleep."""
        if (run.flow is None or run.paused) and not (run.loading or run.ended or run.attempts):
            self._engine.sleep(run)

    def _note_secret(self, command: m.NoteSecret, letter: Letter) -> None:
        origin = command.origin
        record = r.SecretChanged(command.name, command.action, origin.by, command.reason, origin.trace_id)
        self._accept(letter, m.Accepted(seq=self._writer.append(record), id=command.name))

    # --- whose a value is

    def _owner(self, scope: str) -> tuple[str | None, str]:
        kind, _, owner = scope.partition(":")
        if kind == "tenant":
            return owner, "client"
        if kind == "session":
            return self.sessions.owner_of(owner)
        if kind == "run":
            run, row = self._find(owner)
            source = run.info if run is not None and run.info is not None else row or self._reader.run(owner)
            if source is not None:
                return source.tenant, source.classification
        return None, "platform"


def _drop(known: dict[str, int], signal_id: str) -> None:
    known.pop(signal_id, None)
