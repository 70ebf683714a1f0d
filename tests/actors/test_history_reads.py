"""A history that cannot be read at once: the runs that wait for it wait a little longer, and nobody else notices."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
import trio
import trio.testing

from actors.flow.context import Context
from actors.flow.definitions import App
from actors.history_loader import LOAD_TRIES
from runtimed.settings import Limits, Settings
from runtimed.virtual import VirtualRuntime
from tests.actors.world import WORLD, World
from wal.errors import JournalBusy, JournalCorrupt, JournalError, JournalRefused

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
    fail_reads(runtime, [why[n % len(why)] for n in range(LOAD_TRIES - 1)])
    with caplog.at_level(logging.WARNING, "runtimed.runs"):
        await runtime.advance(600)

    assert await runtime.status("nap") == "completed"
    assert await runtime.result("pay", 5) == "wired"
    assert restarts(runtime) == {}
    assert [record.message for record in caplog.records if "cannot be read" in record.message] == [
        "histories of runs cannot be read, and are tried again: too many open files"
    ]


@pytest.mark.trio
@pytest.mark.parametrize("broken", [[JournalCorrupt("damaged")], [JournalError("gone")] * LOAD_TRIES])
async def test_what_no_trying_cures_restarts_the_engine(
    runtime: VirtualRuntime, world: World, broken: list[Exception]
) -> None:
    """A damaged page is told at once, and what fails again and again after a minute: the engine begins anew."""
    await runtime.start(nap, id="nap")
    await runtime.advance(30)
    fail_reads(runtime, list(broken))
    await runtime.advance(600)
    assert restarts(runtime)["root/engine/coordinator"] == 1
    assert await runtime.status("nap") == "completed"
