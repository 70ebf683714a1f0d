"""An undo that the workflow added itself keeps the delivery of its step, also over a crash."""

from __future__ import annotations

import pytest

from actors.errors import NotBlocked, RunCancelled
from actors.flow.context import Context
from actors.flow.definitions import App
from runtimed.virtual import VirtualRuntime
from tests.actors.world import HANG, WORLD, World

app = App("doubts")


@app.step(delivery="at_most_once")
async def pay_back(cents: int) -> None:
    await WORLD.act("pay back", cents)


@app.workflow
async def paying(ctx: Context) -> None:
    ctx.add_compensation(pay_back, 990)
    await ctx.signal("never")


async def in_doubt(runtime: VirtualRuntime, world: World) -> str:
    """A cancelled run whose undo was under way when the process was killed."""
    world.script["pay back"].append(HANG)
    handle = await runtime.start(paying)
    await runtime.cancel(handle.id, "changed their mind")
    await world.begun["pay back"].wait()
    await runtime.crash()
    return handle.id


@pytest.mark.trio
async def test_an_undo_in_doubt_is_not_repeated(runtime: VirtualRuntime, world: World) -> None:
    """An added undo that is `at_most_once` is put before a person after a crash, like any such step."""
    run_id = await in_doubt(runtime, world)
    found = await runtime.settled(run_id, None)
    assert (found.status, found.error and found.error.type) == ("blocked", "outcome_unknown")
    with pytest.raises(NotBlocked, match="waits for somebody"):
        await runtime.retry(run_id)
    assert world.names == ["pay back"]


@pytest.mark.trio
@pytest.mark.parametrize("happened", [True, False])
async def test_somebody_resolves_an_undo(runtime: VirtualRuntime, world: World, happened: bool) -> None:
    """Said to have happened, the undo is done; said not to have, it runs once more; then the run ends cancelled."""
    run_id = await in_doubt(runtime, world)
    await runtime.settled(run_id, None)
    await runtime.resolve(run_id, "0!", happened=happened, reason="looked at the account")
    with pytest.raises(RunCancelled):
        await runtime.result(run_id)
    assert world.names == ["pay back"] * (1 if happened else 2)
