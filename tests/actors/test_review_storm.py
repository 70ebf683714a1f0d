"""A storm of everything at once over runs that notice every difference: signals, pauses, cancellations, crashes, late
disks and slow readers, in an order drawn from a seed."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Any

import pytest
import trio
import trio.testing

from actors.errors import StepFailed
from actors.flow.context import Context
from actors.flow.definitions import App, Retry
from runtimed.settings import Limits, Settings
from runtimed.virtual import VirtualRuntime
from tests.actors.world import World, records
from wal import records as r
from wal.errors import RuntimedError

app = App("storm")
DICE = random.Random(0)
RUNS, TURNS = 4, 120


@app.step(retry=Retry(max_attempts=2, initial_interval=0.4, jitter=0.0))
async def work(where: str, stamp: str) -> str:
    chance = DICE.random()
    if chance < 0.3:
        await trio.sleep(chance * 5)
    elif chance < 0.5:
        raise OSError("bad luck")
    return where


@app.step(delivery="at_most_once")
async def once(where: str, stamp: str) -> str:
    if DICE.random() < 0.3:
        await trio.sleep(1)
    return where


@app.step(retry=Retry(max_attempts=1))
async def buggy(where: str, stamp: str) -> Any:
    return object() if DICE.random() < 0.2 else where  # what is no JSON is a defect, and holds the run


@work.compensation(on_unknown=True)
async def undo(result: str | None, where: str, stamp: str) -> None:
    if DICE.random() < 0.3:
        await trio.sleep(0.3)


async def branch(ctx: Context, where: str) -> str:
    try:
        return str(await ctx.step(work, f"{where}-inner", ctx.now().isoformat()))
    except StepFailed:
        await ctx.sleep(0.2)
        return "gave up"


async def careful(ctx: Context, where: str) -> list[str]:
    return [await ctx.step(once, where, ctx.now().isoformat()), await ctx.step(buggy, where, ctx.now().isoformat())]


@app.workflow
async def run(ctx: Context, rounds: int) -> list[Any]:
    """Passes the time on in every argument, so that a replay that differs is seen."""
    seen: list[Any] = []
    for number in range(rounds):
        won, value = await ctx.race(
            step=branch(ctx, f"{number}-race"), signal=ctx.signal("go", timeout=1.5), nap=ctx.sleep(2.5)
        )
        await ctx.emit([won, value, ctx.now().isoformat()])
        count, version = await ctx.global_state.get_versioned("count", type=int, default=0)
        await ctx.global_state.put("count", count + 1)
        seen.append([won, value, version, ctx.random()])
        async with ctx.saga():
            seen.append(
                await ctx.gather(
                    branch(ctx, f"{number}-left"), branch(ctx, f"{number}-right"), careful(ctx, f"{number}")
                )
            )
    return seen


class Storm:
    """One storm over one runtime."""

    def __init__(self, runtime: VirtualRuntime, seed: int) -> None:
        self.runtime, self.dice = runtime, random.Random(seed)
        self.ids: list[str] = []
        self.disk: trio.Event | None = None
        self.reading: trio.Event | None = None
        self.nursery: trio.Nursery

    def hold_disk(self) -> None:
        commit, gate = self.runtime.disk.commit, trio.Event()

        async def later(entries: list[r.Entry]) -> None:
            await gate.wait()
            await commit(entries)

        if self.disk is None:
            self.disk = gate
            self.runtime.disk.commit = later  # type: ignore[method-assign]

    def hold_reading(self) -> None:
        coordinator = self.runtime.actors.coordinator
        read, gate = coordinator._read, trio.Event()

        async def later(query: Any) -> Any:
            await gate.wait()
            return await read(query)

        if self.reading is None:
            self.reading = gate
            coordinator._read = later

    def let_go(self) -> None:
        if self.disk is not None:
            del self.runtime.disk.commit
            self.disk.set()
        if self.reading is not None:
            self.runtime.actors.coordinator._read = self.runtime._readers.read
            self.reading.set()
        self.disk = self.reading = None

    def put_away(self) -> None:
        engine = self.runtime.actors.coordinator.engine
        with engine.stage:
            engine.park(trio.current_time(), at_least=self.dice.randrange(1, 4))

    async def crash(self) -> None:
        if self.disk is not None:
            self.runtime.disk.killed = True  # what the disk held back is lost
            self.disk.set()
        self.disk = self.reading = None
        await self.runtime.crash(downtime=self.dice.choice([0.0, 2.0]))

    async def quietly(self, verb: Callable[..., Awaitable[Any]], *args: Any) -> None:
        try:
            await verb(*args)
        except RuntimedError:
            pass  # the run has ended, is not paused, or the daemon was killed before it answered

    def ask(self, verb: Callable[..., Awaitable[Any]], *args: Any) -> None:
        self.nursery.start_soon(self.quietly, verb, *args)

    async def let_go_on(self, run_id: str) -> None:
        """What an operator does for a blocked run."""
        found = await self.runtime.run(run_id)
        if found.error is not None and found.error.type == "outcome_unknown":
            key = found.error.step or ""
            await self.quietly(
                partial(self.runtime.resolve, run_id, key, happened=self.dice.random() < 0.5, result="?")
            )
        await self.quietly(self.runtime.retry, run_id)

    async def restart_coordinator(self) -> None:
        self.let_go()
        await self.runtime.restart_actor("root/engine/coordinator")

    async def wait(self) -> None:
        await trio.sleep(self.dice.random())

    async def turn(self) -> None:
        """One thing happens, and it may be that nobody hears of it before the next one does."""
        runtime, dice = self.runtime, self.dice
        run_id = dice.choice(self.ids)
        happenings: list[tuple[int, Callable[[], Any]]] = [
            (30, lambda: self.ask(runtime.signal, run_id, dice.choice(["go", "go", "other"]), dice.randrange(9))),
            (10, lambda: self.ask(runtime.pause, run_id)),
            (15, lambda: self.ask(runtime.resume, run_id)),
            (1, lambda: self.ask(runtime.cancel, run_id)),
            (3, lambda: self.ask(self.let_go_on, run_id)),
            (4, self.put_away),
            (5, self.hold_disk),
            (5, self.hold_reading),
            (3, self.crash),
            (2, self.restart_coordinator),
            (10, self.let_go),
            (12, self.wait),
        ]
        weights = [weight for weight, _ in happenings]
        happening = dice.choices(happenings, weights)[0][1]()
        if happening is not None:
            await happening
        if dice.random() < 0.5:
            await trio.lowlevel.checkpoint()

    async def rage(self) -> None:
        async with trio.open_nursery() as self.nursery:
            for number in range(RUNS):
                later = self.runtime.clock.now_us() + self.dice.randrange(3_000_000)
                handle = await self.runtime.start(run, 3, id=f"run-{number}", start_at=self.dice.choice([None, later]))
                self.ids.append(handle.id)
            for _ in range(TURNS):
                await self.turn()
            self.let_go()
        await trio.testing.wait_all_tasks_blocked()
        for run_id in self.ids:
            await self.quietly(self.runtime.resume, run_id)


async def outcome(storm: Storm, run_id: str) -> str:
    """How a run ended. What holds it back is a person's to decide; that its records contradict its code is an error."""
    runtime = storm.runtime
    found = await runtime.settled(run_id, 600)
    for _ in range(50):
        if found.status != "blocked":
            break
        assert found.error is not None
        assert found.error.type in ("outcome_unknown", "code_error", "interrupted"), found.error
        await storm.let_go_on(run_id)
        found = await runtime.settled(run_id, 600)
    history = await records(runtime, run_id)
    assert found.status in ("completed", "failed", "cancelled"), (found.status, found.error, history[-5:])
    done = Counter(each.key for each in history if isinstance(each, r.StepCompleted))
    assert set(done.values()) <= {1}, done
    return found.status


@pytest.fixture
def runtime_settings() -> Settings:
    """Room for fewer runs than there are."""
    return Settings(limits=Limits(runs_active_max=2))


@pytest.mark.parametrize("seed", range(12))
async def test_a_storm_leaves_every_run_ended_and_nothing_contradicting(
    runtime: VirtualRuntime, world: World, seed: int
) -> None:
    """Whatever comes in whatever order, every run ends, no step completes twice, no record contradicts the code."""
    DICE.seed(seed)
    storm = Storm(runtime, seed)
    with trio.fail_after(100_000):
        await storm.rage()
        for run_id in storm.ids:
            await outcome(storm, run_id)
