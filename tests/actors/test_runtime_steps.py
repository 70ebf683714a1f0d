"""What the runtime promises about steps: recorded once, retried by their policy, cut off at their limits."""

from __future__ import annotations

import threading
import time
from itertools import count
from typing import Any

import msgspec
import pytest
import trio

from actors.clock import VirtualClock
from actors.current_step import StepUnwanted, current_step
from actors.errors import DefinitionError, RunBlocked, RunFailed, StepFailed
from actors.flow.context import Context
from actors.flow.definitions import App, Retry
from runtimed.opening import open_runtime
from runtimed.settings import Limits, Settings
from runtimed.virtual import VirtualRuntime
from tests.actors.world import HANG, WORLD, World, kinds, records
from wal import records as r

app = App("steps")


class Declined(Exception):
    """An answer that no repetition changes."""


class Order(msgspec.Struct, frozen=True):
    id: str
    cents: int


DOUBLING = Retry(max_attempts=3, initial_interval=1.0, backoff_coefficient=2.0, jitter=0.0, non_retryable=(Declined,))


@app.step(retry=DOUBLING)
async def charge(order: Order) -> str:
    return str(await WORLD.act("charge", order.id, result=f"charge of {order.cents}"))


@app.step(retry=Retry(max_attempts=100, initial_interval=1.0, backoff_coefficient=1.0, jitter=0.0, max_duration=3.5))
async def patient() -> None:
    await WORLD.act("patient")


@app.step(timeout=5.0, retry=Retry(max_attempts=2, jitter=0.0))
async def limited() -> str:
    return str(await WORLD.act("limited", result="in time"))


@app.step(heartbeat_timeout=2.0, retry=Retry(max_attempts=1))
async def beating(beats: int) -> str:
    for beat in range(beats):
        current_step().heartbeat(beat)
        await trio.sleep(1.5)
    return str(await WORLD.act("beating", result="alive"))


@app.step
def threaded(text: str) -> str:
    return (
        f"{WORLD.act_now('threaded', result=text.upper())} in {threading.current_thread() is threading.main_thread()}"
    )


STARTED, RELEASE = threading.Event(), threading.Event()
PATIENCE_SECONDS = 60.0


# On a machine that stands still for a second the attempts after the first may be too late as well.
@app.step(timeout=1.0, retry=Retry(max_attempts=20, initial_interval=0.0, jitter=0.0))
def stubborn() -> str:
    if current_step().attempt > 1:
        return "another attempt"
    RELEASE.wait(PATIENCE_SECONDS)
    return "first attempt"


@app.step
def listening() -> str:
    STARTED.set()
    while True:
        try:
            current_step().heartbeat()
        except StepUnwanted:
            WORLD.calls.append(("told", ()))
            raise
        time.sleep(0.001)


@app.step
def deaf() -> str:
    STARTED.set()
    RELEASE.wait(PATIENCE_SECONDS)
    return "too late"


@deaf.compensation(on_unknown=True)
async def undo_deaf(result: str | None) -> None:
    await WORLD.act("undo_deaf", result)


@app.step
async def unencodable() -> Any:
    return object()


@app.step
async def misfit() -> int:
    return "text"  # type: ignore[return-value]


@app.workflow
async def buy(ctx: Context, order: Order) -> str:
    return str(await ctx.step(charge, order))


@app.workflow
async def wait_patiently(ctx: Context) -> None:
    await ctx.step(patient)


@app.workflow
async def hurry(ctx: Context) -> str:
    return str(await ctx.step(limited))


@app.workflow
async def beat(ctx: Context, beats: int) -> str:
    return str(await ctx.step(beating, beats))


@app.workflow
async def shout(ctx: Context, text: str) -> str:
    return str(await ctx.step(threaded, text))


@app.workflow
async def be_stubborn(ctx: Context) -> str:
    return str(await ctx.step(stubborn))


@app.workflow
async def listen(ctx: Context) -> str:
    return str(await ctx.step(listening))


@app.workflow
async def be_deaf(ctx: Context) -> str:
    return str(await ctx.step(deaf))


@app.workflow
async def caught(ctx: Context, order: Order) -> str:
    try:
        await ctx.step(charge, order)
    except StepFailed as error:
        return f"{error.step} {error.cause_type} {error} {error.attempt}"
    return "no error"


@app.workflow
async def carry(ctx: Context, which: str) -> None:
    await ctx.step(unencodable if which == "unencodable" else misfit)


ORDER = Order("A-1", 990)


@pytest.mark.trio
async def test_a_step_runs_and_its_result_is_recorded(runtime: VirtualRuntime, world: World) -> None:
    """A step's result is what the workflow gets, and its completion is on disk."""
    handle = await runtime.start(buy, ORDER)
    assert await handle.result() == "charge of 990"
    assert await handle.status() == "completed"
    assert await kinds(runtime, handle.id) == ["run_started", "step_scheduled", "step_completed", "run_completed"]
    assert world.calls == [("charge", ("A-1",))]


@pytest.mark.trio
async def test_a_failing_step_is_retried_by_its_policy(runtime: VirtualRuntime, world: World) -> None:
    """Attempts follow each other after 1 s and 2 s, each under the same idempotency key, until one returns."""
    world.script["charge"].extend([OSError("down"), OSError("still down"), "paid"])
    began = trio.current_time()
    handle = await runtime.start(buy, ORDER, id="r")
    assert await handle.result() == "paid"
    assert trio.current_time() - began == pytest.approx(3.0)
    assert world.attempts == [("charge", attempt, "r/0/0/charge") for attempt in (1, 2, 3)]


@pytest.mark.trio
async def test_a_run_says_that_it_waits_for_a_retry(runtime: VirtualRuntime, world: World) -> None:
    """Between two attempts a run waits on `retry`, and says until when."""
    world.script["charge"].append(OSError("down"))
    handle = await runtime.start(buy, ORDER)
    await runtime.advance(0.5)
    found = await runtime.run(handle.id)
    assert (found.status, found.waiting_on) == ("waiting", "retry")
    assert found.waiting_until == "2026-01-01T00:00:01.000000Z"
    await handle.result()


@pytest.mark.trio
async def test_used_up_attempts_fail_the_run(runtime: VirtualRuntime, world: World) -> None:
    """When the last attempt has failed, StepFailed leaves the workflow and the run ends `failed`."""
    world.script["charge"].extend([OSError("down")] * 3)
    handle = await runtime.start(buy, ORDER)
    with pytest.raises(RunFailed, match="OSError: down") as caught_error:
        await handle.result()
    assert (caught_error.value.type, caught_error.value.step) == ("StepFailed", "charge")
    assert await handle.status() == "failed"


@pytest.mark.trio
async def test_what_is_not_retryable_ends_the_step_at_once(runtime: VirtualRuntime, world: World) -> None:
    """An exception listed in `non_retryable` is not tried again; its type and text reach the workflow as data."""
    world.script["charge"].append(Declined("no funds"))
    handle = await runtime.start(caught, ORDER)
    assert await handle.result() == "charge Declined no funds 1"
    assert world.names == ["charge"]


@pytest.mark.trio
async def test_max_duration_bounds_all_attempts_together(runtime: VirtualRuntime, world: World) -> None:
    """No attempt begins later than `max_duration` after the first."""
    world.script["patient"].extend([OSError("down")] * 100)
    handle = await runtime.start(wait_patiently)
    with pytest.raises(RunFailed):
        await handle.result()
    assert len(world.calls) == 4  # at 0, 1, 2 and 3 s; the next would be at 4 s


@pytest.mark.trio
async def test_max_duration_holds_over_a_restart(runtime: VirtualRuntime, world: World) -> None:
    """The time that a daemon was down counts towards `max_duration`."""
    world.script["patient"].extend([OSError("down")] * 100)
    handle = await runtime.start(wait_patiently)
    await runtime.advance(0.5)
    await runtime.crash(downtime=60.0)
    with pytest.raises(RunFailed):
        await handle.result()
    assert len(world.calls) == 2


@pytest.mark.trio
async def test_a_timeout_ends_an_attempt(runtime: VirtualRuntime, world: World) -> None:
    """An attempt that outlasts its timeout is cancelled and counts as failed; the next one may succeed."""
    world.script["limited"].append(HANG)
    handle = await runtime.start(hurry)
    assert await handle.result() == "in time"
    failed = next(one for one in await records(runtime, handle.id) if isinstance(one, r.StepFailed))
    assert failed.error.type == "TimeoutError"
    assert trio.current_time() == pytest.approx(5.5)


@pytest.mark.trio
async def test_a_silent_step_loses_its_heartbeat(runtime: VirtualRuntime, world: World) -> None:
    """A step that gives no sign within `heartbeat_timeout` has failed; one that does may take as long as it likes."""
    assert await (await runtime.start(beat, 10)).result() == "alive"
    world.script["beating"].append(HANG)
    with pytest.raises(RunFailed, match="HeartbeatLost"):
        await (await runtime.start(beat, 1)).result()


@pytest.mark.trio
async def test_a_def_step_runs_in_a_thread(runtime: VirtualRuntime, world: World) -> None:
    """A plain function runs beside the loop, in a thread."""
    assert await (await runtime.start(shout, "hi")).result() == "HI in False"


@pytest.fixture
def release() -> Any:
    """Lets threads go at the end of a test."""
    STARTED.clear()
    RELEASE.clear()
    yield RELEASE
    RELEASE.set()


@pytest.mark.slow
@pytest.mark.trio
async def test_a_def_step_that_timed_out_is_tried_again_meanwhile(tmp_path: Any, release: threading.Event) -> None:
    """A thread cannot be stopped: after its timeout the next attempt starts while the first may still be running."""
    async with real_runtime(tmp_path) as runtime:
        assert await runtime.result((await runtime.start(be_stubborn)).id, PATIENCE_SECONDS) == "another attempt"
        assert not release.is_set()
        release.set()


def real_runtime(folder: Any, **limits: Any) -> Any:
    """A runtime on real time, its journal in this process: for threads, whose time cannot be virtual."""
    return open_runtime(app, folder, settings=Settings(limits=Limits(**limits)), writer="inline")


@pytest.mark.trio
async def test_a_cancelled_def_step_is_told_by_its_heartbeat(
    runtime: VirtualRuntime, world: World, release: threading.Event
) -> None:
    """`heartbeat()` raises StepUnwanted in a `def` step whose run was cancelled, so that it can end by itself."""
    handle = await runtime.start(listen)
    await trio.to_thread.run_sync(STARTED.wait, PATIENCE_SECONDS)
    await runtime.cancel(handle.id)
    assert (await runtime.settled(handle.id, None)).status == "cancelled"
    assert ("told", ()) in world.calls
    ended = next(one for one in await records(runtime, handle.id) if isinstance(one, r.StepFailed))
    assert ended.cancelled


@pytest.mark.trio
async def test_a_deaf_def_step_is_of_unknown_outcome_after_a_grace(
    tmp_path: Any, world: World, release: threading.Event
) -> None:
    """A cancelled thread that does not end within the grace may have acted: `on_unknown` compensation is called."""
    async with real_runtime(tmp_path, step_cancel_grace=0.05) as runtime:
        handle = await runtime.start(be_deaf)
        await trio.to_thread.run_sync(STARTED.wait, PATIENCE_SECONDS)
        await runtime.cancel(handle.id)
        assert (await runtime.settled(handle.id, PATIENCE_SECONDS)).status == "cancelled"
        assert "step_unknown" in await kinds(runtime, handle.id)
        assert world.calls == [("undo_deaf", (None,))]
        release.set()


@pytest.mark.trio
@pytest.mark.parametrize("which", ["unencodable", "misfit"])
async def test_a_result_that_cannot_be_recorded_is_a_defect(runtime: VirtualRuntime, which: str) -> None:
    """A result that JSON cannot carry, or of another type than declared, blocks the run; it does not fail it."""
    handle = await runtime.start(carry, which)
    with pytest.raises(RunBlocked, match="cannot be recorded"):
        await handle.result()


@app.workflow
async def telling(ctx: Context, rounds: int) -> None:
    for n in range(rounds):
        await ctx.emit(n)
        await ctx.step(charge, Order(f"o-{n}", n))
        ctx.patched(f"change-{n}")
        await ctx.step(charge, Order(f"p-{n}", n))


@pytest.mark.trio
async def test_the_instants_of_a_runs_records_never_go_backwards(
    runtime: VirtualRuntime, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever is recorded on the way, and though each look at the clock takes time."""
    ticks, now_us = count(), VirtualClock.now_us
    monkeypatch.setattr(VirtualClock, "now_us", lambda clock: now_us(clock) + next(ticks))
    handle = await runtime.start(telling, 3)
    await handle.result()
    row = await runtime.run(handle.id)
    entries = await runtime.read(lambda reader: reader.history(reader.run(handle.id).run_key))
    assert row.status == "completed" and len(entries) > 9
    instants = [entry.at for entry in entries]
    assert instants == sorted(instants), [(type(entry.record).__name__, entry.at % 1000) for entry in entries]


class TestFewThreads:
    """With one thread for `def` steps."""

    @pytest.fixture
    def runtime_settings(self) -> Settings:
        return Settings(limits=Limits(threads_max=1))

    @pytest.mark.trio
    async def test_def_steps_wait_for_a_thread(self, runtime: VirtualRuntime, world: World) -> None:
        """`threads_max` bounds the threads; what finds none waits its turn."""
        handles = [await runtime.start(shout, f"n{i}") for i in range(20)]
        assert [await handle.result() for handle in handles] == [f"N{i} in False" for i in range(20)]


def test_outside_of_a_step_there_is_no_current_step() -> None:
    """`current_step()` elsewhere is a mistake, and says so."""
    with pytest.raises(DefinitionError, match="inside of a step"):
        current_step()
