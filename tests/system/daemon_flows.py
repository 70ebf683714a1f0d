"""Small workflows for the tests of the daemon; they need nothing outside."""

from __future__ import annotations

import trio

from runtimed import App, Context, Failure, current_step

app = App("small")


class Refused(Failure):
    """A failure, as opposed to a defect."""


@app.step
async def rest(seconds: float) -> float:
    """Take so long."""
    await trio.sleep(seconds)
    return seconds


@app.workflow
async def resting(ctx: Context, seconds: float) -> float:
    """One step that takes a while."""
    return float(await ctx.step(rest, seconds))


@app.step
async def rest_once(seconds: float) -> float:
    """Take so long at the first attempt, and no time at those after it."""
    if current_step().attempt == 1:
        await trio.sleep(seconds)
    return seconds


@app.workflow
async def yielding(ctx: Context, seconds: float) -> float:
    """One step that takes a while unless it is repeated."""
    return float(await ctx.step(rest_once, seconds))


@app.workflow(signals={"go": str})
async def waiting(ctx: Context) -> str:
    """Wait for a signal, without end."""
    return str(await ctx.signal("go"))


@app.workflow
async def ending(ctx: Context, how: str) -> str:
    """Complete, fail, or meet a defect of the code."""
    if how == "failed":
        raise Refused("no")
    if how == "blocked":
        raise KeyError("a defect")
    await ctx.emit({"how": how})
    return how
