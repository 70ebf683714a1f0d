"""Workflows whose code says what it was given wherever code can: in errors, results, state, approvals, the output."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

from runtimed import App, Context, Failure, Page, Poll, Retry

app = App("leaky")
CARD = "canary" + "-4242"  # in halves: a traceback shows lines of code, which are no data


class Refused(Failure):
    """A failure that repeats what it was given."""


@app.step(retry=Retry(max_attempts=2, initial_interval=0.001))
async def failing(given: Any) -> None:
    """Say it in an error, twice."""
    raise Refused(f"cannot do {given}")


@app.step(retry=Retry(max_attempts=1))
def crashing(given: Any) -> None:
    """Say it in the error of another library's kind, in a thread."""
    raise KeyError(given)


@app.step
async def echo(given: Any) -> Any:
    """Say it in a result."""
    return given


@echo.compensation(retry=Retry(max_attempts=1))
async def unsay(result: Any, given: Any) -> None:
    """Say it once more while undoing."""
    raise ValueError(f"cannot undo {result} of {given}")


@app.workflow(signals={"go": str})
async def saying(ctx: Context, given: Any) -> None:
    """Complete steps, keep state, wait for a signal, fail, and fail to undo."""
    await ctx.step(echo, given)
    await ctx.state.put("said", given)
    await ctx.emit(given)
    said = await ctx.signal("go")
    await ctx.step(failing, said)


@app.workflow
async def stumbling(ctx: Context, given: Any) -> None:
    """A defect whose message is the payload."""
    raise RuntimeError(f"no idea what to do with {given}")


@app.workflow
async def falling(ctx: Context, given: Any) -> None:
    """A step in a thread that fails."""
    await ctx.step(crashing, given)


@app.connector(every=0.05, key="id", deliver="records")
async def source(poll: Poll[int]) -> AsyncIterator[Page]:
    """A source that crashes with a record in its hands."""
    yield Page(records=[{"id": 1, "card": CARD}], cursor=1)
    raise LookupError(CARD)
