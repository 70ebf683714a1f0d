"""What each answer does to a run: the half of the flow that records from outside act upon."""

from __future__ import annotations

from collections import defaultdict, deque
from collections.abc import Callable, Mapping
from contextvars import Context as Variables
from itertools import count
from typing import Any, ClassVar

from msgspec import Raw

from actors.errors import Nondeterminism, SignalTimeout, StepFailed, VersionConflict
from actors.flow.approval import ApprovalCall
from actors.flow.calls import (
    AttemptCall,
    Call,
    Cancelled,
    SignalCall,
    State,
    StateCall,
    StateGet,
    StatePut,
    StepCall,
    TimerCall,
    UndoCall,
)
from actors.flow.child import ChildResultCall, failed
from actors.flow.definitions import Step, Workflow, missing_step
from actors.flow.descriptions import describe, unfit
from actors.flow.fibers import Fiber, Scheduler, Scope
from actors.flow.run_info import History, Hold, RunInfo
from actors.flow.saga_core import UNDO_MARK, UndoLedger
from wal import records as r


class AnsweredRun(Scheduler):
    """A run as its answers leave it. `driver.Flow` drives it."""

    def __init__(
        self,
        workflow: Workflow | None,
        info: RunInfo,
        steps: Mapping[str, Step],
        *,
        payload_max_bytes: int = 2 << 20,
        history: History | None = None,
        workflows: Mapping[str, Workflow] = {},
    ) -> None:
        super().__init__()
        self.workflow, self.info, self.steps, self.workflows = workflow, info, steps, workflows
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
        for name, values in info.signals.items():
            self._signals[name].extend(values)
        self.continued: r.RunContinued | None = None  # the code is to begin anew
        self._signal_waits: defaultdict[str, list[SignalCall]] = defaultdict(list)
        # Children that have not ended, by the key of their start: how each was started, and whether it is cancelled.
        self.children: dict[str, tuple[r.ChildStarted, bool]] = {}
        self.left_behind = dict.fromkeys(info.children, False)  # by id, of earlier rounds: whether it is cancelled
        self._child_ends: dict[str, r.ChildEnded] = {}  # of those that may be asked again
        self._child_waits: defaultdict[str, list[ChildResultCall]] = defaultdict(list)
        self._settlers: dict[Scope, list[tuple[int, Fiber]]] = {}  # who waits for which scope, since which turn
        self._turns = count()
        self._at_rest: list[Scope] = []  # of those, what has settled since they were woken last
        self.holds: dict[str, Hold] = {}
        self._undo = UndoLedger(steps)
        self._root = Scope()
        self._last_waiting: r.RunWaiting | None = None
        self._named: set[str] = set()  # the calls that a RunWaiting has named
        self._variables = Variables()
        self._main: Fiber | None = None
        self._turn: RunInfo | None = None  # which run the code is of from the next record of its past on
        self.context: Any = None

    # --- answers

    def _attempt(self, record: Any) -> AttemptCall:
        call = self.calls.get(record.key)
        if not isinstance(call, AttemptCall) or call.step.name != getattr(record, "name", call.step.name):
            there = describe(call) if call is not None else "no such call"
            raise Nondeterminism(f"recorded: {describe(record)}; the code now makes: {there}")
        return call

    def _step_completed(self, record: Any) -> None:
        call = self.calls.get(record.key)
        if type(call) is not StepCall or call.step.name != record.name:
            call = self._attempt(record)
        if call.unsettling:
            self._settle(call.scope)
        call.state = State.SETTLED
        del self.calls[call.key]
        if self.holds:
            self.holds.pop(call.key, None)
        if isinstance(call, UndoCall):
            self._undo.done(call.undone_key)
            self._answer(call, None)
            return
        if call.step.undo is not None:
            self._undo.completed(call.key, call.step, call.args, record.result, call.scope)
        if call.open:
            try:
                value = call.step.signature.result.decode(record.result)
            except Exception as error:  # noqa: BLE001 - a type's own check may raise anything
                self._halt(
                    Hold("undecodable", f"the recorded result of {call.name} does not decode: {unfit(error)}", call.key)
                )
                return
            call.open = False
            fiber = call.fiber
            fiber.wait = None
            self._ready.append((fiber, value, False))

    def _step_failed(self, record: Any) -> None:
        call = self._attempt(record)
        if not call.open:  # also if a retry was decided while the call was closing
            self._given_up(call)
        elif record.cancelled:
            # Cancelled for a race or a failure that mended code does not come to any more: no failure of the step.
            if call.step.delivery == "at_least_once":
                self._step_interrupted(record)
            else:
                self._step_unknown(r.StepUnknown(record.key, record.name, record.attempt, "it was cancelled"))
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
            message = f"{call.name}: it is not known whether attempt {record.attempt} happened: {record.reason}"
            self._hold(call, Hold("outcome_unknown", message, call.key))
        else:
            self._given_up(call)

    def _given_up(self, call: AttemptCall) -> None:
        """An attempt that nobody waits for has ended without a value. Other code, which this one may contradict later,
        may have waited for it: then its outcome is still to come."""
        self._finish(call)
        self._undo.unknown(call.key, call.step, call.args, call.scope)
        self._undo.expect(call.key, call.step, call.args)

    def _step_resolved(self, record: Any) -> None:
        call = self._attempt(record)
        if record.happened:
            self._step_completed(r.StepCompleted(call.key, call.name, record.result, call.attempt))
        else:
            self._again(call)

    def _run_retried(self, record: Any) -> None:
        kind = AttemptCall if self.halted is None else UndoCall  # a step goes on with its code alone
        for call in self.calls.values():
            if isinstance(call, kind):
                call.interruptions = 0  # also of one that replay does not know as held: the coordinator held it
        for key, hold in list(self.holds.items()):
            held = self.calls.get(key)
            if isinstance(held, kind) and hold.code != "outcome_unknown":
                self._afresh(held)

    def _afresh(self, call: AttemptCall) -> None:
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
            raise Nondeterminism(
                f"recorded: {describe(record)}; the code now makes: {describe(call) if call else 'no such call'}"
            )

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
            except Exception as error:  # noqa: BLE001 - a type's own check may raise anything
                self.asks.append(r.SignalSetAside(call.key, call.signal_name, unfit(error)))
                continue
            self._forget_ask(call)
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
        except Exception as error:  # noqa: BLE001 - a type's own check may raise anything
            message = f"what was filled in for {call.title!r} does not decode: {unfit(error)}"
            self._halt(Hold("undecodable", message, call.key))
            return
        self._answer(call, decision)

    def _child_ended(self, record: Any) -> None:
        if not self._is_child(record):
            self.left_behind.pop(record.child_id, None)
            return  # of an earlier round, or told twice: a crash came between this record and the child's own
        del self.children[record.key]
        waits = self._child_waits.pop(record.key, [])
        if not any(call.owns for call in waits):  # else there is no handle to ask again, and a result may be large
            self._child_ends[record.key] = record
        for call in waits:
            if call.open:
                self._answer_child(call, record)
            else:
                self._finish(call)  # its wait was left, and what is round it waited for this

    def _is_child(self, record: r.ChildEnded) -> bool:
        """Whether this is the end of a child that this round started, and that had not ended."""
        started, _ = self.children.get(record.key, (None, False))
        return started is not None and started.child_id == record.child_id

    def _answer_child(self, call: ChildResultCall, record: r.ChildEnded) -> None:
        if record.status != "completed":
            self._answer(call, failed(record), raising=True)
            return
        assert call.workflow is not None
        try:
            value = call.workflow.result.decode(record.result)
        except Exception as error:  # noqa: BLE001 - a type's own check may raise anything
            message = f"the result of child run {call.child_id} does not decode: {unfit(error)}"
            self._halt(Hold("undecodable", message, call.key))
            return
        self._answer(call, value)

    def _disown(self, key: str) -> None:
        """Ask for a child's cancellation, once."""
        started, cancelled = self.children.get(key, (None, True))
        if started is not None and not cancelled:
            self.children[key] = (started, True)
            self.asks.append(r.ChildCancelled(key, started.child_id))

    def _disown_all(self) -> None:
        for key in list(self.children):
            self._disown(key)
        for child_id, cancelled in self.left_behind.items():
            if not cancelled:
                self.left_behind[child_id] = True
                self.asks.append(r.ChildCancelled("", child_id))

    def _cancel_run(self, record: Any) -> None:
        self.cancel_requested = True
        self._disown_all()
        if not self.compensating and self._main is not None:
            self.cancel(self._main, Cancelled())

    def _forked(self, record: Any) -> None:
        """The past is over, and now the time is that of the fork. What was to be tried again later, or was stopped by a
        defect, is tried again now, and as often and as long as if it were new; but for an at_most_once step that is for
        a person to say."""
        self._become()
        kind = AttemptCall if self.halted is None else UndoCall  # a step goes on with its code alone
        for call in list(self.calls.values()):
            if not isinstance(call, kind) or call.step.delivery == "at_most_once":
                continue
            call.interruptions = 0
            hold = self.holds.get(call.key)
            if call.state is State.BACKOFF or (hold is not None and hold.code != "outcome_unknown"):
                self._afresh(call)
            elif call.state is State.ACTIVE:
                call.first_attempt, call.first_at = call.attempt, self.now_us

    def _become(self, recorded: Call | r.Fact | None = None) -> None:
        """If it is the turn: from here on the code is of another run, the fork that has its past. What was asked and
        not `recorded` yet will be asked by the fork."""
        info, self._turn = self._turn, None
        if info is None:
            return
        self.info = info
        if self.context is not None:
            self.context.of_run(info)
        for ask in self.asks:
            if isinstance(ask, Call) and ask is not recorded:
                ask.of_run(info)

    def _state_answered(self, call: StateCall, fact: r.Fact) -> None:
        if isinstance(fact, r.StateRefused):
            there = f"version {fact.found}" if fact.found else "no value"
            error = VersionConflict(f"{call.name}: expected version {fact.expected}, found {there}")
            self._answer(call, error, raising=True)
        elif isinstance(call, StateGet) and isinstance(fact, r.StateRead):
            try:
                value = call.decoder.decode(fact.value) if fact.found else call.default
            except Exception as error:  # noqa: BLE001 - a type's own check may raise anything
                self._answer(call, error, raising=True)
                return
            self._answer(call, (value, fact.version) if call.versioned else value)
        elif isinstance(call, StatePut) and isinstance(fact, r.StateWritten):
            self._answer(call, fact.version)

    def _apply_halted(self, record: r.Fact) -> None:
        self._undo.fold(record)
        kind = type(record)
        if isinstance(record, (r.ChildStarted, r.ChildCancelled, r.ChildEnded)):
            self._child_halted(record)
        elif kind is r.RunRetried:
            self._run_retried(record)
        elif kind is r.RunForked:
            self._forked(record)
        elif getattr(record, "key", "").endswith(UNDO_MARK):
            self._undo_halted(record)
        elif isinstance(record, r.StepResolved):
            self.holds.pop(record.key, None)  # it is said, once; mended code will go on by it
        elif kind is r.RunCancelRequested:
            self.cancel_requested = True
        elif kind is r.RunCompensating:
            self.compensating = True
        elif kind in (r.RunCompleted, r.RunFailed, r.RunCancelled):
            self.ended = True

    def _child_halted(self, record: r.ChildStarted | r.ChildCancelled | r.ChildEnded) -> None:
        if isinstance(record, r.ChildStarted):
            self.children[record.key] = (record, False)
        elif isinstance(record, r.ChildEnded):
            if self._is_child(record):
                del self.children[record.key]
            self.left_behind.pop(record.child_id, None)
        else:
            if record in self.asks:  # the code had asked for it, before it could not go on
                self.asks.remove(record)
            if record.key in self.children:
                self.children[record.key] = (self.children[record.key][0], True)
            elif record.child_id in self.left_behind:
                self.left_behind[record.child_id] = True

    def _undo_halted(self, record: Any) -> None:
        """How an undo goes that no code waits for: so far it has come when the run is undone without its code."""
        if type(record) is r.CompensationScheduled:
            self.calls.pop(record.key, None)
            step = self.steps.get(record.name) or missing_step(record.name, at_most_once=record.at_most_once)
            call = UndoCall(step, record.args, record.key.removesuffix(UNDO_MARK), record.key)
            call.open, call.state, call.first_at = True, State.ACTIVE, self.now_us
            self.calls[call.key] = call
            return
        undo = self.calls.get(record.key)
        if not isinstance(undo, UndoCall) or undo.state is State.NEW or getattr(record, "name", undo.name) != undo.name:
            return  # the code asks for it, and nothing is recorded
        if type(record) is r.CompensationCompleted or (type(record) is r.StepResolved and record.happened):
            self._finish(undo)
        elif type(record) is r.TimerFired and undo.state is not State.BACKOFF:
            return
        elif (handler := self._answers.get(type(record))) is not None:
            handler(self, record)

    _answers: ClassVar[dict[type[r.Fact], Callable[[AnsweredRun, Any], None]]] = {
        r.StepCompleted: _step_completed,
        r.CompensationCompleted: _step_completed,
        r.StepFailed: _step_failed,
        r.CompensationFailed: _step_failed,
        r.StepInterrupted: _step_interrupted,
        r.StepUnknown: _step_unknown,
        r.StepResolved: _step_resolved,
        r.TimerFired: _timer_fired,
        r.SignalReceived: _signal_received,
        r.ApprovalDecided: _approval_decided,
        r.ChildEnded: _child_ended,
        r.RunCancelRequested: _cancel_run,
        r.RunRetried: _run_retried,
        r.RunForked: _forked,
    }
    _ignored: ClassVar[frozenset[type[r.Fact]]] = frozenset(
        {r.RunStarted, r.RunPaused, r.RunResumed, r.RunBlocked, r.PatchMarked, r.ApprovalVoted}
    )

    # --- the scheduler's hooks

    def open_leaf(self, call: Call) -> None:
        self.calls[call.key] = call
        if isinstance(call, AttemptCall):
            call.scope = call.fiber.scope
            if call.state is State.NEW:  # else it is an undo that was begun, and goes on without its code
                self.asks.append(call)
        elif isinstance(call, ChildResultCall):
            call.scope, call.state = call.fiber.scope, State.ACTIVE
            self.unsettle(call.scope)
            ended = self._child_ends.get(call.start_key)
            if ended is not None:
                self._answer_child(call, ended)
            else:
                self._child_waits[call.start_key].append(call)
        elif isinstance(call, SignalCall):
            if not self._take_signal(call):
                self._signal_waits[call.signal_name].append(call)
                if call.seconds is not None:
                    self.asks.append(call)
        else:
            call.of_run(self.info)
            self.asks.append(call)

    def close_leaf(self, call: Call) -> None:
        call.open = False
        if isinstance(call, ChildResultCall):
            if call.owns:
                self._disown(call.start_key)  # and what is round it is undone once it has ended
            else:
                self._child_waits[call.start_key].remove(call)
                self._finish(call)
            return
        if isinstance(call, SignalCall):
            self._signal_waits[call.signal_name].remove(call)
        if isinstance(call, AttemptCall) and call.state is State.ACTIVE:
            self.drops.append(call)  # its outcome is still to come, and counts for what must be undone
            return
        if isinstance(call, AttemptCall) and call.state is not State.NEW:
            self._undo.unknown(call.key, call.step, call.args, call.scope)
        self._forget_ask(call)
        self._finish(call)

    def settled(self, scope: Scope) -> bool:
        return not scope.unsettled

    def unsettle(self, scope: Scope | None) -> None:
        """One more call in this scope has begun, whose end it must wait for."""
        while scope is not None:
            scope.unsettled += 1
            scope = scope.parent

    def _settle(self, scope: Scope | None) -> None:
        while scope is not None:
            scope.unsettled -= 1
            if not scope.unsettled and scope in self._settlers:
                self._at_rest.append(scope)
            scope = scope.parent

    def _wake_settlers(self) -> None:
        """Let go on who waited for what has settled, who waited longest first."""
        woken = []
        for scope in self._at_rest:
            if not scope.unsettled:
                woken += self._settlers.pop(scope, [])
        self._at_rest.clear()
        for _, fiber in sorted(woken):
            self.resume(fiber)

    # --- small verbs

    def _answer(self, call: Call, value: Any, *, raising: bool = False) -> None:
        call.open = False
        self._finish(call)
        self.resume(call.fiber, value, raising=raising)

    def _finish(self, call: Call) -> None:
        if call.unsettling and State.NEW < call.state < State.SETTLED:
            assert isinstance(call, (AttemptCall, ChildResultCall))
            self._settle(call.scope)
        call.state = State.SETTLED
        self.calls.pop(call.key, None)
        if self.holds:
            self.holds.pop(call.key, None)

    def _hold(self, call: AttemptCall, hold: Hold) -> None:
        call.state = State.HELD
        self.holds[call.key] = hold

    def _forget_ask(self, call: Call) -> None:
        """Take back what was asked for a call: a timer that was set, or what is not recorded yet."""
        if call.state in (State.ACTIVE, State.BACKOFF):
            self.asks.append(call.withdrawn())
        elif isinstance(call, SignalCall) and call.seconds is None:
            return  # it asked for nothing, and to look for it among what thousands have asked for takes its time
        elif call.state is State.NEW and call in self.asks:
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


ANSWERS = frozenset(AnsweredRun._answers)
"""The types of record that come from outside."""
