"""Rule 8: signals are buffered by name; the oldest wait takes the oldest signal; whichever record is first wins."""

from __future__ import annotations

from typing import Any

from actors.errors import SignalTimeout
from actors.flow.definitions import App
from tests.actors.flow.harness import Run, Traced
from wal import records as r

app = App("signals")


@app.step
async def work() -> Any: ...


@app.workflow(signals={"typed": int})
async def three(ctx: Traced) -> Any:
    await ctx.step(work)
    return [await ctx.signal("s"), await ctx.signal("t"), await ctx.signal("s")]


@app.workflow
async def together(ctx: Traced) -> Any:
    return await ctx.gather(ctx.signal("s"), ctx.signal("s"), ctx.signal("t"), ctx.signal("s"))


@app.workflow
async def patient(ctx: Traced) -> Any:
    try:
        got = await ctx.signal("s", timeout=10)
    except TimeoutError as error:
        ctx.saw(type(error).__name__, str(error))
        got = "late"
    ctx.saw(got)
    return [got, await ctx.signal("s")]


@app.workflow(signals={"typed": int})
async def wants_numbers(ctx: Traced) -> Any:
    await ctx.step(work)
    return [await ctx.signal("typed"), await ctx.signal("loose", type=int), await ctx.signal("any")]


@app.workflow
async def gives_up(ctx: Traced) -> Any:
    await ctx.race(first=ctx.signal("s"), go=ctx.signal("go"))
    return await ctx.signal("s")


@app.workflow
async def impatient(ctx: Traced) -> None:
    await ctx.signal("s", timeout=0)


def test_signals_wait_until_the_run_asks_for_them() -> None:
    """Signals that come early, in any mix of names, are taken in their order when the run asks."""
    run = Run(three)
    for name, value in (("t", 1), ("s", 2), ("s", 3), ("other", 4)):
        run.signal(name, value)
    run.check()
    run.complete("work")
    assert run.end == "completed [2,1,3]"
    run.check()


def test_the_oldest_wait_takes_the_oldest_signal() -> None:
    """Among open waits of one name the first that was opened is served first."""
    run = Run(together)
    for value in (1, 2, 3):
        run.signal("s", value)
        run.check()
    run.signal("t", 4)
    assert run.end == "completed [1,2,4,3]"


def test_a_signal_in_time_takes_the_timer_back() -> None:
    """A signal that comes before the timeout ends the wait, and the timer is not wanted any more."""
    run = Run(patient)
    assert run.facts(r.TimerSet) != []
    run.signal("s", 1)
    assert run.facts(r.TimerCancelled) == [r.TimerCancelled("0")]
    assert run.trace == [1]
    run.check()


def test_a_timeout_is_a_timer_record() -> None:
    """At the timeout the wait raises a TimeoutError that is a Failure; a later signal stays for the next wait."""
    run = Run(patient)
    run.fire("0")
    assert run.trace == [("SignalTimeout", "no signal 's' within 10.0 s"), "late"]
    run.signal("s", 2)
    assert run.end == 'completed ["late",2]'
    run.check()


def test_a_signal_that_is_there_needs_no_timer() -> None:
    """A buffered signal is taken at once, also with a timeout: no timer is set."""
    run = Run(patient, begin=False)
    run.signal("s", 1)  # it arrives before the timer of the wait was recorded
    assert run.facts(r.TimerSet) == []
    assert run.facts(r.TimerCancelled) == []
    run.check()


def test_an_uncaught_timeout_fails_the_run() -> None:
    """A timeout that leaves the workflow is a failure, not a defect."""
    run = Run(impatient)
    run.fire("0")
    assert run.end == f"failed {SignalTimeout.__name__}"
    run.check()


def test_what_does_not_decode_is_set_aside_and_the_wait_goes_on() -> None:
    """A signal of the wrong type is recorded as set aside; the wait takes the next one that fits."""
    run = Run(wants_numbers)
    run.signal("typed", "one")
    run.signal("typed", 1)
    run.complete("work")
    assert [fact.name for fact in run.facts(r.SignalSetAside)] == ["typed"]
    run.signal("loose", "two")
    run.signal("loose", [2])
    run.check()
    run.signal("loose", 2)
    assert [fact.name for fact in run.facts(r.SignalSetAside)] == ["typed", "loose", "loose"]
    assert "int" in run.facts(r.SignalSetAside)[0].error
    run.signal("any", {"x": 1})
    assert run.end == 'completed [1,2,{"x":1}]'
    run.check()


def test_a_wait_that_was_given_up_takes_nothing() -> None:
    """A wait that lost its race leaves the signals for the next wait of that name."""
    run = Run(gives_up)
    run.signal("go")
    run.signal("s", 5)
    assert run.end == "completed 5"
    run.check()


def test_signals_survive_a_crash_before_and_after_they_are_asked_for() -> None:
    """A recorded signal is never lost, wherever the crash falls."""
    for cut in range(1, 5):
        run = Run(three)
        run.signal("s", 1)
        run.signal("t", 2)
        run.signal("s", 3)
        run.crash(keep=2 + cut)
        run.complete("work")
        left = [fact.value for fact in run.facts(r.SignalReceived)]
        assert len(left) == min(cut, 3)
        assert (run.end == "completed [1,2,3]") == (len(left) == 3)
        run.check()
