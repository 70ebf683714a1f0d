"""Workflow code runs outside trio's task: whatever it asks of trio or anyio fails at its own line."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from typing import Any

import anyio
import pytest
import trio
from trio._core._run import GLOBAL_RUN_CONTEXT

from actors.errors import ForeignAwait
from actors.outside_trio import OutsideTrio


@pytest.mark.trio
async def test_the_slot_is_where_it_was() -> None:
    """trio keeps the current task in this private slot; if it moves, this fails, and the hiding has to follow."""
    assert GLOBAL_RUN_CONTEXT.task is trio.lowlevel.current_task()


def _enter(make: Callable[[], Any]) -> Callable[[], None]:
    def enter() -> None:
        with make():
            raise AssertionError("not reached")

    return enter


@pytest.mark.trio
@pytest.mark.parametrize(
    "act",
    [
        lambda: trio.lowlevel.current_task().name,
        _enter(lambda: trio.move_on_after(1)),
        _enter(lambda: trio.fail_after(1)),
        _enter(trio.CancelScope),
        _enter(lambda: anyio.move_on_after(1)),
        lambda: trio.Lock().acquire_nowait(),
        trio.current_effective_deadline,
    ],
)
async def test_what_needs_a_task_raises(act: Callable[[], Any]) -> None:
    """Scopes, locks and the like raise ForeignAwait while the task is hidden."""
    with OutsideTrio(), pytest.raises(ForeignAwait, match="only ctx"):
        act()


@pytest.mark.trio
async def test_the_task_is_back_afterwards() -> None:
    """Nested, left by an exception, entered again: the task is there again each time."""
    outside, task = OutsideTrio(), trio.lowlevel.current_task()
    for _ in range(2):
        with contextlib.suppress(KeyError), outside:
            with outside:
                pass
            with pytest.raises(ForeignAwait):
                _ = trio.lowlevel.current_task().name
            raise KeyError
        assert trio.lowlevel.current_task() is task
        await trio.lowlevel.checkpoint()


def test_without_a_loop_nothing_is_left_behind() -> None:
    """Entered where no loop runs, as a worker or a test may, it leaves the slot as empty as it was."""
    with OutsideTrio():
        pass
    assert not hasattr(GLOBAL_RUN_CONTEXT, "task")
