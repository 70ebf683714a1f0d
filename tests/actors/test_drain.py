"""A drain lets attempts in flight finish, records how they ended, and begins nothing new."""

from __future__ import annotations

from pathlib import Path

import pytest
import trio

from runtimed import App, Context
from runtimed.opening import open_runtime
from runtimed.runtime import Runtime
from runtimed.settings import Daemon, Settings
from wal.queries import Reader

app = App("draining")
begun: list[int] = []


class Gates:
    """Where the step waits for the test."""

    entered: trio.Event
    leave: trio.Event


@app.step
async def work(number: int) -> int:
    begun.append(number)
    Gates.entered.set()
    await Gates.leave.wait()
    return number


@app.workflow
async def chain(ctx: Context) -> list[int]:
    return [await ctx.step(work, number) for number in range(3)]


@pytest.mark.trio
async def test_a_drain_finishes_the_step_at_hand_and_starts_no_other(tmp_path: Path) -> None:
    """The step in flight ends and is recorded; the next one begins only after the restart, and none runs twice."""
    begun.clear()
    Gates.entered, Gates.leave = trio.Event(), trio.Event()
    settings = Settings(daemon=Daemon(drain_timeout=60.0))
    async with trio.open_nursery() as nursery:
        async with open_runtime(app, tmp_path, settings=settings) as runtime:
            handle = await runtime.start(chain)
            await Gates.entered.wait()
            nursery.start_soon(_open_when_draining, runtime)
        assert begun == [0]
        with Reader.open(tmp_path / "journal.db") as reader:
            kinds = [record.kind for record in reader.history_page(handle.id).items]
            assert kinds == ["run_started", "step_scheduled", "step_completed"]
    async with open_runtime(app, tmp_path, settings=settings) as runtime:
        assert await runtime.result(handle.id, 60) == [0, 1, 2]
        assert begun == [0, 1, 2]


async def _open_when_draining(runtime: Runtime) -> None:
    await runtime.feed.wait_beyond(1 << 62)  # returns when the feed ends, which a drain begins with
    Gates.leave.set()
