"""Runs of very many saga blocks and races: undoing and leaving them takes work in proportion, not with the square."""

from __future__ import annotations

import sys
from collections import deque
from collections.abc import Callable
from pathlib import Path
from types import FrameType
from typing import Any

import pytest

from actors.flow import driver
from actors.flow.definitions import App
from tests.actors.flow.harness import Run, Traced
from wal import records as r

app = App("many")
FLOW = str(Path(driver.__file__).parent)
FEW, MANY = 40, 160


@app.step
async def book(number: int) -> Any: ...


@book.compensation
async def unbook(result: Any, number: int) -> None: ...


@app.step
async def work(number: int) -> Any: ...


async def block(ctx: Traced, number: int) -> None:
    async with ctx.saga():
        await ctx.step(book, number)
        await ctx.step(work, number)


@app.workflow
async def blocks(ctx: Traced) -> None:
    await ctx.gather(*(block(ctx, number) for number in range(ctx.extra)))


async def pair(ctx: Traced, number: int) -> None:
    await ctx.race(signal=ctx.signal(f"s{number}"), sleep=ctx.sleep(60))


@app.workflow
async def pairs(ctx: Traced) -> None:
    await ctx.gather(*(pair(ctx, number) for number in range(ctx.extra)))


def calls_in_flow(act: Callable[[], None]) -> int:
    """How often a function of the core was called, or a generator of it resumed, in this."""
    count = 0

    def note(frame: FrameType, event: str, arg: Any) -> None:
        nonlocal count
        count += event == "call" and frame.f_code.co_filename.startswith(FLOW)

    before = sys.getprofile()
    sys.setprofile(note)
    try:
        act()
    finally:
        sys.setprofile(before)
    return count


def undoing(count: int, *, in_flight: bool) -> int:
    """What it takes to undo so many blocks at once, each of which has one step to undo."""
    run = Run(blocks, extra=count)
    for number in range(count):
        run.complete(f"0/{number}.0")
    if not in_flight:
        for number in range(count):
            run.fail(f"0/{number}.1", retry_in=60)

    def undo() -> None:
        run.cancel()
        for number in range(count if in_flight else 0):
            run.fail(f"0/{number}.1", cancelled=True)
        for number in range(count):
            run.complete(f"0/{number}.0!")

    made = calls_in_flow(undo)
    assert (run.end, len(run.undone)) == ("cancelled", count)
    return made


@pytest.mark.parametrize("in_flight", [False, True], ids=["settled", "in flight"])
def test_many_blocks_are_undone_in_proportion(in_flight: bool) -> None:
    """Each block finds what is its own, and hears when its own attempts have ended, without a look at the others."""
    few, many = undoing(FEW, in_flight=in_flight), undoing(MANY, in_flight=in_flight)
    assert many < 1.5 * few * MANY / FEW


class Asks(deque[Any]):
    """What a run asks for; counts how many were looked through."""

    seen = 0

    def __contains__(self, item: object) -> bool:
        self.seen += len(self)
        return super().__contains__(item)


def test_many_waits_are_left_without_a_search() -> None:
    """A signal without a timeout asked for nothing, so nothing is looked for when its wait is left."""
    run = Run(pairs, extra=MANY)
    asks = run.flow.asks = Asks(run.flow.asks)
    run.cancel()
    assert (run.end, asks.seen) == ("cancelled", 0)
    assert len(run.facts(r.TimerCancelled)) == MANY
