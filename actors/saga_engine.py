"""The saga engine: the advancer, and how a run comes back from its records: loading, replay, recovery.

A run is loaded when something wakes it. Its history up to then is replayed; what was recorded since is applied as
live; attempts that were in flight when the process ended are run again, put before a person, or written off.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any

from actors.active_run import ActiveRun
from actors.advance_marker import in_transaction
from actors.flow.calls import AttemptCall, State, TimerCall
from actors.flow.context import Context
from actors.flow.driver import Flow
from actors.flow.forks import story_of
from actors.flow.run_info import History, Hold, RunInfo
from actors.flow.saga_core import UNDO_MARK
from actors.run_advancer import EngineLimits as EngineLimits
from actors.run_advancer import RunAdvancer, about_run, steps_in_flight
from actors.step_runner import NOT_STARTED
from wal import records as r
from wal.records import Entry

log = logging.getLogger("runtimed.runs")


class SagaEngine(RunAdvancer):
    """Advances and recovers runs. The saga coordinator owns the one engine and calls it from its own task.

    `load_later`, set by the coordinator, has a run's history read and calls `loaded` with it."""

    load_later: Callable[[ActiveRun], None]

    # --- beginning and loading

    def begin(self, run: ActiveRun) -> None:
        """Run a new run's code to its first waits."""
        assert run.info is not None
        self._make_flow(run, run.info, run.started_at, None)
        self._catch_up(run)

    def _make_flow(self, run: ActiveRun, info: RunInfo, at: int, history: History | None) -> None:
        registry = self.registry
        flow = run.flow = Flow(
            registry.workflows.get(info.workflow),
            info,
            registry.steps,
            payload_max_bytes=self.limits.payload_max_bytes,
            history=history,
            workflows=registry.workflows,
        )
        run.start_at, run.begun = None, True
        if self.marker.suspected(run.run_key):
            flow.workflow = None
            flow.halted = Hold("stuck", "the daemon died twice while this run's code was running; it may never yield")
            self.marker.clear()
            return
        self.advanced_total += 1
        self.stage.enter_run(run.run_key)
        flow.begin(Context(flow, self._log_sink(run)), at)

    def load(self, run: ActiveRun) -> None:
        """Have the run's history read; `loaded` goes on from there."""
        run.loading = run.begun = True
        run.load_upto = run.last_seq
        run.deferred.clear()  # all of it is in what will be read
        self.load_later(run)

    def loaded(self, run: ActiveRun, entries: list[Entry]) -> None:
        """The history is here: replay it, then go on with what has arrived since."""
        run.loading = False
        if run.ended:  # cancelled before it began
            self._call_back(run)
            return
        first = entries[0].record
        assert isinstance(first, (r.RunStarted, r.RunContinued)), first
        run.started_at = entries[0].at
        begun_at = run.started_at
        if isinstance(first, r.RunStarted) and (first.start_at is not None or first.queue is not None):
            recorded = [(entry.record, entry.at) for entry in entries] + [
                (record, at) for record, _, at in run.deferred
            ]
            fired = next((at for record, at in recorded if type(record) is r.TimerFired and not record.key), None)
            if fired is None:
                due = first.start_at or begun_at
                run.start_at = due
                run.begins_with(first)
                self._call_back(run)
                if due <= self.clock.now_us() or first.start_at is None:
                    self.timers_due(run, [("", due)])
                else:
                    self.timers.set(run.last_seq, due, run.run_key, "")
                    self.sleep(run)
                return
            begun_at = fired
        story = story_of(entries, begun_at)
        self._make_flow(run, story.info, story.at, History.of(story.facts))
        flow = run.flow
        assert flow is not None
        for one in story.past:
            self.stage.enter_run(run.run_key)
            flow.recall(one.record, one.at)
        for entry in entries[1:]:
            if type(entry.record) is r.RunCancelRequested:
                run.cancel_reason = entry.record.reason
            self.apply(run, entry.record, entry.at)
        flow.end_replay()
        if self.children is not None and (flow.children or flow.left_behind):
            self.children.mend(run, flow)
        last = entries[-1].record
        # A signal makes a waiting run run, so what it waits for is then to be said again, if it still does.
        run.waiting = last if isinstance(last, r.RunWaiting) and not run.deferred else None
        self._catch_up(run)

    def _catch_up(self, run: ActiveRun, *, was_held: bool = True) -> None:
        """Apply what was recorded while the run could not take it, then let it go on if nothing holds it back. One that
        was neither loaded nor held back by a person, but only told something in the middle of a commit, still has its
        timers set and its attempts in hand: to go through all its calls for each of a thousand children is for others.
        """
        flow = run.flow
        assert flow is not None
        # All of them stand in the journal already, before whatever is recorded because of them: what the code asks for,
        # and what became of attempts of a life before this one. So all are applied first: in replay it will be so too.
        # That goes for a run that is held back as well, for who has it loaded looks at it as it stands now.
        while run.deferred:
            record, seq, at = run.deferred.popleft()
            if seq > run.load_upto:
                self.apply(run, record, at)
        if not (run.paused or run.blocked):
            if flow.halted is not None and flow.cancel_requested and steps_in_flight(run):
                self._settle_first(run)
                return
            flow.unwind_if_cancelled()
        self._call_back(run)
        if run.flow is flow and not (run.paused or run.blocked):
            overdue = []
            if was_held:
                self._interrupted(run)  # not before: whoever only looks at a run that is held back leaves no record
                overdue = self._rearm(run)
            self.pump(run, flow)
            if overdue:
                self.timers_due(run, overdue)
        elif run.flow is flow:
            self.sleep(run)

    def _settle_first(self, run: ActiveRun) -> None:
        """To be undone from its records alone, a run must have no step in flight. An undo is never cancelled."""
        run.reload_when_settled = run.loading = True
        self.close_flow(run)
        for key, attempt in list(run.attempts.items()):
            if attempt is not None and not key.endswith(UNDO_MARK):
                self.runner.unwanted(attempt)

    def go_on(self, run: ActiveRun) -> None:
        """Nothing holds this run back any more: apply what has been recorded meanwhile."""
        if run.flow is not None:
            self._catch_up(run)
        elif not run.loading:
            self.load(run)

    def deliver_all(self, run: ActiveRun, record: r.Fact, weight: int = 0) -> int:
        """The same with one more answer, after what has been recorded meanwhile."""
        if run.flow is None and not run.loading:
            self.load(run)
        run.waiting = None  # whatever it says it waits for, it says anew
        at = self.clock.now_us()
        seq = self.append(run, record, weight, at)
        run.deferred.append((record, seq, at))
        if run.flow is not None:
            self.active.idle.pop(run.run_key, None)
            self._catch_up(run)
        return seq

    def tell(self, run: ActiveRun, record: r.Fact, weight: int) -> None:
        """Record an answer now, which the run is to see by `go_on`, before this commit ends."""
        run.waiting = None
        if run.flow is None and not (run.loading or run.paused or run.blocked or self.draining):
            self.load(run)
        at = self.clock.now_us()
        run.deferred.append((record, self.append(run, record, weight, at), at))
        self.active.idle.pop(run.run_key, None)

    def told(self, run: ActiveRun) -> None:
        """Let a run that was told something, or whose children have been cancelled, go on if it can."""
        if run.flow is None or run.ended:
            return
        if run.deferred:
            self._catch_up(run, was_held=False)
        elif not (run.paused or run.blocked):
            self.pump(run, run.flow)

    def reload_with(self, run: ActiveRun, record: r.Fact) -> int:
        """Record the answer that a blocked run waits for, and replay the run from its records."""
        self.close_flow(run)
        return self.deliver_all(run, record)

    def close(self) -> None:
        """The engine's life is over: nothing more happens, and code that was running is put away, not left to whenever
        Python finds its coroutines."""
        self.dead = True  # what it arranged to happen once durable does not happen any more
        with self.stage:
            for run in list(self.active.by_key.values()):
                self.close_flow(run)

    def end_unbegun(self, run: ActiveRun) -> None:
        """A run has ended before its code ever ran."""
        run.ended = True
        self.queues.left(run.run_key)
        self.writer.when_durable(run.last_seq, self._ended, run)

    def _call_back(self, run: ActiveRun) -> None:
        callbacks, run.when_loaded = run.when_loaded, []
        for call in callbacks:  # each is a command, and closes its group
            self.writer.keep_whole()
            call()

    def _rearm(self, run: ActiveRun) -> list[tuple[str, int]]:
        """Set the timers of a run that was loaded. Gives those that are due by now: to set them and be told of it
        would take a turn, in which a run that idles may be put away again to make room, for ever."""
        assert run.flow is not None
        overdue, now = [], self.clock.now_us()
        for call in run.flow.calls.values():
            due = call.due_at if isinstance(call, (TimerCall, AttemptCall)) else None
            waits = call.state is State.ACTIVE if isinstance(call, TimerCall) else call.state is State.BACKOFF
            if due is not None and waits:
                if due <= now:
                    overdue.append((call.key, due))
                else:
                    self.timers.set(run.last_seq, due, run.run_key, call.key)
        return overdue

    def _interrupted(self, run: ActiveRun) -> None:
        """Attempts that were in flight when the process ended: run again, or ask a person, or write them off."""
        flow = run.flow
        assert flow is not None
        if flow.halted is not None:
            return
        for call in flow.in_flight():
            if call.key in run.attempts or call in flow.starts:
                continue  # it is running in this process, or has yet to start
            name = call.step.name
            if call.step.transaction:
                self._not_done(run, flow, call)
            elif not call.open:
                self._note(
                    run, r.StepUnknown(call.key, name, call.attempt, "the process ended while it was being cancelled")
                )
            elif call.step.delivery == "at_most_once":
                self._note(run, r.StepUnknown(call.key, name, call.attempt, "the process ended while it ran"))
            else:
                self._note(run, r.StepInterrupted(call.key, name, call.attempt))
                if call.interruptions >= self.limits.crashed_attempts_max:
                    flow.starts.remove(call)
                    flow.hold_call(
                        call.key,
                        Hold(
                            "interrupted", f"{name}: the process ended in {call.interruptions} attempts of it", call.key
                        ),
                    )
        if flow.holds and self.marker.suspected(in_transaction(run.run_key)):
            self.marker.clear()  # now a person decides

    def _not_done(self, run: ActiveRun, flow: Flow, call: AttemptCall) -> None:
        """What a transaction does is recorded with its end. So this one has done nothing and is simply run, be it for
        the first time or not; only one that the daemon died in twice waits for a person."""
        if not call.open:
            error = r.ErrorData("Cancelled", NOT_STARTED, call.step.name)
            self._note(run, r.StepFailed(call.key, call.step.name, error, call.attempt, cancelled=True))
        elif self.marker.suspected(in_transaction(run.run_key)):
            flow.hold_call(
                call.key,
                Hold("stuck", f"{call.step.name}: the daemon died twice while it ran; it may never end", call.key),
            )
        else:
            flow.starts.append(call)

    def _note(self, run: ActiveRun, record: r.Fact) -> None:
        at = self.clock.now_us()
        self.append(run, record, at=at)
        self.apply(run, record, at)

    def _log_sink(self, run: ActiveRun) -> Callable[[int, str, tuple[Any, ...], dict[str, Any]], None]:
        about = {**about_run(run), "workflow": run.workflow}
        return lambda level, message, args, more: log.log(level, message, *args, extra={**more, **about})
