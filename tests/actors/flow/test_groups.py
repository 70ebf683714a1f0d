"""Rule 5: gather and race end when all their branches have ended; losers are cancelled; nothing is left unstarted."""

from __future__ import annotations

import gc
import warnings
from typing import Any

import pytest

from actors.errors import DefinitionError, Failure, StepFailed
from actors.flow.calls import Cancelled
from actors.flow.definitions import App
from actors.flow.fibers import REFUSALS_MAX
from tests.actors.flow.harness import FLOWS, Run, Traced
from wal import records as r

app = App("groups")


@app.step
async def work(x: Any = 0) -> Any: ...


@app.step
async def book(x: Any = 0) -> Any: ...


@book.compensation
async def unbook(result: Any, x: Any = 0) -> None: ...


async def value(ctx: Traced, what: Any) -> Any:
    return what


async def tidy(ctx: Traced, name: str) -> Any:
    """A branch that looks at how it ends, and tries to call in its `finally`."""
    try:
        return await ctx.step(work, name)
    except BaseException as error:
        ctx.saw(name, type(error).__name__)
        raise
    finally:
        try:
            await ctx.step(work, "late")
        except BaseException as error:  # noqa: BLE001
            ctx.saw(name, "late", type(error).__name__)


async def failing(ctx: Traced, error: Exception) -> None:
    raise error


async def stubborn(ctx: Traced) -> str:
    """A loser that ends with a value all the same."""
    try:
        await ctx.signal("never")
    except BaseException:  # noqa: BLE001
        return "stubborn"
    return "signalled"


async def deaf(ctx: Traced) -> None:
    """A loser that never stops calling."""
    while True:
        try:
            await ctx.step(work, "deaf")
        except BaseException:  # noqa: BLE001
            pass


async def in_block(ctx: Traced) -> None:
    async with ctx.saga():
        await ctx.step(book, "inner")
        await ctx.signal("never")


@app.workflow
async def gathers(ctx: Traced) -> Any:
    return await ctx.gather(ctx.step(work, "a"), value(ctx, "b"), ctx.gather(ctx.step(work, "c"), ctx.sleep(1)))


@app.workflow
async def nothing(ctx: Traced) -> Any:
    return await ctx.gather()


@app.workflow
async def races(ctx: Traced) -> Any:
    return await ctx.race(a=tidy(ctx, "a"), b=ctx.signal("b"), c=stubborn(ctx), d=ctx.sleep(60))


@app.workflow
async def gather_fails(ctx: Traced) -> Any:
    try:
        return await ctx.gather(tidy(ctx, "a"), ctx.step(work, "b"), ctx.signal("c"))
    except Failure as error:
        ctx.saw(str(error))
        return "caught"


@app.workflow
async def fails_at_once(ctx: Traced) -> Any:
    try:
        await ctx.gather(failing(ctx, StepFailed("no")), tidy(ctx, "never begun"), ctx.gather(value(ctx, 1)))
    except StepFailed:
        return "caught"


@app.workflow
async def twice(ctx: Traced) -> Any:
    call = ctx.step(work)
    await call
    await call


@app.workflow
async def group_twice(ctx: Traced) -> Any:
    group = ctx.gather(ctx.step(work))
    await group
    await group


@app.workflow
async def wrong_item(ctx: Traced, how: str) -> Any:
    if how == "gather":
        await ctx.gather(value(ctx, 1), 5, ctx.gather(value(ctx, 2)), ctx.race(undo_losers=True, a=value(ctx, 3)))
    elif how == "race":
        await ctx.race(a=value(ctx, 1), b="x")
    else:
        await ctx.race()


@app.workflow
async def cut_off(ctx: Traced) -> Any:
    return await ctx.race(deaf=deaf(ctx), go=ctx.signal("go"))


@app.workflow
async def block_loses(ctx: Traced) -> Any:
    return await ctx.race(block=in_block(ctx), go=ctx.signal("go"))


@app.workflow
async def undoes_losers(ctx: Traced) -> Any:
    won = await ctx.race(undo_losers=True, a=two_books(ctx, "a"), b=two_books(ctx, "b"), go=ctx.signal("go", timeout=9))
    ctx.saw(won)
    return await ctx.signal("end")


async def two_books(ctx: Traced, name: str) -> Any:
    await ctx.step(book, name + "1")
    return await ctx.step(book, name + "2")


@app.workflow
async def undoes_nested(ctx: Traced) -> Any:
    inner = ctx.race(undo_losers=True, x=ctx.step(book, "x"), y=ctx.step(book, "y"))
    return await ctx.race(inner=inner, go=ctx.signal("go"))


@app.workflow
async def undo_meets_defect(ctx: Traced) -> Any:
    return await ctx.race(undo_losers=True, a=book_then_break(ctx), b=ctx.signal("never"))


async def book_then_break(ctx: Traced) -> None:
    await ctx.step(book, 1)
    raise KeyError("a defect")


@pytest.fixture(autouse=True)
def nothing_unawaited() -> Any:
    """No test of this file leaves a coroutine that was never started."""
    with warnings.catch_warnings(record=True) as seen:
        warnings.simplefilter("always")
        yield
        while FLOWS:
            FLOWS.pop().close()
        gc.collect()
    assert [str(one.message) for one in seen] == []


def test_gather_gives_all_results_in_order() -> None:
    """The results stand in the order of the calls, whatever the order of completions; groups nest."""
    run = Run(gathers)
    run.fire("0/2.0/1.0")
    run.complete("0/2.0/0.0", "C")
    run.complete("0/0.0", "A")
    assert run.end == 'completed ["A","b",["C",null]]'
    run.check()


def test_gather_of_nothing_is_empty() -> None:
    """`gather()` returns an empty list."""
    assert Run(nothing).end == "completed []"


def test_a_race_gives_the_name_and_the_result_of_the_first() -> None:
    """The first branch to end wins; the others see `Cancelled` at their waits, and calls of theirs raise at once."""
    run = Run(races)
    run.signal("b", 5)
    assert run.trace == [("a", "Cancelled"), ("a", "late", "Cancelled")]
    assert run.flow.calls.keys() == {"0/0.0"}
    run.fail("0/0.0", cancelled=True)
    assert run.end == 'completed ["b",5]'
    assert run.facts(r.TimerCancelled) == [r.TimerCancelled("0/3.0")]
    run.check()


def test_cancelled_is_no_exception() -> None:
    """`except Exception` in a workflow does not swallow a cancellation."""
    assert not issubclass(Cancelled, Exception)


def test_the_first_failure_cancels_the_rest_and_is_raised_when_all_have_ended() -> None:
    """A gather raises its first failure, after its other branches were cancelled and have ended."""
    run = Run(gather_fails)
    run.fail("0/1.0", "Boom")
    assert run.trace == [("a", "Cancelled"), ("a", "late", "Cancelled"), "it broke"]
    run.complete("0/0.0", "too late")
    assert run.end == 'completed "caught"'
    run.check()


def test_branches_that_were_never_begun_are_closed() -> None:
    """A branch that is cancelled before its first turn does not run and does not warn."""
    run = Run(fails_at_once)
    assert run.trace == []
    assert run.end == 'completed "caught"'


@pytest.mark.parametrize("how", ["gather", "race", "empty race"])
def test_what_is_no_call_is_refused_and_the_coroutines_beside_it_are_closed(how: str) -> None:
    """`gather` and `race` take ctx calls and coroutines; anything else is a TypeError, and nothing is left open."""
    run = Run(wrong_item, how)
    assert run.hold.code == "code_error"
    assert ("TypeError" if how != "empty race" else "ValueError") in run.hold.message


@pytest.mark.parametrize("workflow", [twice, group_twice])
def test_a_call_is_awaited_once(workflow: Any) -> None:
    """Awaiting the same call again is a defect with a sentence, not a second effect."""
    run = Run(workflow)
    run.complete("work")
    assert run.hold.code == "code_error"
    assert DefinitionError.__name__ in run.hold.message
    assert "awaited before" in run.hold.message


def test_a_loser_that_never_stops_calling_is_cut_off() -> None:
    """A cancelled branch that catches everything and goes on calling ends after a bounded number of refusals."""
    run = Run(cut_off)
    run.signal("go", 1)
    run.fail("0/0.0", cancelled=True)
    assert run.end == 'completed ["go",1]'
    assert REFUSALS_MAX >= 100
    run.check()


def test_a_saga_block_in_a_cancelled_branch_compensates() -> None:
    """The race returns when the loser's saga block has undone what it completed."""
    run = Run(block_loses)
    run.complete("book", "B")
    run.signal("go", 1)
    assert run.undone == ["unbook('B', 'inner')"]
    assert run.end == "open"
    run.check()
    run.finish_undo()
    assert run.end == 'completed ["go",1]'
    run.check()


def test_without_undo_losers_what_a_loser_completed_is_kept() -> None:
    """A race does not undo its losers by itself."""
    run = Run(undoes_nested)
    run.complete("0/0.0/0.0", "X")
    run.complete("0/0.0/1.0", "Y")
    assert run.undone == ["unbook('Y', 'y')"]
    run.finish_undo()
    assert run.end == 'completed ["inner",["x","X"]]'
    run.check()


def test_undo_losers_waits_for_their_attempts_and_undoes_them() -> None:
    """With `undo_losers`, what the losers completed, also late, is undone in reverse order before the race returns."""
    run = Run(undoes_losers)
    run.complete("0/0.0", "A1")
    run.complete("0/1.0", "B1")
    run.signal("go", 1)
    assert run.undone == []
    run.complete("0/1.1", "B2")
    run.check()
    run.complete("0/0.1", "A2")
    run.finish_undo()
    assert run.undone == ["unbook('A2', 'a2')", "unbook('A1', 'a1')", "unbook('B2', 'b2')", "unbook('B1', 'b1')"]
    assert run.trace == [("go", 1)]
    run.check()


def test_the_winner_of_a_race_that_undoes_losers_is_kept() -> None:
    """Only the losers are undone; the winner's steps stay for the scope round the race."""
    run = Run(undoes_losers)
    run.complete("0/0.0", "A1")
    run.complete("0/1.0", "B1")
    run.complete("0/0.1", "A2")
    run.fail("0/1.1", cancelled=True)
    assert run.undone == ["unbook('B1', 'b1')"]
    run.finish_undo()
    assert run.trace == [("a", "A2")]
    run.cancel()
    assert run.undone == ["unbook('B1', 'b1')", "unbook('A2', 'a2')"]
    run.finish_undo()
    assert run.end == "cancelled"
    run.check()


def test_a_defect_in_a_race_undoes_nothing() -> None:
    """`undo_losers` is for losers; a bug in a branch blocks the run and undoes nothing."""
    run = Run(undo_meets_defect)
    run.complete("book", 1)
    assert run.hold.code == "code_error"
    assert run.undone == []
    run.check()


def test_cancelling_a_run_reaches_all_branches() -> None:
    """A cancellation is seen by every branch at its wait, and the run ends cancelled once attempts have settled."""
    run = Run(races)
    run.cancel()
    assert run.trace == [("a", "Cancelled"), ("a", "late", "Cancelled")]
    run.fail("0/0.0", cancelled=True)
    assert run.end == "cancelled"
    run.check()
