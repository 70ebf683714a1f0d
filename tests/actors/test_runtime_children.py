"""Children: started, awaited, lost, cancelled and refused, each in the commit that says so."""

from __future__ import annotations

from typing import Any

import pytest

import runtimed
from runtimed import App, ChildFailed, Context, Failure
from runtimed.crash_testing import crash_everywhere
from runtimed.virtual import VirtualRuntime

app = App("family")
UNDONE: list[str] = []


class Spoiled(Failure):
    """What a child of these tests fails with."""


@app.step
async def double(number: int) -> int:
    return number * 2


@double.compensation
async def halve(result: int, number: int) -> None:
    UNDONE.append(f"double {number}")


@app.workflow
async def twice(ctx: Context, number: int) -> int:
    if number < 0:
        raise Spoiled("negative")
    result: int = await ctx.step(double, number)
    return result


@app.workflow
async def patient(ctx: Context, number: int) -> int:
    result: int = await ctx.step(double, number)
    await ctx.signal("go")
    return result


@app.workflow
async def parent(ctx: Context, numbers: list[int]) -> list[int]:
    return [await ctx.child(twice, number) for number in numbers]


@app.workflow
async def side_by_side(ctx: Context, numbers: list[int]) -> list[int]:
    results: list[int] = await ctx.gather(*(ctx.child(twice, number) for number in numbers))
    return results


@app.workflow
async def forgiving(ctx: Context, number: int) -> str:
    try:
        return str(await ctx.child(twice, number))
    except ChildFailed as error:
        return f"{error.status_of_child} {error.cause_type}"


@app.workflow
async def racing(ctx: Context, seconds: float) -> str:
    name, _ = await ctx.race(child=ctx.child(patient, 4), timer=ctx.sleep(seconds))
    return str(name)


@app.workflow
async def loose(ctx: Context, number: int) -> str:
    child = await ctx.start_child(patient, number, id="loose-child")
    await ctx.signal("end")
    return child.id


@app.workflow
async def asks_later(ctx: Context, number: int) -> int:
    child = await ctx.start_child(twice, number)
    await ctx.sleep(60)
    result: int = await child.result()
    return result


@app.workflow
async def undoing(ctx: Context, number: int) -> int:
    await ctx.step(double, 100)
    result: int = await ctx.child(patient, number)
    return result


@app.workflow
async def same_id(ctx: Context, number: int) -> str:
    await ctx.child(twice, number, id="taken")
    try:
        await ctx.child(twice, number, id="taken")
    except ChildFailed as error:
        return error.cause_type
    return "both"


@app.workflow
async def careless(ctx: Context) -> None:
    await ctx.child(twice, "no number")


@app.workflow
async def everything(ctx: Context, number: int) -> list[Any]:
    loose_one = await ctx.start_child(twice, number)
    both = await ctx.gather(ctx.child(twice, 1), ctx.child(forgiving, -1))
    raced = await ctx.race(slow=ctx.child(patient, 7), fast=ctx.sleep(5))
    return [both, raced, await loose_one.result()]


@pytest.fixture
def runtime_app() -> App:
    return app


@pytest.fixture(autouse=True)
def _nothing_undone() -> None:
    UNDONE.clear()


async def kinds(runtime: VirtualRuntime, run_id: str) -> list[str]:
    return [record.kind for record in (await runtime.history(run_id)).items]


@pytest.mark.trio
async def test_a_child_gives_its_result(runtime: VirtualRuntime) -> None:
    """A parent gets what its child returns; the child is a run of its own that names it."""
    handle = await runtime.start(parent, [1, 2, 3], id="p")
    assert await handle.result() == [2, 4, 6]
    child = await runtime.run("p:0")
    assert (child.workflow, child.parent_id, child.status) == ("twice", "p", "completed")


@pytest.mark.trio
async def test_children_side_by_side(runtime: VirtualRuntime) -> None:
    """Children in a gather give their results in the order of the calls."""
    handle = await runtime.start(side_by_side, [3, 1, 2])
    assert await handle.result() == [6, 2, 4]


@pytest.mark.trio
async def test_a_thousand_children_in_a_row(runtime: VirtualRuntime) -> None:
    """Children that end at once cost no depth: each is begun in its turn."""
    handle = await runtime.start(parent, list(range(1_000)))
    assert (await handle.result())[-1] == 1_998


@pytest.mark.trio
async def test_a_failed_child_is_a_failure_of_its_parent(runtime: VirtualRuntime) -> None:
    """A child that fails raises ChildFailed at the wait, which a parent may catch; else the parent fails too."""
    caught = await runtime.start(forgiving, -1)
    assert await caught.result() == "failed Spoiled"
    failing = await runtime.start(parent, [1, -1])
    with pytest.raises(runtimed.RunFailed, match="ChildFailed"):
        await failing.result()


@pytest.mark.trio
async def test_leaving_the_wait_cancels_the_child(runtime: VirtualRuntime) -> None:
    """The child that lost a race is cancelled, and undoes what it did."""
    handle = await runtime.start(racing, 10.0, id="r")
    assert await handle.result() == "timer"
    await runtime.advance(1)
    child = await runtime.run("r:0-0.0")
    assert (child.status, UNDONE) == ("cancelled", ["double 4"])


@pytest.mark.trio
async def test_cancelling_a_parent_cancels_its_children_first(runtime: VirtualRuntime) -> None:
    """A cancelled parent is undone once its children are: what was built on its steps goes before them."""
    handle = await runtime.start(undoing, 7, id="u")
    await runtime.advance(1)
    await runtime.cancel("u")
    with pytest.raises(runtimed.RunCancelled):
        await handle.result()
    assert UNDONE == ["double 7", "double 100"]
    assert (await runtime.run("u:1")).status == "cancelled"


@pytest.mark.trio
async def test_a_loose_child_goes_on_without_its_parent(runtime: VirtualRuntime) -> None:
    """A child that was only started outlives its parent's end, and ends with its parent's cancellation."""
    handle = await runtime.start(loose, 1, id="l")
    await runtime.signal("l", "end")
    assert await handle.result() == "loose-child"
    assert (await runtime.run("loose-child")).status == "waiting"
    await runtime.signal("loose-child", "go")
    await runtime.advance(1)
    assert (await runtime.run("loose-child")).status == "completed"


@pytest.mark.trio
async def test_a_loose_child_is_cancelled_with_its_parent(runtime: VirtualRuntime) -> None:
    """Cancelling the parent cancels what it started and did not wait for."""
    await runtime.start(loose, 1, id="l")
    await runtime.advance(1)
    await runtime.cancel("l")
    await runtime.advance(1)
    assert {(await runtime.run(id_)).status for id_ in ("l", "loose-child")} == {"cancelled"}


@pytest.mark.trio
async def test_a_result_asked_for_later_is_there(runtime: VirtualRuntime) -> None:
    """A child that ended before it was asked for has kept its result, also for a parent that was put away."""
    handle = await runtime.start(asks_later, 21)
    await runtime.advance(30)
    await runtime.crash()
    assert await handle.result() == 42


@pytest.mark.trio
async def test_an_id_that_is_taken_is_refused(runtime: VirtualRuntime) -> None:
    """A child cannot take the id of another run: its parent is told so, and the other run is not touched."""
    handle = await runtime.start(same_id, 4)
    assert await handle.result() == "IdConflict"


@pytest.mark.trio
async def test_a_child_inherits_whose_it_is(runtime: VirtualRuntime) -> None:
    """Session, tenant, classification and trace of a child are its parent's."""
    handle = await runtime.start(parent, [1], id="p", tenant="acme", classification="client")
    await handle.result()
    child, own = await runtime.run("p:0"), await runtime.run("p")
    assert (child.tenant, child.classification, child.trace_id) == ("acme", "client", own.trace_id)


@pytest.mark.trio
async def test_what_does_not_fit_is_a_defect_at_the_line(runtime: VirtualRuntime) -> None:
    """A wrong input blocks the parent where it is made, and starts nothing."""
    handle = await runtime.start(careless, None, id="c")
    with pytest.raises(runtimed.RunBlocked, match="does not fit"):
        await handle.result()
    assert "child_started" not in await kinds(runtime, "c")


@pytest.mark.trio
@pytest.mark.slow
@pytest.mark.parametrize("cancel_after", [None, 2.0])
async def test_a_kill_anywhere_changes_nothing(cancel_after: float | None) -> None:
    """P3: parents and children come to the same end after a kill at any record, and after two in a row."""
    report = await crash_everywhere(everything, 5, cancel_after=cancel_after, twice=True, pairs_max=60)
    report.check()
