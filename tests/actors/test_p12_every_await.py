from __future__ import annotations

import logging
from collections.abc import Callable

import msgspec
import pytest
import trio
import trio.testing

from actors.clock import VIRTUAL_START_US, VirtualClock
from actors.errors import SupervisionFailed
from actors.supervisor import Supervisor
from runtimed import open_runtime
from runtimed.settings import Limits, Settings
from runtimed.virtual import VirtualRuntime
from tests.actors import fault_world as world
from tests.actors.fault_world import Client, Outside, app
from tests.actors.faults import Fault, InjectedFault, every_point
from wal.errors import RuntimedError

pytestmark = [pytest.mark.slow, pytest.mark.chaos]
STEPS = "root/engine/steps"
ENDINGS = {"one": "completed", "two": "cancelled", "three": "cancelled", "doomed": "failed", "later": "failed"}
SETTINGS = Settings(limits=Limits(park_after=1.0))


def put_in_place(runtime: VirtualRuntime, path: str, wrap: Callable[..., Fault]) -> Fault:
    """Wrap the life of the actor at `path`, before it is started."""
    supervisor, index = _find(runtime.root, path)
    child = supervisor._children[index]
    fault = wrap(child.spec.run)
    child.spec = msgspec.structs.replace(child.spec, run=fault.run)
    return fault


def _find(root: Supervisor, path: str) -> tuple[Supervisor, int]:
    supervisor, (index,) = root._find(path)
    return supervisor, index


async def a_day(client: Client) -> dict[str, str]:
    """Runs of all kinds, people, a session, state; parked and woken. How they all ended, which is `ENDINGS`."""
    runtime = client.runtime
    await client.open_session("s", ttl=600.0)
    await client.open_session("short", ttl=4.0)
    await client.start("trip", 1, "one")
    await client.start("trip", 2, "two", session_id="s")
    await client.start("trip", 3, "three", session_id="short")
    await client.start("doomed", 2, "doomed")
    await client.start("doomed", 1, "later", start_at=VIRTUAL_START_US + 7_000_000)
    assert await client.put("colour", b'"red"') == 1
    await trio.sleep(8.0)
    assert await client.put("colour", b'"blue"') == 2
    await client.signal("one", "by hand")
    await client.close_session("s")
    return {run_id: (await runtime.settled(run_id, 600.0)).status for run_id in ENDINGS}


@pytest.mark.parametrize("actor", ["root/engine/coordinator", STEPS, "root/engine/timers", "root/sessions"])
def test_an_actor_may_crash_wherever_it_waits(
    actor: str, figures: Callable[..., None], caplog: pytest.LogCaptureFixture
) -> None:
    """P12: a crash at any await point of an actor restarts its part, once; whatever was acknowledged is there, no step
    ran after its completion was recorded, and all runs come to the end that they would have come to."""

    async def scenario(wrap: Callable[..., Fault]) -> None:
        world.outside = Outside()
        async with trio.open_nursery() as nursery:
            runtime = VirtualRuntime(nursery, [app], settings=SETTINGS, seed=1)
            fault = put_in_place(runtime, actor, wrap)
            await runtime.open()
            client = Client(runtime)
            with trio.fail_after(3_000.0):
                assert await a_day(client) == ENDINGS
                while any(view.status != "up" for view in runtime.tree()):  # noqa: ASYNC110 - it crashed a moment ago
                    await trio.sleep(0.5)
            tree = {view.path: view for view in runtime.tree()}
            assert world.problems(runtime, client) == []
            if actor != STEPS:  # where a fault in a step's own code is the failure of an attempt, and no crash
                assert tree[actor].restarts == (1 if fault.struck else 0)
            restarts.append(tree[actor].restarts)
            await runtime.stop()

    restarts: list[int] = []
    caplog.set_level(logging.CRITICAL, logger="actors.supervisor")
    points = every_point(scenario)
    assert points > 3
    assert max(restarts) == 1
    figures("P12", **{f"{actor.rpartition('/')[2]}_points": points})


def test_the_writer_may_crash_wherever_it_waits(figures: Callable[..., None], caplog: pytest.LogCaptureFixture) -> None:
    """P12: a crash at any await point of the WAL writer ends the runtime with an error, because no restart can tell
    what became of its batch; opened again, everything acknowledged is there and all runs come to their ends."""

    async def scenario(wrap: Callable[..., Fault]) -> None:
        world.outside = Outside()
        runtime: VirtualRuntime | None = None
        acknowledged: list[tuple[str, str]] = []
        try:
            async with trio.open_nursery() as nursery:
                runtime = VirtualRuntime(nursery, [app], settings=SETTINGS, seed=1)
                fault = put_in_place(runtime, "root/journal", wrap)
                await runtime.open()
                await a_day(Client(runtime, acknowledged))
                await runtime.stop()
            ends.append(fault.struck)
        except* (RuntimedError, InjectedFault) as group:
            crashes.append(group)
        assert runtime is not None
        async with trio.open_nursery() as nursery:
            again = VirtualRuntime(nursery, [app], settings=SETTINGS, seed=2, kept=runtime.disk.entries)
            await again.open()
            client = Client(again, acknowledged)
            with trio.fail_after(3_000.0):
                assert await a_day(client) == ENDINGS
            assert world.problems(again, client) == []
            await again.stop()

    ends: list[bool] = []
    crashes: list[BaseExceptionGroup[BaseException]] = []
    caplog.set_level(logging.CRITICAL, logger="actors.supervisor")
    points = every_point(scenario)
    assert not any(ends)  # struck, it never ended as if nothing had happened
    assert len(crashes) >= points
    figures("P12", writer_points=points)


@pytest.mark.trio
async def test_a_storm_of_crashes_escalates_to_the_end(
    autojump_clock: trio.testing.MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    """P12: an actor that crashes again and again is restarted up to the limit, then its supervisor gives up, and the
    one above; the runtime ends with an error, for whoever runs it to see, and in bounded time."""
    caplog.set_level(logging.CRITICAL, logger="actors.supervisor")
    lives = 0

    async def crash(task_status: trio.TaskStatus[None]) -> None:
        nonlocal lives
        lives += 1
        task_status.started()
        await trio.sleep(0.01)
        raise ValueError("again")

    with pytest.raises(SupervisionFailed) as ended, trio.fail_after(3_600.0):  # noqa: PT012 - the block is what ends
        async with open_runtime(app, writer="memory", clock=VirtualClock(), seed=1) as runtime:
            supervisor, index = _find(runtime.root, "root/engine/coordinator")
            child = supervisor._children[index]
            child.spec = msgspec.structs.replace(child.spec, run=crash)
            await runtime.restart_actor("root/engine/coordinator")
            await trio.sleep_forever()
    assert ended.value.exit_code != 0
    restarts_max = supervisor.spec.restarts_max
    assert lives <= (restarts_max + 1) * (runtime.root.spec.restarts_max + 1)
