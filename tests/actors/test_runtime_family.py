"""Families under strain: children of runs that begin anew, told in the middle of a turn, nested deep, in a drain."""

from __future__ import annotations

import msgspec
import pytest
import trio

from actors.clock import VirtualClock
from actors.flow.definitions import Workflow
from runtimed import App, ChildFailed, Context
from runtimed.crash_testing import crash_everywhere
from runtimed.virtual import VirtualRuntime
from tests.actors.world import kinds

app = App("strained")
UNDONE: list[int] = []
CODE = {"first": 1}
GATE: dict[str, trio.Event] = {}
DEPTH = 150


@app.step
async def double(number: int) -> int:
    return number * 2


@app.workflow
async def twice(ctx: Context, number: int) -> int:
    result: int = await ctx.step(double, number)
    return result


@app.workflow
async def late(ctx: Context, number: int) -> int:
    await ctx.signal("go")
    return number


@app.step
async def lay(number: int) -> int:
    return number


@lay.compensation
async def lift(result: int, number: int) -> None:
    UNDONE.append(number)


@app.workflow
async def built_on(ctx: Context, number: int) -> None:
    await ctx.step(lay, number)
    await ctx.signal("go")


@app.workflow
async def builds(ctx: Context, number: int) -> None:
    await ctx.step(lay, CODE["first"])
    await ctx.child(built_on, 10 * number)


@app.workflow
async def rounds(ctx: Context, given: list[int]) -> list[int]:
    """A child in each round."""
    given = [*given, await ctx.child(twice, len(given))]
    if len(given) < 4:
        await ctx.continue_as_new(given)
    return given


@app.workflow
async def races_on(ctx: Context, given: list[int]) -> list[int]:
    """A child is lost in each round, and one is started that goes on."""
    await ctx.start_child(late, len(given))
    await ctx.race(child=ctx.child(built_on, len(given)), timer=ctx.sleep(2))
    given = [*given, len(given)]
    if len(given) < 3:
        await ctx.continue_as_new(given)
    return given


@app.workflow
async def leaves_one_behind(ctx: Context, number: int) -> int:
    """A child is started in the first round, and ends in the second, which starts one with the same call."""
    child = await ctx.start_child(late, number)
    if number < 2:
        await ctx.continue_as_new(number + 1)
    result: int = await child.result()
    return result


@app.workflow
async def refused_first(ctx: Context, number: int) -> int:
    """In the first round a child is refused and not looked at."""
    if number == 0:
        await ctx.start_child(late, 1, id="taken")
        await ctx.continue_as_new(1)
    child = await ctx.start_child(twice, 21)
    await ctx.sleep(5)
    result: int = await child.result()
    return result


async def refused(ctx: Context) -> None:
    try:
        await ctx.child(twice, 1, id="taken")
    except ChildFailed:
        await ctx.emit("refused")
        await ctx.emit("refused again")


async def busy(ctx: Context) -> None:
    for number in range(4):
        await ctx.emit(number)


@app.workflow
async def told_at_once(ctx: Context) -> str:
    """One branch is told of its refused child while another goes from record to record."""
    await ctx.gather(refused(ctx), busy(ctx))
    await ctx.signal("end")
    return "end"


async def lost(ctx: Context) -> None:
    async with ctx.saga():
        await ctx.child(late, 1)


async def after_the_race(ctx: Context) -> None:
    await ctx.race(child=lost(ctx), timer=ctx.sleep(5))
    await busy(ctx)


@app.workflow
async def loses_in_a_turn(ctx: Context) -> str:
    """A child that is cancelled ends in the turn in which its parent goes on."""
    await ctx.gather(after_the_race(ctx), after_the_race(ctx))
    await ctx.signal("end")
    return "end"


@app.workflow
async def nested(ctx: Context, depth: int) -> int:
    if depth == 0:
        await ctx.signal("go")
        return 0
    below: int = await ctx.child(nested, depth - 1)
    return below + 1


@app.step
async def gated(number: int) -> None:
    GATE["begun"].set()
    await GATE["open"].wait()


@app.workflow
async def held_up(ctx: Context, number: int) -> None:
    await ctx.step(gated, number)


@app.workflow
async def then_a_step(ctx: Context, number: int) -> int:
    await ctx.child(held_up, number)
    result: int = await ctx.step(double, 100)
    return result


@app.workflow
async def dated(ctx: Context, given: list[str]) -> list[str]:
    given = [*given, str(ctx.now())]
    if len(given) == 1:
        await ctx.continue_as_new(given)
    await ctx.emit(str(ctx.now()))
    await ctx.signal("end")
    return given


@app.workflow
async def patching(ctx: Context, number: int) -> str:
    if number == 0:
        await ctx.emit("one")
        await ctx.emit("two")
        await ctx.continue_as_new(1)
    return "new" if ctx.patched("p") else "old"


@pytest.fixture
def runtime_app() -> App:
    return app


@pytest.fixture(autouse=True)
def _as_at_first() -> None:
    UNDONE.clear()
    CODE["first"] = 1


# --- beginning anew -------------------------------------------------------------------------------------------------


@pytest.mark.trio
async def test_each_round_has_children_of_its_own(runtime: VirtualRuntime) -> None:
    """The same call in the next round starts another child, with an id that tells the round."""
    handle = await runtime.start(rounds, [], id="r")
    assert await handle.result() == [0, 2, 4, 6]
    assert [(await runtime.run(id)).status for id in ("r:0", "r:g1:0", "r:g3:0")] == ["completed"] * 3


@pytest.mark.trio
@pytest.mark.parametrize("crash", [False, True])
async def test_a_child_of_an_earlier_round_is_not_taken_for_one_of_this(runtime: VirtualRuntime, crash: bool) -> None:
    """The end of a child that was left behind answers nobody: not a later wait with the same place in the code."""
    handle = await runtime.start(leaves_one_behind, 1, id="p")
    await runtime.advance(1)
    await runtime.signal("p:0", "go")
    await runtime.advance(1)
    if crash:
        await runtime.crash()
        await runtime.advance(1)
    assert (await runtime.run("p")).status == "waiting"
    await runtime.signal("p:g1:0", "go")
    assert await handle.result() == 2


@pytest.mark.trio
async def test_what_a_run_left_behind_is_cancelled_with_it(runtime: VirtualRuntime) -> None:
    """Cancelling a run cancels the children of its earlier rounds too, also after a kill."""
    await runtime.start(leaves_one_behind, 1, id="p")
    await runtime.advance(1)
    await runtime.crash()
    await runtime.cancel("p")
    await runtime.advance(1)
    assert {(await runtime.run(id)).status for id in ("p", "p:0", "p:g1:0")} == {"cancelled"}


@pytest.mark.trio
async def test_a_refusal_of_an_earlier_round_is_not_told_to_this(runtime: VirtualRuntime) -> None:
    """What was told in the commit in which a run began anew belongs to the round before."""
    await runtime.start(late, 1, id="taken")
    handle = await runtime.start(refused_first, 0, id="p")
    assert await handle.result() == 42


@pytest.mark.trio
async def test_the_time_at_which_a_round_began_is_that_of_its_record(
    runtime: VirtualRuntime, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Replayed, the next round sees the same now as it did live, though the wall clock moves between two lines."""
    read, moved = VirtualClock.now_us, iter(range(10**6))
    monkeypatch.setattr(VirtualClock, "now_us", lambda clock: read(clock) + 7 * next(moved))
    handle = await runtime.start(dated, [], id="d")
    await runtime.advance(1)
    page = await runtime.history("d")
    seen = next(msgspec.json.decode(one.data)["value"] for one in page.items if one.kind == "output_emitted")
    await runtime.crash()
    await runtime.signal("d", "end")
    assert (await handle.result())[1] == seen


@pytest.mark.trio
async def test_the_rounds_before_say_nothing_of_patches(runtime: VirtualRuntime) -> None:
    """Killed just as it began anew, a run takes the new branch: nothing of this round is in the past."""
    report = await crash_everywhere(patching, 0, twice=True, pairs_max=40)
    report.check()


@pytest.mark.trio
async def test_a_run_without_its_code_is_undone_after_its_children(runtime: VirtualRuntime) -> None:
    """Cancelled when its code does not fit its records any more, a run is undone once its children are."""
    await runtime.start(builds, 1, id="p")
    await runtime.advance(1)
    CODE["first"] = 2
    await runtime.crash()
    await runtime.signal("p", "anything")
    await runtime.advance(1)
    assert (await runtime.run("p")).status == "blocked"
    await runtime.cancel("p")
    await runtime.advance(1)
    assert {(await runtime.run(id)).status for id in ("p", "p:1")} == {"cancelled"}
    assert UNDONE == [10, 1]


@pytest.mark.trio
@pytest.mark.slow
@pytest.mark.parametrize("cancel_after", [None, 3.0])
@pytest.mark.parametrize("workflow", [rounds, races_on])
async def test_rounds_with_children_survive_a_kill_anywhere(workflow: Workflow, cancel_after: float | None) -> None:
    """P3: whatever children a round had, it comes to the same end after a kill at any record."""
    report = await crash_everywhere(workflow, [], cancel_after=cancel_after)
    report.check()


# --- told within a turn ---------------------------------------------------------------------------------------------


@pytest.mark.trio
@pytest.mark.parametrize("workflow", [told_at_once, loses_in_a_turn])
async def test_what_is_told_in_a_turn_is_replayed_in_its_place(runtime: VirtualRuntime, workflow: Workflow) -> None:
    """A run that is told of its child between two of its own records replays to the same."""
    await runtime.start(late, 1, id="taken")
    handle = await runtime.start(workflow, None, id="p")
    await runtime.advance(30)
    await runtime.crash()
    await runtime.signal("p", "end")
    assert await handle.result() == "end"


@pytest.mark.trio
async def test_a_deep_family_is_cancelled_as_a_whole(runtime: VirtualRuntime) -> None:
    """Cancelling goes down a hundred and fifty generations, and their ends come up, without depth of its own."""
    await runtime.start(nested, DEPTH, id="n")
    await runtime.advance(1)
    await runtime.cancel("n")
    await runtime.advance(1)
    page = await runtime.runs(status="cancelled")
    assert page.total == DEPTH + 1
    assert "cancelled" in {run.status for run in page.items}


@pytest.mark.trio
async def test_the_end_of_a_child_starts_no_step_while_draining(runtime: VirtualRuntime) -> None:
    """In a drain a parent is told how its child ended, and its next step is left for the next life."""
    GATE["begun"], GATE["open"] = trio.Event(), trio.Event()
    handle = await runtime.start(then_a_step, 4, id="p")
    await GATE["begun"].wait()
    runtime.actors.coordinator.engine.draining = True
    GATE["open"].set()
    await runtime.advance(1)
    assert await kinds(runtime, "p") == ["run_started", "child_started", "run_waiting", "child_ended"]
    await runtime.crash()
    assert await handle.result() == 200
