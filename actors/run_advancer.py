"""The advancer: moves runs forward. It decides through the pure flow, records, and starts effects once durable.

Apply at submit, act at receipt: a record is put into the next batch and applied to the flow at once, in one order for a
run; every effect to start carries the seq it needs and is released when the writer has confirmed that seq. So live and
replay see the same order, and nothing outside ever sees what is not on disk.

Plain calls only; nothing here waits. What may run users' code is called inside `stage`.
"""

from __future__ import annotations

import logging
import random
from collections.abc import Callable, Mapping
from types import TracebackType

import msgspec
import trio

from actors.active_run import ActiveRun, ActiveRuns
from actors.advance_marker import AdvanceMarker
from actors.children import Children
from actors.clock import Clock
from actors.current_step import CurrentStep
from actors.flow.calls import AttemptCall, Call, ContinueCall, State, StateCall, StepCall, TimerCall, encode
from actors.flow.definitions import Registry
from actors.flow.driver import LISTED_MAX, Flow
from actors.flow.run_info import Hold
from actors.flow.saga_core import UNDO_MARK
from actors.outside_trio import OutsideTrio
from actors.queues import Queues, QueueSpec
from actors.retry import next_delay
from actors.state_table import StateTable
from actors.step_runner import Attempt, StepRunner
from actors.timers import Timers
from actors.transaction import TransactionDue
from actors.wal_writer import WalWriter
from wal import records as r

log = logging.getLogger("runtimed.runs")


class EngineLimits(msgspec.Struct, frozen=True):
    """What the engine is bounded by."""

    runs_active_max: int = 10_000
    payload_max_bytes: int = 2 << 20
    crashed_attempts_max: int = 10
    history_records_max: int = 50_000
    park_after_s: float = 60.0


PAYLOADS: dict[type[r.Fact], str] = {
    r.CompensationScheduled: "args", r.CompensationAdded: "args", r.AttributesSet: "attributes",
    r.OutputEmitted: "value", r.StateRead: "value", r.StateWritten: "value", r.ApprovalRequested: "detail",
    r.RunCompleted: "result", r.ChildStarted: "input",
}  # fmt: skip
"""Where the facts that code asks for carry what users made, which bounds how many go into a batch."""


WAIT_BYTES = 64
"""About what a call that is waited for takes in the record that names it."""

RECORD_BYTES_MAX = 48 << 20
"""Above every limit of a payload, and below what the writer takes at once (`protocol.FRAME_BYTES_MAX`): only what a run
goes on with, all its unread signals among it, can come to so much."""

ENDS = frozenset({r.RunCompleted, r.RunFailed, r.RunCancelled, ContinueCall})


def weight_of(fact: r.Fact) -> int:
    """The size of a fact's payload in bytes."""
    if isinstance(fact, r.RunContinued):
        return len(fact.started.input) + sum(len(value) for values in fact.signals.values() for value in values)
    field = PAYLOADS.get(type(fact))
    if field is None:
        return 0
    payload = getattr(fact, field)
    return len(encode(payload) if isinstance(payload, dict) else payload)


def about_run(run: ActiveRun) -> dict[str, str | None]:
    """The ids for a line of the log."""
    info = run.info if run.flow is None else run.flow.info
    return {"run_id": run.id, "trace_id": None if info is None else info.trace_id}


def steps_in_flight(run: ActiveRun) -> bool:
    """Whether an attempt of the run is in flight that does not undo something."""
    return not all(key.endswith(UNDO_MARK) for key in run.attempts)


def _stands(call: Call | None, due_at: int) -> bool:
    """Whether a call waits for a timer, and for this one."""
    if isinstance(call, TimerCall):
        return call.open and call.state is State.ACTIVE and call.due_at == due_at
    return isinstance(call, AttemptCall) and call.state is State.BACKOFF and call.due_at == due_at


class Stage:
    """Where users' workflow code may run: trio's current task is hidden, and the mark says which run is advanced."""

    __slots__ = ("_marker", "_outside_trio", "enter_run")

    def __init__(self, marker: AdvanceMarker) -> None:
        self._marker, self._outside_trio = marker, OutsideTrio()
        self.enter_run = marker.enter

    def __enter__(self) -> None:
        self._outside_trio.__enter__()

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        self._outside_trio.__exit__()
        self._marker.rest()


class RunAdvancer:
    """Moves runs forward; see the module. How a run's records are read back is a subclass's business (`load`)."""

    def __init__(
        self,
        *,
        registry: Registry,
        writer: WalWriter,
        runner: StepRunner,
        timers: Timers,
        state: StateTable,
        clock: Clock,
        limits: EngineLimits,
        marker: AdvanceMarker,
        settled: Callable[[str, str, r.Fact | None], None],
        dice: random.Random,
        queues: Mapping[str, QueueSpec] | None = None,
    ) -> None:
        self.registry, self.writer, self.runner, self.timers = registry, writer, runner, timers
        self.state, self.clock, self.limits, self.marker = state, clock, limits, marker
        self.active = ActiveRuns()
        self._wide: dict[int, ActiveRun] = {}  # by run key: they are to say what they wait for when the turn ends
        self.stage = Stage(marker)
        self._settled, self._dice = settled, dice
        self.advanced_total = self.started_total = self.parked_total = 0
        self.queues = Queues(queues)
        self.begin_later: Callable[[ActiveRun], None] = lambda run: None  # set by whoever has runs begin in turn
        self.transact_later: Callable[[TransactionDue], None] = lambda due: None  # set by whoever has turns of its own
        self.children: Children | None = None  # set by whoever can start and find runs
        self.dead = False
        self.draining = False  # what attempts end with is recorded, but no run goes on to its next step

    def load(self, run: ActiveRun) -> None:
        """Have the run's history read, and go on from there."""
        raise AssertionError("abstract")

    # --- recording

    def append(self, run: ActiveRun, record: r.Fact, weight: int = 0, at: int | None = None) -> int:
        """Record a fact of this run; gives its seq."""
        seq = run.last_seq = self.writer.append(record, run.run_key, run.last_seq, at, weight)
        return seq

    def close_group(self) -> None:
        """A commit may end here, once what one run brings about in another is recorded too."""
        if self.children is not None and self.children.left:
            self.children.settle()
        self.writer.cut()

    def deliver(self, run: ActiveRun, record: r.Fact, weight: int = 0, at: int | None = None) -> int:
        """Record an answer, and let the run go on by it (or keep it until the run can)."""
        if at is None:
            at = self.clock.now_us()
        flow = run.flow
        run.waiting = None  # whatever it says it waits for, it says anew
        if flow is None and not (run.loading or run.paused or run.blocked or self.draining):
            self.load(run)
        seq = run.last_seq = self.writer.append(record, run.run_key, run.last_seq, at, weight)
        if flow is None or run.paused or run.blocked or run.deferred:
            run.deferred.append((record, seq, at))
        else:
            if self.active.idle:
                self.active.idle.pop(run.run_key, None)
            self.stage.enter_run(run.run_key)
            flow.apply(record, at)
            self.pump(run, flow, at)
        return seq

    def apply(self, run: ActiveRun, record: r.Fact, at: int) -> None:
        """Let the run's code see a record that is in the journal or on its way there."""
        assert run.flow is not None
        self.stage.enter_run(run.run_key)
        run.flow.apply(record, at)

    # --- advancing

    def pump(self, run: ActiveRun, flow: Flow, at: int | None = None) -> None:
        """Record what the flow asks for (at the instant `at`, if that is known), and arrange what is to happen once
        that is durable."""
        if flow.halted is None and (flow.asks or flow.notes):
            self._record_asks(run, flow, at)
        if flow.halted is not None:
            self._block(run, flow.halted)  # nothing of what the code did after its last record counts
            return
        for call in flow.starts:
            run.attempts[call.key] = None
            self.writer.when_durable(run.last_seq, self._start, run, flow, call, call.attempt)
        flow.starts.clear()
        if flow.drops:
            self._drop(run, flow)
        if flow.ended:
            self._end(run)
        elif flow.continued is not None:
            self._begin_anew(run, flow.continued)
        elif self.draining and flow.asks and not flow.holds:
            self.sleep(run)  # that is not recorded: after the restart the code asks for the same again
        elif flow.holds:
            self._block(run, next(iter(flow.holds.values())))
        elif not run.attempts:
            self._wait(run, flow)

    def _record_asks(self, run: ActiveRun, flow: Flow, at: int | None) -> None:
        asks, records_max, append = flow.asks, self.limits.history_records_max, self.writer.append
        while True:
            if flow.notes:  # also those made by what was just recorded: they come before what is asked after them
                self._record_notes(run, flow)
                at = None  # the clock was looked at again: nothing that comes after is older
            if not asks or flow.holds or (self.draining and isinstance(asks[0], AttemptCall)):
                return
            if flow.records >= records_max and not flow.cancel_requested:  # to undo it takes some more
                flow.halted = Hold("history_limit", f"more than {records_max} records in one run")
                return
            ask = asks.popleft()
            if type(ask) is StepCall:  # the hot path; it advances nothing, so no user code runs
                run.last_seq = append(ask.fact(0), run.run_key, run.last_seq, at, len(ask.args))
                flow.scheduled(ask)
            elif type(ask) in ENDS and self.children is not None and self.children.owes(run):
                asks.appendleft(ask)
                return
            else:
                self._record_ask(run, flow, ask)
                at = None
                while run.deferred:  # what it was told by that: it stands before the next ask, here as in the journal
                    record, _, told_at = run.deferred.popleft()
                    self.apply(run, record, told_at)
                if flow.halted is not None:
                    return

    def _record_notes(self, run: ActiveRun, flow: Flow) -> None:
        for note in flow.notes:
            self.append(run, note)
        flow.notes.clear()

    def _record_ask(self, run: ActiveRun, flow: Flow, ask: Call | r.Fact) -> None:
        fact = self._fact(run, flow, ask)
        weight = weight_of(fact)
        if weight > RECORD_BYTES_MAX:
            what = f"what the run goes on with, unread signals included, is {weight} bytes"
            flow.halted = Hold("history_limit", f"{what}; one record may have {RECORD_BYTES_MAX}")
            return
        if self.children is not None and isinstance(fact, (r.RunCompleted, r.RunFailed, r.RunCancelled)):
            self.children.ending(flow.info, fact)
        at = self.clock.now_us()
        seq = self.append(run, fact, weight, at)
        if isinstance(fact, r.RunContinued):
            run.started_at = at  # where its code begins, live as in replay
        elif isinstance(fact, r.TimerSet):
            self.timers.set(seq, fact.due_at, run.run_key, fact.key)
        elif isinstance(fact, r.ApprovalRequested):
            if fact.expires_at is not None:
                self.timers.set(seq, fact.expires_at, run.run_key, fact.key)
        elif isinstance(fact, r.StateWritten):
            self.state.written(fact, seq)
        elif isinstance(fact, (r.RunCompleted, r.RunFailed, r.RunCancelled)):
            run.final = fact
        elif isinstance(fact, (r.ChildStarted, r.ChildCancelled)) and self.children is not None:
            self.children.recorded(run, flow.info, fact)
        self.stage.enter_run(run.run_key)
        flow.recorded(ask, fact)

    def _fact(self, run: ActiveRun, flow: Flow, ask: Call | r.Fact) -> r.Fact:
        if isinstance(ask, StateCall):
            info = flow.info
            return self.state.answer(ask, info.tenant, info.classification)
        if isinstance(ask, ContinueCall):
            return flow.continuation(ask)
        if isinstance(ask, Call):
            fact = ask.fact(self.clock.now_us())
            assert fact is not None
            return fact
        if isinstance(ask, r.RunCancelled):
            return r.RunCancelled(run.cancel_reason)
        return ask

    def _drop(self, run: ActiveRun, flow: Flow) -> None:
        for call in flow.drops:
            attempt = run.attempts.get(call.key)
            if attempt is not None:
                self.runner.unwanted(attempt)
        flow.drops.clear()

    def _start(self, run: ActiveRun, flow: Flow, call: AttemptCall, number: int) -> None:
        """Its record is durable: the attempt may act now."""
        if self.dead:
            return
        attempt = Attempt(
            run.run_key, run.workflow, call, CurrentStep(call.kind, call.step.name, number, call.key, flow.info)
        )
        run.attempts[call.key] = attempt
        if call.step.transaction:
            self.transact_later(TransactionDue(attempt, flow.info))
        else:
            self.runner.start(attempt)
        if run.flow is not None and run.flow is not flow:  # loaded anew meanwhile: what it says of the call now counts
            call = run.flow.calls.get(call.key, call)  # type: ignore[assignment]
        if not call.open or (run.reload_when_settled and not call.shielded):
            self.runner.unwanted(attempt)

    # --- what comes back

    def attempt_ended(self, attempt: Attempt) -> None:
        """An attempt ended: record how, and go on."""
        run = self.active.by_key.get(attempt.run_key)
        key = attempt.call_key
        if run is None or run.attempts.get(key) is not attempt:
            return  # of a life before this one: that life's records say what is known of it
        del run.attempts[key]
        if attempt.outcome == "completed":
            result = attempt.result
            assert result is not None
            completed = r.CompensationCompleted if key.endswith(UNDO_MARK) else r.StepCompleted
            self.deliver(run, completed(key, attempt.step.name, result, attempt.attempt), len(result))
        else:
            self._attempt_failed(run, attempt)
        if run.flow is not None:
            if run.paused and not run.attempts:
                self.sleep(run)
        else:
            if run.reload_when_settled and not steps_in_flight(run):
                run.reload_when_settled = False
                self.load(run)
            elif not run.loading:
                self.sleep(run)

    def _attempt_failed(self, run: ActiveRun, attempt: Attempt) -> None:
        key, name, number, error = attempt.call_key, attempt.step.name, attempt.attempt, attempt.error
        assert error is not None
        if attempt.outcome == "unknown":
            self.deliver(run, r.StepUnknown(key, name, number, error.message))
            return
        failed = r.CompensationFailed if key.endswith(UNDO_MARK) else r.StepFailed
        retry_at = self._retry_at(run, attempt)
        cancelled, defect = attempt.outcome == "cancelled", attempt.outcome == "defect"
        if retry_at is None and not cancelled:
            about = {"run_id": run.id, "step": name, "trace_id": attempt.current.trace_id}
            log.warning(
                "step %s of run %s failed for good at attempt %d: %s", name, run.id, number, error.type, extra=about
            )
        seq = self.deliver(run, failed(key, name, error, number, retry_at, cancelled, defect))
        if retry_at is not None:
            self.timers.set(seq, retry_at, run.run_key, key)

    def _retry_at(self, run: ActiveRun, attempt: Attempt) -> int | None:
        if attempt.outcome in ("cancelled", "defect") or attempt.unwanted:
            return None
        call = run.flow.calls.get(attempt.call_key) if run.flow is not None else None
        now = self.clock.now_us()
        base, elapsed = 0, 0.0
        if isinstance(call, AttemptCall):
            if not call.open:
                return None
            base, elapsed = call.first_attempt - 1, max(0.0, (now - call.first_at) / 1e6)
        delay = next_delay(attempt.step.retry, attempt.attempt - base, elapsed, attempt.cause, self._dice.random())
        return None if delay is None else now + round(delay * 1e6)

    def timers_due(self, run: ActiveRun, due: list[tuple[str, int]]) -> None:
        """Timers of a run in memory are due, by call key and instant: those that still stand fire, one after the other,
        and then the run goes on, once: thousands that are due at one instant are one turn of it."""
        flow = run.flow
        if run.ended or run.paused or run.blocked or run.loading or self.draining:
            return  # when the run goes on, its timers are set again
        if flow is None:
            if due[0][0]:
                self.load(run)  # put away a moment ago: whether the timer stands is for the run's records to say
            elif run.start_at is not None and run.queue is not None:
                self.queues.wait(run.queue, run.run_key, run.priority)
                self.sleep(run)
            elif run.start_at is not None:
                self.begin_waiting(run)
            return
        while run.deferred:  # it stands before them in the journal
            record, _, told_at = run.deferred.popleft()
            self.apply(run, record, told_at)
        fired = False
        for key, due_at in due:
            if flow.halted is None and _stands(flow.calls.get(key), due_at):
                fired = True
                at = self.clock.now_us()
                timer_fired = r.TimerFired(key)
                self.append(run, timer_fired, at=at)
                self.apply(run, timer_fired, at)
        if fired:
            run.waiting = None  # whatever it says it waits for, it says anew
            self.active.idle.pop(run.run_key, None)
            self.pump(run, flow)

    def begin_waiting(self, run: ActiveRun) -> None:
        """A run that was to begin later, or in its turn, begins."""
        run.start_at = None
        self.deliver(run, r.TimerFired(""))

    # --- resting places

    def _wait(self, run: ActiveRun, flow: Flow) -> None:
        if len(flow.calls) > LISTED_MAX:
            self._wide[run.run_key] = run
        else:
            self._wait_now(run, flow)

    def say_waits(self) -> None:
        """Let the runs with very many calls say what they wait for: once a turn, not after each of their answers, for
        to look through all that is open takes its time. A commit that ends before finds such a run running."""
        wide, self._wide = self._wide, {}
        for run in wide.values():
            if run.flow is not None and not (run.paused or run.blocked or run.loading or run.ended or run.attempts):
                self._wait_now(run, run.flow)
                self.close_group()

    def _wait_now(self, run: ActiveRun, flow: Flow) -> None:
        if run.deferred or (self.children is not None and self.children.owes(run)):
            return  # it goes on before this commit ends
        calls = flow.open_calls()
        if not calls:
            self._block(run, Hold("internal", "nothing is in flight and nothing is awaited; please report this"))
            return
        kinds = {call.kind for call in calls}
        on = next((kind for kind in ("approval", "signal", "child", "timer") if kind in kinds), "retry")
        due = [
            c.due_at for c in flow.calls.values() if isinstance(c, (TimerCall, AttemptCall)) and c.due_at is not None
        ]
        waiting = flow.waiting(calls, on, min(due, default=None), run.waiting)
        if waiting is not None:
            run.waiting = waiting
            self.append(run, waiting, WAIT_BYTES * len(waiting.calls))
        run.idle_since = trio.current_time()
        self.active.idle[run.run_key] = run
        self.active.idle.move_to_end(run.run_key)

    def _block(self, run: ActiveRun, hold: Hold) -> None:
        run.blocked = True
        blocked = r.RunBlocked(hold.code, hold.message, hold.key, hold.traceback)
        seq = self.append(run, blocked)
        # Not the message: it is what the code said, and may hold what the run was given. `runs explain` shows it.
        log.warning("run %s is blocked: %s", run.id, hold.code, extra=about_run(run))
        self.writer.when_durable(seq, self._blocked, run, blocked)
        self.sleep(run)

    def _blocked(self, run: ActiveRun, blocked: r.RunBlocked) -> None:
        if run.blocked:  # else somebody has let it go on meanwhile, and nothing is settled
            self._settled(run.id, run.workflow, blocked)

    def _begin_anew(self, run: ActiveRun, continued: r.RunContinued) -> None:
        """The run's code goes on with another input and without its past, in its turn: one that does nothing but go on
        like that must let others pass."""
        self.close_flow(run)
        run.begins_with(continued)
        run.begun = False
        self.begin_later(run)

    def _end(self, run: ActiveRun) -> None:
        run.ended = True
        self.queues.left(run.run_key)
        self.close_flow(run)
        self.active.idle.pop(run.run_key, None)
        self.writer.when_durable(run.last_seq, self._ended, run)

    def _ended(self, run: ActiveRun) -> None:
        self.active.remove(run)
        self._settled(run.id, run.workflow, run.final)

    def sleep(self, run: ActiveRun) -> None:
        """Put a run's code away. Its row stays in memory until everything of it is durable and nothing is in flight."""
        self.close_flow(run)
        self.active.idle.pop(run.run_key, None)
        if not run.attempts and not run.loading and not run.ended:
            self.writer.when_durable(run.last_seq, self._forget, run, run.last_seq)

    def _forget(self, run: ActiveRun, seq: int) -> None:
        if run.flow is None and not run.loading and not run.attempts and run.last_seq == seq and not run.when_loaded:
            self.active.remove(run)

    def sleep_until_begun(self, runs: list[ActiveRun]) -> None:
        """As `sleep`, for many runs that are to begin later and whose code never ran: one callback for all of them."""
        marks = [(run, run.last_seq) for run in runs]
        self.writer.when_durable(marks[-1][1], self._forget_all, marks)

    def _forget_all(self, marks: list[tuple[ActiveRun, int]]) -> None:
        for run, seq in marks:
            self._forget(run, seq)

    def close_flow(self, run: ActiveRun) -> None:
        flow, run.flow = run.flow, None
        if flow is None or not flow.alive:
            return
        self.stage.enter_run(run.run_key)
        if not flow.close():
            log.warning("run %s: its code went on while it was put away, and was cut off", run.id, extra=about_run(run))

    def park(self, now: float, *, at_least: int = 0) -> None:
        """Put away what has idled for `park_after_s`, and in any case the `at_least` that idled longest."""
        idle = self.active.idle
        while idle:
            run = next(iter(idle.values()))
            if at_least <= 0 and now - run.idle_since < self.limits.park_after_s:
                return
            at_least -= 1
            self.parked_total += 1
            self.sleep(run)
