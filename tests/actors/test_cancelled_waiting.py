"""A run that is cancelled says anew what it waits for, though that is what it waited for before."""

from __future__ import annotations

import pytest

from actors.flow.context import Context
from actors.flow.definitions import App
from runtimed.virtual import VirtualRuntime
from tests.actors.world import WORLD, World, kinds

app = App("cancelled-waiting")


@app.step
async def work() -> None:
    await WORLD.act("work")


@work.compensation
async def undo(result: None) -> None:
    await WORLD.act("undo")


@app.workflow
async def child(ctx: Context) -> str:
    await ctx.step(work)
    return str(await ctx.signal("never"))


@app.workflow
async def parent(ctx: Context) -> str:
    return str(await ctx.child(child))


@pytest.mark.trio
async def test_a_cancelled_parent_waits_for_its_child(runtime: VirtualRuntime, world: World) -> None:
    """While the child's undo fails again and again, the parent is seen to wait for it, and nobody takes it for lost."""
    handle = await runtime.start(parent)
    await runtime.advance(1)
    world.script["undo"].extend([OSError("down")] * 3)
    await runtime.cancel(handle.id)
    await runtime.advance(3)
    assert (await kinds(runtime, handle.id))[-1] == "run_waiting"
    doubts = await runtime.read(lambda reader: reader.doubts())
    assert [doubt.run_id for doubt in doubts if not runtime.actors.coordinator.moves(doubt.run_key)] == []
    await runtime.settled(handle.id, 600)
    assert await runtime.status(handle.id) == "cancelled"
