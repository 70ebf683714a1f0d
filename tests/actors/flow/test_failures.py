"""A failure ends a run and undoes it; a defect blocks it where it stands; a person may retry or cancel either way."""

from __future__ import annotations

from typing import Any

import pytest

from actors.errors import Failure, StepFailed
from actors.flow.calls import Cancelled
from actors.flow.definitions import App
from tests.actors.flow.harness import Run, Traced, raw
from wal import records as r

app = App("failures")


class Refused(Failure):
    """A failure of the user's own."""


@app.step
async def work(x: Any = 0) -> Any: ...


@app.step
async def book(x: Any = 0) -> Any: ...


@book.compensation
async def unbook(result: Any, x: Any = 0) -> None: ...


@app.step
async def gate(x: Any = 0) -> Any: ...


@gate.compensation(on_unknown=True)
async def ungate(result: Any, x: Any = 0) -> None: ...


@app.workflow(fails_on=(ZeroDivisionError, LookupError))
async def raises(ctx: Traced, how: str) -> None:
    await ctx.step(book, 1)
    if how == "undefined":
        return undefined_name  # type: ignore[name-defined]  # noqa: F821
    if how == "exit":
        raise SystemExit(3)
    raise ERRORS[how]


ERRORS: dict[str, Exception] = {
    "failure": Refused("no"), "step failed": StepFailed("no"), "listed": ZeroDivisionError("by zero"),
    "derived from listed": KeyError("k"), "value": ValueError("wrong"), "timeout": TimeoutError("its own"),
}  # fmt: skip


@app.workflow
async def result_that_cannot_be(ctx: Traced, how: str) -> Any:
    await ctx.step(book, 1)
    return object() if how == "no json" else "x" * (3 << 20)


async def in_block(ctx: Traced) -> None:
    async with ctx.saga():
        await ctx.step(book, "block")
        await ctx.signal("never")


async def breaks(ctx: Traced) -> None:
    await ctx.signal("break")
    if not ctx.extra:
        raise ValueError("a defect")


async def turns(ctx: Traced) -> None:
    """A sibling that makes a failure out of whatever ends it."""
    async with ctx.saga():
        await ctx.step(book, "turns")
        try:
            await ctx.signal("never")
        except BaseException:  # noqa: BLE001 - the point of the test
            raise Refused("turned") from None


@app.workflow
async def siblings(ctx: Traced) -> None:
    """`ctx.extra` says that the defect in `breaks` is mended."""
    await ctx.gather(in_block(ctx), breaks(ctx), turns(ctx), ctx.step(gate, 5), ctx.sleep(60))


@app.workflow
async def mendable(ctx: Traced) -> Any:
    got = await ctx.step(work, 1)
    if ctx.extra == "broken":
        raise TypeError("not mended yet")
    await ctx.emit(got)
    return [got, await ctx.step(work, 2)]


@app.workflow
async def three_books(ctx: Traced) -> Any:
    """`ctx.extra`: the name that the middle step is called by, so that its code may change."""
    await ctx.step(book, 1)
    await ctx.step(*ctx.extra)
    await ctx.gather(ctx.step(book, 3), ctx.step(gate, 4), ctx.signal("go"))


@app.workflow
async def bad_way_out(ctx: Traced) -> None:
    try:
        await ctx.step(book, 1)
        await ctx.signal("never")
    finally:
        raise ValueError("a defect on the way out")


@app.workflow
async def raises_cancelled(ctx: Traced) -> None:
    raise Cancelled


async def bug(ctx: Traced) -> None:
    raise ValueError("a defect")


@app.workflow
async def asks_and_breaks(ctx: Traced) -> None:
    await ctx.gather(ctx.step(gate, 1), bug(ctx))


@app.workflow
async def adds_and_breaks(ctx: Traced) -> None:
    ctx.patched("p")
    ctx.add_compensation(book, 1)
    raise ValueError("a defect")


@app.workflow
async def switches(ctx: Traced) -> None:
    """`ctx.extra` says which call the code makes."""
    await (ctx.step(gate, 1) if ctx.extra == "gate" else ctx.sleep(5))


@app.workflow
async def returns_early(ctx: Traced) -> Any:
    await ctx.step(book, 1)
    return await ctx.race(gate=ctx.step(gate, 5), go=ctx.signal("go"))


@pytest.mark.parametrize("how", ["failure", "step failed", "listed", "derived from listed"])
def test_a_failure_ends_the_run_and_undoes_it(how: str) -> None:
    """What derives from Failure, or is listed in `fails_on`, fails the run; its completed steps are undone."""
    run = Run(raises, how)
    run.complete("book", "B")
    assert run.facts(r.RunCompensating)[0].error.type == type(ERRORS[how]).__name__
    assert run.undone == ["unbook('B', 1)"]
    run.check()
    run.finish_undo()
    assert run.end == f"failed {type(ERRORS[how]).__name__}"
    run.check()


@pytest.mark.parametrize("how", ["value", "undefined", "timeout", "exit"])
def test_a_defect_blocks_the_run_where_it_stands(how: str) -> None:
    """Any other exception is a defect: `code_error` with the traceback, and nothing is undone."""
    run = Run(raises, how)
    run.complete("book", "B")
    assert run.hold.code == "code_error"
    assert "in raises" in (run.hold.traceback or "")
    assert run.undone == []
    assert run.kinds == ["run_started", "step_scheduled", "step_completed"]
    run.check()


@pytest.mark.parametrize("how", ["no json", "too large"])
def test_a_result_that_cannot_be_recorded_is_a_defect(how: str) -> None:
    """A result that is no JSON, or too large, blocks the run; it does not fail it."""
    run = Run(result_that_cannot_be, how)
    run.complete("book", 1)
    assert run.hold.code == "code_error"
    assert run.undone == []


def test_a_cancellation_that_nobody_asked_for_is_a_defect() -> None:
    """A workflow cannot cancel itself by raising `Cancelled`."""
    assert Run(raises_cancelled).hold.code == "code_error"


def test_a_defect_in_a_branch_does_not_undo_its_siblings() -> None:
    """A bug in one branch compensates no saga block beside it, whatever the sibling makes of being cancelled."""
    run = Run(siblings)
    run.complete("0/0.0", "B")
    run.complete("0/2.0", "T")
    run.signal("break")
    assert (run.hold.code, run.undone, run.dropped) == ("code_error", [], [])
    assert "breaks" in (run.hold.traceback or "")
    run.check()


def test_what_a_defect_closed_is_open_again_once_it_is_mended() -> None:
    """`retry` replays the same records with mended code: siblings, their timers and attempts are where they were."""
    run = Run(siblings)
    run.complete("0/0.0", "B")
    run.signal("break")
    journal = list(run.journal)
    run.tell(r.StepCompleted("0/3.0", "gate", raw("G")))
    assert run.journal[:-1] == journal
    run.extra = "mended"
    run.retry()
    assert sorted(run.open) == ["signal 0/0.1 never", "step 0/2.0 book", "timer 0/4.0"]
    run.check()
    run.cancel()
    run.complete("0/2.0", "T")
    run.finish_undo()
    assert run.undone == ["unbook('B', 'block')", "unbook('T', 'turns')", "ungate('G', 5)"]
    assert run.end == "cancelled"
    run.check()


def test_retry_without_mending_blocks_again() -> None:
    """Trying again with the same code comes to the same defect and changes nothing."""
    run = Run(mendable, extra="broken")
    run.complete("work", 1)
    first = run.hold
    run.retry()
    assert run.hold.message == first.message
    assert run.kinds[-1] == "run_retried"


def test_retry_after_mending_goes_on_from_the_records() -> None:
    """Nothing that was recorded runs again after a defect was mended; records that came meanwhile count."""
    run = Run(mendable, extra="broken")
    run.complete("work", 1)
    run.signal("unasked")
    run.crash()
    assert run.hold.code == "code_error"
    run.extra = "mended"
    run.retry()
    assert run.started == [("0", "work", 1), ("2", "work", 1)]
    run.complete("work", 2)
    assert run.end == "completed [1,2]"
    run.check()


def test_a_blocked_run_is_undone_from_its_records_when_it_is_cancelled() -> None:
    """Cancelling a run that a defect blocked undoes what its records say was done, newest first."""
    run = Run(siblings)
    run.complete("0/2.0", "T")
    run.complete("0/0.0", "B")
    run.signal("break")
    run.tell(r.StepCompleted("0/3.0", "gate", raw("G")))
    run.cancel()
    assert run.kinds[-2:] == ["run_compensating", "compensation_scheduled"]
    run.finish_undo()
    assert run.undone == ["ungate('G', 5)", "unbook('B', 'block')", "unbook('T', 'turns')"]
    assert run.end == "cancelled"


@app.workflow
async def leaf(ctx: Traced) -> None: ...


@app.workflow
async def leaves_a_child_and_breaks(ctx: Traced) -> None:
    await ctx.race(child=ctx.child(leaf), go=ctx.signal("go"))
    raise KeyError("a defect")


def contradicted() -> Run:
    """A run with two completed steps and two attempts in flight whose code now has another middle step."""
    run = Run(three_books, extra=(book, 2))
    run.complete("0", "a")
    run.complete("1", "b")
    run.complete("2/0.0", "c")
    run.extra = (work, 2)
    run.resume()
    assert run.hold.code == "nondeterminism"
    return run


def test_a_contradicted_run_is_undone_from_its_records_when_it_is_cancelled() -> None:
    """All that the records say was done is undone, the step whose record showed the contradiction included."""
    run = contradicted()
    run.cancel()
    run.finish_undo()
    assert run.undone == ["ungate(None, 4)", "unbook('c', 3)", "unbook('b', 2)", "unbook('a', 1)"]
    assert run.end == "cancelled"


@pytest.mark.parametrize("steps_before", range(5))
@pytest.mark.parametrize("mended", [False, True])
def test_a_crash_amid_that_undoing_loses_nothing(steps_before: int, mended: bool) -> None:
    """Killed anywhere in undoing from records, with the code mended in between or not, each step is undone once."""
    run = contradicted()
    run.cancel()
    for _ in range(steps_before):
        if run.end == "open":
            run.complete(next(iter(run.flow.calls)))
    for keep in range(len(run.journal), len(contradicted().journal), -1):
        again = Run(three_books, extra=(book, 2) if mended else (work, 2))
        again.journal = list(run.journal)
        again.now = run.now
        again.crash(keep)
        again.finish_undo()
        done = [fact.key for fact in again.facts(r.CompensationCompleted)]
        assert sorted(done) == ["0!", "1!", "2/0.0!", "2/1.0!"]
        assert done.index("2/0.0!") < done.index("1!") < done.index("0!")
        assert again.end == "cancelled"


def test_an_attempt_that_outlives_its_code_is_undone_too() -> None:
    """An outcome that arrives while a run is undone from its records is not a contradiction, and is undone."""
    run = Run(three_books, extra=(book, 2))
    run.complete("0", "a")
    run.extra = (work, 2)
    run.resume()
    run.cancel()
    assert run.undone == ["unbook('a', 1)"]
    run.tell(r.StepCompleted("1", "book", raw("late")))
    run.finish_undo()
    assert run.undone == ["unbook('a', 1)", "unbook('late', 2)"]
    assert run.end == "cancelled"


def test_an_unknown_workflow_is_undone_from_its_records() -> None:
    """A run whose workflow is gone can be cancelled as long as its steps are registered."""
    run = contradicted()
    run.workflow = None
    run.resume()
    assert run.hold.code == "unknown_workflow"
    run.cancel()
    run.finish_undo()
    assert [fact.key for fact in run.facts(r.CompensationCompleted)] == ["2/1.0!", "2/0.0!", "1!", "0!"]
    assert run.end == "cancelled"


def test_a_child_is_cancelled_once_in_that_undoing() -> None:
    """What the code had asked for when it broke is asked for without it; loaded again, the run does not repeat it."""
    run = Run(leaves_a_child_and_breaks)
    run.signal("go")
    assert run.hold.code == "code_error"
    run.cancel()
    run.resume()
    run.crash()
    assert [fact.key for fact in run.facts(r.ChildCancelled)] == ["0/0.0"]
    run.tell(r.ChildEnded("0/0.0", "run-1:0-0.0", "cancelled"))
    assert run.end == "cancelled"


def test_a_call_that_was_never_recorded_is_not_undone_from_records() -> None:
    """What the code asked for when it broke, and nobody recorded, cannot have acted."""
    run = Run(asks_and_breaks)
    assert run.hold.code == "code_error"
    assert run.facts(r.StepScheduled) == []
    run.cancel()
    assert run.undone == []
    assert run.end == "cancelled"


def test_a_defect_on_the_way_out_does_not_stop_a_cancellation() -> None:
    """A cancelled run is undone even if its code breaks while it is cancelled."""
    run = Run(bad_way_out)
    run.complete("book", "B")
    run.cancel()
    run.check()
    run.finish_undo()
    assert run.undone == ["unbook('B', 1)"]
    assert run.end == "cancelled"
    run.check()


def test_an_undo_that_was_added_and_never_recorded_does_not_count() -> None:
    """What the code did after its last record, and then broke, is not undone when the run is cancelled."""
    run = Run(adds_and_breaks)
    assert run.hold.code == "code_error"
    run.cancel()
    assert run.kinds == ["run_started", "run_cancel_requested", "run_cancelled"]


def test_what_new_code_asks_for_and_nobody_recorded_is_not_undone() -> None:
    """A step that only the contradicting code calls was never let go, so it cannot have acted."""
    run = Run(switches, extra="sleep")
    run.extra = "gate"
    run.resume()
    assert run.hold.code == "nondeterminism"
    run.cancel()
    assert run.undone == []
    assert run.end == "cancelled"


@pytest.mark.parametrize("how", ["completed", "unknown"])
def test_a_run_is_cancelled_as_long_as_it_has_not_ended(how: str) -> None:
    """A workflow that returned and waits for its last attempt can still be cancelled, and is undone."""
    run = Run(returns_early)
    run.complete("book", "B")
    run.signal("go")
    assert run.end == "open"
    run.cancel()
    assert run.end == "open"
    if how == "completed":
        run.complete("gate", "G")
    else:
        run.unknown("gate")
    run.finish_undo()
    result = "'G'" if how == "completed" else "None"
    assert run.undone == [f"ungate({result}, 5)", "unbook('B', 1)"]
    assert run.end == "cancelled"
    run.check()
