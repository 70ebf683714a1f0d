"""What users' code may throw at the runtime: one bad run, step or request never ends what runs the others."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
import trio.testing
from msgspec import Raw

from actors import messages as m
from actors.errors import Failure, InvalidInput
from actors.flow.context import Context
from actors.flow.definitions import App, Retry
from runtimed.virtual import VirtualRuntime
from tests.actors.world import World, kinds

app = App("poison")
UNDECODABLE = "no such file: caf\udce9"  # as os.fsdecode gives what is no UTF-8


class Mute(Exception):
    """An exception that cannot say what it is."""

    def __str__(self) -> str:
        raise IndexError("nothing to say")


class MuteFailure(Failure):
    """The same for a workflow's failure."""

    def __str__(self) -> str:
        raise IndexError("nothing to say")


class Odd(BaseException):
    """As other libraries' cancellations are."""


RAISED = {"undecodable": OSError(UNDECODABLE), "mute": Mute(), "odd": Odd("odd"), "exit": SystemExit(3)}


class Picky(msgspec.Struct):
    """A type whose own check has a bug."""

    items: list[int]

    def __post_init__(self) -> None:
        if self.items[0] < 0:
            raise ValueError("negative")


@app.step(retry=Retry(max_attempts=1))
async def raises(which: str) -> None:
    raise RAISED[which]


@app.step(retry=Retry(max_attempts=1))
def raises_in_a_thread(which: str) -> None:
    raise RAISED[which]


@app.step(retry=Retry(max_attempts=1))
async def takes(picky: Picky) -> None: ...


@app.workflow
async def by_step(ctx: Context, which: str) -> None:
    await ctx.step(raises, which)


@app.workflow
async def by_thread(ctx: Context, which: str) -> None:
    await ctx.step(raises_in_a_thread, which)


@app.workflow
async def by_itself(ctx: Context, which: str) -> None:
    raise RAISED[which]


@app.workflow
async def by_failure(ctx: Context, undecodable: bool) -> None:
    raise Failure(UNDECODABLE) if undecodable else MuteFailure


@app.workflow
async def typed(ctx: Context, picky: Picky) -> list[int]:
    return picky.items


@app.workflow(signals={"go": Picky})
async def signalled(ctx: Context) -> list[int]:
    picky: Picky = await ctx.signal("go")
    return picky.items


@app.workflow
async def untyped(ctx: Context) -> list[int]:
    picky: Picky = await ctx.signal("go", type=Picky)
    return picky.items


@app.workflow
async def passes_on(ctx: Context) -> None:
    await ctx.step(takes, {"items": []})


@app.workflow
async def waits(ctx: Context) -> None:
    await ctx.signal("go")


async def restarts(runtime: VirtualRuntime) -> int:
    """How often actors crashed."""
    await trio.testing.wait_all_tasks_blocked()
    return sum(view.restarts for view in runtime.tree())


@pytest.mark.parametrize("which", sorted(RAISED))
@pytest.mark.parametrize("workflow", [by_step, by_thread])
async def test_whatever_a_step_raises_fails_its_run(
    runtime: VirtualRuntime, world: World, workflow: Any, which: str
) -> None:
    """Text that is no UTF-8, an exception without text, a BaseException: the run fails, and is told of as well as may
    be; nothing else is touched."""
    handle = await runtime.start(workflow, which)
    found = await runtime.settled(handle.id, 1)
    assert found.status == "failed"
    assert await restarts(runtime) == 0


@pytest.mark.parametrize("which", sorted(RAISED))
async def test_whatever_a_workflow_raises_blocks_its_run(runtime: VirtualRuntime, world: World, which: str) -> None:
    """The same for what leaves a workflow."""
    handle = await runtime.start(by_itself, which)
    assert (await runtime.settled(handle.id, 1)).status == "blocked"
    assert await restarts(runtime) == 0


@pytest.mark.parametrize("undecodable", [False, True])
async def test_whatever_a_failure_says(runtime: VirtualRuntime, world: World, undecodable: bool) -> None:
    """The same for a failure."""
    handle = await runtime.start(by_failure, undecodable)
    assert (await runtime.settled(handle.id, 1)).status == "failed"
    assert await restarts(runtime) == 0


async def test_a_check_with_a_bug_refuses_what_it_is_asked_about(runtime: VirtualRuntime, world: World) -> None:
    """A type whose own check raises anything refuses an input or a signal at the door."""
    with pytest.raises(InvalidInput, match="IndexError"):
        await runtime.start(typed, {"items": []})
    handle = await runtime.start(signalled)
    with pytest.raises(InvalidInput, match="IndexError"):
        await runtime.signal(handle.id, "go", {"items": []})
    await runtime.signal(handle.id, "go", {"items": [1]})
    assert await handle.result(1) == [1]
    assert await restarts(runtime) == 0


async def test_a_check_with_a_bug_inside(runtime: VirtualRuntime, world: World) -> None:
    """An undeclared signal that does not pass is set aside; an argument that does not blocks the run."""
    handle = await runtime.start(untyped)
    await runtime.signal(handle.id, "go", {"items": []})
    await runtime.signal(handle.id, "go", {"items": [1]})
    assert await handle.result(1) == [1]
    assert "signal_set_aside" in await kinds(runtime, handle.id)
    handle = await runtime.start(passes_on)
    assert (await runtime.settled(handle.id, 1)).status == "blocked"
    assert await restarts(runtime) == 0


async def test_what_cannot_be_written_is_refused_at_the_door(runtime: VirtualRuntime, world: World) -> None:
    """Attributes that are no JSON, a reason that is no UTF-8: refused, with no record written."""
    await runtime.start(waits, id="there")
    before = runtime.feed.seq
    with pytest.raises(InvalidInput, match="attributes"):
        await runtime.start(waits, attributes={"x": object()})
    with pytest.raises(InvalidInput):
        await runtime.cancel("there", UNDECODABLE)
    with pytest.raises(InvalidInput, match="attributes"):
        await runtime.ask(m.OpenSession(attributes={"x": UNDECODABLE}))
    with pytest.raises(InvalidInput):
        await runtime.ask(
            m.StartRuns(items=[m.StartRun(workflow="waits", input=Raw(b"null"))], origin=m.Origin(by=UNDECODABLE))
        )
    await trio.testing.wait_all_tasks_blocked()
    assert runtime.feed.seq == before
    assert await restarts(runtime) == 0
