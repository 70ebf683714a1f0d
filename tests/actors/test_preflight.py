"""The preflight against the engine: what it says of a run is what the runtime then does with it."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable
from typing import Any

import pytest
import trio
import trio.testing

from actors import saga_engine
from actors.flow import preflight
from actors.flow.definitions import Registry
from actors.flow.driver import Flow
from actors.flow.preflight import BREAKS, FITS, Bounds, judge
from runtimed.virtual import VirtualRuntime
from tests.actors.flow import programs
from tests.actors.flow.harness import Traced
from tests.actors.flow.world import BUGS, World, simulate
from wal import records as r
from wal.records import Entry
from wal.run_status import ENDED_PHASES, fold

STEERING = (r.RunPaused, r.RunResumed)
NOT_BY_CODE = {"outcome_unknown", "compensation_failed", "interrupted"}


@pytest.mark.slow
@pytest.mark.chaos
@pytest.mark.trio
async def test_the_engine_does_what_was_foretold(
    virtual_clock: trio.testing.MockClock, scale: Callable[[int, int], int], monkeypatch: pytest.MonkeyPatch
) -> None:
    """On the same journal and the same changed code, the engine blocks just the runs that were to be blocked, with the
    same code, call and sentence."""
    foretold: Counter[str] = Counter()
    for seed in range(scale(40, 1_000)):
        world = simulate(seed)
        if world.was_redeployed or world.was_codeless:
            continue
        rng = random.Random(seed)
        entries = _cut(world, rng)
        code = programs.changed(rng, world.code) if seed % 4 else world.code
        _use(monkeypatch, code)
        verdict, hold = judge(Registry(programs.app), entries, blocked=False, bounds=Bounds())
        foretold[verdict] += 1
        told = await _first_of_the_engine(entries)
        blocked = told if isinstance(told, r.RunBlocked) else None
        if verdict == BREAKS:
            assert hold is not None
            assert blocked is not None, f"simulate({seed}): {hold}, and the engine went on: {told}"
            assert (blocked.code, blocked.message, blocked.key) == (hold.code, hold.message, hold.key), seed
        else:
            assert blocked is None or blocked.code in NOT_BY_CODE or blocked.key, f"simulate({seed}): {blocked}"
    assert min(foretold[BREAKS], foretold[FITS]) > 8


def _cut(world: World, rng: random.Random) -> list[Entry]:
    """The records of a world up to where its run was open still."""
    facts = [fact for fact, _ in world.journal]
    open_at = [upto for upto in range(1, len(facts)) if fold(facts[:upto]).phase not in ENDED_PHASES]
    upto = rng.choice(open_at)
    return [Entry(seq, 1, seq - 1, at, fact) for seq, (fact, at) in enumerate(world.journal[:upto], 1)]


def _use(monkeypatch: pytest.MonkeyPatch, code: Any) -> None:
    """From now on the runs' code is this program, for the preflight and for the engine."""

    def context(flow: Flow, sink: Any) -> Traced:
        made = Traced(flow, [])
        made.extra = (code, BUGS)
        return made

    monkeypatch.setattr(preflight, "Context", context)
    monkeypatch.setattr(saga_engine, "Context", context)


async def _first_of_the_engine(entries: list[Entry]) -> r.Record:
    """What the engine records first of the run when it has loaded it."""
    async with trio.open_nursery() as nursery:
        runtime = VirtualRuntime(nursery, [programs.app], kept=entries)
        await runtime.open()
        if fold([entry.record for entry in entries]).status == "waiting":  # the others come back by themselves
            await runtime.pause("run-1")
            await runtime.resume("run-1")
        await trio.testing.wait_all_tasks_blocked()
        await runtime.stop()
        told = [entry.record for entry in runtime.disk.entries[len(entries) :] if entry.run_key == 1]
    return next((record for record in told if not isinstance(record, STEERING)), r.DaemonStopped())
