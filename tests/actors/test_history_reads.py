"""A history that cannot be read at once: the runs that wait for it wait a little longer, and nobody else notices."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
import trio
import trio.testing

from actors import messages as m
from actors.errors import SupervisionFailed
from actors.flow.context import Context
from actors.flow.definitions import App
from actors.history_loader import LOAD_PATIENCE_S
from runtimed.settings import Limits, Settings
from runtimed.virtual import VirtualRuntime
from tests.actors.world import WORLD, World
from wal.errors import JournalBusy, JournalCorrupt, JournalError, JournalRefused
from wal.rows import Candidate

app = App("histories")


@app.step(delivery="at_most_once")
async def wire() -> str:
    done = str(await WORLD.act("wire", result="wired"))
    await trio.sleep(300)
    return done


@app.workflow
async def pay(ctx: Context) -> str:
    return str(await ctx.step(wire))


@app.workflow
async def nap(ctx: Context) -> str:
    await ctx.sleep(60)
    return "rested"


@pytest.fixture
def runtime_settings() -> Settings:
    return Settings(limits=Limits(park_after=0.2))


def fail_reads(runtime: VirtualRuntime, errors: list[Exception]) -> None:
    """Have the next reads of histories fail, each with one of these, in order."""
    loader = runtime.actors.coordinator._loader
    real: Callable[[Any], Awaitable[Any]] = loader._read

    async def read(query: Any) -> Any:
        await trio.lowlevel.checkpoint()
        if errors:
            raise errors.pop(0)
        return await real(query)

    loader._read = read


def restarts(runtime: VirtualRuntime) -> dict[str, int]:
    return {actor.path: actor.restarts for actor in runtime.tree() if actor.restarts}


async def parked_nap_and_payment(runtime: VirtualRuntime, world: World) -> None:
    """A run that sleeps and is not in memory, and one whose step, which is never repeated, is at work."""
    await runtime.start(nap, id="nap")
    await runtime.advance(30)
    assert runtime.actors.coordinator.statistics().active == 0
    await runtime.start(pay, id="pay")
    await trio.testing.wait_all_tasks_blocked()
    assert world.names == ["wire"]


@pytest.mark.trio
async def test_a_read_that_fails_for_a_while_is_tried_again(
    runtime: VirtualRuntime, world: World, caplog: pytest.LogCaptureFixture
) -> None:
    """No file descriptor, a lock in the way, no thread, a disk that stutters: the run wakes once it can be read, no
    actor restarts, a step at work is not in doubt, and the log says so once."""
    await parked_nap_and_payment(runtime, world)
    why = [
        JournalRefused("too many open files"), JournalBusy("locked"), RuntimeError("can't start new thread"),
        JournalError("disk I/O error"),
    ]  # fmt: skip
    fail_reads(runtime, [why[n % len(why)] for n in range(int(LOAD_PATIENCE_S) - 1)])
    with caplog.at_level(logging.WARNING, "runtimed.runs"):
        await runtime.advance(600)

    assert await runtime.status("nap") == "completed"
    assert await runtime.result("pay", 5) == "wired"
    assert restarts(runtime) == {}
    assert [record.message for record in caplog.records if "cannot be read" in record.message] == [
        "histories of runs cannot be read, and are tried again: too many open files"
    ]


@pytest.mark.trio
async def test_damage_restarts_the_engine(runtime: VirtualRuntime, world: World) -> None:
    """A damaged page is told at once: the engine begins anew."""
    await runtime.start(nap, id="nap")
    await runtime.advance(30)
    fail_reads(runtime, [JournalCorrupt("damaged")])
    await runtime.advance(600)
    assert restarts(runtime)["root/engine/coordinator"] == 1
    assert await runtime.status("nap") == "completed"


@pytest.mark.trio
async def test_what_no_trying_cures_ends_the_runtime(virtual_clock: trio.testing.MockClock, world: World) -> None:
    """What fails again and again for a minute ends the process, for whoever supervises it: to restart the engine each
    minute would put steps that are never repeated in doubt, for ever."""
    lives = []
    with pytest.RaisesGroup(SupervisionFailed, flatten_subgroups=True) as ended:
        async with trio.open_nursery() as nursery:
            runtime = VirtualRuntime(nursery, settings=Settings(limits=Limits(park_after=0.2)))
            await runtime.open()
            await runtime.start(nap, id="nap")
            await runtime.advance(30)
            fail_reads(runtime, [JournalError("gone")] * 1_000)
            await trio.sleep(600)
            lives.append(runtime.actors.coordinator._lives)
    assert lives == []
    assert "the history of run 'nap' cannot be read: gone" in str(ended.value.exceptions[0])


@pytest.mark.trio
async def test_one_bad_place_keeps_no_others_from_going_on(runtime: VirtualRuntime, world: World) -> None:
    """One history that cannot be read waits, and those that wake with it do not."""
    for number in range(20):
        await runtime.start(nap, id=f"nap-{number}")
    await runtime.advance(30)
    loader = runtime.actors.coordinator._loader
    real, bad = loader._read, [True]
    key = await runtime.read(lambda reader: reader.run("nap-3").run_key)

    async def read(query: Any) -> Any:
        if bad and any(wanted == key for wanted, _ in query.args[0]):
            raise JournalError("disk I/O error")
        return await real(query)

    loader._read = read
    await runtime.advance(60)
    others = [await runtime.status(f"nap-{number}") for number in range(20) if number != 3]
    assert (set(others), await runtime.status("nap-3")) == ({"completed"}, "waiting")
    bad.clear()
    await runtime.advance(10)
    assert await runtime.status("nap-3") == "completed"
    assert restarts(runtime) == {}


@pytest.mark.trio
async def test_a_run_that_ends_before_it_is_read_is_not_read(runtime: VirtualRuntime, world: World) -> None:
    """Cancelled before it began, and forgotten, while its history could not be read: nobody wants it any more."""
    await runtime.start(nap, id="late", start_at=runtime.clock.now_us() + 5_000_000)
    await runtime.start(nap, id="newest")
    await runtime.pause("late")
    await runtime.advance(10)
    errors: list[Exception] = [JournalError("gone")] * 5
    fail_reads(runtime, errors)
    await runtime.resume("late")
    await runtime.advance(2)
    await runtime.cancel("late")
    key = await runtime.read(lambda reader: reader.run("late").run_key)
    gone = await runtime.ask(m.ForgetRuns(runs=[Candidate(key, "late", 0, 1)], older_than=1 << 60))
    await runtime.advance(20)
    assert gone.runs <= 1
    assert restarts(runtime) == {}
    assert runtime.actors.coordinator.statistics().active <= 1
