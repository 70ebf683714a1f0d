"""What the end-to-end tests of the runs' screens serve: steps with undos, a wait, a step that is made at most once."""

from __future__ import annotations

import trio

from runtimed import App, Context

app = App("desk")


@app.step
async def lock_order(order: int) -> str:
    return f"lock-{order}"


@lock_order.compensation
async def unlock_order(lock: str, order: int) -> None: ...


@app.step
async def reserve(order: int) -> str:
    return f"reserved-{order}"


@reserve.compensation
async def release(reservation: str, order: int) -> None: ...


@app.step(delivery="at_most_once")
async def wire(order: int) -> str:
    await trio.sleep_forever()
    return "never"


@app.workflow(signals={"go": str})
async def hold(ctx: Context, order: int) -> str:
    """Two steps, then a signal."""
    await ctx.step(lock_order, order)
    await ctx.step(reserve, order)
    return await ctx.signal("go", type=str)


@app.workflow
async def payout(ctx: Context, order: int) -> str:
    """A step of which nobody knows whether it happened, if the daemon is killed in it."""
    await ctx.step(lock_order, order)
    return await ctx.step(wire, order)
