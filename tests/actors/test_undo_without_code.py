"""A cancelled run whose code is gone or contradicts its records is undone as one with code is: an attempt is counted,
waited for, interrupted and put before a person in the same way, over parking and restarts too."""

from __future__ import annotations

from typing import Any

import pytest
import trio

from actors.errors import NotBlocked, RunCancelled
from actors.flow.context import Context
from actors.flow.definitions import App, Registry, Retry
from actors.flow.preflight import Bounds, judge
from runtimed.settings import Limits, Settings
from runtimed.virtual import VirtualRuntime
from tests.actors.world import HANG, WORLD, World, kinds, records
from wal import records as r

TWICE = Retry(max_attempts=2, initial_interval=120.0, max_interval=200.0, jitter=0.0)
app, contradicting, without, empty = App("shop"), App("shop"), App("shop"), App("shop")


@app.step
async def charge() -> int:
    return int(await WORLD.act("charge", result=1))


@charge.compensation(retry=TWICE)
async def refund(result: Any) -> None:
    await WORLD.act("refund")


@app.step(delivery="at_most_once", retry=Retry(max_attempts=1))
async def wire_back(cents: int) -> None:
    await WORLD.act("wire back", cents)


for version in (contradicting, without):
    version.step(name="charge")(charge.fn).compensation(name="refund", retry=TWICE)(refund.fn)
    version.step(name="wire_back", delivery="at_most_once", retry=Retry(max_attempts=1))(wire_back.fn)


@app.workflow
async def buying(ctx: Context) -> None:
    await ctx.step(charge)
    await ctx.signal("go")


@app.workflow
async def wiring(ctx: Context) -> None:
    await ctx.step(charge)
    ctx.add_compensation(wire_back, 990)
    await ctx.signal("go")


async def something_else(ctx: Context) -> None:
    await ctx.emit("something else")


for name in ("buying", "wiring"):
    contradicting.workflow(name=name)(something_else)


@app.step(delivery="at_most_once")
async def wire_slowly() -> None:
    await WORLD.act("wire slowly")
    await trio.sleep(60)


@app.workflow
async def undoing_beside_a_lie(ctx: Context) -> None:
    await ctx.gather(undone_block(ctx), ctx.child(lying))


async def undone_block(ctx: Context) -> None:
    async with ctx.saga():
        ctx.add_compensation(wire_slowly)
        await ctx.signal("go", timeout=1.0)


@app.workflow
async def lying(ctx: Context) -> int:
    await ctx.sleep(5.0)
    return "no number"  # type: ignore[return-value]


@pytest.fixture(params=[60.0, 0.0], ids=["stays", "is parked"])
def runtime_settings(request: pytest.FixtureRequest) -> Settings:
    return Settings(limits=Limits(park_after=request.param, crashed_attempts_max=3))


@pytest.fixture(params=[contradicting, without], ids=["code contradicts", "code is gone"])
def code(request: pytest.FixtureRequest) -> App:
    found: App = request.param
    return found


async def cancelled(runtime: VirtualRuntime, workflow: Any, code: App) -> str:
    """A run that was at its wait when its code went away, and was cancelled then."""
    handle = await runtime.start(workflow)
    await runtime.advance(1)
    await runtime.crash(apps=[code])
    await runtime.cancel(handle.id)
    await runtime.advance(1)
    return handle.id


async def error_of(runtime: VirtualRuntime, run_id: str) -> str | None:
    found = await runtime.run(run_id)
    return found.error.type if found.status == "blocked" and found.error is not None else None


async def schedules(runtime: VirtualRuntime, run_id: str) -> list[str]:
    """The undos that were called for, in their order."""
    return [one.key for one in await records(runtime, run_id) if isinstance(one, r.CompensationScheduled)]


@pytest.mark.trio
async def test_an_undo_is_tried_as_often_as_its_policy_says(runtime: VirtualRuntime, world: World, code: App) -> None:
    """Parked between its attempts or not, it fails for good after the last of them; `retry` gives it as many again."""
    world.script["refund"].extend([OSError("bank closed")] * 50)
    run_id = await cancelled(runtime, buying, code)
    await runtime.advance(3_600)
    assert (world.names.count("refund"), await error_of(runtime, run_id)) == (2, "compensation_failed")
    await runtime.retry(run_id)
    await runtime.advance(3_600)
    assert (world.names.count("refund"), await error_of(runtime, run_id)) == (4, "compensation_failed")
    assert [number for name, number, _ in world.attempts if name == "refund"] == [1, 2, 3, 4]
    world.script["refund"].clear()
    await runtime.retry(run_id)
    await runtime.advance(1)
    assert (await runtime.status(run_id), await schedules(runtime, run_id)) == ("cancelled", ["0!"])


@pytest.mark.trio
async def test_loaded_in_a_back_off_it_waits_on(runtime: VirtualRuntime, world: World, code: App) -> None:
    """Signals and two restarts in the middle of a back-off neither shorten it nor begin it anew, and add no records."""
    world.script["refund"].append(OSError("bank closed"))
    run_id = await cancelled(runtime, buying, code)
    before = await kinds(runtime, run_id)
    for _ in range(2):
        await runtime.advance(20)
        await runtime.crash()
        await runtime.signal(run_id, "go", 1)
        await runtime.advance(20)
    assert (await kinds(runtime, run_id))[len(before) :] == ["signal_received", "run_waiting"] * 2
    assert world.names.count("refund") == 1
    await runtime.advance(40)
    assert (world.names.count("refund"), await runtime.status(run_id)) == (2, "cancelled")


@pytest.mark.trio
async def test_a_back_off_that_ends_while_it_is_down(runtime: VirtualRuntime, world: World, code: App) -> None:
    """The next attempt comes right after the restart, and is the second."""
    world.script["refund"].append(OSError("bank closed"))
    run_id = await cancelled(runtime, buying, code)
    await runtime.crash(downtime=1_000)
    await runtime.advance(1)
    assert await runtime.status(run_id) == "cancelled"
    assert [number for name, number, _ in world.attempts if name == "refund"] == [1, 2]


async def in_doubt(runtime: VirtualRuntime, world: World, code: App) -> str:
    """One whose undo, which is `at_most_once`, was in flight when the process was killed."""
    world.script["wire back"].append(HANG)
    run_id = await cancelled(runtime, wiring, code)
    await runtime.crash()
    await runtime.advance(1)
    return run_id


@pytest.mark.trio
async def test_an_undo_in_doubt_is_not_repeated(runtime: VirtualRuntime, world: World, code: App) -> None:
    """It is put before a person, also after further restarts; `retry` does not let it run, and what is left waits."""
    run_id = await in_doubt(runtime, world, code)
    for _ in range(3):
        assert await error_of(runtime, run_id) == "outcome_unknown"
        with pytest.raises(NotBlocked, match="waits for somebody"):
            await runtime.retry(run_id)
        await runtime.crash()
        await runtime.advance(1)
    assert world.names == ["charge", "wire back"]
    assert (await kinds(runtime, run_id)).count("step_unknown") == 1


@pytest.mark.trio
@pytest.mark.parametrize("restarted", [False, True])
@pytest.mark.parametrize("happened", [True, False])
async def test_an_undo_in_doubt_is_resolved(
    runtime: VirtualRuntime, world: World, code: App, happened: bool, restarted: bool
) -> None:
    """Said to have happened, it is done; said not to have, it runs once more; then the rest is undone."""
    run_id = await in_doubt(runtime, world, code)
    if restarted:
        await runtime.crash()
    await runtime.resolve(run_id, "1!", happened=happened, reason="looked at the account")
    with pytest.raises(RunCancelled):
        await runtime.result(run_id)
    assert world.names == ["charge", *["wire back"] * (1 if happened else 2), "refund"]
    assert await schedules(runtime, run_id) == ["1!", "0!"]


@pytest.mark.trio
@pytest.mark.parametrize("happened", [True, False])
async def test_a_failed_undo_is_resolved(runtime: VirtualRuntime, world: World, code: App, happened: bool) -> None:
    """One that failed for good is held over a restart; somebody may say that it was done, or have it tried again."""
    world.script["refund"].extend([OSError("bank closed")] * 2)
    run_id = await cancelled(runtime, buying, code)
    await runtime.advance(150)
    await runtime.crash()
    assert await error_of(runtime, run_id) == "compensation_failed"
    await runtime.resolve(run_id, "0!", happened=happened, reason="looked it up")
    await runtime.advance(1)
    assert await runtime.status(run_id) == "cancelled"
    assert world.names.count("refund") == (2 if happened else 3)


@pytest.mark.trio
async def test_crashed_attempts_of_an_undo_are_counted(runtime: VirtualRuntime, world: World, code: App) -> None:
    """One that the process never survives is blocked in the end, as a step is; `retry` lets it run on."""
    world.script["refund"].extend([HANG] * 50)
    run_id = await cancelled(runtime, buying, code)
    for _ in range(5):
        await runtime.crash()
        await runtime.advance(1)
    assert (world.names.count("refund"), await error_of(runtime, run_id)) == (3, "interrupted")
    world.script["refund"].clear()
    await runtime.retry(run_id)
    await runtime.advance(1)
    assert (await runtime.status(run_id), world.names.count("refund")) == ("cancelled", 4)
    numbers = [number for name, number, _ in world.attempts if name == "refund"]
    assert numbers == sorted(set(numbers))


@pytest.mark.trio
async def test_code_that_comes_back_goes_on_with_the_undo(runtime: VirtualRuntime, world: World, code: App) -> None:
    """What was undone without the code is undone; the attempt that was in back-off is still the first of two."""
    world.script["refund"].append(OSError("bank closed"))
    run_id = await cancelled(runtime, wiring, code)
    assert world.names == ["charge", "wire back", "refund"]
    await runtime.crash(apps=[app])
    await runtime.advance(150)
    assert (await runtime.status(run_id), world.names) == ("cancelled", ["charge", "wire back", "refund", "refund"])
    assert await schedules(runtime, run_id) == ["1!", "0!"]


@pytest.mark.trio
async def test_an_undo_whose_step_is_gone_too_is_not_passed_over(runtime: VirtualRuntime, world: World) -> None:
    """Records name what undoes a step. Where that is registered no more the run is blocked, and says so, until it is
    again; of one that will not be somebody may say that it was done."""
    run_id = await cancelled(runtime, wiring, empty)
    found = await runtime.run(run_id)
    assert (found.status, found.error and found.error.type) == ("blocked", "compensation_failed")
    assert "no step 'wire_back' is registered" in (found.error.message if found.error else "")
    history = [entry for entry in runtime.disk.entries if entry.run_key == runtime.disk.entries[-1].run_key]
    upto = next(number for number, one in enumerate(history, 1) if isinstance(one.record, r.RunCancelRequested))
    foretold = judge(Registry(empty), history[:upto], blocked=False, bounds=Bounds())
    assert foretold.hold is not None and found.error is not None
    assert (foretold.hold.code, foretold.hold.message) == (found.error.type, found.error.message)
    await runtime.crash()
    await runtime.resolve(run_id, "1!", happened=True, reason="the bank says so")
    await runtime.advance(1)
    assert (await error_of(runtime, run_id), world.names) == ("compensation_failed", ["charge"])
    await runtime.crash(apps=[without])
    await runtime.retry(run_id)
    await runtime.advance(1)
    assert (await runtime.status(run_id), world.names) == ("cancelled", ["charge", "refund"])
    assert await schedules(runtime, run_id) == ["1!", "0!"]


@pytest.mark.trio
async def test_an_undo_in_flight_whose_step_is_gone_is_in_doubt(runtime: VirtualRuntime, world: World) -> None:
    """An `at_most_once` undo that the process ended in is not repeated because its step was gone for a while: somebody
    says whether it happened."""
    world.script["wire back"].append(HANG)
    run_id = await cancelled(runtime, wiring, without)
    await runtime.crash(apps=[empty])
    await runtime.advance(1)
    assert (await error_of(runtime, run_id), world.names) == (
        "outcome_unknown", ["charge", "wire back"],
    )  # fmt: skip
    await runtime.crash(apps=[without])
    with pytest.raises(NotBlocked):
        await runtime.retry(run_id)
    await runtime.resolve(run_id, "1!", happened=True, reason="the bank says so")
    await runtime.advance(1)
    assert (await runtime.status(run_id), world.names) == ("cancelled", ["charge", "wire back", "refund"])


@pytest.mark.trio
async def test_an_undo_in_flight_outlives_its_code(runtime: VirtualRuntime, world: World) -> None:
    """An answer that does not decode blocks the run. To cancel it then neither stops the undo, which is `at_most_once`,
    nor repeats it: the run is cancelled when it has ended."""
    handle = await runtime.start(undoing_beside_a_lie)
    await runtime.advance(10)
    assert (world.names, await error_of(runtime, handle.id)) == (["wire slowly"], "undecodable")
    await runtime.cancel(handle.id)
    await runtime.advance(10)
    assert await runtime.status(handle.id) == "compensating"
    await runtime.advance(100)
    assert (world.names, await runtime.status(handle.id)) == (["wire slowly"], "cancelled")
