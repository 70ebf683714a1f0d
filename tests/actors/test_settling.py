"""Who waits for a run to settle."""

from __future__ import annotations

import pytest
import trio
from trio.testing import wait_all_tasks_blocked

from runtimed.settling import Settling
from wal import records as r

DONE = r.RunCancelled("enough")


@pytest.mark.trio
async def test_everyone_who_waits_for_a_run_is_told_how_it_settled() -> None:
    """All that watch it get its record and its workflow; those of other runs wait on."""
    settling = Settling()
    told: list[object] = []

    async def wait(run_id: str) -> None:
        with settling.watch(run_id) as watch:
            await watch.event.wait()
            told.append((run_id, watch.workflow, watch.how))

    async with trio.open_nursery() as nursery:
        for run_id in ("a", "a", "b"):
            nursery.start_soon(wait, run_id)
        await wait_all_tasks_blocked()
        settling.settled("a", "flow", DONE)
        await wait_all_tasks_blocked()
        assert told == [("a", "flow", DONE)] * 2
        settling.settled("b", "flow", None)
    assert settling._waiting == {}


@pytest.mark.trio
async def test_one_who_leaves_leaves_nothing_behind() -> None:
    """Watchers that were cancelled, and runs that nobody watches, cost no memory."""
    settling = Settling()
    with trio.move_on_after(0):
        with settling.watch("a") as watch:
            await watch.event.wait()
    settling.settled("a", "flow", DONE)
    assert settling._waiting == {}


@pytest.mark.trio
async def test_at_the_end_everyone_looks_once_more() -> None:
    """When nothing will settle any more, all are woken without a record."""
    settling = Settling()
    with settling.watch("a") as one, settling.watch("b") as other:
        settling.close()
        assert one.event.is_set() and other.event.is_set()
        assert (one.how, other.how) == (None, None)
