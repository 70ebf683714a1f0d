"""A defect blocks a run where it stands and undoes nothing; mended code goes on from there."""

from __future__ import annotations

import asyncio
from pathlib import Path

import anyio
import pytest
import trio
import trio.lowlevel

from actors.errors import NotBlocked, RunBlocked
from actors.flow.context import Context
from actors.flow.definitions import App, Retry
from runtimed.opening import open_runtime
from runtimed.settings import Limits, Settings
from runtimed.virtual import VirtualRuntime
from tests.actors.world import HANG, WORLD, World, kinds, records
from wal import records as r

broken = App("defects")
mended = App("defects")
other = App("other")
foreign = App("foreign")


async def do(name: str) -> str:
    return str(await WORLD.act(name, result=f"{name} done"))


@broken.step(name="charge")
async def charge() -> str:
    return await do("charge")


@charge.compensation(name="refund")
async def refund(charged: str) -> None:
    await do("refund")


@broken.workflow(name="flow")
async def with_a_bug(ctx: Context) -> str:
    charged = await ctx.step(charge)
    return charged + 1  # type: ignore[no-any-return]


@broken.workflow(name="changing")
async def before_the_change(ctx: Context) -> str:
    await ctx.step(charge)
    return str(await ctx.signal("go"))


@broken.workflow(name="patched")
async def unpatched(ctx: Context) -> str:
    await ctx.sleep(60)
    return "old"


@mended.step(name="charge")
async def charge_again() -> str:
    return await do("charge")


@charge_again.compensation(name="refund")
async def refund_again(charged: str) -> None:
    await do("refund")


@mended.workflow(name="flow")
async def without_it(ctx: Context) -> str:
    charged = await ctx.step(charge_again)
    return f"{charged} and mended"


@mended.workflow(name="changing")
async def after_the_change(ctx: Context) -> str:
    await ctx.sleep(5)
    return "another way"


@mended.workflow(name="patched")
async def with_a_patch(ctx: Context) -> str:
    if ctx.patched("new-way"):
        return "new"
    await ctx.sleep(60)
    return f"old{' and new' if ctx.patched('later') else ''}"


@other.workflow
async def anything(ctx: Context) -> None:
    await ctx.sleep(1)


@broken.step(name="picky", retry=Retry(max_attempts=1))
async def picky(number: int) -> int:
    return number


@broken.workflow
async def misfit(ctx: Context) -> None:
    await ctx.step(picky, "text")


@broken.workflow
async def not_a_step(ctx: Context) -> None:
    await ctx.step(do, "charge")


# --- what workflows must not await


@foreign.workflow
async def trio_sleep(ctx: Context) -> None:
    await trio.lowlevel.checkpoint()


@foreign.workflow
async def trio_scope(ctx: Context) -> None:
    with trio.move_on_after(0.05):
        await ctx.signal("never")


@foreign.workflow
async def trio_nursery(ctx: Context) -> None:
    async with trio.open_nursery():
        await ctx.sleep(1)


@foreign.workflow
async def anyio_scope(ctx: Context) -> None:
    with anyio.move_on_after(0.05):
        await ctx.signal("never")


@foreign.workflow
async def asyncio_sleep(ctx: Context) -> None:
    await asyncio.sleep(0)


@foreign.workflow
async def after_a_step(ctx: Context) -> None:
    await ctx.sleep(1)
    await trio.lowlevel.checkpoint()


FOREIGN = [trio_sleep, trio_scope, trio_nursery, anyio_scope, asyncio_sleep, after_a_step]


@pytest.mark.trio
@pytest.mark.parametrize("workflow", FOREIGN, ids=lambda workflow: workflow.name)
async def test_another_librarys_await_is_a_defect_at_its_line(runtime: VirtualRuntime, workflow: object) -> None:
    """Awaiting anything but ctx, or entering a foreign scope, blocks the run with ForeignAwait, naming the line."""
    handle = await runtime.start(workflow)  # type: ignore[arg-type]
    with pytest.raises(RunBlocked, match="ForeignAwait") as caught:
        await handle.result()
    assert caught.value.type == "code_error"
    blocked = next(one for one in await records(runtime, handle.id) if isinstance(one, r.RunBlocked))
    assert blocked.traceback is not None and f"in {workflow.name}" in blocked.traceback  # type: ignore[attr-defined]
    assert await (await runtime.start(anything)).result() is None  # and the others go on


@pytest.mark.trio
async def test_a_bug_blocks_and_refunds_nobody(runtime: VirtualRuntime, world: World) -> None:
    """An exception that is no Failure leaves the run blocked with its traceback; nothing is compensated."""
    handle = await runtime.start(with_a_bug)
    with pytest.raises(RunBlocked, match="TypeError"):
        await handle.result()
    blocked = next(one for one in await records(runtime, handle.id) if isinstance(one, r.RunBlocked))
    assert blocked.code == "code_error" and "charged + 1" in (blocked.traceback or "")
    assert world.names == ["charge"]
    assert await handle.status() == "blocked"


@pytest.mark.trio
async def test_mended_code_goes_on_from_where_it_stood(runtime: VirtualRuntime, world: World) -> None:
    """`retry` after a restart with mended code continues; the completed step does not run again."""
    handle = await runtime.start(with_a_bug)
    await runtime.settled(handle.id, None)
    await runtime.restart(apps=[mended])
    assert await handle.status() == "blocked"
    await runtime.retry(handle.id, "mended")
    assert await handle.result() == "charge done and mended"
    assert world.names == ["charge"]


@pytest.mark.trio
async def test_mended_code_on_a_file(tmp_path: Path, world: World) -> None:
    """The same over two daemons on one folder."""
    async with open_runtime(broken, tmp_path, writer="inline") as runtime:
        handle = await runtime.start(with_a_bug, id="r")
        assert (await runtime.settled("r", 60)).status == "blocked"
    async with open_runtime(mended, tmp_path, writer="inline") as runtime:
        await runtime.retry("r")
        assert await runtime.result("r", 60) == "charge done and mended"
    assert (handle.id, world.names) == ("r", ["charge"])


@pytest.mark.trio
async def test_retrying_what_is_not_mended_blocks_again(runtime: VirtualRuntime, world: World) -> None:
    """The same defect leads to the same place, as often as somebody tries."""
    handle = await runtime.start(with_a_bug)
    for attempt in range(3):
        assert (await runtime.settled(handle.id, None)).status == "blocked"
        assert (await kinds(runtime, handle.id)).count("run_blocked") == attempt + 1
        await runtime.retry(handle.id)
    assert (await runtime.settled(handle.id, None)).status == "blocked"
    assert world.names == ["charge"]


@pytest.mark.trio
async def test_another_call_than_recorded_blocks_with_both_sides_named(runtime: VirtualRuntime, world: World) -> None:
    """Replay that meets another call than the record has: `nondeterminism`; nothing is lost and nothing undone."""
    handle = await runtime.start(before_the_change)
    await runtime.advance(1)
    await runtime.restart(apps=[mended])
    await runtime.signal(handle.id, "go", "now")
    with pytest.raises(RunBlocked, match=r"recorded: step_scheduled 'charge'.*now makes: timer") as caught:
        await handle.result()
    assert caught.value.type == "nondeterminism"
    await runtime.restart(apps=[broken])  # the old code comes back
    await runtime.retry(handle.id)
    assert await handle.result() == "now"
    assert world.names == ["charge"]


@pytest.mark.trio
async def test_an_unknown_workflow_blocks_and_comes_back_by_itself(runtime: VirtualRuntime, world: World) -> None:
    """A run whose workflow is not registered waits for it, keeps what arrives, and continues without being told."""
    handle = await runtime.start(before_the_change)
    await runtime.advance(1)
    await runtime.restart(apps=[other])
    await runtime.signal(handle.id, "go", "kept")
    found = await runtime.settled(handle.id, None)
    assert (found.status, found.error and found.error.type) == ("blocked", "unknown_workflow")
    await runtime.restart(apps=[broken])
    assert await handle.result() == "kept"


@pytest.mark.trio
async def test_an_unknown_workflow_blocks_what_was_running(runtime: VirtualRuntime, world: World) -> None:
    """The same where the run was not waiting but in a step when the code went away."""
    world.script["charge"].append(HANG)
    handle = await runtime.start(with_a_bug)
    await world.begun["charge"].wait()
    await runtime.crash(apps=[other])
    assert (await runtime.settled(handle.id, None)).status == "blocked"
    await runtime.restart(apps=[mended])
    assert await handle.result() == "charge done and mended"


@pytest.mark.trio
async def test_patched_takes_the_new_way_only_in_what_had_not_passed(runtime: VirtualRuntime) -> None:
    """`patched` is False in a run that had gone past it, True in later ones, and its answer never changes."""
    old = await runtime.start(unpatched)
    await runtime.advance(1)
    await runtime.restart(apps=[mended])
    new = await runtime.start(with_a_patch)
    assert await new.result() == "new"
    assert await old.result() == "old and new"


@pytest.mark.trio
@pytest.mark.parametrize("workflow", [misfit, not_a_step], ids=lambda workflow: workflow.name)
async def test_a_wrong_call_is_a_defect(runtime: VirtualRuntime, workflow: object) -> None:
    """Arguments that do not decode to the declared types, and what is no step at all, block the run."""
    handle = await runtime.start(workflow)  # type: ignore[arg-type]
    found = await runtime.settled(handle.id, None)
    assert (found.status, found.error and found.error.type) == ("blocked", "code_error")


@pytest.mark.trio
async def test_only_a_blocked_run_can_be_retried(runtime: VirtualRuntime, world: World) -> None:
    """`retry` of a run that waits is refused."""
    handle = await runtime.start(before_the_change)
    await runtime.advance(1)
    with pytest.raises(NotBlocked):
        await runtime.retry(handle.id)


# --- bounds on code that does not behave


@foreign.workflow
async def emitting_for_ever(ctx: Context) -> None:
    while True:
        await ctx.emit("again")


class TestSmallHistory:
    """With a small bound on the records of one run."""

    @pytest.fixture
    def runtime_settings(self) -> Settings:
        return Settings(limits=Limits(history_records_max=100))

    @pytest.mark.trio
    async def test_a_run_that_records_for_ever_is_stopped(self, runtime: VirtualRuntime) -> None:
        """Beyond `history_records_max` a run is blocked, so that it does not fill the disk."""
        handle = await runtime.start(emitting_for_ever)
        found = await runtime.settled(handle.id, None)
        assert (found.status, found.error and found.error.type) == ("blocked", "history_limit")
        assert len(await kinds(runtime, handle.id)) <= 102
        await runtime.cancel(handle.id)
        assert (await runtime.settled(handle.id, None)).status == "cancelled"
