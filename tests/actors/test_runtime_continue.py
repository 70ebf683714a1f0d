"""Continuing as new: a run that goes on for ever, with a history that does not."""

from __future__ import annotations

import pytest

import runtimed
from actors import run_advancer
from runtimed import App, Context
from runtimed.crash_testing import crash_everywhere
from runtimed.virtual import VirtualRuntime
from tests.actors.world import kinds

app = App("for-ever")
KEYS: list[str] = []


@app.step
async def note(number: int) -> int:
    KEYS.append(runtimed.current_step().idempotency_key)
    return number


@app.workflow
async def counting(ctx: Context, number: int) -> int:
    await ctx.step(note, number)
    if number == 5:
        return number
    await ctx.continue_as_new(number + 1)
    raise AssertionError("continue_as_new returned")


@app.workflow
async def listening(ctx: Context, heard: list[str]) -> list[str]:
    heard = [*heard, await ctx.signal("word", type=str)]
    if len(heard) == 4:
        return heard
    await ctx.sleep(10)
    await ctx.continue_as_new(heard)
    return []


@app.workflow
async def restless(ctx: Context, number: int) -> int:
    if number < 2_000:
        await ctx.continue_as_new(number + 1)
    return number


@app.workflow
async def racing(ctx: Context, number: int) -> int:
    if number == 3:
        return number
    await ctx.race(work=ctx.step(note, number), never=ctx.signal("never"))
    await ctx.continue_as_new(number + 1)
    return 0


@app.workflow
async def in_a_branch(ctx: Context) -> None:
    await ctx.gather(branch(ctx))


async def branch(ctx: Context) -> None:
    await ctx.continue_as_new()


@app.workflow
async def misfit(ctx: Context, number: int) -> None:
    await ctx.continue_as_new("no number")


@pytest.fixture(autouse=True)
def _no_keys() -> None:
    KEYS.clear()


@pytest.mark.trio
async def test_it_begins_again_with_another_input(runtime: VirtualRuntime) -> None:
    """Each round has keys of its own, and the run keeps its id to the end."""
    handle = await runtime.start(counting, 0, id="c")
    assert await handle.result() == 5
    assert [f"c/{generation}/0/note" for generation in range(6)] == KEYS
    page = await runtime.history("c")
    assert [record.kind for record in page.items].count("run_continued") == 5


@pytest.mark.trio
async def test_signals_that_nobody_asked_for_go_along(runtime: VirtualRuntime) -> None:
    """What was sent before is heard after, in its order, also by a run that was killed in between."""
    handle = await runtime.start(listening, [], id="l")
    for word in ("one", "two", "three"):
        await runtime.signal("l", "word", word)
    await runtime.advance(15)
    await runtime.crash()
    await runtime.advance(15)
    await runtime.signal("l", "word", "four")
    assert await handle.result() == ["one", "two", "three", "four"]


@pytest.mark.trio
async def test_one_that_only_goes_on_lets_others_pass(runtime: VirtualRuntime) -> None:
    """Two thousand rounds without a wait cost no depth, and a replay begins with the last."""
    handle = await runtime.start(restless, 0, id="r")
    other = await runtime.start(counting, 5)
    assert await other.result() == 5
    assert await handle.result() == 2_000
    row = await runtime.read(lambda reader: reader.run("r"))
    assert row is not None
    history = await runtime.read(lambda reader: reader.history(row.run_key))
    assert len(history) == 2


@pytest.mark.trio
async def test_what_is_in_flight_ends_first(runtime: VirtualRuntime) -> None:
    """Losers of a race are settled before the history is left behind."""
    handle = await runtime.start(racing, 0)
    assert await handle.result() == 3


@pytest.mark.trio
@pytest.mark.parametrize(
    ("workflow", "given", "said"), [(in_a_branch, None, "in a branch"), (misfit, 1, "does not fit")]
)
async def test_where_it_cannot_be_it_is_a_defect(
    runtime: VirtualRuntime, workflow: runtimed.App, given: object, said: str
) -> None:
    """In a branch, or with an input of another type, the run is blocked and keeps its history."""
    handle = await runtime.start(workflow, given, id="d")  # type: ignore[arg-type]
    with pytest.raises(runtimed.RunBlocked, match=said):
        await handle.result()
    assert "run_continued" not in await kinds(runtime, "d")


@pytest.mark.trio
async def test_it_can_be_cancelled_in_any_round(runtime: VirtualRuntime) -> None:
    """A cancellation meets whichever round is there."""
    handle = await runtime.start(listening, [], id="l")
    await runtime.signal("l", "word", "one")
    await runtime.advance(15)
    await runtime.cancel("l")
    with pytest.raises(runtimed.RunCancelled):
        await handle.result()


@pytest.mark.trio
@pytest.mark.slow
async def test_a_kill_anywhere_changes_nothing() -> None:
    """P3: a run that begins anew comes to the same end after a kill at any record, and after two in a row."""
    report = await crash_everywhere(counting, 0, twice=True, pairs_max=40)
    report.check()


@pytest.mark.trio
async def test_more_than_one_record_may_have_blocks_the_run_and_nobody_else(
    runtime: VirtualRuntime, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Signals that nobody reads pile up from round to round: once they are too many to go on with, the run stands
    still, over a crash and a retry too, and can be cancelled; the daemon goes on."""
    monkeypatch.setattr(run_advancer, "RECORD_BYTES_MAX", 10_000)
    handle = await runtime.start(listening, [])
    for number in range(12):
        await runtime.signal(handle.id, "unread", "x" * 1_000, signal_id=str(number))
    await runtime.signal(handle.id, "word", "one")
    await runtime.advance(20)
    for _ in range(2):
        error = (await runtime.run(handle.id)).error
        assert error is not None
        assert (error.type, "unread signals included" in error.message) == ("history_limit", True)
        await runtime.crash()
        await runtime.retry(handle.id)
        await runtime.advance(1)
    assert "run_continued" not in await kinds(runtime, handle.id)
    other = await runtime.start(counting, 5)
    assert await other.result() == 5
    await runtime.cancel(handle.id)
    await runtime.advance(1)
    assert await runtime.status(handle.id) == "cancelled"
