"""Rules 11 and 12: whoever drives the core sees leaf calls only, and the open calls are what a run waits for."""

from __future__ import annotations

from typing import Any

from actors.flow.calls import Call, GroupCall
from actors.flow.definitions import App
from tests.actors.flow.harness import Run, Traced, raw
from wal import records as r

app = App("waiting")


@app.step
async def work(x: Any = 0) -> Any: ...


@app.step
async def book(x: Any = 0) -> Any: ...


@book.compensation
async def unbook(result: Any, x: Any = 0) -> None: ...


async def inner(ctx: Traced) -> Any:
    return await ctx.gather(ctx.step(work, 1), ctx.race(a=ctx.signal("a", timeout=5), b=ctx.sleep(9)))


@app.workflow
async def many(ctx: Traced) -> Any:
    await ctx.step(book, 0)
    return await ctx.gather(inner(ctx), ctx.signal("s"), ctx.step(work, 2))


def test_open_calls_are_what_the_run_waits_for() -> None:
    """Every wait is in `open_calls`, in the order of the code, and nothing else is."""
    run = Run(many)
    assert run.open == ["step 0 book"]
    run.complete("book", "B")
    assert run.open == [
        "signal 1/1.0 s", "step 1/2.0 work", "step 1/0.0/0.0 work", "signal 1/0.0/1.0/0.0 a", "timer 1/0.0/1.0/1.0",
    ]  # fmt: skip
    run.check()
    run.signal("s")
    run.complete("1/2.0")
    run.fire("1/0.0/1.0/1.0")
    assert run.open == ["step 1/0.0/0.0 work"]
    run.complete("1/0.0/0.0")
    assert run.open == []
    assert run.end.startswith("completed")
    run.check()


def test_the_driver_sees_leaf_calls_only() -> None:
    """Groups, joins and fibers never leave the core: what is asked for are records and leaf calls."""
    run = Run(many, begin=False)
    seen: list[Call | r.Fact] = []
    for take in (True, False):
        seen += list(run.flow.asks)
        assert not any(isinstance(ask, GroupCall) for ask in run.flow.asks)
        if take:
            run.take()
            fact = r.StepCompleted("0", "book", raw(1))
            run.record(fact)
            run.flow.apply(fact, run.now)
    assert [ask.key for ask in seen if isinstance(ask, Call)] == [
        "0", "1/2.0", "1/0.0/0.0", "1/0.0/1.0/0.0", "1/0.0/1.0/1.0",
    ]  # fmt: skip


def test_every_open_run_waits_for_something() -> None:
    """As long as a run has not ended, is not held and asks for nothing, it has an open call or an attempt in flight."""
    run = Run(many)
    moves: list[Any] = [
        lambda: run.complete("book", "B"), lambda: run.fire("1/0.0/1.0/1.0"), lambda: run.signal("s"), run.cancel,
        lambda: run.fail("1/2.0", cancelled=True), lambda: run.complete("1/0.0/0.0"), lambda: run.complete("unbook"),
    ]  # fmt: skip
    for move in moves:
        assert run.end == "open"
        assert run.flow.open_calls() or run.flow.in_flight()
        move()
    assert run.end == "cancelled"


def test_a_closed_call_is_in_flight_but_not_open() -> None:
    """What a run waits for, and what a crash would interrupt, are told apart."""
    run = Run(many)
    run.complete("book", "B")
    run.cancel()
    assert run.open == []
    assert [call.key for call in run.flow.in_flight()] == ["1/2.0", "1/0.0/0.0"]
    run.fail("1/2.0", cancelled=True)
    run.fail("1/0.0/0.0", cancelled=True)
    assert run.open == ["compensation 0! unbook"]
    run.check()
