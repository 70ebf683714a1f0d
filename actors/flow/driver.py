"""The flow: one run as a pure function from records to calls.

Two kinds of record. *Answers* come from outside (a step completed, a timer fired, a signal, a cancellation) and are
applied in their order; each lets the code advance until every fiber waits. *Asks* come out of the code (a step is
scheduled, a timer set, an output emitted, the run completed): they queue in `asks`, in order. Live, the coordinator
takes an ask, records it, and tells the flow. In replay the next recorded ask must be the head of that queue, so that
any difference between the code and its records is seen where it is, with both sides named.

The order of answers alone decides everything; where the asks stand between them does not. That is why a run may be
paused, parked or blocked with answers arriving all the while, and go on later as if nothing had been.
"""

from __future__ import annotations

import traceback
from collections import defaultdict, deque
from collections.abc import Callable, Mapping
from contextvars import Context as Variables
from typing import Any, ClassVar

import msgspec
from msgspec import Raw

from actors.errors import Nondeterminism, SignalTimeout, StepFailed, VersionConflict
from actors.flow.approval import ApprovalCall
from actors.flow.calls import (
    AttemptCall,
    Call,
    Cancelled,
    EmitCall,
    Settle,
    SignalCall,
    State,
    StateCall,
    StateGet,
    StatePut,
    StepCall,
    TimerCall,
    UndoCall,
    encode,
    payload,
)
from actors.flow.definitions import Step, Workflow
from actors.flow.fibers import Fiber, Scheduler, Scope
from actors.flow.saga_core import UNDO_MARK, UndoLedger
from wal import records as r


class RunInfo(msgspec.Struct, frozen=True):
    """What a run knows of itself from its first record."""

    id: str
    workflow: str
    input: Raw
    generation: int = 0
    session_id: str | None = None
    tenant: str | None = None
    classification: str = "platform"
    trace_id: str | None = None
    traceparent: str | None = None


class Hold(msgspec.Struct, frozen=True):
    """Why a run stands still: the code of the block, what to read, the call, and the traceback of a defect."""

    code: str
    message: str
    key: str = ""
    traceback: str | None = None


class History(msgspec.Struct, frozen=True):
    """What replay must know beforehand: the patches that were marked, and how far each fiber had come."""

    patches: frozenset[str] = frozenset()
    furthest: Mapping[str, int] = {}

    @classmethod
    def of(cls, records: list[r.Fact]) -> History:
        furthest: dict[str, int] = {}
        patches = set()
        for record in records:
            if type(record) is r.PatchMarked:
                patches.add(record.id)
            keys = [call.key for call in record.calls] if type(record) is r.RunWaiting else [getattr(record, "key", "")]
            for key in keys:
                _note_key(furthest, key)
        return cls(frozenset(patches), furthest)

    def has_passed(self, fiber: str, index: int) -> bool:
        """Whether there is a record of a call at or after this one: of the fiber itself, or behind its group, which
        says that the fiber had ended."""
        if self.furthest.get(fiber, -1) >= index:
            return True
        while fiber:
            fiber, _, group = fiber.rpartition("/")[0].rpartition(".")
            if self.furthest.get(fiber, -1) > int(group):
                return True
        return False


def _note_key(furthest: dict[str, int], key: str) -> None:
    path = key.removesuffix(UNDO_MARK)
    while path:
        fiber, _, index = path.rpartition(".")
        furthest[fiber] = max(furthest.get(fiber, -1), int(index))
        path = fiber.rpartition("/")[0]


def error_data(error: BaseException, *, with_traceback: bool = False) -> r.ErrorData:
    """An exception as data."""
    kind, step, message = type(error).__name__, getattr(error, "step", None), str(error)
    if isinstance(error, StepFailed) and error.cause_type:
        message = f"{error.cause_type}: {message}"
    shown = "".join(traceback.format_exception(error))[-8_000:] if with_traceback else None
    return r.ErrorData(kind, message[:4_000], step or None, shown)


class Flow(Scheduler):
    """One run. `begin()`, then `apply(record, at)` for each answer; `asks` is what it wants recorded."""

    def __init__(
        self, workflow: Workflow | None, info: RunInfo, steps: Mapping[str, Step], *,
        payload_max_bytes: int = 2 << 20, history: History | None = None,
    ) -> None:  # fmt: skip
        super().__init__()
        self.workflow, self.info, self.steps = workflow, info, steps
        self.payload_max_bytes = payload_max_bytes
        self.asks: deque[Call | r.Fact] = deque()
        self.notes: list[r.Fact] = []  # patch markers: they ride on the next commit, wherever that is
        self.starts: list[AttemptCall] = []  # attempts that may start once what was recorded is durable
        self.drops: list[AttemptCall] = []  # attempts that are not wanted any more
        self.calls: dict[str, Call] = {}  # open, or with an attempt in flight
        self.halted: Hold | None = None  # the code cannot go on from its records
        self.now_us = 0
        self.records = 0
        self.replaying = history is not None
        self.closing = False
        self.cancel_requested = self.compensating = self.ended = False
        self._unwinding = self._codeless = False
        self.random_count = self.uuid_count = 0
        self._history = history or History()
        self._patches = set(self._history.patches)
        self._signals: defaultdict[str, deque[Raw]] = defaultdict(deque)
        self._signal_waits: defaultdict[str, list[SignalCall]] = defaultdict(list)
        self._settlers: list[Fiber] = []
        self.holds: dict[str, Hold] = {}
        self._undo = UndoLedger(steps)
        self._root = Scope()
        self._last_waiting: r.RunWaiting | None = None
        self._variables = Variables()
        self._main: Fiber | None = None
        self.context: Any = None

    # --- driving

    def begin(self, context: Any, at: int) -> None:
        """Run the code to its first waits. `context` is the ctx object that it gets."""
        self.now_us, self.context = at, context
        if self.workflow is None:
            self.halted = Hold("unknown_workflow", f"no workflow {self.info.workflow!r} is registered")
            return
        try:
            value = self.workflow.input.decode(self.info.input)
        except msgspec.ValidationError as error:
            self.halted = Hold("undecodable", f"the input does not decode any more: {error}")
            return
        self._main = self.spawn(self._run(value), "", self._root)
        self._variables.run(self.drain)

    def apply(self, record: r.Fact, at: int) -> None:
        """Take in the next record of the run: an answer, or in replay also an ask that was recorded."""
        self.records += 1
        if self.halted is not None:
            self._apply_halted(record)
            return
        handler = self._answers.get(type(record))
        if handler is not None:
            if at > self.now_us:
                self.now_us = at
            if type(record) is not r.RunRetried:
                self._last_waiting = None
            if self._take_answer(handler, record):
                if self._settlers:
                    self._wake_settlers()
                self._variables.run(self.drain)
        elif type(record) is r.RunWaiting:
            self._last_waiting = record
        elif type(record) not in self._ignored:
            self._match(record)

    def _take_answer(self, handler: Callable[[Flow, Any], None], record: r.Fact) -> bool:
        """Whether the code can go on by this answer."""
        try:
            handler(self, record)
        except Nondeterminism as error:
            if self._codeless:  # of an attempt that outlived the code which made it
                self._undo.fold(record)
            else:
                self._contradiction(str(error), record)
        return self.halted is None

    def recorded(self, ask: Call | r.Fact, fact: r.Fact) -> None:
        """What was taken from `asks` is recorded as `fact`: mark it, and answer those that need nothing else."""
        self.records += 1
        if isinstance(ask, AttemptCall):
            ask.state = State.ACTIVE
            ask.first_at = self.now_us
            self.starts.append(ask)
        elif isinstance(ask, TimerCall):
            ask.state = State.ACTIVE
        elif isinstance(ask, EmitCall):
            self._answer(ask, None)
            self._variables.run(self.drain)
        elif isinstance(ask, StateCall):
            self._state_answered(ask, fact)
            self._variables.run(self.drain)
        elif isinstance(ask, r.RunCompensating):
            self.compensating = True
        elif isinstance(ask, (r.RunCompleted, r.RunFailed, r.RunCancelled)):
            self.ended = True

    def close(self) -> bool:
        """Put the run away: its coroutines are closed and nothing is recorded. False if one had to be cut off."""
        self.closing = True
        return self._variables.run(self.close_fibers)

    def _match(self, record: r.Fact) -> None:
        if not self.asks:
            self._contradiction(f"recorded: {describe(record)}; the code makes no such call", record)
            return
        ask = self.asks[0]
        if not (ask.matches(record) if isinstance(ask, Call) else same_fact(ask, record)):
            self._contradiction(f"recorded: {describe(record)}; the code now makes: {describe(ask)}", record)
            return
        self._last_waiting = None
        self.asks.popleft()
        self.records -= 1
        self.recorded(ask, record)

    def end_replay(self) -> None:
        """The history is at its end: what is asked now is new. Cancelling a run whose code halted begins here."""
        self.replaying = False
        self.starts.clear()
        self.drops.clear()
        waiting = self._last_waiting
        if waiting is not None and self.halted is None and waiting.calls != self.open_calls():
            recorded = ", ".join(f"{c.kind} {c.name} (call {c.key})" for c in waiting.calls)
            now = ", ".join(f"{c.kind} {c.name} (call {c.key})" for c in self.open_calls())
            self._halt(Hold("nondeterminism", f"recorded: waiting for {recorded}; the code now waits for: {now or 'nothing'}"))  # fmt: skip
        self.unwind_if_cancelled()

    def unwind_if_cancelled(self) -> None:
        """Cancelling a run whose code cannot go on: undo what the records say was done."""
        if self.halted is not None and self.cancel_requested and not self.ended:
            self._unwind_without_code()

    # --- answers

    def _attempt(self, record: Any) -> AttemptCall:
        call = self.calls.get(record.key)
        if not isinstance(call, AttemptCall) or call.step.name != getattr(record, "name", call.step.name):
            there = describe(call) if call is not None else "no such call"
            raise Nondeterminism(f"recorded: {describe(record)}; the code now makes: {there}")
        return call

    def _step_completed(self, record: Any) -> None:
        call = self._attempt(record)
        self._finish(call)
        if isinstance(call, UndoCall):
            self._undo.done(call.undone_key)
            self._answer(call, None)
            return
        self._undo.completed(call.key, call.step, call.args, record.result, call.scope)
        if call.open:
            try:
                value = call.step.signature.result.decode(record.result)
            except msgspec.ValidationError as error:
                self._halt(
                    Hold("undecodable", f"the recorded result of {call.name} does not decode: {error}", call.key)
                )
                return
            self._answer(call, value)

    def _step_failed(self, record: Any) -> None:
        call = self._attempt(record)
        if not call.open:  # also if a retry was decided while the call was closing
            self._finish(call)
            self._undo.unknown(call.key, call.step, call.args, call.scope)
        elif record.cancelled:
            # Cancelled for a race or a failure that mended code does not come to any more: no failure of the step.
            self._step_interrupted(record) if call.step.delivery == "at_least_once" else self._step_unknown(record)
        elif record.retry_at is not None:
            call.state, call.due_at = State.BACKOFF, record.retry_at
        elif record.defect or isinstance(call, UndoCall):
            code = "code_error" if record.defect else "compensation_failed"
            message = f"{call.name}: {record.error.type}: {record.error.message}"
            self._hold(call, Hold(code, message, call.key, record.error.traceback))
        else:
            self._finish(call)
            self._undo.unknown(call.key, call.step, call.args, call.scope)
            error = record.error
            message = error.message or "no message"
            failed = StepFailed(message, step=call.name, cause_type=error.type, attempt=record.attempt)
            self._answer(call, failed, raising=True)

    def _step_interrupted(self, record: Any) -> None:
        call = self._attempt(record)
        call.attempt = record.attempt
        call.interruptions += 1
        self._again(call)

    def _step_unknown(self, record: Any) -> None:
        call = self._attempt(record)
        if call.open:
            message = f"{call.name}: it is not known whether attempt {record.attempt} happened"
            self._hold(call, Hold("outcome_unknown", message, call.key))
        else:
            self._finish(call)
            self._undo.unknown(call.key, call.step, call.args, call.scope)

    def _step_resolved(self, record: Any) -> None:
        call = self._attempt(record)
        if record.happened:
            self._step_completed(r.StepCompleted(call.key, call.name, record.result, call.attempt))
        else:
            self._again(call)

    def _run_retried(self, record: Any) -> None:
        for call in self.calls.values():
            if isinstance(call, AttemptCall):
                call.interruptions = 0  # also of one that replay does not know as held: the coordinator held it
        for key, hold in list(self.holds.items()):
            held = self.calls.get(key)
            if isinstance(held, AttemptCall) and hold.code != "outcome_unknown":
                call = held
                call.first_attempt, call.first_at = call.attempt + 1, self.now_us
                self._again(call)

    def _again(self, call: AttemptCall) -> None:
        self.holds.pop(call.key, None)
        call.attempt += 1
        call.state = State.ACTIVE
        self.starts.append(call)

    def _timer_fired(self, record: Any) -> None:
        if not record.key:
            return  # the run began with it
        call = self.calls.get(record.key)
        if isinstance(call, AttemptCall) and call.state is State.BACKOFF:
            call.attempt += 1
            call.state = State.ACTIVE
            self.starts.append(call)
        elif isinstance(call, SignalCall) and call.open:
            self._signal_waits[call.signal_name].remove(call)
            self._answer(call, SignalTimeout(f"no signal {call.signal_name!r} within {call.seconds} s"), raising=True)
        elif isinstance(call, ApprovalCall) and call.open:
            self._answer(call, call.expired(self.now_us))
        elif isinstance(call, TimerCall) and call.open:
            self._answer(call, None)
        else:
            raise Nondeterminism(f"recorded: {describe(record)}; the code now makes: {describe(call) if call else 'no such call'}")  # fmt: skip

    def _signal_received(self, record: Any) -> None:
        self._signals[record.name].append(record.value)
        waits = self._signal_waits.get(record.name)
        if waits and self._take_signal(waits[0]):
            waits.pop(0)

    def _take_signal(self, call: SignalCall) -> bool:
        buffered = self._signals[call.signal_name]
        while buffered:
            try:
                value = call.decoder.decode(buffered.popleft())
            except msgspec.ValidationError as error:
                self.asks.append(r.SignalSetAside(call.key, call.signal_name, str(error)))
                continue
            self._forget_timer(call)
            self._answer(call, value)
            return True
        return False

    def _approval_decided(self, record: Any) -> None:
        call = self.calls.get(record.key)
        if not isinstance(call, ApprovalCall) or not call.open:
            there = describe(call) if call is not None else "no such call"
            raise Nondeterminism(f"recorded: {describe(record)}; the code now makes: {there}")
        try:
            decision = call.decide(record, self.now_us)
        except msgspec.ValidationError as error:
            self._halt(Hold("undecodable", f"what was filled in for {call.title!r} does not decode: {error}", call.key))
            return
        self._answer(call, decision)

    def _cancel_run(self, record: Any) -> None:
        self.cancel_requested = True
        if not self.compensating and self._main is not None:
            self.cancel(self._main, Cancelled())

    def _state_answered(self, call: StateCall, fact: r.Fact) -> None:
        if isinstance(fact, r.StateRefused):
            there = f"version {fact.found}" if fact.found else "no value"
            error = VersionConflict(f"{call.name}: expected version {fact.expected}, found {there}")
            self._answer(call, error, raising=True)
        elif isinstance(call, StateGet) and isinstance(fact, r.StateRead):
            try:
                value = call.decoder.decode(fact.value) if fact.found else call.default
            except msgspec.ValidationError as error:
                self._answer(call, error, raising=True)
                return
            self._answer(call, (value, fact.version) if call.versioned else value)
        elif isinstance(call, StatePut) and isinstance(fact, r.StateWritten):
            self._answer(call, fact.version)

    def _apply_halted(self, record: r.Fact) -> None:
        self._undo.fold(record)
        kind = type(record)
        if kind is r.RunCancelRequested:
            self.cancel_requested = True
        elif kind is r.RunCompensating:
            self.compensating = True
        elif kind in (r.RunCompleted, r.RunFailed, r.RunCancelled):
            self.ended = True

    _answers: ClassVar[dict[type[r.Fact], Callable[[Flow, Any], None]]] = {
        r.StepCompleted: _step_completed, r.CompensationCompleted: _step_completed,
        r.StepFailed: _step_failed, r.CompensationFailed: _step_failed,
        r.StepInterrupted: _step_interrupted, r.StepUnknown: _step_unknown, r.StepResolved: _step_resolved,
        r.TimerFired: _timer_fired, r.SignalReceived: _signal_received, r.ApprovalDecided: _approval_decided,
        r.RunCancelRequested: _cancel_run, r.RunRetried: _run_retried,
    }  # fmt: skip
    _ignored: ClassVar[frozenset[type[r.Fact]]] = frozenset(
        {r.RunStarted, r.RunPaused, r.RunResumed, r.RunBlocked, r.PatchMarked, r.ApprovalVoted}
    )

    # --- the scheduler's hooks

    def open_leaf(self, call: Call) -> None:
        self.calls[call.key] = call
        if isinstance(call, AttemptCall):
            call.scope = call.fiber.scope
            self.asks.append(call)
        elif isinstance(call, SignalCall):
            if not self._take_signal(call):
                self._signal_waits[call.signal_name].append(call)
                if call.seconds is not None:
                    self.asks.append(call)
        else:
            self.asks.append(call)

    def close_leaf(self, call: Call) -> None:
        call.open = False
        if isinstance(call, SignalCall):
            self._signal_waits[call.signal_name].remove(call)
        if isinstance(call, AttemptCall) and call.state is State.ACTIVE:
            self.drops.append(call)  # its outcome is still to come, and counts for what must be undone
            return
        if isinstance(call, AttemptCall) and call.state is not State.NEW:
            self._forget_timer(call)
            self.holds.pop(call.key, None)
            self._undo.unknown(call.key, call.step, call.args, call.scope)
        elif call.state is State.NEW:
            if call in self.asks:
                self.asks.remove(call)
        else:
            self._forget_timer(call)
        self._finish(call)

    def settled(self, scope: Scope) -> bool:
        return not any(
            isinstance(call, AttemptCall) and not call.shielded and call.state in (State.ACTIVE, State.BACKOFF, State.HELD)
            and call.scope is not None and call.scope.is_within(scope)
            for call in self.calls.values()
        )  # fmt: skip

    def is_failure(self, error: BaseException) -> bool:
        assert self.workflow is not None
        return isinstance(error, self.workflow.fails_on)

    def main_ended(self, value: Any, error: BaseException | None) -> None:
        if error is not None and self.cancel_requested and not self._unwinding:
            # Whatever the code does about its cancellation, a bug or being cut off included, it was to be undone.
            self._main = self.spawn(self._unwind(None), "", self._root)
        elif error is not None and self.halted is None:
            data = error_data(error, with_traceback=True)
            self._halt(Hold("code_error", f"{data.type}: {data.message}", "", data.traceback))

    def _wake_settlers(self) -> None:
        for fiber in list(self._settlers):
            if isinstance(fiber.wait, Settle) and self.settled(fiber.wait.scope):
                self._settlers.remove(fiber)
                self.resume(fiber)

    # --- small verbs

    def _answer(self, call: Call, value: Any, *, raising: bool = False) -> None:
        call.open = False
        self._finish(call)
        self.resume(call.fiber, value, raising=raising)

    def _finish(self, call: Call) -> None:
        call.state = State.SETTLED
        self.calls.pop(call.key, None)
        if self.holds:
            self.holds.pop(call.key, None)

    def _hold(self, call: AttemptCall, hold: Hold) -> None:
        call.state = State.HELD
        self.holds[call.key] = hold

    def _forget_timer(self, call: Call) -> None:
        if call.state in (State.ACTIVE, State.BACKOFF):
            self.asks.append(call.withdrawn())
        elif call in self.asks:
            self.asks.remove(call)

    def _halt(self, hold: Hold) -> None:
        """The code cannot go on from here; from now on records only add to what is to be undone."""
        self.halted = hold
        self.drops.clear()  # what a defect closed is wanted again when it is mended
        for call in self.calls.values():
            if isinstance(call, StepCall) and call.state is not State.NEW:
                self._undo.expect(call.key, call.step, call.args)
        for ask in self.asks:  # what the code did after its last record does not count
            if isinstance(ask, r.CompensationAdded):
                self._undo.done(ask.key)

    def _contradiction(self, message: str, record: r.Fact) -> None:
        self._halt(Hold("nondeterminism", message, getattr(record, "key", "")))
        self._apply_halted(record)

    # --- the run itself

    async def _run(self, value: Any) -> None:
        workflow = self.workflow
        assert workflow is not None
        error: r.ErrorData | None = None
        try:
            result = await (workflow.fn(self.context, value) if workflow.takes_input else workflow.fn(self.context))
        except Cancelled as cancelled:
            if not self.cancel_requested:
                raise RuntimeError("Cancelled left the workflow, but nobody asked for that") from cancelled
        except Exception as failure:
            if not self.is_failure(failure):
                raise
            error = error_data(failure)
        else:
            if not self.cancel_requested:
                encoded = payload(result, self.payload_max_bytes, "the result")
                await self.settle(self._root)
                if not self.cancel_requested:
                    self.asks.append(r.RunCompleted(encoded))
                    return
        await self._unwind(None if self.cancel_requested else error)

    async def _unwind(self, error: r.ErrorData | None) -> None:
        self._unwinding = True
        if self._undo or not self.settled(self._root):
            self.compensating = True
            self.asks.append(r.RunCompensating(error))
        await self.compensate(self._root, everything=True)
        self.asks.append(r.RunFailed(error) if error is not None else r.RunCancelled())

    def _unwind_without_code(self) -> None:
        """Undo what the records say was done, for a cancelled run whose code cannot be replayed."""
        self.halted = None
        self._codeless = True
        self.close()
        self.closing = False
        self._undo.give_up()
        for table in (self.asks, self.notes, self.calls, self.holds, self._settlers, self._signal_waits):
            table.clear()
        self._main = self.spawn(self._unwind_cancelled(), "", self._root)
        self._variables.run(self.drain)

    async def _unwind_cancelled(self) -> None:
        while self._undo:  # an attempt that is in flight still may add to it
            if not self.compensating:
                self.compensating = True
                self.asks.append(r.RunCompensating())
            await self.compensate(self._root, everything=True)
        self.asks.append(r.RunCancelled())

    async def settle(self, scope: Scope) -> None:
        """Wait until no attempt of this scope is in flight."""
        if not self.settled(scope):
            self._settlers.append(self.current)
            await Settle(scope)

    async def compensate(self, scope: Scope, *, everything: bool = False) -> None:
        """Undo what was completed in a scope, newest first, each for good before the next."""
        await self.settle(scope)
        for undo in list(self._undo.newest_first(None if everything else scope)):
            await UndoCall(undo.step, undo.args, undo.key, undo.key + UNDO_MARK)

    # --- what the coordinator and ctx ask

    @property
    def hold(self) -> Hold | None:
        """Why the run stands still, or None."""
        return self.halted or next(iter(self.holds.values()), None)

    def hold_call(self, key: str, hold: Hold) -> None:
        """The coordinator withholds the next attempt of a call until a person lets it go on."""
        call = self.calls[key]
        assert isinstance(call, AttemptCall)
        self._hold(call, hold)

    @property
    def alive(self) -> bool:
        """Whether there is code to close."""
        return bool(self._fibers)

    def is_held(self, key: str) -> bool:
        return key in self.holds

    def held_keys(self) -> list[str]:
        """The calls that wait for a person."""
        return list(self.holds)

    def in_flight(self) -> list[AttemptCall]:
        """The calls whose attempt may be running."""
        return [c for c in self.calls.values() if isinstance(c, AttemptCall) and c.state is State.ACTIVE]

    def open_calls(self) -> list[r.OpenCallData]:
        """What the run waits for, as data."""
        return [r.OpenCallData(c.key, c.kind, c.name) for c in self.calls.values() if c.open]

    def patched(self, patch_id: str) -> bool:
        """The version branch; see `Context.patched`."""
        if patch_id in self._patches:
            return True
        fiber = self.current
        if self.replaying and self._history.has_passed(fiber.path, fiber.next_index):
            return False
        self._patches.add(patch_id)
        self.notes.append(r.PatchMarked(patch_id))
        return True

    def note(self, fact: Callable[[str], r.Fact]) -> str:
        """Ask for a record that belongs to no wait; returns its key."""
        key = self.current.next_key()
        self.asks.append(fact(key))
        return key

    def add_undo(self, step: Step, args: Raw) -> None:
        """Put an undo on the current scope's stack."""
        key = self.note(lambda made: r.CompensationAdded(made, step.name, args))
        self._undo.add(key, step, args, self.current.scope)


def same_fact(ask: r.Fact, record: r.Fact) -> bool:
    """Whether a recorded fact is the one that the code asks for now. What is told for people may differ."""
    if type(ask) is not type(record):
        return False
    if isinstance(ask, (r.RunCompensating, r.RunFailed)) and isinstance(record, (r.RunCompensating, r.RunFailed)):
        return (ask.error and ask.error.type) == (record.error and record.error.type)
    if isinstance(ask, r.RunCancelled):
        return True  # the reason is the asker's, not the code's
    if isinstance(ask, (r.AttributesSet, r.SignalSetAside)):
        return ask.key == getattr(record, "key", None)
    return encode(ask) == encode(record)


def describe(thing: Call | r.Fact | None) -> str:
    """A record or a call for a person, with what it carries, shortened."""
    if isinstance(thing, r.Fact):
        name, key = getattr(thing, "name", ""), getattr(thing, "key", "")
        shown = " ".join(filter(None, [thing.kind, repr(name) if name else "", f"(call {key})" if key else ""]))
        carries: tuple[type, ...] = (r.StepScheduled, r.CompensationAdded, r.OutputEmitted, r.StateWritten)
    else:
        shown = repr(thing)
        carries = (AttemptCall, EmitCall, StatePut)
    if not isinstance(thing, carries):
        return shown
    carried = getattr(thing, "args", None) or getattr(thing, "value", None) or b""
    return f"{shown} {bytes(carried)[:200].decode(errors='replace')}".strip()
