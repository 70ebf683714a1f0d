"""Turns: a flood of kept connections does not make the others wait for all of it."""

from __future__ import annotations

import pytest
import trio
from trio.testing import wait_all_tasks_blocked

from runtimed.http.turns import Turns
from tests.runtimed.http.conftest import PATIENCE_S


@pytest.mark.trio
async def test_so_many_in_a_pass_in_the_order_of_asking() -> None:
    """Of a crowd, each pass of the loop lets so many go on, first come first served, and nobody is forgotten."""
    turns = Turns(per_pass=4)
    gone: list[int] = []
    most = 0

    async def one(number: int) -> None:
        await turns.take()
        gone.append(number)

    async with trio.open_nursery() as nursery:
        for number in range(40):
            nursery.start_soon(one, number)
            await wait_all_tasks_blocked()
        assert sorted(gone) == [0, 1, 2, 3]  # nobody gives turns out yet
        nursery.start_soon(turns.run)
        while len(gone) < 40:
            before = len(gone)
            await trio.lowlevel.checkpoint()
            most = max(most, len(gone) - before)
        nursery.cancel_scope.cancel()
    assert most <= 8  # of one pass and the next: within a pass, tasks run in any order
    groups = [sorted(gone[at : at + 4]) for at in range(0, 40, 4)]
    assert groups == [list(range(at, at + 4)) for at in range(0, 40, 4)]


@pytest.mark.trio
async def test_without_a_crowd_a_turn_costs_no_pass() -> None:
    """Who comes alone goes on at once, again and again."""
    turns = Turns(per_pass=2)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(turns.run)
        for _ in range(100):
            with trio.fail_after(PATIENCE_S):
                await turns.take()
        nursery.cancel_scope.cancel()


@pytest.mark.trio
async def test_who_leaves_the_queue_is_passed_over() -> None:
    """A client that goes away while it waits takes nobody's turn."""
    turns = Turns(per_pass=1)
    await turns.take()
    async with trio.open_nursery() as leaving:
        leaving.start_soon(turns.take)
        await wait_all_tasks_blocked()
        leaving.cancel_scope.cancel()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(turns.run)
        with trio.fail_after(PATIENCE_S):
            await turns.take()
        nursery.cancel_scope.cancel()
