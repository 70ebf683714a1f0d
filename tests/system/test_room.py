from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
import trio

from runtimed import App, Context, Retry, open_runtime
from runtimed.settings import Limits, Settings

app = App("room")
RUNS, ROOM = 60, 4
attempts: dict[int, int] = {}


@app.step(retry=Retry(initial_interval=0.05, jitter=0.0))
async def try_again(number: int) -> int:
    """Work at the second attempt."""
    attempts[number] = attempts.get(number, 0) + 1
    if attempts[number] == 1:
        raise OSError("not yet")
    return number


@app.workflow
async def sleeper(ctx: Context, number: int) -> int:
    """Sleep until a moment that all share, then do something."""
    await ctx.sleep_until(datetime(2026, 1, 1, tzinfo=UTC))
    await ctx.sleep(0.1)
    return int(await ctx.step(try_again, number))


@pytest.mark.trio
@pytest.mark.slow
@pytest.mark.parametrize("later", [False, True], ids=["started at once", "started for later"])
async def test_more_timers_due_at_once_than_runs_have_room_all_fire(later: bool) -> None:
    """Many times `runs_active_max` runs are due at one moment, asleep in the journal: each gets its turn, and no more
    of them than there is room for are brought into memory at a time."""
    attempts.clear()
    settings = Settings(limits=Limits(runs_active_max=ROOM, park_after=0.05))
    when = int((datetime.now(UTC) + timedelta(seconds=0.3)).timestamp() * 1_000_000) if later else None
    async with open_runtime(app, writer="memory", settings=settings) as runtime:
        for number in range(RUNS):
            await runtime.start("sleeper", number, id=f"s{number}", start_at=when)
        most = 0
        with trio.fail_after(60.0):
            for number in range(RUNS):
                assert (await runtime.settled(f"s{number}", 60.0)).status == "completed"
                most = max(most, runtime.actors.coordinator.statistics().active)
    assert most <= ROOM + 8
