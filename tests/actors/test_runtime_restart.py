"""A run goes on after a crash from wherever it stood; nothing that was recorded is done again."""

from __future__ import annotations

from collections import Counter
from typing import Any

import pytest
import trio

from actors.errors import NotBlocked, NotFound
from actors.flow.context import Context
from actors.flow.definitions import App, Retry
from runtimed.settings import Limits, Settings
from runtimed.virtual import VirtualRuntime
from tests.actors.world import HANG, WORLD, World, kinds, records
from wal import records as r

app = App("restarts")


@app.step(retry=Retry(max_attempts=5, initial_interval=100.0, backoff_coefficient=1.0, jitter=0.0))
async def work(name: str) -> str:
    return str(await WORLD.act(name, result=f"{name} done"))


@work.compensation
async def undo(result: str, name: str) -> None:
    await WORLD.act(f"undo {name}")


@app.step(delivery="at_most_once")
async def launch() -> int:
    return int(await WORLD.act("launch", result=7))


@launch.compensation(on_unknown=True)
async def recall(result: int | None) -> None:
    await WORLD.act("recall", result)


@app.workflow
async def everything(ctx: Context) -> list[Any]:
    first = await ctx.step(work, "a")
    await ctx.sleep(60)
    signal = await ctx.signal("go", str)
    both = await ctx.gather(ctx.step(work, "b"), ctx.sleep(30))
    name, _ = await ctx.race(late=ctx.sleep(500), signal=ctx.signal("stop"))
    return [first, signal, both[0], name]


@app.workflow
async def launching(ctx: Context) -> int:
    await ctx.step(work, "prepare")
    return int(await ctx.step(launch))


@app.workflow
async def naps(ctx: Context, times: int) -> list[str]:
    seen = []
    for _ in range(times):
        await ctx.sleep(3600)
        seen.append(ctx.now().isoformat())
    return seen


@app.workflow
async def until(ctx: Context) -> str:
    from datetime import timedelta

    began = ctx.now()
    await ctx.sleep_until(began + timedelta(days=1))
    return str(ctx.now() - began)


@pytest.mark.trio
@pytest.mark.parametrize("state", ["step", "backoff", "timer", "signal", "gather", "race"])
async def test_every_waiting_state_survives(runtime: VirtualRuntime, world: World, state: str) -> None:
    """Killed in a step, in backoff, asleep, waiting for a signal, in a gather or a race, the end is the same."""
    if state in ("step", "backoff"):
        world.script["a"].append(HANG if state == "step" else OSError("down"))
    if state == "gather":
        world.script["b"].append(HANG)
    handle = await runtime.start(everything)
    if state in ("step", "backoff", "timer"):
        await runtime.advance(1)
        await runtime.crash()
        if state != "step":
            await runtime.signal(handle.id, "go", "now")
    await runtime.advance(200)
    if state == "signal":
        assert (await runtime.run(handle.id)).waiting_on == "signal"
        await runtime.crash()
    if state not in ("backoff", "timer"):
        await runtime.signal(handle.id, "go", "now")
    await runtime.advance(10)
    if state == "gather":
        await runtime.crash()
    await runtime.advance(100)
    if state == "race":
        await runtime.crash()
    await runtime.signal(handle.id, "stop")
    assert await handle.result() == ["a done", "now", "b done", "signal"]
    assert set(Counter(await kinds(runtime, handle.id)).items()) >= {("step_scheduled", 2), ("step_completed", 2)}


@pytest.mark.trio
async def test_a_completed_step_never_runs_again(runtime: VirtualRuntime, world: World) -> None:
    """Crashes at any later time repeat nothing whose completion is on disk."""
    handle = await runtime.start(naps, 20)
    other = await runtime.start(everything)
    for _ in range(19):
        await runtime.advance(3600)
        await runtime.crash()
    assert len(await handle.result()) == 20
    assert world.names == ["a"]
    await runtime.cancel(other.id)
    assert (await runtime.settled(other.id, None)).status == "cancelled"
    assert world.names == ["a", "undo a"]


@pytest.mark.trio
async def test_an_interrupted_attempt_is_repeated_under_its_key(runtime: VirtualRuntime, world: World) -> None:
    """An attempt that was in flight counts, is recorded as interrupted, and the next has the same idempotency key."""
    world.script["a"].append(HANG)
    handle = await runtime.start(everything, id="r")
    await world.begun["a"].wait()
    await runtime.crash()
    await runtime.advance(1)
    assert world.attempts == [("a", 1, "r/0/0/work"), ("a", 2, "r/0/0/work")]
    assert (await kinds(runtime, handle.id))[:4] == [
        "run_started", "step_scheduled", "step_interrupted", "step_completed",
    ]  # fmt: skip


@pytest.mark.trio
async def test_a_step_that_keeps_killing_us_is_held(runtime: VirtualRuntime, world: World) -> None:
    """After `crashed_attempts_max` interrupted attempts the run is blocked (`interrupted`), until somebody retries."""
    crashes = Settings().limits.crashed_attempts_max
    world.script["a"].extend([HANG] * crashes)
    handle = await runtime.start(everything)
    for _ in range(crashes):
        await runtime.advance(1)
        await runtime.crash()
    found = await runtime.settled(handle.id, None)
    assert (found.status, found.error and found.error.type) == ("blocked", "interrupted")
    assert world.names == ["a"] * crashes
    await runtime.retry(handle.id, "it was the power supply")
    await runtime.signal(handle.id, "go", "now")
    await runtime.advance(1000)
    assert await handle.result() == ["a done", "now", "b done", "late"]


# --- at most once


async def in_doubt(runtime: VirtualRuntime, world: World) -> str:
    """A run whose at-most-once step was in flight at a kill."""
    world.script["launch"].append(HANG)
    handle = await runtime.start(launching)
    await world.begun["launch"].wait()
    await runtime.crash()
    found = await runtime.settled(handle.id, None)
    assert (found.status, found.error and found.error.type) == ("blocked", "outcome_unknown")
    return handle.id


@pytest.mark.trio
async def test_at_most_once_is_not_repeated(runtime: VirtualRuntime, world: World) -> None:
    """After a crash the run is blocked with outcome unknown; to retry it blindly is refused."""
    run_id = await in_doubt(runtime, world)
    with pytest.raises(NotBlocked, match="waits for somebody"):
        await runtime.retry(run_id)
    await runtime.crash()
    await runtime.advance(3600)
    assert (await runtime.status(run_id), world.names.count("launch")) == ("blocked", 1)


@pytest.mark.trio
async def test_somebody_says_that_it_happened(runtime: VirtualRuntime, world: World) -> None:
    """`resolve(happened=True, result=...)` gives the workflow that result, and the step does not run."""
    run_id = await in_doubt(runtime, world)
    await runtime.resolve(run_id, "1", happened=True, result=9, reason="saw it fly")
    assert await runtime.result(run_id) == 9
    assert world.names == ["prepare", "launch"]
    resolved = next(one for one in await records(runtime, run_id) if isinstance(one, r.StepResolved))
    assert (resolved.happened, resolved.reason, resolved.by) == (True, "saw it fly", "embedded")


@pytest.mark.trio
async def test_somebody_says_that_it_did_not_happen(runtime: VirtualRuntime, world: World) -> None:
    """`resolve(happened=False)` runs it again."""
    run_id = await in_doubt(runtime, world)
    await runtime.resolve(run_id, "1", happened=False, reason="still on the ground")
    assert await runtime.result(run_id) == 7
    assert world.names == ["prepare", "launch", "launch"]


@pytest.mark.trio
async def test_a_wrong_resolution_is_refused(runtime: VirtualRuntime, world: World) -> None:
    """A call that is not in doubt, or a result of the wrong type, is refused; the run stays as it is."""
    from actors.errors import InvalidInput

    run_id = await in_doubt(runtime, world)
    with pytest.raises(NotFound, match="held: 1"):
        await runtime.resolve(run_id, "0", happened=True)
    with pytest.raises(InvalidInput, match="launch"):
        await runtime.resolve(run_id, "1", happened=True, result="seven")
    assert await runtime.status(run_id) == "blocked"
    await runtime.resolve(run_id, "1", happened=True, result=7)
    assert await runtime.result(run_id) == 7


@pytest.mark.trio
async def test_a_run_in_doubt_can_be_cancelled(runtime: VirtualRuntime, world: World) -> None:
    """It is undone, with what may have happened undone too where that is asked for."""
    run_id = await in_doubt(runtime, world)
    await runtime.cancel(run_id)
    assert (await runtime.settled(run_id, None)).status == "cancelled"
    assert world.calls[2:] == [("recall", (None,)), ("undo prepare", ())]


# --- P8: the wall clock jumps


@pytest.mark.trio
@pytest.mark.parametrize("jump", [3_600.0, -3_600.0, 10 * 366 * 86_400.0], ids=["+1 h", "-1 h", "+10 years"])
@pytest.mark.parametrize("restarted", [False, True], ids=["live", "across a restart"])
async def test_clock_jumps_neither_lose_nor_double_a_timer(
    runtime: VirtualRuntime, jump: float, restarted: bool
) -> None:
    """Whatever the wall clock does, each timer fires once, and `ctx.now()` never goes back."""
    handles = [await runtime.start(naps, 4), await runtime.start(until)]
    later = await runtime.start(naps, 1, start_at=runtime.clock.now_us() + 7_200_000_000)
    for _ in range(3):
        await runtime.advance(1800)
        await runtime.jump(jump)
        if restarted:
            await runtime.crash()
        await runtime.advance(60)
        await runtime.jump(-jump)
    seen = await handles[0].result()
    assert seen == sorted(seen)
    for handle, timers in ((handles[0], 4), (handles[1], 1), (later, 2)):
        await handle.result()
        counts = Counter(await kinds(runtime, handle.id))
        assert (counts["timer_fired"], counts["timer_set"]) == (timers, timers - (handle is later))
    assert (await runtime.read(lambda reader: reader.due_timers())) == []


@pytest.mark.trio
async def test_a_jump_forward_fires_what_is_due_by_then(runtime: VirtualRuntime) -> None:
    """A timer is an instant: set forward, the clock makes it due at once."""
    handle = await runtime.start(until)
    await runtime.jump(86_400)
    began = trio.current_time()
    assert await handle.result() == "1 day, 0:00:00"
    assert trio.current_time() - began < 1.0


@pytest.mark.trio
async def test_a_jump_back_delays_it(runtime: VirtualRuntime) -> None:
    """Set back, the clock has it wait until the instant comes, also across a restart."""
    handle = await runtime.start(naps, 1)
    await runtime.jump(-3600)
    await runtime.crash()
    await runtime.advance(2 * 3600 - 1)
    assert await handle.status() == "waiting"
    await runtime.advance(2)
    assert await handle.status() == "completed"


class TestManyTimers:
    """With so many timers that they do not all fit into the window in memory."""

    @pytest.fixture
    def runtime_settings(self) -> Settings:
        return Settings(limits=Limits(park_after=1.0))

    @pytest.mark.slow
    @pytest.mark.trio
    async def test_all_timers_of_many_runs_fire_once(self, runtime: VirtualRuntime) -> None:
        """1,600 sleeping runs over several pages of timers, with a crash in the middle: each fires once."""
        from actors import messages as m

        await runtime.start(naps, 0)
        for batch in range(4):
            items = [m.StartRun(workflow="naps", input=m.Raw(b"2"), id=f"n{batch}-{i}") for i in range(400)]
            await runtime.ask(m.StartRuns(items=items))
            await runtime.advance(300)
        await runtime.advance(3_000)
        await runtime.crash()
        await runtime.advance(5_000)
        counts = await runtime.read(lambda reader: reader.counts())
        assert counts == {("naps", "completed"): 1601}
        fired = sum(isinstance(entry.record, r.TimerFired) for entry in runtime.disk.entries)
        assert fired == 3_200
