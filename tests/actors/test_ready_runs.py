from __future__ import annotations

from pathlib import Path

import pytest
import trio
from msgspec import Raw

from actors.flow.context import Context
from actors.flow.definitions import App
from actors.messages import StartRun, StartRuns
from runtimed.opening import open_runtime
from runtimed.settings import Limits, Settings

app = App("many")
ROOM = 1_000
BATCHES, BATCH = 8, 500
PATIENCE_SECONDS = 60.0


@app.workflow
async def wait(ctx: Context, number: int) -> int:
    """Open until somebody says go."""
    return number + await ctx.signal("go", type=int)


@pytest.mark.slow
@pytest.mark.trio
async def test_more_runs_than_there_is_room_for_all_come_to_their_waits(tmp_path: Path) -> None:
    """A burst of several times `runs_active_max` starts is begun whole, with no timer and nobody's help; what then
    idles is parked until there is room, and a parked run still takes its signal."""
    settings = Settings(limits=Limits(runs_active_max=ROOM))
    async with open_runtime(app, tmp_path, settings=settings) as runtime:
        for batch in range(BATCHES):
            items = [StartRun(workflow="wait", input=Raw(b"1"), id=f"run-{batch}-{n}") for n in range(BATCH)]
            await runtime.ask(StartRuns(items=items))
        all_wait = {("wait", "waiting"): BATCHES * BATCH}
        with trio.fail_after(PATIENCE_SECONDS):
            while await runtime.read(lambda reader: reader.counts()) != all_wait:  # noqa: ASYNC110 - the disk has no event
                await trio.sleep(0.05)
        assert runtime.actors.coordinator.statistics().ready == 0
        await runtime.signal("run-0-0", "go", 41)
        assert (await runtime.settled("run-0-0", PATIENCE_SECONDS)).result == Raw(b"42")
