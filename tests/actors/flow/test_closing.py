"""Rules 9 and 10: foreign awaits raise at their line; parking closes the code, which may not act then."""

from __future__ import annotations

import gc
import types
import warnings
from collections.abc import Generator
from contextvars import ContextVar
from typing import Any

import pytest

from actors.flow.definitions import App
from actors.flow.fibers import CUT_OFF
from tests.actors.flow.harness import FLOWS, Run, Traced
from wal import records as r

app = App("closing")
SEEN: list[Any] = []
VARIABLE: ContextVar[int] = ContextVar("VARIABLE", default=0)


@app.step
async def work(x: Any = 0) -> Any: ...


@app.step
async def book(x: Any = 0) -> Any: ...


@book.compensation
async def unbook(result: Any, x: Any = 0) -> None: ...


@types.coroutine
def foreign_yield(what: Any) -> Generator[Any, Any, Any]:
    """What another library's await comes down to."""
    return (yield what)


@app.workflow
async def awaits_foreign(ctx: Traced) -> Any:
    try:
        await foreign_yield(ctx.extra)
    except RuntimeError:
        ctx.saw("swallowed")
    return "never"


@app.workflow
async def recovers(ctx: Traced) -> Any:
    try:
        await foreign_yield("x")
    except Exception as error:  # noqa: BLE001 - the point of the test
        ctx.saw(type(error).__name__, getattr(error, "hint", ""))
    return await ctx.signal("s")


@app.workflow
async def tidies(ctx: Traced) -> Any:
    try:
        async with ctx.saga():
            await ctx.step(book, 1)
            await ctx.gather(ctx.signal("s"), tidy_branch(ctx))
    finally:
        SEEN.append("finally")
        for make in (
            lambda: ctx.step(work), lambda: ctx.sleep(1), lambda: ctx.signal("s"), lambda: ctx.emit(1), ctx.now,
            ctx.random, ctx.uuid, lambda: ctx.patched("p"), lambda: ctx.set_attributes(a=1), ctx.saga,
            lambda: ctx.add_compensation(work), lambda: ctx.state.get("k"), lambda: ctx.gather(tidy_branch(ctx)),
            lambda: ctx.race(a=tidy_branch(ctx)), lambda: ctx.race(undo_losers=True, a=tidy_branch(ctx)),
        ):  # fmt: skip
            try:
                make()
            except BaseException as error:  # noqa: BLE001
                SEEN.append(type(error).__name__)
        ctx.log.info("put away")


async def tidy_branch(ctx: Traced) -> None:
    try:
        await ctx.sleep(60)
    finally:
        SEEN.append("branch")


async def endless(ctx: Traced) -> None:
    while True:
        try:
            await ctx.signal("never")
        except BaseException:  # noqa: BLE001
            pass


@app.workflow
async def never_ends(ctx: Traced, how: str) -> None:
    if how == "main":
        await ctx.step(book, 1)
        await endless(ctx)
    else:
        await ctx.gather(ctx.step(book, 1), endless(ctx))


@app.workflow
async def raises_in_finally(ctx: Traced) -> None:
    try:
        await ctx.signal("s")
    finally:
        raise KeyError("a defect while closing")


@app.workflow
async def emits_for_ever(ctx: Traced) -> None:
    while True:
        await ctx.emit(1)


@app.workflow
async def sets_variable(ctx: Traced, to: int) -> int:
    VARIABLE.set(to)
    await ctx.signal("s")
    return VARIABLE.get()


@pytest.fixture(autouse=True)
def no_complaint() -> Any:
    """Nothing in this file makes Python complain of a coroutine, at once or when it is dropped."""
    SEEN.clear()
    with warnings.catch_warnings(record=True) as seen:
        warnings.simplefilter("always")
        yield
        while FLOWS:
            FLOWS.pop().close()
        gc.collect()
    assert [str(one.message) for one in seen] == []


@pytest.mark.parametrize("what", [None, 5, object(), [1], {"a": 1}, iter(())])
def test_awaiting_something_else_raises_at_that_line(what: Any) -> None:
    """Whatever another library yields, the workflow gets a ForeignAwait there, and the run is blocked as a defect."""
    run = Run(awaits_foreign, extra=what)
    assert run.hold.code == "code_error"
    assert run.hold.message.startswith("ForeignAwait: a workflow may await only ctx")
    assert "foreign_yield" in (run.hold.traceback or "")
    assert run.undone == []


def test_code_may_recover_from_a_foreign_await() -> None:
    """A foreign await that the code catches is over: the run goes on, and replay agrees."""
    run = Run(recovers)
    assert run.trace == [("ForeignAwait", "Move the call into a step; workflows await only ctx.")]
    run.signal("s", 1)
    assert run.end == "completed 1"
    run.check()


def test_parking_runs_finally_blocks_and_refuses_calls() -> None:
    """Closing runs the user's `finally`; every ctx call made then raises at once, and nothing is recorded."""
    run = Run(tidies)
    run.complete("book", "B")
    before = list(run.journal)
    assert run.flow.close() is True
    assert ["branch", "finally", *["Parked"] * 15] == SEEN
    assert run.journal == before
    assert not run.flow.asks
    assert run.logged == []


def test_parking_does_not_compensate() -> None:
    """A saga block that is left because the run is put away undoes nothing, and continues after waking."""
    run = Run(tidies)
    run.complete("book", "B")
    run.resume()
    assert run.undone == []
    run.signal("s", 1)
    run.cancel()
    assert run.undone == ["unbook('B', 1)"]


def test_waking_goes_on_where_the_run_was() -> None:
    """A run that was parked and replayed makes the same calls as one that stayed in memory."""
    run, stayed = Run(recovers), Run(recovers)
    run.resume()
    assert run.open == stayed.open
    for one in (run, stayed):
        one.signal("s", 1)
    assert run.journal == stayed.journal


@pytest.mark.parametrize("how", ["main", "branch"])
def test_code_that_never_stops_is_cut_off_when_it_is_put_away(how: str) -> None:
    """`while True: try: await ctx.x() except BaseException: pass` cannot keep a run from being parked."""
    run = Run(never_ends, how)
    run.complete("book", 1)
    assert run.flow.close() is False
    assert len(CUT_OFF) >= 1
    assert run.replay().halted is None


@pytest.mark.parametrize("how", ["main", "branch"])
def test_code_that_never_stops_cannot_hinder_a_cancellation(how: str) -> None:
    """A cancelled run whose code goes on calling is cut off and undone."""
    run = Run(never_ends, how)
    run.complete("book", 1)
    run.cancel()
    assert run.undone == ["unbook(1, 1)"]
    run.check()
    run.finish_undo()
    assert run.end == "cancelled"
    run.check()


def test_what_is_raised_while_closing_concerns_nobody() -> None:
    """An exception out of a `finally` at parking is dropped: the same code runs again when the run wakes."""
    run = Run(raises_in_finally)
    assert run.flow.close() is False
    assert run.flow.halted is None
    run.flow = run.replay()
    run.signal("s")
    assert run.hold.code == "code_error"


def test_a_closed_flow_can_be_closed_again() -> None:
    """Closing twice is harmless."""
    run = Run(recovers)
    assert run.flow.close() is True
    assert run.flow.close() is True


def test_variables_are_the_run_s_own() -> None:
    """Each run's code has context variables of its own, which neither another run nor the driver sees."""
    one, two = Run(sets_variable, 1), Run(sets_variable, 2)
    one.signal("s")
    two.signal("s")
    assert (one.end, two.end) == ("completed 1", "completed 2")
    assert VARIABLE.get() == 0


def test_code_that_emits_without_end_gives_the_driver_its_turn() -> None:
    """A workflow that asks for ever asks one record at a time: whoever drives it can stop."""
    run = Run(emits_for_ever, begin=False)
    for count in range(1, 4):
        ask = run.flow.asks.popleft()
        fact = run.fact_of(ask)
        run.record(fact)
        run.flow.recorded(ask, fact)
        assert len(run.facts(r.OutputEmitted)) == count
        assert len(run.flow.asks) == 1
