"""What is due and cannot go on yet, for want of a place in its queue or of room, keeps no other timer waiting."""

from __future__ import annotations

from typing import Any

import pytest

from actors import messages as m
from actors import timers
from actors.flow.context import Context
from actors.flow.definitions import App, Retry
from runtimed.settings import Limits, Queue, Settings
from runtimed.virtual import VirtualRuntime
from tests.actors.world import HANG, WORLD, World

app = App("backlog")
PAGE = 3
US = 1_000_000

pytestmark = pytest.mark.trio


@app.step(retry=Retry(max_attempts=1))
async def note(name: str) -> str:
    return str(await WORLD.act(name))


@app.workflow
async def holding(ctx: Context, name: str) -> str:
    await ctx.step(note, name)
    await ctx.signal("go")
    return name


@app.workflow
async def nap(ctx: Context, seconds: float) -> str:
    await ctx.sleep(seconds)
    return "rested"


@app.workflow
async def guarded(ctx: Context, name: str) -> str:
    won, _ = await ctx.race(work=ctx.step(note, name), late=ctx.sleep(200))
    return won


@pytest.fixture(autouse=True)
def _small_pages(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(timers, "PAGE_ROWS", PAGE)


def crashes(*_: object) -> None:
    raise RuntimeError("a bug")


async def end(runtime: VirtualRuntime, how: str) -> None:
    """Nothing, a crash of the coordinator with the actors beside it, or one of the process."""
    if how == "actors":
        handlers: dict[Any, Any] = runtime.actors.coordinator._commands.handlers  # of this life
        handlers[m.SessionEnded] = crashes
        runtime.actors.coordinator.mailbox.report(m.SessionEnded(id="none", cancel_runs=False, reason="none"))
        await runtime.advance(1)
    elif how == "process":
        await runtime.crash()


endings = pytest.mark.parametrize("how", ["live", "actors", "process"])


class TestQueues:
    @pytest.fixture
    def runtime_settings(self) -> Settings:
        return Settings(queues={"one": Queue(concurrency=1), "daily": Queue(rate=1, rate_period=86_400.0)})

    async def _start_all(self, runtime: VirtualRuntime, names: list[str], after_s: float) -> None:
        start_at = runtime.clock.now_us() + round(after_s * US)
        for name in names:
            await runtime.start(holding, name, id=name, queue="one", start_at=start_at)

    @endings
    async def test_the_backlog_of_a_queue_hides_no_timer(self, runtime: VirtualRuntime, world: World, how: str) -> None:
        """However many runs whose time has come wait for their turn, later timers fire to the second, and the backlog
        begins one after the other."""
        names = [f"r{number:02}" for number in range(4 * PAGE)]
        await self._start_all(runtime, names, 1.0)
        await runtime.start(nap, 60.0, id="before")
        await runtime.advance(5)
        await end(runtime, how)
        await runtime.start(nap, 60.0, id="after")
        await runtime.advance(62)
        assert [await runtime.status(run_id) for run_id in ("before", "after")] == ["completed"] * 2
        for number, name in enumerate(names):
            assert world.names == names[: number + 1]
            await runtime.signal(name, "go")
            await runtime.advance(0.1)

    @endings
    async def test_a_run_comes_into_its_queue_when_its_time_comes(
        self, runtime: VirtualRuntime, world: World, how: str
    ) -> None:
        """Neither before nor later, though the actors or the process crash meanwhile."""
        await self._start_all(runtime, ["a"], 60.0)
        await runtime.advance(10)
        await end(runtime, how)
        await runtime.advance(48)
        assert world.names == []
        await runtime.advance(2.01)
        assert world.names == ["a"]
        await runtime.signal("a", "go")

    async def test_a_run_whose_time_has_come_is_not_overtaken_after_a_restart(
        self, runtime: VirtualRuntime, world: World
    ) -> None:
        """What waits in a queue is known at once after a restart, however many came into it by their time."""
        now = runtime.clock.now_us()
        await runtime.start(holding, "first", id="first", queue="daily")
        for number in range(2 * PAGE):
            await runtime.start(holding, "low", id=f"low-{number}", queue="daily", start_at=now + number)
        for name, priority, after_s in (("high", 9, 10), ("later", 99, 3600)):
            start_at = now + after_s * US
            await runtime.start(holding, name, id=name, queue="daily", priority=priority, start_at=start_at)
        await runtime.advance(20)
        assert world.names == ["first"]
        await runtime.crash()  # with it goes what is known of the rate
        await runtime.advance(1)
        assert world.names == ["first", "high"]

    async def test_a_run_that_is_resumed_before_its_turn_waits_for_it(
        self, runtime: VirtualRuntime, world: World
    ) -> None:
        """Paused while it waits, also over a restart, a run comes back into its queue and begins once."""
        await self._start_all(runtime, ["a", "b"], 1.0)
        await runtime.advance(2)
        await runtime.pause("b")
        await runtime.crash()
        await runtime.signal("a", "go")
        await runtime.advance(1)
        assert world.names == ["a"]
        await runtime.resume("b")
        await runtime.advance(1)
        assert world.names == ["a", "b"]

    async def test_a_clock_that_jumps_begins_nothing_twice(self, runtime: VirtualRuntime, world: World) -> None:
        """Set forward and back over the start of a backlog, the clock makes no run begin twice and hides no timer."""
        names = [f"r{number}" for number in range(2 * PAGE)]
        await self._start_all(runtime, names, 100.0)
        await runtime.start(nap, 150.0, id="nap")
        for seconds in (120.0, -120.0, 90.0, -90.0):
            await runtime.jump(seconds)
            await runtime.advance(5)
        assert world.names == names[:1]
        await runtime.start(nap, 10.0, id="early")
        await runtime.advance(11)
        assert [await runtime.status(run_id) for run_id in ("nap", "early")] == ["waiting", "completed"]
        await runtime.advance(130)
        assert await runtime.status("nap") == "completed"
        for name in names:
            await runtime.signal(name, "go")
        await runtime.advance(1)
        assert world.names == names


class TestRoom:
    @pytest.fixture
    def runtime_settings(self) -> Settings:
        return Settings(limits=Limits(runs_active_max=2), queues={"one": Queue(concurrency=1)})

    async def test_those_that_hold_the_room_see_their_deadlines(self, runtime: VirtualRuntime, world: World) -> None:
        """However many runs whose time has come wait for room, the deadlines of those that hold it come, and then all
        of them have their turn."""
        for name in ("a", "b"):
            world.script[name].extend([HANG] * 2)
        naps = [(await runtime.start(nap, 100.0)).id for _ in range(4 * PAGE)]
        for name in ("a", "b"):
            await runtime.start(guarded, name, id=name)
        await runtime.advance(10)
        await runtime.crash()
        await runtime.advance(150)
        assert {await runtime.status(run_id) for run_id in naps} == {"waiting"}
        await runtime.advance(45)
        assert {await runtime.status(run_id) for run_id in (*naps, "a", "b")} == {"completed"}

    async def test_no_room_is_taken_to_wait_for_a_turn(self, runtime: VirtualRuntime, world: World) -> None:
        """A run comes into its queue at its time also while there is no room, so that it is not overtaken."""
        for name in ("a", "b"):
            world.script[name].append(HANG)
        start_at = runtime.clock.now_us() + 10 * US
        await runtime.start(holding, "c", id="c", queue="one", start_at=start_at)
        await runtime.advance(1)
        for name in ("a", "b"):
            await runtime.start(guarded, name, id=name)
        await runtime.advance(12)
        queues = runtime.actors.coordinator.engine.queues
        assert queues.counts()["one", "waiting"] == 1
        await runtime.advance(200)
        assert world.names == ["a", "b", "c"]
