"""The workflows that the benchmarks run: trivial steps, so that what is measured is the runtime."""

from __future__ import annotations

import time

from runtimed import App, Context

app = App("bench")
STEPS = 10
entered: list[float] = []  # when the thread step began, in the order of the runs


@app.step
async def add(number: int) -> int:
    """The least that a step can do."""
    return number + 1


@app.step
def enter(number: int) -> int:
    """The same in a thread; notes when it began."""
    entered.append(time.perf_counter())
    return number + 1


@app.workflow
async def ten(ctx: Context, number: int) -> int:
    """Ten steps, one after the other."""
    for _ in range(STEPS):
        number = await ctx.step(add, number)
    return number


@app.workflow
async def fifty(ctx: Context, number: int) -> int:
    """Fifty steps, one after the other."""
    for _ in range(50):
        number = await ctx.step(add, number)
    return number


@app.workflow
async def one(ctx: Context, number: int) -> int:
    """One step."""
    result: int = await ctx.step(add, number)
    return result


@app.workflow
async def thread(ctx: Context, number: int) -> int:
    """One step in a thread."""
    result: int = await ctx.step(enter, number)
    return result


@app.workflow
async def wait(ctx: Context, number: int) -> int:
    """Waits for a signal that never comes: an open run."""
    result: int = await ctx.signal("go", type=int)
    return result


@app.workflow
async def parked(ctx: Context, number: int) -> int:
    """Ten steps, then a signal that never comes: an open run with a past."""
    for _ in range(STEPS):
        number = await ctx.step(add, number)
    number += await ctx.signal("go", type=int)
    return number


@app.workflow
async def beat(ctx: Context, seconds: float) -> None:
    """A step, and then so many seconds of sleep, over and over: a run that lives."""
    for number in range(1_000):
        await ctx.step(add, number)
        await ctx.sleep(seconds)
