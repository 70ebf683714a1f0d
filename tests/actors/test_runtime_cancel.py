"""A run can be cancelled in every state; it ends `cancelled`, with everything undone that was done."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import trio

from actors.errors import RunBlocked, RunEnded, RunNotFound
from actors.flow.calls import Cancelled
from actors.flow.context import Context
from actors.flow.definitions import App, Retry
from runtimed.virtual import VirtualRuntime
from tests.actors.world import HANG, WORLD, World, kinds, records
from wal import records as r

DEAF = [True]
"""Emptied when all is over: code that nobody could end would complain when the interpreter ends."""

app = App("cancelling")
mended = App("cancelling")
without = App("cancelling")


@app.step(retry=Retry(max_attempts=2, initial_interval=60.0, jitter=0.0))
async def prepare() -> None:
    await WORLD.act("prepare")


@prepare.compensation
async def tidy_up(result: None) -> None:
    await WORLD.act("tidy_up")


@app.step(retry=Retry(max_attempts=2, initial_interval=60.0, jitter=0.0))
async def work() -> None:
    await WORLD.act("work")


@app.workflow
async def sleeping(ctx: Context) -> None:
    await ctx.step(prepare)
    await ctx.sleep(3600)


@app.workflow
async def awaiting(ctx: Context) -> None:
    await ctx.step(prepare)
    await ctx.signal("go")


@app.workflow
async def working(ctx: Context) -> None:
    await ctx.step(prepare)
    await ctx.step(work)


@app.workflow
async def grouped(ctx: Context) -> None:
    await ctx.step(prepare)
    await ctx.gather(ctx.sleep(3600), ctx.signal("go"), ctx.step(work))


@app.workflow
async def broken(ctx: Context) -> None:
    await ctx.step(prepare)
    raise RuntimeError("a bug")


@app.workflow
async def suppressing(ctx: Context) -> str:
    await ctx.step(prepare)
    try:
        await ctx.sleep(3600)
    except Cancelled:
        return "went on"
    return "slept"


@app.workflow
async def deaf_to_it(ctx: Context) -> None:
    await ctx.step(prepare)
    while DEAF:
        try:
            await ctx.sleep(3600)
        except BaseException:  # noqa: BLE001 - what this test is about
            pass


@app.workflow(name="changed")
async def first_version(ctx: Context) -> None:
    await ctx.step(prepare)
    await ctx.signal("go")


@mended.step(name="prepare")
async def prepare_again() -> None:
    await WORLD.act("prepare")


@prepare_again.compensation(name="tidy_up")
async def tidy_up_again(result: None) -> None:
    await WORLD.act("tidy_up")


@mended.workflow(name="changed")
async def second_version(ctx: Context) -> None:
    await ctx.emit("a call that was not made")


@without.step(name="prepare")
async def prepare_without() -> None:
    await WORLD.act("prepare")


@prepare_without.compensation(name="tidy_up")
async def tidy_up_without(result: None) -> None:
    await WORLD.act("tidy_up")


@pytest.fixture(autouse=True, scope="module")
def _in_the_end() -> Iterator[None]:
    yield
    DEAF.clear()


async def cancelled(runtime: VirtualRuntime, run_id: str) -> None:
    """Cancel it and see that it ends so, and that what was prepared is tidied up, once."""
    await runtime.cancel(run_id, "enough")
    with trio.fail_after(1_000):
        assert (await runtime.settled(run_id, None)).status == "cancelled"
    assert (WORLD.names.count("prepare"), WORLD.names.count("tidy_up")) == (1, 1)


@pytest.mark.trio
@pytest.mark.parametrize("workflow", [sleeping, awaiting, grouped, suppressing, deaf_to_it], ids=lambda w: w.name)
@pytest.mark.parametrize("crashed", [False, True], ids=["live", "after a crash"])
async def test_a_waiting_run(runtime: VirtualRuntime, world: World, workflow: object, crashed: bool) -> None:
    """Waiting for timers, signals or several things at once, and whatever the code does about its cancellation."""
    world.script["work"].append(OSError("later"))
    handle = await runtime.start(workflow)  # type: ignore[arg-type]
    await runtime.advance(1)
    if crashed:
        await runtime.crash()
    await cancelled(runtime, handle.id)


@pytest.mark.trio
async def test_a_queued_run(runtime: VirtualRuntime, world: World) -> None:
    """A run that was to start later never begins; there is nothing to undo."""
    tomorrow = runtime.clock.now_us() + 86_400_000_000
    handle = await runtime.start(sleeping, start_at=tomorrow)
    assert await handle.status() == "queued"
    await runtime.cancel(handle.id)
    assert await handle.status() == "cancelled"
    await runtime.advance(2 * 86_400)
    assert (await handle.status(), world.calls) == ("cancelled", [])
    assert await kinds(runtime, handle.id) == ["run_started", "run_cancel_requested", "run_cancelled"]


@pytest.mark.trio
async def test_a_run_whose_step_is_in_flight(runtime: VirtualRuntime, world: World) -> None:
    """The step is cancelled, its outcome awaited, then what was done is undone."""
    world.script["work"].append(HANG)
    handle = await runtime.start(working)
    await world.begun["work"].wait()
    await cancelled(runtime, handle.id)
    assert "step_failed" in await kinds(runtime, handle.id)


@pytest.mark.trio
async def test_a_run_in_backoff(runtime: VirtualRuntime, world: World) -> None:
    """A retry that is due later does not come any more."""
    world.script["work"].append(OSError("down"))
    handle = await runtime.start(working)
    await runtime.advance(1)
    assert (await runtime.run(handle.id)).waiting_on == "retry"
    await cancelled(runtime, handle.id)
    await runtime.advance(3600)
    assert world.names.count("work") == 1


@pytest.mark.trio
async def test_a_paused_run(runtime: VirtualRuntime, world: World) -> None:
    """Cancelling does not wait for somebody to resume."""
    handle = await runtime.start(awaiting)
    await runtime.advance(1)
    await runtime.pause(handle.id)
    assert await handle.status() == "paused"
    await cancelled(runtime, handle.id)


@pytest.mark.trio
async def test_a_run_blocked_by_a_defect(runtime: VirtualRuntime, world: World) -> None:
    """Code that cannot go on is not needed to undo what its records say was done."""
    handle = await runtime.start(broken)
    with pytest.raises(RunBlocked, match="a bug"):
        await handle.result()
    assert world.names == ["prepare"]
    await cancelled(runtime, handle.id)


@pytest.mark.trio
async def test_a_run_blocked_by_nondeterminism(runtime: VirtualRuntime, world: World) -> None:
    """The same for code that contradicts its records."""
    handle = await runtime.start(first_version)
    await runtime.advance(1)
    await runtime.restart(apps=[mended])
    await runtime.signal(handle.id, "go")
    assert (await runtime.settled(handle.id, 10)).error.type == "nondeterminism"  # type: ignore[union-attr]
    await cancelled(runtime, handle.id)


@pytest.mark.trio
async def test_a_run_of_an_unknown_workflow(runtime: VirtualRuntime, world: World) -> None:
    """The same for code that is not there any more."""
    handle = await runtime.start(first_version)
    await runtime.advance(1)
    await runtime.restart(apps=[without])
    await runtime.signal(handle.id, "go")
    assert (await runtime.settled(handle.id, 10)).error.type == "unknown_workflow"  # type: ignore[union-attr]
    await cancelled(runtime, handle.id)


@pytest.mark.trio
async def test_an_ended_or_unknown_run(runtime: VirtualRuntime, world: World) -> None:
    """What has ended takes no cancellation, and what never was is not found."""
    handle = await runtime.start(sleeping)
    await runtime.cancel(handle.id)
    await runtime.settled(handle.id, None)
    with pytest.raises(RunEnded):
        await runtime.cancel(handle.id)
    with pytest.raises(RunNotFound):
        await runtime.cancel("nobody")


@pytest.mark.trio
async def test_a_cancellation_on_disk_is_carried_out_after_a_crash(runtime: VirtualRuntime, world: World) -> None:
    """Acknowledged and then killed: the run is cancelled all the same."""
    world.script["tidy_up"].append(HANG)
    handle = await runtime.start(awaiting)
    await runtime.advance(1)
    await runtime.cancel(handle.id, "enough")
    await runtime.crash()
    assert (await runtime.settled(handle.id, None)).status == "cancelled"
    ended = (await records(runtime, handle.id))[-1]
    assert isinstance(ended, r.RunCancelled) and ended.reason == "enough"


@pytest.mark.trio
async def test_a_second_cancellation_changes_nothing(runtime: VirtualRuntime, world: World) -> None:
    """Cancelling a run that is being cancelled is accepted and has no further effect."""
    world.script["tidy_up"].append(OSError("later"))
    handle = await runtime.start(awaiting)
    await runtime.advance(1)
    await runtime.cancel(handle.id)
    await runtime.cancel(handle.id)
    assert (await runtime.settled(handle.id, None)).status == "cancelled"
    assert world.names == ["prepare", "tidy_up", "tidy_up"]


@pytest.mark.trio
async def test_a_paused_run_that_is_being_undone_survives_a_crash(runtime: VirtualRuntime, world: World) -> None:
    """Cancelling ends the pause: the run shows that it compensates, and goes on with that after a kill."""
    world.script["tidy_up"].extend([HANG, HANG])
    handle = await runtime.start(awaiting)
    await runtime.advance(1)
    await runtime.pause(handle.id)
    await runtime.cancel(handle.id)
    await world.begun["tidy_up"].wait()
    assert await handle.status() == "compensating"
    await runtime.crash()
    await runtime.advance(1)
    await runtime.crash()
    assert (await runtime.settled(handle.id, 60)).status == "cancelled"


@pytest.mark.trio
async def test_a_cancelled_run_can_be_paused_while_it_is_undone(runtime: VirtualRuntime, world: World) -> None:
    """The undoing holds where it stands, also over a crash, and goes on with `resume`."""
    world.script["tidy_up"].append(OSError("later"))
    handle = await runtime.start(awaiting)
    await runtime.advance(1)
    await runtime.cancel(handle.id)
    await runtime.pause(handle.id)
    await runtime.advance(60)
    await runtime.crash()
    await runtime.advance(60)
    assert (await handle.status(), world.names.count("tidy_up")) == ("paused", 1)
    await runtime.resume(handle.id)
    assert (await runtime.settled(handle.id, 60)).status == "cancelled"
