"""Pausing defers: what arrives is recorded in order, the code does not advance, and nothing is lost or reordered."""

from __future__ import annotations

import pytest

from actors.errors import Conflict, RunEnded
from actors.flow.context import Context
from actors.flow.definitions import App, Retry
from runtimed.virtual import VirtualRuntime
from tests.actors.world import HANG, WORLD, World, kinds

app = App("pausing")


@app.step(retry=Retry(max_attempts=3, initial_interval=10.0, jitter=0.0))
async def work(number: int) -> int:
    return int(await WORLD.act("work", number, result=number))


@app.workflow
async def in_order(ctx: Context) -> list[int]:
    return [await ctx.signal("n", int) for _ in range(3)]


@app.workflow
async def sleeper(ctx: Context) -> str:
    await ctx.sleep(60)
    return str(await ctx.step(work, 1))


@app.workflow
async def two_steps(ctx: Context) -> int:
    return int(await ctx.step(work, 1)) + int(await ctx.step(work, 2))


@pytest.mark.trio
@pytest.mark.parametrize("crashed", [False, True], ids=["live", "over a crash"])
async def test_signals_to_a_paused_run_are_applied_in_order_later(runtime: VirtualRuntime, crashed: bool) -> None:
    """They are accepted and recorded; after `resume` the code sees them in the order of their arrival."""
    handle = await runtime.start(in_order)
    await runtime.advance(1)
    await runtime.pause(handle.id, "let me look")
    for number in (1, 2, 3):
        await runtime.signal(handle.id, "n", number)
    if crashed:
        await runtime.crash()
    await runtime.advance(60)
    assert await handle.status() == "paused"
    await runtime.resume(handle.id)
    assert await handle.result() == [1, 2, 3]


@pytest.mark.trio
@pytest.mark.parametrize("crashed", [False, True], ids=["live", "over a crash"])
async def test_a_timer_of_a_paused_run_waits(runtime: VirtualRuntime, world: World, crashed: bool) -> None:
    """A timer that falls due meanwhile fires once, when the run is resumed."""
    handle = await runtime.start(sleeper)
    await runtime.advance(1)
    await runtime.pause(handle.id)
    if crashed:
        await runtime.crash()
    await runtime.advance(600)
    assert (await handle.status(), world.calls) == ("paused", [])
    await runtime.resume(handle.id)
    assert await handle.result() == "1"
    assert (await kinds(runtime, handle.id)).count("timer_fired") == 1


@pytest.mark.trio
async def test_a_timer_that_is_not_due_yet_fires_after_a_pause(runtime: VirtualRuntime, world: World) -> None:
    """Resumed before its time, a sleep ends when it would have ended."""
    handle = await runtime.start(sleeper)
    await runtime.pause(handle.id)
    await runtime.advance(10)
    await runtime.resume(handle.id)
    await runtime.advance(49)
    assert world.calls == []
    await runtime.advance(2)
    assert world.calls != []
    assert await handle.result() == "1"


@pytest.mark.trio
async def test_a_step_in_flight_ends_and_the_next_waits(runtime: VirtualRuntime, world: World) -> None:
    """Pausing cuts no step off: its result is recorded, and what comes after it waits for `resume`."""
    world.script["work"].append(OSError("down"))
    handle = await runtime.start(two_steps)
    await runtime.advance(1)
    await runtime.pause(handle.id)
    await runtime.advance(600)  # the retry was due after 10 s
    assert world.names == ["work"]
    await runtime.resume(handle.id)
    assert await handle.result() == 3


@pytest.mark.trio
async def test_a_paused_step_that_completes_is_not_run_again(runtime: VirtualRuntime, world: World) -> None:
    """A step that was in flight at the pause and at a kill is repeated; one that completed in between is not."""
    world.script["work"].append(HANG)
    handle = await runtime.start(two_steps)
    await world.begun["work"].wait()
    await runtime.pause(handle.id)
    await runtime.crash()
    await runtime.advance(60)
    assert world.names == ["work"]
    await runtime.resume(handle.id)
    assert await handle.result() == 3
    assert [args for _, args in world.calls] == [(1,), (1,), (2,)]


@pytest.mark.trio
async def test_a_queued_run_can_be_paused(runtime: VirtualRuntime, world: World) -> None:
    """A paused run does not begin when it is due; it begins when it is resumed."""
    handle = await runtime.start(sleeper, start_at=runtime.clock.now_us() + 60_000_000)
    await runtime.pause(handle.id)
    await runtime.advance(600)
    assert await handle.status() == "paused"
    assert await kinds(runtime, handle.id) == ["run_started", "run_paused"]
    await runtime.resume(handle.id)
    assert await handle.result() == "1"


@pytest.mark.trio
async def test_a_queued_run_resumed_in_time_begins_in_time(runtime: VirtualRuntime, world: World) -> None:
    """Paused and resumed before it was to start, it starts when it was to start."""
    handle = await runtime.start(sleeper, start_at=runtime.clock.now_us() + 600_000_000)
    await runtime.pause(handle.id)
    await runtime.advance(10)
    await runtime.resume(handle.id)
    await runtime.advance(10)
    assert await handle.status() == "queued"
    assert await handle.result() == "1"


@pytest.mark.trio
async def test_only_a_paused_run_is_resumed(runtime: VirtualRuntime) -> None:
    """`resume` of a run that is not paused is refused; so are both for one that has ended."""
    handle = await runtime.start(in_order)
    with pytest.raises(Conflict):
        await runtime.resume(handle.id)
    await runtime.cancel(handle.id)
    await runtime.settled(handle.id, None)
    with pytest.raises(RunEnded):
        await runtime.pause(handle.id)


@pytest.mark.trio
async def test_pausing_twice_is_no_harm(runtime: VirtualRuntime) -> None:
    """A second `pause` changes nothing; one `resume` is enough."""
    handle = await runtime.start(in_order)
    await runtime.pause(handle.id)
    await runtime.pause(handle.id)
    await runtime.resume(handle.id)
    for number in (1, 2, 3):
        await runtime.signal(handle.id, "n", number)
    assert await handle.result() == [1, 2, 3]
