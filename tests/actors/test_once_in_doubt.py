"""A step that may run at most once: whatever keeps its outcome from being recorded, only a person has it run again."""

from __future__ import annotations

import pytest

from actors.flow.context import Context
from actors.flow.definitions import App, Retry
from runtimed import NotBlocked, NotFound, RunBlocked
from runtimed.virtual import VirtualRuntime
from tests.actors.world import HANG, WORLD, World, kinds

app = App("once")


@app.step(delivery="at_most_once")
async def wire(cents: int) -> str:
    return str(await WORLD.act("wire", cents, result="x" * (3 << 20)))  # over the limit of a payload


@app.step(delivery="at_most_once")
async def no_json() -> str:
    return await WORLD.act("no json", result=object())  # type: ignore[no-any-return]


@app.step(retry=Retry(max_attempts=1))
async def slow() -> str:
    return str(await WORLD.act("slow", result="slow"))


@app.step
async def broken() -> str:
    return await WORLD.act("broken", result=object())  # type: ignore[no-any-return]


@app.workflow
async def pay(ctx: Context) -> str:
    return await ctx.step(wire, 100)


@app.workflow
async def report(ctx: Context) -> str:
    return await ctx.step(no_json)


@app.workflow
async def pair(ctx: Context) -> list[str]:
    return await ctx.gather(ctx.step(broken), ctx.step(slow))


@pytest.mark.trio
@pytest.mark.parametrize("workflow", [pay, report], ids=["too large", "no json"])
async def test_a_result_that_cannot_be_recorded_is_a_doubt(
    runtime: VirtualRuntime, world: World, workflow: object
) -> None:
    """It has acted: a plain retry is refused, and a person says what it did, with a result that can be kept."""
    handle = await runtime.start(workflow)  # type: ignore[arg-type]
    with pytest.raises(RunBlocked):
        await handle.result()
    error = (await runtime.run(handle.id)).error
    assert error is not None
    assert (error.type, "cannot be recorded" in error.message) == ("outcome_unknown", True)
    with pytest.raises(NotBlocked, match="waits for somebody"):
        await runtime.retry(handle.id)
    assert len(world.names) == 1
    await runtime.resolve(handle.id, "0", happened=True, result="paid")
    assert await handle.result() == "paid"
    assert len(world.names) == 1


@pytest.mark.trio
async def test_a_refused_command_leaves_no_record_of_a_blocked_run(runtime: VirtualRuntime, world: World) -> None:
    """A run that stands still after a crash may be looked at however often: what was interrupted in it is recorded
    once, when it goes on."""
    world.script["slow"].append(HANG)
    await runtime.start(pair, id="r")
    await runtime.settled("r", None)
    await runtime.crash()
    before = await kinds(runtime, "r")
    for _ in range(12):
        with pytest.raises(NotFound):
            await runtime.resolve("r", "9", happened=False)
    assert await kinds(runtime, "r") == before
    world.script["broken"].append("mended")
    await runtime.retry("r")
    assert await runtime.result("r", 10) == ["mended", "slow"]
    added = (await kinds(runtime, "r"))[len(before) :]
    assert added.count("step_interrupted") == 1
