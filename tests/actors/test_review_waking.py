"""What arrives while a run is put away, loaded, paused or blocked: nothing is lost, doubled or put in another order."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import trio
import trio.testing
from msgspec import Raw

from actors import messages as m
from actors.clock import VirtualClock
from actors.flow.context import Context
from actors.flow.definitions import App, Retry
from actors.timers import TimersDue
from runtimed.virtual import VirtualRuntime
from tests.actors.world import HANG, WORLD, World, kinds, records
from wal import records as r

app = App("waking")
US = 1_000_000
SLOW: list[trio.Event] = []
"""What `slow` waits for, if anything."""


@app.step(retry=Retry(max_attempts=1))
async def quick(value: Any = None) -> Any:
    return await WORLD.act("quick", value)


@app.step(retry=Retry(max_attempts=1))
async def slow() -> str:
    done = str(await WORLD.act("slow", result="slow"))
    if SLOW:
        await SLOW[0].wait()
    return done


@app.step(delivery="at_most_once")
async def once() -> str:
    return str(await WORLD.act("once", result="done"))


@app.step(retry=Retry(max_attempts=1))
async def broken() -> str:
    return await WORLD.act("broken")  # type: ignore[no-any-return]


@app.workflow
async def greet(ctx: Context) -> Any:
    await ctx.step(quick)
    return await ctx.signal("go")


@app.workflow
async def nap(ctx: Context) -> str:
    await ctx.step(quick)
    await ctx.sleep(60)
    return "rested"


@app.workflow
async def patient(ctx: Context) -> str:
    try:
        return str(await ctx.signal("go", timeout=60))
    except TimeoutError:
        return "too late"


@app.workflow
async def pair(ctx: Context) -> list[Any]:
    results: list[Any] = await ctx.gather(ctx.step(broken), ctx.step(slow))
    return results


@app.workflow
async def careful(ctx: Context) -> list[Any]:
    return [await ctx.step(once), await ctx.signal("go")]


@app.workflow
async def either(ctx: Context) -> Any:
    won = await ctx.race(act=ctx.step(once), call_off=ctx.signal("call_off"))
    await ctx.signal("end")
    return won[0]


@app.workflow
async def dated(ctx: Context) -> Any:
    await ctx.race(work=ctx.step(slow), stop=ctx.signal("stop"))
    await ctx.step(quick, ctx.now().isoformat())
    return await ctx.signal("end")


async def quiet() -> None:
    """Until nobody has anything to do."""
    await trio.testing.wait_all_tasks_blocked()


def key_of(runtime: VirtualRuntime, run_id: str) -> int:
    row = runtime._readers.on_loop.run(run_id)
    assert row is not None
    return row.run_key


def tell(runtime: VirtualRuntime, *messages: Any) -> None:
    """Put messages into the coordinator's mailbox, to be taken in one batch."""
    for message in messages:
        box = runtime.actors.coordinator.mailbox
        box.report(message) if isinstance(message, TimersDue) else box.tell(message)


def due(runtime: VirtualRuntime, run_id: str) -> TimersDue:
    """All timers of a run, as the timers actor would tell of them."""
    run_key = key_of(runtime, run_id)
    return TimersDue([(row.due_at, run_key, row.key) for row in runtime._readers.on_loop.timers_of(run_key)])


def put_away(runtime: VirtualRuntime, run_id: str) -> None:
    """Park a run as pressure for room does."""
    engine = runtime.actors.coordinator.engine
    with engine.stage:
        engine.sleep(engine.active.by_id[run_id])


@contextmanager
def disk_held(runtime: VirtualRuntime) -> Iterator[None]:
    """Commits wait until the block is left."""
    commit, gate = runtime.disk.commit, trio.Event()

    async def later(entries: list[r.Entry]) -> None:
        await gate.wait()
        await commit(entries)

    runtime.disk.commit = later  # type: ignore[method-assign]
    try:
        yield
    finally:
        runtime.disk.commit = commit  # type: ignore[method-assign]
        gate.set()


@contextmanager
def reading_held(runtime: VirtualRuntime) -> Iterator[None]:
    """No history is read until the block is left; a crash within it means that none ever was."""
    coordinator = runtime.actors.coordinator
    read, gate = coordinator._read, trio.Event()

    async def later(query: Any) -> Any:
        await gate.wait()
        return await read(query)

    coordinator._read = later
    try:
        yield
    finally:
        gate.set()


# --- runs that begin later


async def scheduled(runtime: VirtualRuntime) -> str:
    """A run of `greet` that begins in a minute."""
    handle = await runtime.start(greet, id="later", start_at=runtime.clock.now_us() + 60 * US)
    await quiet()
    return handle.id


@pytest.mark.parametrize("signals", [1, 2])
async def test_a_start_that_is_due_while_a_signal_is_being_written_down(
    runtime: VirtualRuntime, world: World, signals: int
) -> None:
    """A run whose time to begin comes while its history is read for a signal begins, and takes the signal."""
    await scheduled(runtime)
    for number in range(signals):
        tell(runtime, m.SignalRun(run_id="later", name="go", value=Raw(b"%d" % number)))
    tell(runtime, due(runtime, "later"))
    await runtime.jump(60)
    assert await runtime.result("later", 1) == 0


async def test_a_signal_on_disk_is_not_forgotten_by_the_beginning(runtime: VirtualRuntime, world: World) -> None:
    """Signals that arrived before a run began are all there when it begins, in their order, whichever were durable."""
    await scheduled(runtime)
    await runtime.signal("later", "go", 1)
    with reading_held(runtime):
        tell(runtime, m.SignalRun(run_id="later", name="go", value=Raw(b"2")))
        await quiet()
    with disk_held(runtime):
        tell(runtime, m.SignalRun(run_id="later", name="go", value=Raw(b"3")))
        tell(runtime, due(runtime, "later"))
        await runtime.jump(60)
    assert await runtime.result("later", 1) == 1


async def test_a_scheduled_run_that_is_paused_over_its_start(runtime: VirtualRuntime, world: World) -> None:
    """A run whose time to begin passes while it is paused begins when it is resumed."""
    await scheduled(runtime)
    await runtime.pause("later")
    await runtime.advance(120)
    assert world.names == []
    await runtime.resume("later")
    await runtime.signal("later", "go", 1)
    assert await runtime.result("later", 1) == 1


async def test_a_run_cancelled_as_it_begins_does_nothing(runtime: VirtualRuntime, world: World) -> None:
    """A cancellation accepted while a run's beginning is being read back is not overtaken by its first step."""
    await scheduled(runtime)
    tell(runtime, due(runtime, "later"), m.CancelRun(run_id="later"))
    await quiet()
    assert await runtime.status("later") == "cancelled"
    assert world.names == []
    assert (await kinds(runtime, "later"))[-1] == "run_cancelled"


# --- pauses


@pytest.mark.parametrize("parked", [False, True])
async def test_a_timer_that_passed_during_a_pause(runtime: VirtualRuntime, world: World, parked: bool) -> None:
    """A sleep that ended while the run was paused ends when it is resumed."""
    handle = await runtime.start(nap, id="nap")
    await quiet()
    if parked:
        put_away(runtime, "nap")
    await runtime.pause("nap")
    await runtime.advance(120)
    await runtime.resume("nap")
    assert await handle.result(1) == "rested"


async def test_a_pause_during_a_step_keeps_no_code_in_memory(runtime: VirtualRuntime, world: World) -> None:
    """A paused run holds no memory once nothing of it is in flight, and goes on when it is resumed."""
    await runtime.start(greet, id="one")
    await quiet()
    await runtime.pause("one")
    await quiet()
    assert runtime.actors.coordinator.statistics().active == 0
    await runtime.signal("one", "go", 1)
    await quiet()
    assert runtime.actors.coordinator.statistics().active == 0
    await runtime.resume("one")
    assert await runtime.result("one", 1) == 1


# --- attempts that end while their run is loaded


async def test_an_attempt_that_ends_while_its_run_is_loaded_is_not_run_again(
    runtime: VirtualRuntime, world: World
) -> None:
    """A step whose completion was recorded never runs again, also if that came while the history was read."""
    SLOW[:] = [trio.Event()]
    world.script["broken"].extend([object(), "mended"])  # what is no JSON is a defect
    await runtime.start(pair, id="pair")
    await quiet()
    assert await runtime.status("pair") == "blocked"
    with reading_held(runtime):
        tell(runtime, m.RetryRun(run_id="pair"))
        await quiet()
        SLOW.pop().set()
        await quiet()
    assert (await runtime.result("pair", 1))[0] == "mended"
    assert world.names.count("slow") == 1
    assert "step_interrupted" not in await kinds(runtime, "pair")
    await replayed(runtime, "pair")


async def replayed(runtime: VirtualRuntime, run_id: str) -> None:
    """Its records can be replayed: nothing in them contradicts the code."""
    blocks = [each for each in await records(runtime, run_id) if isinstance(each, r.RunBlocked)]
    assert "nondeterminism" not in {each.code for each in blocks}


async def test_live_order_is_the_order_of_the_records(
    runtime: VirtualRuntime, world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A signal that arrives while an interrupted run is loaded is applied where it stands: before the interruption."""
    now, ticks = VirtualClock.now_us, iter(range(1, 1_000_000))
    monkeypatch.setattr(VirtualClock, "now_us", lambda clock: now(clock) + next(ticks))
    world.script["slow"].append(HANG)
    await runtime.start(dated, id="dated")
    await world.begun["slow"].wait()
    await runtime.crash()
    with reading_held(runtime):
        tell(runtime, m.SignalRun(run_id="dated", name="stop"))
        await quiet()
    await quiet()
    await runtime.crash()
    await runtime.signal("dated", "end", "fine")
    assert await runtime.result("dated", 1) == "fine"
    await replayed(runtime, "dated")


# --- unknown outcomes


async def unknown(runtime: VirtualRuntime, world: World, workflow: Any) -> str:
    """A run that is blocked because nobody knows whether `once` happened."""
    world.script["once"].append(HANG)
    await runtime.start(workflow, id="held")
    await world.begun["once"].wait()
    await runtime.crash()
    await quiet()
    assert await runtime.status("held") == "blocked"
    return "held"


async def test_a_signal_that_arrives_while_a_run_is_loaded_to_be_resolved(
    runtime: VirtualRuntime, world: World
) -> None:
    """It is applied, before the answer that was given after it."""
    await unknown(runtime, world, careful)
    tell(runtime, m.ResolveCall(run_id="held", call="0", happened=True, result=Raw(b'"yes"')))
    tell(runtime, m.SignalRun(run_id="held", name="go", value=Raw(b"1")))
    await quiet()
    assert await runtime.result("held", 1) == ["yes", 1]


async def test_a_call_that_a_signal_ended_cannot_be_resolved_and_holds_nothing_back(
    runtime: VirtualRuntime, world: World
) -> None:
    """Once a signal has decided the race against a call of unknown outcome, to resolve it is refused, and a retry is
    not: the run goes on from its records."""
    await unknown(runtime, world, either)
    tell(runtime, m.ResolveCall(run_id="held", call="0/0.0", happened=True, result=Raw(b'"yes"')))
    tell(runtime, m.SignalRun(run_id="held", name="call_off"))
    await quiet()
    assert await runtime.status("held") == "blocked"
    await runtime.retry("held")
    await runtime.signal("held", "end")
    assert await runtime.result("held", 1) == "call_off"
    await replayed(runtime, "held")


async def test_one_idempotency_key_for_two_runs_to_be_resolved(runtime: VirtualRuntime, world: World) -> None:
    """The second of two requests that are loaded at a time is refused; the journal never sees one key twice."""
    for name in ("a", "b"):
        world.script["once"].append(HANG)
        await runtime.start(careful, id=name)
        await quiet()
    await runtime.crash()
    await quiet()
    for name in ("a", "b"):
        origin = m.Origin(request=m.RequestKey(principal="uid:1", key="k", digest=name))
        tell(runtime, m.ResolveCall(run_id=name, call="0", happened=True, result=Raw(b'"yes"'), origin=origin))
    await quiet()
    assert (await runtime.status("a"), await runtime.status("b")) == ("waiting", "blocked")


# --- timers of runs that are put away


async def test_a_timer_of_a_run_put_away_and_not_durable_yet(runtime: VirtualRuntime, world: World) -> None:
    """A run that was put away to make room still hears its timer, however late the disk is."""
    await runtime.start(nap, id="nap")
    await quiet()
    with disk_held(runtime):
        tell(runtime, m.SignalRun(run_id="nap", name="nothing"))
        await trio.testing.wait_all_tasks_blocked()
        put_away(runtime, "nap")
        tell(runtime, due(runtime, "nap"))
        await runtime.jump(60)
        await trio.testing.wait_all_tasks_blocked()
    assert await runtime.result("nap", 1) == "rested"


async def test_a_timeout_does_not_overtake_a_signal_on_disk(runtime: VirtualRuntime, world: World) -> None:
    """A signal acknowledged before a crash answers its wait, though the timeout passed while the daemon was down."""
    await runtime.start(patient, id="patient")
    await quiet()
    put_away(runtime, "patient")
    await quiet()
    with reading_held(runtime):
        await runtime.signal("patient", "go", "in time")
        await runtime.crash(downtime=120)
    tell(runtime, due(runtime, "patient"))
    assert await runtime.result("patient", 1) == "in time"


async def test_a_resumption_on_disk_is_carried_out_after_a_crash(runtime: VirtualRuntime, world: World) -> None:
    """What arrived during a pause is applied, though the daemon died right after the run was resumed."""
    await runtime.start(greet, id="one")
    await quiet()
    await runtime.pause("one")
    await runtime.signal("one", "go", 1)
    with reading_held(runtime):
        await runtime.resume("one")
        await runtime.crash()
    assert await runtime.result("one", 1) == 1


async def test_a_run_put_away_before_its_turn_does_not_begin_twice(runtime: VirtualRuntime, world: World) -> None:
    """A run that was loaded, advanced and put away while it stood in the queue of those to begin is only looked at."""
    await runtime.start(greet, id="one")
    await quiet()
    with disk_held(runtime):
        tell(runtime, m.SignalRun(run_id="one", name="nothing"))
        await trio.testing.wait_all_tasks_blocked()
        put_away(runtime, "one")
        coordinator = runtime.actors.coordinator
        coordinator._ready.put_key(key_of(runtime, "one"))
        coordinator._go_on()
        await trio.testing.wait_all_tasks_blocked()
    await runtime.signal("one", "go", 1)
    assert await runtime.result("one", 1) == 1
    assert world.names == ["quick"]


async def test_refusals_leave_nothing_in_memory(runtime: VirtualRuntime, world: World) -> None:
    """A command that is refused brings a run into memory only for as long as it takes."""
    await runtime.start(greet, id="one")
    await quiet()
    put_away(runtime, "one")
    for verb in (runtime.resume, runtime.retry):
        with pytest.raises(Exception, match="is not"):
            await verb("one")
    await quiet()
    assert runtime.actors.coordinator.statistics().active == 0
