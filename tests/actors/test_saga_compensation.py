"""What the runtime promises about sagas: what failed or was cancelled is undone, in reverse, for good, and visibly."""

from __future__ import annotations

import pytest
import trio

from actors.errors import Failure, NotBlocked, RunBlocked, RunCancelled, RunFailed, StepFailed
from actors.flow.context import Context
from actors.flow.definitions import App, Retry
from runtimed.virtual import VirtualRuntime
from tests.actors.world import HANG, WORLD, World, kinds, records
from wal import records as r

app = App("sagas")
ONCE = Retry(max_attempts=1)


class OutOfStock(Failure):
    """A failure of the business."""


@app.step(retry=ONCE)
async def charge(cents: int) -> str:
    return str(await WORLD.act("charge", cents, result="ch-1"))


@charge.compensation(retry=Retry(max_attempts=2, jitter=0.0))
async def refund(charge_id: str, cents: int) -> None:
    await WORLD.act("refund", charge_id, cents)


@app.step(retry=ONCE)
async def reserve(item: str) -> str:
    return str(await WORLD.act("reserve", item, result="re-1"))


@reserve.compensation
async def release(reservation: str, item: str) -> None:
    await WORLD.act("release", reservation, item)


@app.step(retry=ONCE)
async def ship() -> str:
    return str(await WORLD.act("ship", result="shipped"))


@ship.compensation(on_unknown=True)
async def recall(shipped: str | None) -> None:
    await WORLD.act("recall", shipped)


@app.step
async def notify(text: str) -> None:
    await WORLD.act("notify", text)


@app.workflow
async def order(ctx: Context) -> str:
    await ctx.step(charge, 100)
    await ctx.step(reserve, "book")
    return str(await ctx.step(ship))


@app.workflow
async def failing(ctx: Context) -> None:
    await ctx.step(charge, 100)
    raise OutOfStock("none left")


@app.workflow(fails_on=(LookupError,))
async def looking_up(ctx: Context) -> None:
    await ctx.step(charge, 100)
    raise KeyError("book")


@app.workflow
async def timing_out(ctx: Context) -> None:
    await ctx.step(charge, 100)
    await ctx.signal("paid", timeout=60.0)


@app.workflow
async def partly(ctx: Context) -> str:
    await ctx.step(charge, 100)
    try:
        async with ctx.saga():
            await ctx.step(reserve, "book")
            await ctx.step(ship)
    except StepFailed:
        return "charged only"
    return "all"


@app.workflow
async def with_own_undo(ctx: Context) -> None:
    ctx.add_compensation(notify, "sorry")
    await ctx.step(charge, 100)
    raise OutOfStock("none left")


@app.workflow
async def side_by_side(ctx: Context) -> None:
    await ctx.gather(ctx.step(charge, 100), ctx.step(reserve, "book"), ctx.step(ship))


@app.workflow
async def undoing_in_vain(ctx: Context) -> None:
    await ctx.step(reserve, "book")
    await ctx.step(charge, 100)
    raise OutOfStock("none left")


@pytest.mark.trio
async def test_a_failed_run_undoes_its_steps_in_reverse(runtime: VirtualRuntime, world: World) -> None:
    """A step that failed for good compensates the completed ones, newest first, with their results and arguments."""
    world.script["ship"].append(OSError("no van"))
    handle = await runtime.start(order)
    with pytest.raises(RunFailed, match="no van"):
        await handle.result()
    assert await handle.status() == "failed"
    assert world.calls[3:] == [("recall", (None,)), ("release", ("re-1", "book")), ("refund", ("ch-1", 100))]


@pytest.mark.trio
async def test_compensating_is_a_state_that_shows(runtime: VirtualRuntime, world: World) -> None:
    """While a run undoes, its status is `compensating`, and it tells why."""
    world.script["ship"].append(OSError("no van"))
    world.script["release"].append(HANG)
    handle = await runtime.start(order)
    with trio.fail_after(60):
        await world.begun["release"].wait()
    await runtime.advance(1.0)
    found = await runtime.run(handle.id)
    assert found.status == "compensating"
    assert found.error is not None and found.error.step == "ship"
    await runtime.crash()
    assert (await runtime.settled(handle.id, None)).status == "failed"


@pytest.mark.trio
@pytest.mark.parametrize("workflow", [failing, looking_up, timing_out])
async def test_a_failure_ends_a_run(runtime: VirtualRuntime, world: World, workflow: object) -> None:
    """A `Failure`, what `fails_on` lists, and the timeout of a ctx call fail the run and compensate it."""
    handle = await runtime.start(workflow)  # type: ignore[arg-type]
    with pytest.raises(RunFailed):
        await handle.result()
    assert world.names == ["charge", "refund"]


@pytest.mark.trio
async def test_a_saga_block_undoes_just_itself(runtime: VirtualRuntime, world: World) -> None:
    """What failed inside a block is undone with it; what was done before it stands."""
    world.script["ship"].append(OSError("no van"))
    handle = await runtime.start(partly)
    assert await handle.result() == "charged only"
    assert world.names == ["charge", "reserve", "ship", "recall", "release"]
    assert await handle.status() == "completed"


@pytest.mark.trio
async def test_an_undo_of_ones_own_is_carried_out(runtime: VirtualRuntime, world: World) -> None:
    """`add_compensation` puts an undo on the stack, in its place."""
    handle = await runtime.start(with_own_undo)
    assert (await runtime.settled(handle.id, None)).status == "failed"
    assert world.names == ["charge", "refund", "notify"]


@pytest.mark.trio
async def test_a_failed_branch_undoes_its_siblings_once_they_settled(runtime: VirtualRuntime, world: World) -> None:
    """The first failure of a gather cancels the rest; what completed is undone, what was cut off if it asks for it."""
    world.script["reserve"].append(OSError("no shelf"))
    world.script["ship"].append(HANG)
    handle = await runtime.start(side_by_side)
    with pytest.raises(RunFailed, match="no shelf"):
        await handle.result()
    assert sorted(world.names[3:]) == ["recall", "refund"]
    assert ("recall", (None,)) in world.calls


@pytest.mark.trio
async def test_an_undo_that_fails_for_good_blocks_the_run(runtime: VirtualRuntime, world: World) -> None:
    """A compensation whose attempts are used up leaves the run blocked with what is left; `retry` goes on there."""
    world.script["refund"].extend([OSError("bank closed")] * 2)
    handle = await runtime.start(undoing_in_vain)
    with pytest.raises(RunBlocked, match="bank closed") as blocked:
        await handle.result()
    assert blocked.value.type == "compensation_failed"
    assert world.names == ["reserve", "charge", "refund", "refund"]
    await runtime.retry(handle.id, "the bank is open")
    with pytest.raises(RunFailed, match="none left"):
        await handle.result()
    assert world.names[4:] == ["refund", "release"]


@pytest.mark.trio
@pytest.mark.parametrize("happened", [True, False])
async def test_a_failed_undo_can_be_resolved(runtime: VirtualRuntime, world: World, happened: bool) -> None:
    """Somebody may say that an undo was done by hand; said that it was not, it is tried again."""
    world.script["refund"].extend([OSError("bank closed")] * 2)
    handle = await runtime.start(undoing_in_vain)
    await runtime.settled(handle.id, None)
    await runtime.resolve(handle.id, "1!", happened=happened, reason="looked it up")
    assert (await runtime.settled(handle.id, None)).status == "failed"
    assert world.names[4:] == (["release"] if happened else ["refund", "release"])


@pytest.mark.trio
async def test_an_undo_survives_a_crash_in_the_middle(runtime: VirtualRuntime, world: World) -> None:
    """A kill while a compensation is in flight repeats that one under its key, and no other."""
    world.script["ship"].append(OSError("no van"))
    world.script["release"].append(HANG)
    handle = await runtime.start(order)
    await world.begun["release"].wait()
    await runtime.crash()
    assert (await runtime.settled(handle.id, None)).status == "failed"
    assert world.names[3:] == ["recall", "release", "release", "refund"]
    keys = {key for name, _, key in world.attempts if name == "release"}
    assert len(keys) == 1


@pytest.mark.trio
async def test_cancelling_undoes_and_says_so(runtime: VirtualRuntime, world: World) -> None:
    """A cancelled run undoes its completed steps in reverse and ends `cancelled`, with the reason on record."""
    world.script["ship"].append(HANG)
    handle = await runtime.start(order)
    await world.begun["ship"].wait()
    await runtime.cancel(handle.id, "changed my mind")
    with pytest.raises(RunCancelled):
        await handle.result()
    assert world.names[3:] == ["recall", "release", "refund"]
    ended = (await records(runtime, handle.id))[-1]
    assert isinstance(ended, r.RunCancelled) and ended.reason == "changed my mind"


@pytest.mark.trio
async def test_cancelling_while_compensating_changes_nothing(runtime: VirtualRuntime, world: World) -> None:
    """A run that is undoing a failure goes on with that and ends `failed`."""
    world.script["ship"].append(OSError("no van"))
    world.script["release"].append(OSError("try again"))
    handle = await runtime.start(order)
    await runtime.advance(0.1)
    assert await handle.status() == "compensating"
    await runtime.cancel(handle.id, "too late")
    assert (await runtime.settled(handle.id, None)).status == "failed"
    assert world.names[3:] == ["recall", "release", "release", "refund"]


@pytest.mark.trio
async def test_only_a_blocked_run_is_retried_or_resolved(runtime: VirtualRuntime, world: World) -> None:
    """`retry` and `resolve` of a run that is not blocked are refused, and record nothing."""
    world.script["ship"].append(HANG)
    handle = await runtime.start(order)
    await world.begun["ship"].wait()
    before = await kinds(runtime, handle.id)
    with pytest.raises(NotBlocked):
        await runtime.retry(handle.id)
    with pytest.raises(NotBlocked):
        await runtime.resolve(handle.id, "2", happened=True)
    assert await kinds(runtime, handle.id) == before
