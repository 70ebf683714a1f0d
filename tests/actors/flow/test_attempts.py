"""Rules 2 to 4: what an attempt's outcome does to its call, and what a closed call still owes."""

from __future__ import annotations

from typing import Any

import pytest

from actors.errors import StepFailed
from actors.flow.calls import State
from actors.flow.context import Context
from actors.flow.definitions import App
from actors.flow.run_info import Hold
from tests.actors.flow.harness import Run, Traced, raw
from wal import records as r

app = App("attempts")


@app.step
async def charge(amount: int) -> Any: ...


@charge.compensation
async def refund(charge_id: Any, amount: int) -> None: ...


@app.step
async def probe() -> Any: ...


@app.step(delivery="at_most_once")
async def launch() -> Any: ...


@app.step
async def open_gate() -> Any: ...


@open_gate.compensation(on_unknown=True)
async def shut_gate(result: Any) -> None: ...


async def caught(ctx: Traced, call: Any) -> Any:
    try:
        return await call
    except StepFailed as error:
        ctx.saw(error.step, error.cause_type, str(error), error.attempt)
        return "caught"


@app.workflow
async def one_step(ctx: Traced) -> Any:
    return await caught(ctx, ctx.step(probe))


@app.workflow
async def once(ctx: Traced) -> Any:
    return await ctx.step(launch)


@app.workflow
async def raced(ctx: Traced) -> Any:
    """A charge loses against a signal, then the run goes on to wait for a second one."""
    won = await ctx.race(charge=ctx.step(charge, 5), go=ctx.signal("go"))
    ctx.saw(won)
    if await ctx.signal("then") == "fail":
        raise StepFailed("as told")
    return "kept"


@app.workflow
async def two_charges(ctx: Traced) -> None:
    await ctx.race(all=ctx.gather(ctx.step(charge, 1), ctx.step(charge, 2), ctx.step(charge, 3)), go=ctx.signal("go"))
    raise StepFailed("as told")


@app.workflow
async def gate(ctx: Traced) -> Any:
    await ctx.race(gate=ctx.step(open_gate), go=ctx.signal("go"))
    raise StepFailed("as told")


@app.workflow
async def early_loser(ctx: Context) -> None:
    await ctx.race(gate=ctx.step(open_gate), now=at_once(ctx))
    raise StepFailed("as told")


async def at_once(ctx: Context) -> int:
    return 1


def test_opening_a_step_is_recorded_before_it_starts() -> None:
    """`StepScheduled` with the name and the arguments stands in the journal when the effect is let go."""
    run = Run(one_step)
    assert run.facts(r.StepScheduled) == [r.StepScheduled("0", "probe", raw([[], {}]))]
    assert run.started == [("0", "probe", 1)]


def test_what_the_code_asks_for_is_not_started_before_it_is_recorded() -> None:
    """An ask has no effect to start until it is told that it is recorded."""
    run = Run(one_step, begin=False)
    assert len(run.flow.asks) == 1
    assert run.flow.starts == []
    assert run.flow.in_flight() == []


def test_a_failed_attempt_is_tried_again_when_its_timer_fires() -> None:
    """A failure with a retry waits for a durable timer, then is the next attempt of the same call."""
    run = Run(one_step)
    run.fail("probe", retry_in=3)
    assert run.flow.in_flight() == []
    assert run.open == ["step 0 probe"]
    run.check()
    run.fire("probe")
    assert run.started == [("0", "probe", 1), ("0", "probe", 2)]
    run.complete("probe", 7)
    assert run.end == "completed 7"
    run.check()


def test_a_final_failure_is_raised_with_its_cause() -> None:
    """When its attempts are used up, the step's failure is a `StepFailed` that names step, cause and attempt."""
    run = Run(one_step)
    run.fail("probe", retry_in=1)
    run.fire("probe")
    run.fail("probe", "Broken")
    assert run.trace == [("probe", "Broken", "it broke", 2)]
    assert run.end == 'completed "caught"'
    run.check()


def test_attempts_that_a_crash_interrupted_are_counted() -> None:
    """After each crash the attempt in flight is recorded as interrupted, and the next one starts."""
    run = Run(one_step)
    run.crash()
    run.crash()
    assert run.started[-1] == ("0", "probe", 3)
    assert run.call("probe").interruptions == 2
    assert run.call("probe").attempt == 3
    run.check()
    run.complete("probe", 1)
    assert run.end == "completed 1"


def test_a_crash_in_backoff_keeps_the_attempt_and_its_timer() -> None:
    """A crash between attempts neither loses the timer nor counts as an interruption."""
    run = Run(one_step)
    run.fail("probe", retry_in=3)
    run.crash()
    assert (run.call("probe").state, run.call("probe").attempt) == (State.BACKOFF, 1)
    assert run.call("probe").due_at == run.facts(r.StepFailed)[0].retry_at
    run.fire("probe")
    assert run.started[-1] == ("0", "probe", 2)
    run.check()


def test_too_many_interruptions_hold_the_call_until_a_person_retries() -> None:
    """What the coordinator withholds stands still and is shown; `retry` starts the count anew."""
    run = Run(one_step)
    run.crash()
    run.flow.hold_call("0", Hold("interrupted", "3 attempts did not survive", "0"))
    assert run.hold.code == "interrupted"
    assert run.flow.is_held("0")
    assert run.flow.in_flight() == []
    run.retry()
    assert run.call("probe").interruptions == 0
    assert run.started[-1] == ("0", "probe", 3)


def test_at_most_once_is_not_run_again_after_a_crash() -> None:
    """A crash under `at_most_once` leaves the outcome unknown; the run is held and nothing starts."""
    run = Run(once)
    run.crash()
    assert run.hold.code == "outcome_unknown"
    assert run.started == [("0", "launch", 1)]
    assert run.facts(r.StepInterrupted) == []
    run.check()


def test_retry_does_not_decide_an_unknown_outcome() -> None:
    """Only `resolve` lets an `at_most_once` step of unknown outcome go on."""
    run = Run(once)
    run.crash()
    run.retry()
    assert run.hold.code == "outcome_unknown"
    assert run.started == [("0", "launch", 1)]
    run.check()


@app.workflow
async def launching(ctx: Traced) -> Any:
    return await ctx.gather(ctx.step(launch), probed(ctx, open_gate))


@app.workflow
async def launching_otherwise(ctx: Traced) -> Any:
    return await ctx.gather(ctx.step(launch), probed(ctx, launch))


async def probed(ctx: Traced, then: Any) -> Any:
    await ctx.step(probe)
    return await ctx.step(then)


def test_a_doubt_is_resolved_once_where_the_code_stands_still_too() -> None:
    """Code that contradicts its records does not go on by what is said; it is said all the same, and not again."""
    run = Run(launching)
    run.crash()
    run.complete("probe")
    run.workflow = app.workflows["launching_otherwise"]
    run.resume()
    assert (run.hold.code, run.flow.is_held("0/0.0")) == ("nondeterminism", True)
    run.resolve("0/0.0", True, "up")
    assert (run.hold.code, run.flow.held_keys()) == ("nondeterminism", [])
    run.workflow = app.workflows["launching"]
    run.retry()
    run.complete("open_gate", "open")
    assert run.end == 'completed ["up","open"]'
    run.check()


def test_resolve_happened_completes_the_call_with_the_given_result() -> None:
    """A person who says that it happened gives the result that the workflow receives."""
    run = Run(once)
    run.crash()
    run.resolve("launch", True, "up")
    assert run.end == 'completed "up"'
    run.check()


def test_resolve_not_happened_starts_the_next_attempt() -> None:
    """A person who says that it did not happen lets the step run again, once."""
    run = Run(once)
    run.crash()
    run.resolve("launch", False)
    assert run.started == [("0", "launch", 1), ("0", "launch", 2)]
    run.complete("launch", "up")
    assert run.end == 'completed "up"'
    run.check()


def test_resolve_happened_is_undone_like_a_completion() -> None:
    """What a person says has happened is on the compensation stack."""
    run = Run(raced)
    run.unknown("charge")
    run.resolve("charge", True, "ch_1")
    assert run.flow.hold is None
    run.signal("then", "fail")
    assert run.undone == ["refund('ch_1', 5)"]
    run.finish_undo()
    assert run.end == "failed StepFailed"
    run.check()


def test_a_defect_in_a_step_holds_the_run_and_retry_tries_again() -> None:
    """A step that failed by a defect of its code blocks the run as `code_error`, and is tried again on `retry`."""
    run = Run(one_step)
    run.fail("probe", "TypeError", defect=True)
    assert (run.hold.code, run.hold.key) == ("code_error", "0")
    assert run.trace == []
    run.check()
    run.retry()
    assert run.flow.hold is None
    assert run.started[-1] == ("0", "probe", 2)
    run.complete("probe", 1)
    assert run.end == "completed 1"
    run.check()


def test_the_loser_of_a_race_is_dropped_and_still_owes_its_outcome() -> None:
    """A call that closed keeps its attempt in flight until an outcome is recorded."""
    run = Run(raced)
    run.signal("go", 1)
    assert run.dropped == ["0/0.0"]
    assert run.open == ["signal 1 then"]
    assert [call.key for call in run.flow.in_flight()] == ["0/0.0"]
    assert run.trace == [("go", 1)]
    run.check()


@pytest.mark.parametrize("before", [True, False])
def test_a_late_completion_counts_for_what_is_undone(before: bool) -> None:
    """What a race loser completed all the same is undone when its scope fails, early or late."""
    run = Run(raced)
    run.signal("go")
    if before:
        run.complete("charge", "ch_9")
        run.signal("then", "fail")
    else:
        run.signal("then", "fail")
        assert run.undone == []
        assert run.kinds[-1] == "run_compensating"
        run.check()
        run.complete("charge", "ch_9")
    assert run.undone == ["refund('ch_9', 5)"]
    run.finish_undo()
    assert run.end == "failed StepFailed"
    run.check()


def test_a_late_completion_is_kept_when_the_run_succeeds() -> None:
    """What a loser completed is not undone if nothing fails."""
    run = Run(raced)
    run.signal("go")
    run.signal("then", "ok")
    assert run.end == "open"
    run.complete("charge", "ch_9")
    assert run.end == 'completed "kept"'
    assert run.undone == []
    run.check()


def test_a_run_does_not_end_while_an_attempt_is_in_flight() -> None:
    """A workflow that returned ends its run only when its attempts have ended or were declared unknown."""
    run = Run(raced)
    run.signal("go")
    run.signal("then", "ok")
    assert run.end == "open"
    run.unknown("charge")
    assert run.end == 'completed "kept"'
    run.check()


def test_a_cancelled_attempt_owes_nothing() -> None:
    """An attempt that ended by our cancellation is not undone."""
    run = Run(raced)
    run.signal("go")
    run.fail("charge", "Cancelled", cancelled=True)
    run.signal("then", "fail")
    assert run.undone == []
    assert run.end == "failed StepFailed"
    run.check()


def test_compensation_waits_for_all_attempts_and_runs_in_reverse_order_of_completion() -> None:
    """The order of undoing is the reverse of the order in which attempts completed, not of their calls."""
    run = Run(two_charges)
    run.complete("0/0.0/1.0", "b")
    run.signal("go")
    run.complete("0/0.0/2.0", "c")
    assert run.undone == []
    run.complete("0/0.0/0.0", "a")
    assert run.undone == ["refund('a', 1)"]
    run.finish_undo()
    assert run.undone == ["refund('a', 1)", "refund('c', 3)", "refund('b', 2)"]
    assert run.end == "failed StepFailed"
    run.check()


def test_a_closed_call_that_fails_is_not_tried_again() -> None:
    """A retry that was decided for a call which had closed by then does not start."""
    run = Run(raced)
    run.signal("go")
    run.fail("charge", retry_in=5)
    assert run.flow.calls.keys() == {"1"}
    run.signal("then", "ok")
    assert run.end == 'completed "kept"'
    run.check()


def test_a_call_that_closes_in_backoff_takes_its_timer_back() -> None:
    """A call that waits for its next attempt and loses the race is over: no timer, no attempt."""
    run = Run(raced)
    run.fail("charge", retry_in=5)
    run.signal("go")
    assert run.facts(r.TimerCancelled) == [r.TimerCancelled("0/0.0")]
    assert run.flow.calls.keys() == {"1"}
    assert run.dropped == []
    run.check()


@pytest.mark.parametrize("outcome", ["failed", "unknown", "backoff", "cancelled", "held"])
def test_on_unknown_asks_to_be_undone_with_none(outcome: str) -> None:
    """A step that ended without a value may have acted: with `on_unknown` its compensation is called with None."""
    run = Run(gate)
    if outcome == "backoff":
        run.fail("open_gate", retry_in=1)
        run.signal("go")
    elif outcome == "held":
        run.fail("open_gate", "TypeError", defect=True)
        run.signal("go")
    else:
        run.signal("go")
        if outcome == "unknown":
            run.unknown("open_gate")
        else:
            run.fail("open_gate", cancelled=outcome == "cancelled")
    assert run.undone == ["shut_gate(None)"]
    run.finish_undo()
    assert run.end == "failed StepFailed"
    run.check()


def test_a_step_that_was_never_recorded_is_not_undone() -> None:
    """`on_unknown` is for what may have acted: a call that closed before it was recorded cannot have."""
    run = Run(early_loser)
    assert run.facts(r.StepScheduled) == []
    assert run.undone == []
    assert run.end == "failed StepFailed"
    run.check()


def test_an_outcome_that_comes_after_a_cancellation_we_made_elsewhere_is_tried_again() -> None:
    """An attempt that was cancelled for a branch which mended code does not take any more is no failure of the step."""
    run = Run(one_step)
    run.record(r.StepFailed("0", "probe", r.ErrorData("Cancelled"), 1, None, cancelled=True))
    run.resume()
    assert run.trace == []
    assert [call.key for call in run.flow.in_flight()] == ["0"]
    assert run.call("probe").attempt == 2


def test_at_most_once_that_was_cancelled_for_what_is_mended_is_put_before_a_person() -> None:
    """The same for a step that is not tried again by itself: whether it happened is for somebody to say."""
    run = Run(once)
    run.record(r.StepFailed("0", "launch", r.ErrorData("Cancelled"), 1, None, cancelled=True))
    run.resume()
    assert (run.hold.code, run.hold.key) == ("outcome_unknown", "0")
    run.resolve("launch", happened=False)
    assert run.started[-1] == ("0", "launch", 2)
    run.check()


def test_results_of_compensations_are_nobodys_business() -> None:
    """A compensation whose result does not fit its annotation is done all the same."""
    run = Run(raced)
    run.complete("charge", "ch_1")
    run.signal("then", "fail")
    run.complete("refund", "not None")
    assert run.end == "failed StepFailed"
    run.check()
