"""What the saga coordinator does for each command: check, record, and answer once that is durable.

Everything is checked before anything is recorded, so a refusal leaves no trace. Reads here are single point reads on
a connection of the coordinator's own: 10 microseconds, against 60 and more for a hop to a thread; lists never come here.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any, Protocol

import msgspec
from msgspec import Raw

from actors import messages as m
from actors.active_run import ActiveRun
from actors.answers import Answers
from actors.approvals import ApprovalDesk
from actors.errors import (
    Conflict,
    IdConflict,
    InvalidId,
    InvalidInput,
    NotBlocked,
    NotFound,
    Overloaded,
    PayloadTooLarge,
    RunEnded,
    RunNotFound,
    SessionEnded,
    SessionNotFound,
    UnknownWorkflow,
    VersionConflict,
)
from actors.flow.calls import AttemptCall
from actors.flow.definitions import NAME, Workflow
from actors.mailbox import Letter
from actors.saga_engine import SagaEngine, info_of
from wal import records as r
from wal.errors import RuntimedError
from wal.queries import Reader
from wal.rows import RunRow
from wal.run_status import OPEN_STATUSES
from wal.views import RunView, StateView, rfc3339

STATE_SCOPE = re.compile(r"(global|(tenant|session|run):[A-Za-z0-9._:-]{1,200})\Z")
BEGIN_AT_ONCE_MAX = 8
"""Runs of one request that begin in the commit that starts them; more are acknowledged first and begin in turn."""


BY_US = m.Origin(by="runtimed")


class ReadyQueue(Protocol):
    """Runs that are to begin when there is room."""

    def put(self, run: ActiveRun) -> None: ...
    def __len__(self) -> int: ...


def check_id(value: str, what: str) -> str:
    """The id, or InvalidId naming what it is the id of."""
    if not NAME.match(value):
        raise InvalidId(f"{what} {value[:80]!r}: expected 1 to 200 characters of A-Z a-z 0-9 . _ : -")
    return value


class SagaCommands:
    """Handles the commands about runs and state."""

    def __init__(
        self, engine: SagaEngine, reader: Reader, answers: Answers, ready: ReadyQueue, new_id: Callable[[], str]
    ) -> None:
        self._engine, self._reader, self._answers, self._ready = engine, reader, answers, ready
        self._writer, self._new_id = engine.writer, new_id
        self._ended_sessions: dict[str, None] = {}
        self._approvals = ApprovalDesk(engine, reader, self._open, self._accept, self._repeated, at_path)
        self.handlers: dict[type[m.Message], Callable[[Any, Letter], None]] = {
            m.StartRuns: self._start_runs, m.SignalRun: self._signal, m.CancelRun: self._cancel, m.PauseRun: self._pause,
            m.ResumeRun: self._resume, m.RetryRun: self._retry, m.ResolveCall: self._resolve, m.PutState: self._put_state,
            m.DeleteState: self._delete_state, m.DecideApproval: self._approvals.decide, m.SessionEnded: self._session_ended,
        }  # fmt: skip

    def handle(self, letter: Letter) -> None:
        """Carry a command out, or refuse it; a refusal has recorded nothing."""
        message = letter.message
        try:
            if hasattr(message, "origin") and self._repeated(letter):
                return
            self.handlers[type(message)](message, letter)
        except RuntimedError as error:
            letter.refuse(error)
            run = self._engine.active.by_id.get(getattr(message, "run_id", ""))
            if run is not None:
                self._rest(run)  # it may have been brought into memory for this
        self._writer.cut()

    def _once_loaded(self, run: ActiveRun, letter: Letter, then: Callable[[], None]) -> None:
        """Carry a command out once the run's history is here. Another with its key may have been answered by then."""

        def carry_out() -> None:
            try:
                if not self._repeated(letter):
                    then()
            except RuntimedError as error:
                letter.refuse(error)
            self._writer.cut()

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
        """Answer once everything recorded so far is durable; keep the answer if a key asks for that."""
        self._answers.keep(letter.message.origin.request, reply)
        self._writer.when_durable(self._writer.seq, letter.reply, reply)

    # --- starting

    def _start_runs(self, command: m.StartRuns, letter: Letter) -> None:
        if self._writer.crowded:
            raise Overloaded("too many records wait for the disk")
        begun = len(command.items) <= BEGIN_AT_ONCE_MAX and not len(self._ready)
        items, new = [], []
        for item in command.items:
            try:
                started, run = self._start(item, command.origin)
            except RuntimedError as error:
                started, run = m.StartedRun(problem=problem(error)), None
            items.append(started)
            if run is not None:
                new.append(run)
        if len(items) == 1 and items[0].problem is not None and not new:
            self._accept_problem(letter, items)
            return
        for run in new:
            if begun and run.start_at is None:
                self._engine.begin(run)
            elif run.start_at is None:
                self._ready.put(run)
        self._accept(letter, m.StartedRuns(items=items))

    def _accept_problem(self, letter: Letter, items: list[m.StartedRun]) -> None:
        letter.reply(m.StartedRuns(items=items))  # nothing was recorded, so there is nothing to wait for or to keep

    def _start(self, item: m.StartRun, origin: m.Origin) -> tuple[m.StartedRun, ActiveRun | None]:
        engine = self._engine
        workflow = engine.registry.workflows.get(item.workflow)
        if workflow is None:
            raise UnknownWorkflow(f"no workflow {item.workflow!r} is registered")
        if len(item.input) > engine.limits.payload_max_bytes:
            raise PayloadTooLarge(
                f"the input is {len(item.input)} bytes, over the limit of {engine.limits.payload_max_bytes}"
            )
        value = decode_input(workflow, item.input)
        if item.id is not None:
            existing = self._existing(check_id(item.id, "run id"), workflow, value)
            if existing is not None:
                return m.StartedRun(run=existing), None
        if item.queue is not None:
            raise InvalidInput(f"$.queue: no queue {item.queue!r} is configured")
        tenant, classification = item.tenant, item.classification
        if item.session_id is not None:
            tenant, classification = self._session_of(item.session_id)
        record = r.RunStarted(
            item.id or self._new_id(), item.workflow, item.input, workflow.version, item.session_id, tenant, classification,
            None, item.priority, None, item.start_at, origin.trace_id, origin.traceparent, item.attributes, origin.by,
        )  # fmt: skip
        run = self._make(record)
        return m.StartedRun(run=_view(record, run), created=True), run

    def _make(self, record: r.RunStarted) -> ActiveRun:
        engine = self._engine
        run = ActiveRun(self._writer.next_run_key(), record.id, record.workflow, 0)
        run.info = info_of(record)
        run.started_at = engine.clock.now_us()
        run.start_at = record.start_at
        seq = engine.append(run, record, len(record.input), run.started_at)
        engine.active.add(run)
        engine.started_total += 1
        if record.start_at is not None:
            engine.timers.set(seq, record.start_at, run.run_key, "")
            engine.sleep(run)
        return run

    def _existing(self, run_id: str, workflow: Workflow, value: Any) -> RunView | None:
        run = self._engine.active.by_id.get(run_id)
        if run is not None and run.info is not None:
            self._same(run_id, workflow, value, run.workflow, run.info.input)
            return RunView(
                id=run.id, workflow=run.workflow, status="running", created_at=rfc3339(run.started_at), seq=run.last_seq,
                session_id=run.info.session_id, tenant=run.info.tenant, classification=run.info.classification,
                trace_id=run.info.trace_id,
            ) if run.last_seq > self._writer.durable_seq else self._reader.run_view(run_id)  # fmt: skip
        view = self._reader.run_view(run_id)
        if view is None:
            return None
        self._same(run_id, workflow, value, view.workflow, view.input)
        return RunView(**{name: getattr(view, name) for name in RunView.__struct_fields__})

    def _same(self, run_id: str, workflow: Workflow, value: Any, there: str, input_there: Raw) -> None:
        try:
            same = there == workflow.name and decode_input(workflow, input_there) == value
        except InvalidInput:
            same = False
        if not same:
            raise IdConflict(f"run {run_id!r} exists with another {'input' if there == workflow.name else 'workflow'}")

    def _session_of(self, session_id: str) -> tuple[str | None, str]:
        session = self._reader.session(check_id(session_id, "session id"))
        if session is None:
            raise SessionNotFound(f"there is no session {session_id!r}")
        if session.status != "open" or session_id in self._ended_sessions:
            raise SessionEnded(f"session {session_id!r} is {session.status if session.status != 'open' else 'closing'}")
        return session.tenant, session.classification

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
        check_id(command.name, "signal name")
        run, row = self._find(command.run_id)
        seen = self._seen(run, row, command.signal_id)
        if seen is not None:
            self._writer.when_durable(seen, letter.reply, m.Accepted(seq=seen, id=command.run_id))
            return
        self._check_signal(run.workflow if run is not None else row.workflow if row else "", command)
        run = self._open(command.run_id)
        origin = command.origin
        record = r.SignalReceived(command.name, command.value, command.signal_id, origin.by, origin.trace_id)
        run.waiting = None  # it runs by this signal until it says again that it waits
        seq = self._engine.deliver(run, record, len(command.value))
        if command.signal_id is not None:
            run.signal_ids[command.signal_id] = seq
        self._rest(run)
        self._accept(letter, m.Accepted(seq=seq, id=command.run_id))

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
            except msgspec.ValidationError as error:
                raise InvalidInput(f"signal {command.name!r}: {at_path(error, '$.value')}") from None

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
            run.paused = False
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
            except msgspec.ValidationError as error:
                raise InvalidInput(f"the result of {call.name}: {at_path(error, '$.result')}") from None
        run.blocked = False
        origin = command.origin
        record = r.StepResolved(key, command.happened, command.result, origin.by, command.reason, origin.trace_id)
        seq = self._engine.deliver_all(run, record, len(command.result))
        self._accept(letter, m.Accepted(seq=seq, id=command.run_id))

    def _rest(self, run: ActiveRun) -> None:
        """What was woken only to be written down may go back to sleep."""
        if (run.flow is None or run.paused) and not (run.loading or run.ended or run.attempts):
            self._engine.sleep(run)

    def _session_ended(self, command: m.SessionEnded, letter: Letter) -> None:
        self._ended_sessions[command.id] = None
        if len(self._ended_sessions) > 1_000:  # older ones are durable, and so are seen in the journal
            self._ended_sessions.pop(next(iter(self._ended_sessions)))
        if command.cancel_runs:
            active = self._engine.active.by_id.values()
            ids = [run.id for run in active if run.info and run.info.session_id == command.id]
            for run_id in dict.fromkeys([*ids, *self._open_runs_of(command.id)]):  # in an order that repeats itself
                try:
                    self._cancel_run(m.CancelRun(run_id=run_id, reason=command.reason, origin=BY_US))
                except RunEnded:
                    continue  # it ended by itself first
        letter.reply(None)

    def _open_runs_of(self, session_id: str) -> list[str]:
        ids: list[str] = []
        cursor: str | None = None
        while True:
            page = self._reader.runs(session_id=session_id, status=OPEN_STATUSES, limit=500, cursor=cursor)
            ids.extend(run.id for run in page.items)
            if page.next is None:
                return ids
            cursor = page.next

    # --- state

    def _put_state(self, command: m.PutState, letter: Letter) -> None:
        limit = self._engine.limits.payload_max_bytes
        if len(command.value) > limit:
            raise PayloadTooLarge(f"the value is {len(command.value)} bytes, over the limit of {limit}")
        record, seq = self._write_state(command, command.value)
        view = StateView(
            scope=command.scope, key=command.key, value=command.value, version=record.version, tenant=record.tenant,
            classification=record.classification, updated_at=rfc3339(self._engine.clock.now_us()),
        )  # fmt: skip
        self._accept(
            letter, m.StateReply(state=view, created=command.expect_version == 0 or record.version == 1, seq=seq)
        )

    def _delete_state(self, command: m.DeleteState, letter: Letter) -> None:
        state = self._engine.state
        if state.get(check_scope(command.scope), check_id(command.key, "state key")).deleted:
            raise NotFound(f"there is no state {command.scope}/{command.key}")
        _, seq = self._write_state(command, None)
        self._accept(letter, m.Accepted(seq=seq, id=command.key))

    def _write_state(self, command: m.PutState | m.DeleteState, value: Raw | None) -> tuple[r.StateWritten, int]:
        engine = self._engine
        scope, key = check_scope(command.scope), check_id(command.key, "state key")
        now = engine.state.get(scope, key)
        if command.expect_version is not None and command.expect_version != now.visible_version:
            there = f"it has version {now.visible_version}" if now.visible_version else "it does not exist"
            raise VersionConflict(f"state {scope}/{key}: expected version {command.expect_version}; {there}")
        tenant, classification = self._owner(scope)
        record = r.StateWritten(
            "", scope, key, now.version + 1, value or Raw(b"null"), value is None, tenant, classification,
            command.origin.by, command.origin.trace_id,
        )  # fmt: skip
        seq = self._writer.append(record, weight=len(record.value))
        engine.state.written(record, seq)
        return record, seq

    def _owner(self, scope: str) -> tuple[str | None, str]:
        kind, _, owner = scope.partition(":")
        if kind == "tenant":
            return owner, "client"
        if kind == "session":
            return self._session_of(owner)
        if kind == "run":
            run, row = self._find(owner)
            source = run.info if run is not None and run.info is not None else row or self._reader.run(owner)
            if source is not None:
                return source.tenant, source.classification
        return None, "platform"


REPLIES: dict[type[m.Message], type[m.Message]] = {
    m.StartRuns: m.StartedRuns, m.SignalRun: m.Accepted, m.CancelRun: m.Accepted, m.PauseRun: m.Accepted,
    m.ResumeRun: m.Accepted, m.RetryRun: m.Accepted, m.ResolveCall: m.Accepted, m.PutState: m.StateReply,
    m.DeleteState: m.Accepted, m.DecideApproval: m.ApprovalReply, m.OpenSession: m.SessionReply, m.TouchSession: m.SessionReply,
    m.CloseSession: m.SessionReply,
}  # fmt: skip


def check_scope(scope: str) -> str:
    """A scope of the state surface, or InvalidInput."""
    if not STATE_SCOPE.match(scope):
        raise InvalidInput(f"state scope {scope[:80]!r}: expected global, tenant:NAME, session:ID or run:ID")
    return scope


def decode_input(workflow: Workflow, data: Raw) -> Any:
    """A run's input as the workflow's type. Raises InvalidInput naming the path and what was expected."""
    try:
        return workflow.input.decode(data)
    except msgspec.DecodeError as error:  # ValidationError is one of these
        raise InvalidInput(f"the input of {workflow.name}: {at_path(error, '$.input')}") from None


def at_path(error: Exception, root: str) -> str:
    """msgspec's message with the path as seen from the request's own root."""
    text = str(error)
    before, mark, path = text.rpartition(" - at `$")
    return f"{before} - at `{root}{path}" if mark else f"{text} - at `{root}`"


def problem(error: RuntimedError) -> m.ProblemData:
    """A refusal as data."""
    return m.ProblemData(status=error.status, code=error.code, detail=str(error), hint=error.hint)


def _view(record: r.RunStarted, run: ActiveRun) -> RunView:
    at = rfc3339(run.started_at)
    return RunView(
        id=record.id, workflow=record.workflow, status="queued" if record.start_at is not None else "running",
        version=record.version, session_id=record.session_id, tenant=record.tenant, classification=record.classification,
        queue=record.queue, priority=record.priority, parent_id=record.parent_id, trace_id=record.trace_id,
        attributes=record.attributes, created_at=at, updated_at=at, seq=run.last_seq,
    )  # fmt: skip
