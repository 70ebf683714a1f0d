"""The saga engine: advances runs. It decides through the pure flow, records, and starts effects once they are durable.

Apply at submit, act at receipt: a record is put into the next batch and applied to the flow at once, in one order for a
run; every effect to start carries the seq it needs and is released when the writer has confirmed that seq. So live and
replay see the same order, and nothing outside ever sees what is not on disk.

Plain calls only; nothing here waits. The saga coordinator owns the one engine and calls it from its own task.
"""

from __future__ import annotations

import logging
import random
from collections.abc import Callable
from typing import Any

import msgspec
import trio

from actors.active_run import ActiveRun, ActiveRuns
from actors.advance_marker import AdvanceMarker
from actors.clock import Clock
from actors.current_step import CurrentStep
from actors.flow.calls import AttemptCall, Call, State, StateCall, StepCall, TimerCall
from actors.flow.context import Context
from actors.flow.definitions import Registry
from actors.flow.driver import Flow, History, Hold, RunInfo
from actors.flow.saga_core import UNDO_MARK
from actors.outside_trio import OutsideTrio
from actors.retry import next_delay
from actors.state_table import StateTable
from actors.step_runner import Attempt, StepRunner
from actors.timers import Timers
from actors.wal_writer import WalWriter
from wal import records as r
from wal.records import Entry

log = logging.getLogger("runtimed.runs")


class EngineLimits(msgspec.Struct, frozen=True):
    """What the engine is bounded by."""

    runs_active_max: int = 10_000
    payload_max_bytes: int = 2 << 20
    crashed_attempts_max: int = 3
    history_records_max: int = 50_000
    park_after_s: float = 60.0


class SagaEngine:
    """Advances runs; see the module."""

    def __init__(
        self, *, registry: Registry, writer: WalWriter, runner: StepRunner, timers: Timers, state: StateTable, clock: Clock,
        limits: EngineLimits, marker: AdvanceMarker, settled: Callable[[str], None], dice: random.Random,
    ) -> None:  # fmt: skip
        self.registry, self.writer, self.runner, self.timers = registry, writer, runner, timers
        self.state, self.clock, self.limits, self.marker = state, clock, limits, marker
        self.active = ActiveRuns()
        self.load_later: Callable[[ActiveRun], None]
        self._settled, self._dice = settled, dice
        self._outside_trio = OutsideTrio()
        self.advanced_total = self.started_total = self.parked_total = 0
        self.dead = False

    # --- recording

    def append(self, run: ActiveRun, record: r.Fact, weight: int = 0, at: int | None = None) -> int:
        """Record a fact of this run; gives its seq."""
        seq = self.writer.append(record, run.run_key, run.last_seq, at, weight)
        run.last_seq = seq
        return seq

    def deliver(self, run: ActiveRun, record: r.Fact, weight: int = 0) -> int:
        """Record an answer, and let the run go on by it (or keep it until the run can)."""
        at = self.clock.now_us()
        if run.flow is None and not (run.loading or run.paused or run.blocked):
            self.load(run)
        seq = self.append(run, record, weight, at)
        if run.holds_back:
            run.deferred.append((record, seq, at))
        else:
            self.active.idle.pop(run.run_key, None)
            self._apply(run, record, at)
            self.pump(run)
        return seq

    def _apply(self, run: ActiveRun, record: r.Fact, at: int) -> None:
        flow = run.flow
        assert flow is not None
        self.marker.enter(run.run_key)
        with self._outside_trio:
            flow.apply(record, at)
        self.marker.leave(run.run_key)

    # --- beginning and loading

    def begin(self, run: ActiveRun) -> None:
        """Run a new run's code to its first waits."""
        assert run.info is not None
        self._make_flow(run, run.info, run.started_at, None)
        self._catch_up(run)

    def _make_flow(self, run: ActiveRun, info: RunInfo, at: int, history: History | None) -> None:
        registry = self.registry
        flow = run.flow = Flow(
            registry.workflows.get(info.workflow), info, registry.steps,
            payload_max_bytes=self.limits.payload_max_bytes, history=history,
        )  # fmt: skip
        run.start_at = None
        if self.marker.suspected(run.run_key):
            flow.workflow = None
            flow.halted = Hold("stuck", "the daemon died twice while this run's code was running; it may never yield")
            self.marker.clear()
            return
        self.advanced_total += 1
        self.marker.enter(run.run_key)
        with self._outside_trio:
            flow.begin(Context(flow, self._log_sink(run)), at)
        self.marker.leave(run.run_key)

    def load(self, run: ActiveRun) -> None:
        """Have the run's history read; `loaded` goes on from there."""
        run.loading = True
        run.load_upto = run.last_seq
        run.deferred.clear()  # all of it is in what will be read
        self.load_later(run)

    def loaded(self, run: ActiveRun, entries: list[Entry]) -> None:
        """The history is here: replay it, then go on with what has arrived since."""
        run.loading = False
        first = entries[0].record
        assert isinstance(first, r.RunStarted), first
        info = info_of(first)
        run.started_at = entries[0].at
        begun_at = run.started_at
        if first.start_at is not None:
            recorded = [(entry.record, entry.at) for entry in entries] + [
                (record, at) for record, _, at in run.deferred
            ]
            fired = next((at for record, at in recorded if type(record) is r.TimerFired and not record.key), None)
            if fired is None:
                run.start_at, run.info = first.start_at, info
                self._call_back(run)
                self.sleep(run)
                return
            begun_at = fired
        self._make_flow(run, info, begun_at, History.of([entry.record for entry in entries]))
        for entry in entries[1:]:
            self._apply(run, entry.record, entry.at)
        flow = run.flow
        assert flow is not None
        with self._outside_trio:
            flow.end_replay()
        last = entries[-1].record
        run.waiting = last if isinstance(last, r.RunWaiting) else None
        self._rearm(run)
        self._interrupted(run)
        self._catch_up(run)

    def _catch_up(self, run: ActiveRun) -> None:
        """Apply what was recorded while the run could not take it."""
        flow = run.flow
        assert flow is not None
        if not (run.paused or run.blocked):
            while run.deferred and not run.blocked:
                record, seq, at = run.deferred.popleft()
                if seq > run.load_upto:
                    self._apply(run, record, at)
                    self.pump(run)
            if run.flow is flow and flow.halted is not None and flow.cancel_requested and run.attempts:
                self._settle_first(run)
                return
            if run.flow is flow:  # else it was blocked or ended meanwhile
                with self._outside_trio:
                    flow.unwind_if_cancelled()
        self._call_back(run)
        if run.flow is flow and not (run.paused or run.blocked):
            self.pump(run)
        elif run.flow is flow:
            self.sleep(run)

    def _settle_first(self, run: ActiveRun) -> None:
        """To be undone from its records alone, a run must have nothing in flight."""
        run.reload_when_settled = run.loading = True
        self._close_flow(run)
        for attempt in list(run.attempts.values()):
            if attempt is not None:
                self.runner.unwanted(attempt)

    def go_on(self, run: ActiveRun) -> None:
        """Nothing holds this run back any more: apply what has been recorded meanwhile."""
        if run.flow is not None:
            self._catch_up(run)
        elif not run.loading:
            self.load(run)

    def deliver_all(self, run: ActiveRun, record: r.Fact) -> int:
        """The same with one more answer, after what has been recorded meanwhile."""
        if run.flow is None and not run.loading:
            self.load(run)
        at = self.clock.now_us()
        seq = self.append(run, record, at=at)
        run.deferred.append((record, seq, at))
        if run.flow is not None:
            self.active.idle.pop(run.run_key, None)
            self._catch_up(run)
        return seq

    def reload_with(self, run: ActiveRun, record: r.Fact) -> int:
        """Record the answer that a blocked run waits for, and replay the run from its records."""
        self._close_flow(run)
        return self.deliver_all(run, record)

    def end_unbegun(self, run: ActiveRun) -> None:
        """A run has ended before its code ever ran."""
        run.ended = True
        self.writer.when_durable(run.last_seq, self._ended, run)

    def _call_back(self, run: ActiveRun) -> None:
        callbacks, run.when_loaded = run.when_loaded, []
        for call in callbacks:
            call()

    def _rearm(self, run: ActiveRun) -> None:
        assert run.flow is not None
        for call in run.flow.calls.values():
            due = call.due_at if isinstance(call, (TimerCall, AttemptCall)) else None
            waits = call.state is State.ACTIVE if isinstance(call, TimerCall) else call.state is State.BACKOFF
            if due is not None and waits:
                self.timers.set(0, due, run.run_key, call.key)

    def _interrupted(self, run: ActiveRun) -> None:
        """Attempts that were in flight when the process ended: run again, or ask a person, or write them off."""
        flow = run.flow
        assert flow is not None
        if flow.halted is not None:
            return
        for call in flow.in_flight():
            if call.key in run.attempts:
                continue  # it is still running, in this process
            name = call.step.name
            if not call.open:
                self._note(
                    run, r.StepUnknown(call.key, name, call.attempt, "the process ended while it was being cancelled")
                )
            elif call.step.delivery == "at_most_once" and isinstance(call, StepCall):
                self._note(run, r.StepUnknown(call.key, name, call.attempt, "the process ended while it ran"))
            else:
                self._note(run, r.StepInterrupted(call.key, name, call.attempt))
                if call.interruptions >= self.limits.crashed_attempts_max:
                    flow.starts.remove(call)
                    flow.hold_call(call.key, Hold("interrupted", f"{name}: the process ended in {call.interruptions} attempts of it", call.key))  # fmt: skip

    def _note(self, run: ActiveRun, record: r.Fact) -> None:
        at = self.clock.now_us()
        self.append(run, record, at=at)
        self._apply(run, record, at)

    # --- advancing

    def pump(self, run: ActiveRun) -> None:
        """Record what the flow asks for, and arrange what is to happen once that is durable."""
        flow = run.flow
        assert flow is not None
        if flow.halted is None:
            self._record_asks(run, flow)
        if flow.halted is not None:
            self._block(run, flow.halted)  # nothing of what the code did after its last record counts
            return
        self._start_and_drop(run, flow)
        if flow.ended:
            self._end(run)
        elif flow.hold is not None:
            self._block(run, flow.hold)
        elif not run.attempts:
            self._wait(run, flow)

    def _record_asks(self, run: ActiveRun, flow: Flow) -> None:
        for note in flow.notes:
            self.append(run, note)
        flow.notes.clear()
        asks = flow.asks
        while asks and flow.hold is None and flow.records <= self.limits.history_records_max:
            ask = asks.popleft()
            fact, weight = self._fact(run, flow, ask)
            seq = self.append(run, fact, weight)
            if isinstance(fact, r.TimerSet):
                self.timers.set(seq, fact.due_at, run.run_key, fact.key)
            elif isinstance(fact, r.StateWritten):
                self.state.written(fact, seq)
            if isinstance(ask, (StepCall, TimerCall)):
                flow.recorded(ask, fact)  # advances nothing, so no user code runs
            else:
                self.marker.enter(run.run_key)
                with self._outside_trio:
                    flow.recorded(ask, fact)
                self.marker.leave(run.run_key)
            if flow.halted is not None:
                return
        if flow.records > self.limits.history_records_max and not flow.ended:
            flow.halted = Hold("history_limit", f"more than {self.limits.history_records_max} records in one run")

    def _fact(self, run: ActiveRun, flow: Flow, ask: Call | r.Fact) -> tuple[r.Fact, int]:
        if isinstance(ask, StateCall):
            info = flow.info
            return self.state.answer(ask, info.tenant, info.classification), 0
        if isinstance(ask, AttemptCall):
            return ask.fact(0), len(ask.args)
        if isinstance(ask, Call):
            fact = ask.fact(self.clock.now_us())
            assert fact is not None
            return fact, len(fact.value) if isinstance(fact, r.OutputEmitted) else 0
        if isinstance(ask, r.RunCompleted):
            return ask, len(ask.result)
        if isinstance(ask, r.RunCancelled):
            return r.RunCancelled(run.cancel_reason), 0
        return ask, 0

    def _start_and_drop(self, run: ActiveRun, flow: Flow) -> None:
        for call in flow.starts:
            run.attempts[call.key] = None
            self.writer.when_durable(run.last_seq, self._start, run, flow, call, call.attempt)
        flow.starts.clear()
        for call in flow.drops:
            attempt = run.attempts.get(call.key)
            if attempt is not None:
                self.runner.unwanted(attempt)
        flow.drops.clear()

    def _start(self, run: ActiveRun, flow: Flow, call: AttemptCall, number: int) -> None:
        """Its record is durable: the attempt may act now."""
        if self.dead:
            return
        info = flow.info
        current = CurrentStep(
            kind=call.kind, run_id=run.id, name=call.step.name, attempt=number,  # type: ignore[arg-type]
            idempotency_key=f"{run.id}/{info.generation}/{call.key}/{call.step.name}",
            trace_id=info.trace_id, traceparent=info.traceparent, session_id=info.session_id, tenant=info.tenant,
        )  # fmt: skip
        attempt = Attempt(
            run_key=run.run_key, workflow=run.workflow, call_key=call.key, step=call.step, args=call.args,
            arg_count=call.arg_count, current=current,
        )  # fmt: skip
        run.attempts[call.key] = attempt
        self.runner.start(attempt)
        if not call.open or run.reload_when_settled:
            self.runner.unwanted(attempt)

    # --- what comes back

    def attempt_ended(self, attempt: Attempt) -> None:
        """An attempt ended: record how, and go on."""
        run = self.active.by_key.get(attempt.run_key)
        if run is None or run.attempts.get(attempt.call_key) is not attempt:
            return  # of a life before this one: that life's records say what is known of it
        del run.attempts[attempt.call_key]
        key, name, number = attempt.call_key, attempt.step.name, attempt.attempt
        undoes = key.endswith(UNDO_MARK)
        if attempt.outcome == "completed":
            assert attempt.result is not None
            completed = r.CompensationCompleted if undoes else r.StepCompleted
            self.deliver(run, completed(key, name, attempt.result, number), len(attempt.result))
        elif attempt.outcome == "unknown":
            self.deliver(run, r.StepUnknown(key, name, number, attempt.error.message if attempt.error else ""))
        else:
            assert attempt.error is not None
            failed = r.CompensationFailed if undoes else r.StepFailed
            retry_at = self._retry_at(run, attempt)
            seq = self.deliver(
                run,
                failed(
                    key,
                    name,
                    attempt.error,
                    number,
                    retry_at,
                    attempt.outcome == "cancelled",
                    attempt.outcome == "defect",
                ),
            )
            if retry_at is not None:
                self.timers.set(seq, retry_at, run.run_key, key)
        if run.reload_when_settled and not run.attempts:
            run.reload_when_settled = False
            self.load(run)
        elif run.flow is None and not run.loading:
            self.sleep(run)

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

    def timer_due(self, run: ActiveRun, call_key: str, due_at: int) -> None:
        """A timer of a run in memory is due; if it still stands, it fires."""
        flow = run.flow
        if run.ended or run.paused or run.blocked or run.loading:
            return  # when the run goes on, its timers are set again
        if flow is None:
            if not call_key and run.start_at is not None and run.info is not None:
                run.started_at = self.clock.now_us()
                self.append(run, r.TimerFired(""), at=run.started_at)
                self.begin(run)
            return
        call = flow.calls.get(call_key)
        stands = (isinstance(call, TimerCall) and call.open and call.state is State.ACTIVE) or (
            isinstance(call, AttemptCall) and call.state is State.BACKOFF
        )
        if stands and call.due_at == due_at:  # type: ignore[union-attr]
            self.deliver(run, r.TimerFired(call_key))

    # --- resting places

    def _wait(self, run: ActiveRun, flow: Flow) -> None:
        calls = flow.open_calls()
        if not calls:
            self._block(run, Hold("internal", "nothing is in flight and nothing is awaited; please report this"))
            return
        kinds = {call.kind for call in calls}
        on = "signal" if "signal" in kinds else "timer" if "timer" in kinds else "retry"
        due = [
            c.due_at for c in flow.calls.values() if isinstance(c, (TimerCall, AttemptCall)) and c.due_at is not None
        ]
        waiting = r.RunWaiting(on, min(due, default=None), calls)
        if waiting != run.waiting:
            run.waiting = waiting
            self.append(run, waiting)
        run.idle_since = trio.current_time()
        self.active.idle[run.run_key] = run
        self.active.idle.move_to_end(run.run_key)

    def _block(self, run: ActiveRun, hold: Hold) -> None:
        run.blocked = True
        seq = self.append(run, r.RunBlocked(hold.code, hold.message, hold.key, hold.traceback))
        log.warning("run %s is blocked: %s: %s", run.id, hold.code, hold.message, extra={"run_id": run.id})
        self.writer.when_durable(seq, self._settled, run.id)
        self.sleep(run)

    def _end(self, run: ActiveRun) -> None:
        run.ended = True
        self._close_flow(run)
        self.active.idle.pop(run.run_key, None)
        self.writer.when_durable(run.last_seq, self._ended, run)

    def _ended(self, run: ActiveRun) -> None:
        self.active.remove(run)
        self._settled(run.id)

    def sleep(self, run: ActiveRun) -> None:
        """Put a run's code away. Its row stays in memory until everything of it is durable and nothing is in flight."""
        self._close_flow(run)
        self.active.idle.pop(run.run_key, None)
        if not run.attempts and not run.loading and not run.ended:
            self.writer.when_durable(run.last_seq, self._forget, run, run.last_seq)

    def _forget(self, run: ActiveRun, seq: int) -> None:
        if run.flow is None and not run.loading and not run.attempts and run.last_seq == seq and not run.when_loaded:
            self.active.remove(run)

    def _close_flow(self, run: ActiveRun) -> None:
        flow, run.flow = run.flow, None
        if flow is None or not flow.alive:
            return
        self.marker.enter(run.run_key)
        with self._outside_trio:
            clean = flow.close()
        self.marker.leave(run.run_key)
        if not clean:
            log.warning(
                "run %s: its code went on while it was put away, and was cut off", run.id, extra={"run_id": run.id}
            )

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

    def _log_sink(self, run: ActiveRun) -> Callable[[int, str, tuple[Any, ...], dict[str, Any]], None]:
        extra = {"run_id": run.id, "workflow": run.workflow}
        return lambda level, message, args, more: log.log(level, message, *args, extra={**more, **extra})


def info_of(started: r.RunStarted) -> RunInfo:
    """What a run knows of itself, from its first record."""
    return RunInfo(
        started.id, started.workflow, started.input, 0, started.session_id, started.tenant, started.classification,
        started.trace_id, started.traceparent,
    )  # fmt: skip
