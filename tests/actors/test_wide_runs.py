"""Runs that wait for very many calls at once: their journal grows with the calls and not with their square, and what
they wait for is still compared, whatever was parked, killed or changed meanwhile."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from actors.flow.context import Context
from actors.flow.definitions import App
from actors.flow.driver import LISTED_MAX
from runtimed.settings import Limits, Settings
from runtimed.virtual import VirtualRuntime
from tests.actors.world import World, records
from wal import records as r

app = App("wide")
WIDE = 4 * LISTED_MAX


@app.workflow
async def naps(ctx: Context, seconds: list[float]) -> int:
    return len(await ctx.gather(*[ctx.sleep(each) for each in seconds]))


async def heard(ctx: Context, number: int) -> str:
    first = await ctx.signal(f"first-{number}")
    return f"{first}{await ctx.signal(f'second-{number}')}"


@app.workflow
async def hears(ctx: Context, n: int) -> list[str]:
    return await ctx.gather(*[heard(ctx, number) for number in range(n)])


@app.workflow
async def leaf(ctx: Context, seconds: float) -> float:
    await ctx.sleep(seconds)
    return seconds


@app.workflow
async def fans_out(ctx: Context, n: int) -> float:
    return sum(await ctx.gather(*[ctx.child(leaf, float(number % 7)) for number in range(n)]))


@pytest.fixture(params=[60.0, 0.0], ids=["stays", "is parked"])
def runtime_settings(request: pytest.FixtureRequest) -> Settings:
    return Settings(limits=Limits(park_after=request.param))


async def waits(runtime: VirtualRuntime, run_id: str) -> list[r.RunWaiting]:
    return [record for record in await records(runtime, run_id) if isinstance(record, r.RunWaiting)]


def size(notes: list[r.RunWaiting]) -> int:
    return sum(len(msgspec.json.encode(note)) for note in notes)


@pytest.mark.trio
async def test_each_call_is_named_about_once(runtime: VirtualRuntime, world: World) -> None:
    """However many answers come one by one, each call is named when it is new, and a short list is named whole."""
    handle = await runtime.start(hears, WIDE)
    await runtime.advance(1)
    for word in ("first", "second"):
        for number in range(WIDE):
            await runtime.signal(handle.id, f"{word}-{number}", word[0])
            if number == WIDE // 2:
                await runtime.advance(5)  # it is put away, if it may be
    assert await handle.result(10) == ["fs"] * WIDE
    notes = await waits(runtime, handle.id)
    named = [call.key for note in notes if note.more for call in note.calls]
    assert len({call.key for note in notes for call in note.calls}) == 2 * WIDE
    assert len(named) <= 2 * WIDE + 2 * len(notes)
    assert [len(note.calls) for note in notes if not note.more][-3:] == [3, 2, 1]
    assert all(len(note.calls) <= LISTED_MAX for note in notes[1:])


@app.workflow
async def mixed(ctx: Context, n: int) -> None:
    await ctx.gather(
        ctx.approval("Ship?"), ctx.child(leaf, 9_000.0), *[ctx.signal(f"s-{number}") for number in range(n)]
    )


@pytest.mark.trio
async def test_each_note_names_one_of_each_kind(runtime: VirtualRuntime, world: World) -> None:
    """The liveness check goes by the kinds of the last note, which names few of the calls."""
    handle = await runtime.start(mixed, WIDE)
    await runtime.advance(1)
    for number in range(3):
        await runtime.signal(handle.id, f"s-{number}", 1)
        await runtime.advance(1)
    notes = (await waits(runtime, handle.id))[-3:]
    assert [sorted(call.kind for call in note.calls) for note in notes] == [["approval", "child", "signal"]] * 3


@pytest.mark.trio
@pytest.mark.parametrize("spread", [0.0, 0.01], ids=["at one instant", "one by one"])
async def test_thousands_of_timers_make_a_small_journal(runtime: VirtualRuntime, world: World, spread: float) -> None:
    """Due at one instant or one after the other, while the runtime is up: the notes stay linear in the timers."""
    seconds = [100.0 + number * spread for number in range(5 * LISTED_MAX)]
    handle = await runtime.start(naps, seconds)
    await runtime.advance(200)
    assert await handle.result(10) == len(seconds)
    notes = [note for note in await waits(runtime, handle.id) if note.more]  # the last hundred are named whole
    assert size(notes) < 400 * len(seconds)


@pytest.mark.trio
async def test_timers_that_came_due_while_it_was_down_are_one_turn(runtime: VirtualRuntime, world: World) -> None:
    """All of them fire as the run is loaded; it waits once before, and not once more between any two of them."""
    seconds = [100.0 + number for number in range(10 * LISTED_MAX)]
    handle = await runtime.start(naps, seconds)
    await runtime.advance(10)
    before = len(await waits(runtime, handle.id))
    await runtime.crash(downtime=5_000.0)
    assert await runtime.result(handle.id, 10) == len(seconds)
    assert len(await waits(runtime, handle.id)) - before <= 1


@pytest.mark.trio
async def test_a_crowd_of_children_is_awaited(runtime: VirtualRuntime, world: World) -> None:
    """A run of many children goes on over a crash in the midst of their ends."""
    handle = await runtime.start(fans_out, WIDE)
    await runtime.advance(3.5)
    await runtime.crash()
    assert await runtime.result(handle.id, 60) == sum(float(number % 7) for number in range(WIDE))
    notes = await waits(runtime, handle.id)
    assert size(notes) < 400 * WIDE + 1_000 * len(notes)


other_signal, other_kind, stricter = App("wide"), App("wide"), App("wide")


async def heard_other(ctx: Context, number: int) -> str:
    first = await ctx.signal("other" if number == 7 else f"first-{number}")
    return f"{first}{await ctx.signal(f'second-{number}')}"


@other_signal.workflow(name="hears")
async def hears_other(ctx: Context, n: int) -> list[str]:
    """The same, with another signal in one of its many branches."""
    return await ctx.gather(*[heard_other(ctx, number) for number in range(n)])


async def heard_late(ctx: Context, number: int) -> str:
    if number == 7:
        await ctx.sleep(5_000)
    return await heard(ctx, number)


@other_kind.workflow(name="hears")
async def hears_late(ctx: Context, n: int) -> list[str]:
    """The same, with a timer in one of its many branches."""
    return await ctx.gather(*[heard_late(ctx, number) for number in range(n)])


async def heard_number(ctx: Context, number: int) -> str:
    first = await ctx.signal(f"first-{number}", int if number == 3 else Any)
    return f"{first}{await ctx.signal(f'second-{number}')}"


@stricter.workflow(name="hears")
async def hears_number(ctx: Context, n: int) -> list[str]:
    """The same, but what one of its branches was answered does not fit any more."""
    return await ctx.gather(*[heard_number(ctx, number) for number in range(n)])


@pytest.mark.trio
@pytest.mark.parametrize("answered", [False, True], ids=["after the whole list", "after a part of it"])
@pytest.mark.parametrize(("code", "named"), [(other_signal, "signal other"), (other_kind, "timer"), (stricter, "")])
async def test_another_wait_among_many_is_seen(
    runtime: VirtualRuntime, world: World, code: App, named: str, answered: bool
) -> None:
    """Code that waits for something else than was recorded stands still, and what is told is shortened."""
    handle = await runtime.start(hears, WIDE)
    await runtime.advance(1)
    for number in (3, 1) if answered or code is stricter else ():
        await runtime.signal(handle.id, f"first-{number}", "x")
        await runtime.advance(1)
    await runtime.crash(apps=[code])
    before = len(await records(runtime, handle.id))
    await runtime.signal(handle.id, "first-7", "x")
    await runtime.settled(handle.id, 10)
    error = (await runtime.run(handle.id)).error
    assert error is not None
    assert (error.type, named in error.message) == ("nondeterminism", True)
    assert len(error.message) < 4_000
    added = [record.kind for record in (await records(runtime, handle.id))[before:]]
    assert added == ["signal_received", "run_blocked"]


@pytest.mark.trio
async def test_loaded_again_it_names_nothing_anew(runtime: VirtualRuntime, world: World) -> None:
    """Loaded again with nothing new, a run that waits for very many does not name them anew."""
    handle = await runtime.start(hears, WIDE)
    await runtime.signal(handle.id, "first-1", 1)
    await runtime.advance(5)
    before = len(await records(runtime, handle.id))
    await runtime.crash()
    await runtime.pause(handle.id)
    await runtime.resume(handle.id)
    await runtime.advance(5)
    added = (await records(runtime, handle.id))[before:]
    assert [record.kind for record in added] == ["run_paused", "run_resumed", "run_waiting"]
    assert [(len(note.calls), note.more) for note in added[2:]] == [(1, WIDE - 1)]
