"""The verdict on an open run whose code is to change: never a false alarm, never a contradiction that is missed."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable
from typing import Any

import msgspec
import pytest

from actors.flow import preflight
from actors.flow.definitions import App, Registry, is_missing
from actors.flow.driver import Flow
from actors.flow.fibers import CUT_OFF
from actors.flow.preflight import BLOCKED, BREAKS, FITS, MENDED, Bounds, Verdict, judge
from actors.flow.run_info import Hold
from tests.actors.flow import programs
from tests.actors.flow.harness import EPOCH_US, Journal, Run, Traced, entries_of, raw
from tests.actors.flow.world import BUGS, simulate
from wal import records as r
from wal.errors import JournalCorrupt
from wal.records import Entry

CHUNKS = 2
app = App("preflight")


class Order(msgspec.Struct):
    """What the runs were given."""

    cents: int


class Dearer(msgspec.Struct):
    """The same after a careless change."""

    cents: int
    currency: str


@app.step
async def charge(cents: int) -> Any: ...


@app.step
async def ship() -> str: ...


@app.step(delivery="at_most_once")
async def once() -> None: ...


@app.workflow
async def order(ctx: Traced, given: Order) -> Any:
    paid = await ctx.step(charge, given.cents)
    await ctx.signal("go")
    return paid


@app.workflow
async def reordered(ctx: Traced, given: Order) -> Any:
    await ctx.step(ship)
    return await order.fn(ctx, given)


@app.workflow
async def waits_longer(ctx: Traced, given: Order) -> Any:
    await ctx.step(charge, given.cents)
    await ctx.sleep(5)
    await ctx.signal("go")


@app.workflow
async def patched(ctx: Traced, given: Order) -> Any:
    await ctx.step(charge, given.cents)
    if ctx.patched("a-pause"):
        await ctx.sleep(5)
    await ctx.signal("go")


@app.workflow
async def dearer(ctx: Traced, given: Dearer) -> Any:
    return await order.fn(ctx, given)


@app.workflow
async def buggy(ctx: Traced, given: Order) -> Any:
    await ctx.step(charge, given.cents)
    raise ValueError("oh")


@app.workflow
async def doubtful(ctx: Traced, given: Order) -> Any:
    await ctx.step(once)


@app.workflow
async def undoable(ctx: Traced, given: Order) -> Any:
    ctx.add_compensation(ship)
    ctx.add_compensation(once)
    await ctx.signal("go")


@app.workflow
async def tidy(ctx: Traced, given: Order) -> Any:
    try:
        await ctx.signal("go")
    finally:
        CLOSED.append(ctx.run_id)


CLOSED: list[str] = []


def registry_with(code: str | None, without: str | None = None) -> Registry:
    """What is registered when a run of any workflow is to go on with this one's code, without one of the steps."""
    registry = Registry(app)
    registry.steps.pop(without or "", None)
    there = None if code is None else registry.workflows[code]
    registry.workflows = {} if there is None else dict.fromkeys(registry.workflows, there)
    return registry


def verdict_on(
    run: Run | Journal, code: str | None, *, without: str | None = None, blocked: bool = False,
    bounds: Bounds | None = None,
) -> Verdict:  # fmt: skip
    entries = entries_of(run.journal if isinstance(run, Run) else run)
    return judge(registry_with(code, without), entries, blocked=blocked, bounds=bounds or Bounds())


def waiting_order() -> Run:
    """A run that has charged, and waits for its signal."""
    run = Run(order, {"cents": 5})
    run.complete("charge", 1)
    run.record(r.RunWaiting("signal", None, run.flow.open_calls()))
    return run


# --- runs that go on ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("upto", range(1, 5))
def test_the_same_code_fits_from_the_first_record_on(upto: int) -> None:
    """Wherever a run stands, the code that made its records goes on with it."""
    assert verdict_on(waiting_order().journal[:upto], "order") == Verdict(FITS)


@pytest.mark.parametrize(
    ("code", "held_by", "key", "told"),
    [
        (
            "reordered",
            "nondeterminism",
            "0",
            "recorded: step_scheduled 'charge' (call 0) [[5],{}]; the code now makes: ",
        ),
        ("waits_longer", "nondeterminism", "", "the code now waits for: timer"),
        ("dearer", "undecodable", "", "the input does not decode any more"),
        ("buggy", "code_error", "", "ValueError: oh"),
        (None, "unknown_workflow", "", "no workflow 'order' is registered"),
    ],
)
def test_what_would_block_a_run_is_told(code: str | None, held_by: str, key: str, told: str) -> None:
    """The code that the daemon would block it with, at which call, and both sides in words."""
    verdict, hold = verdict_on(waiting_order(), code)
    assert verdict == BREAKS
    assert hold is not None
    assert (hold.code, hold.key) == (held_by, key)
    assert told in hold.message
    assert ("in buggy" in (hold.traceback or "")) == (code == "buggy")


def test_a_patched_change_fits() -> None:
    """A change behind `ctx.patched` leaves the runs that had been there as they are."""
    assert verdict_on(waiting_order(), "patched") == Verdict(FITS)


def test_a_run_that_has_not_begun_must_be_able_to() -> None:
    """One that waits for its queue or its instant fits if its input decodes, signals that came early and all."""
    started = r.RunStarted("run-1", "order", raw({"cents": 5}), queue="slow", start_at=EPOCH_US + 10)
    journal: Journal = [(started, EPOCH_US), (r.SignalReceived("go", raw(None)), EPOCH_US + 1)]
    assert verdict_on(journal, "order") == Verdict(FITS)
    assert verdict_on(journal, "dearer").verdict == BREAKS
    journal.append((r.TimerFired(""), EPOCH_US + 20))
    assert verdict_on(journal, "order") == Verdict(FITS)


def test_a_run_that_began_anew_is_judged_from_there() -> None:
    """After `continue_as_new` only the new round counts, whatever came before."""
    first = r.RunStarted("run-1", "order", raw({"cents": 7}))
    anew: Journal = [
        (r.RunContinued("3", first, 1), EPOCH_US),
        (r.StepScheduled("0", "charge", raw([[7], {}])), EPOCH_US),
    ]
    assert verdict_on(anew, "order") == Verdict(FITS)
    assert verdict_on(anew, "reordered").verdict == BREAKS


def test_a_fork_is_judged_with_its_past() -> None:
    """What a fork has taken over is held to the code as its own records are, and what is in doubt there as well."""
    run = waiting_order()
    run.fork()
    run.take()
    assert verdict_on(run, "order") == Verdict(FITS)
    assert verdict_on(run, "patched") == Verdict(FITS)
    verdict, hold = verdict_on(run, "reordered")
    assert verdict == BREAKS
    assert hold is not None and "step_scheduled 'charge'" in hold.message
    doubt = Run(doubtful, {"cents": 5})
    doubt.unknown("once")
    doubt.fork()
    assert verdict_on(doubt, "doubtful") == Verdict(FITS)


def test_what_the_records_put_before_a_person_is_no_fault_of_the_code() -> None:
    """A defect of a step, found while the run is paused, will block it whatever the code: that is as before."""
    run = Run(order, {"cents": 5})
    run.fail("charge", defect=True)
    assert run.hold.code == "code_error"
    assert verdict_on(run, "order") == Verdict(FITS)


def test_a_step_that_this_code_wants_after_all_may_be_in_doubt() -> None:
    """An attempt that was called off, of a step that may run only once, and that the new code does not call off."""
    run = Run(doubtful, {"cents": 5})
    run.fail("once", cancelled=True)
    verdict, hold = verdict_on(run, "doubtful")
    assert (verdict, hold and hold.code) == (BREAKS, "outcome_unknown")


def test_a_history_that_is_too_long_is_told() -> None:
    """What the engine would refuse to make longer is blocked then."""
    run = waiting_order()
    run.record(r.SignalReceived("go", raw(None)))
    verdict, hold = verdict_on(run, "order", bounds=Bounds(history_records_max=4))
    assert (verdict, hold and hold.code) == (BREAKS, "history_limit")


def test_a_cancelled_run_is_undone_without_its_code() -> None:
    """What is being undone from its records alone needs no code that fits."""
    run = waiting_order()
    run.cancel()
    assert verdict_on(run.journal[:5], "reordered") == Verdict(FITS)


@pytest.mark.parametrize(("gone", "key"), [("once", "1!"), ("ship", "0!")])
def test_a_cancelled_run_wants_what_undoes_it(gone: str, key: str) -> None:
    """Undone from its records alone a run is blocked where the step that undoes is gone too, be its turn now or later:
    that breaks it, as long as that undo is not done. With its code it has its steps."""
    run = Run(undoable, {"cents": 5})
    run.cancel()
    assert verdict_on(run, None) == Verdict(FITS)
    told = f"{gone}: DefinitionError: {is_missing(gone)}"
    assert verdict_on(run, None, without=gone) == Verdict(BREAKS, Hold("compensation_failed", told, key))
    run.complete("once")
    assert verdict_on(run, None, without=gone).verdict == (FITS if gone == "once" else BREAKS)


# --- runs that are blocked now --------------------------------------------------------------------------------------


def test_mended_code_lets_a_blocked_run_go_on() -> None:
    """A run that a defect blocked is mended by code without it, and stays blocked with it."""
    run = Run(buggy, {"cents": 5})
    run.complete("charge", 1)
    run.record(r.RunBlocked("code_error", "ValueError: oh"))
    assert verdict_on(run, "order", blocked=True) == Verdict(MENDED)
    verdict, hold = verdict_on(run, "buggy", blocked=True)
    assert (verdict, hold and hold.code) == (BLOCKED, "code_error")
    verdict, hold = verdict_on(run, "reordered", blocked=True)
    assert (verdict, hold and hold.code) == (BLOCKED, "nondeterminism")


def test_a_step_that_failed_by_a_defect_is_tried_again() -> None:
    """What a retry would try again is named: only the try can tell."""
    run = Run(order, {"cents": 5})
    run.fail("charge", defect=True)
    run.record(r.RunBlocked("code_error", "charge: Boom: it broke", "0"))
    verdict, hold = verdict_on(run, "order", blocked=True)
    assert (verdict, hold and hold.key) == (MENDED, "0")


def test_an_unknown_outcome_waits_for_a_person_with_any_code() -> None:
    """No code knows whether it happened: the run stays blocked until somebody resolves it."""
    run = Run(doubtful, {"cents": 5})
    run.unknown("once")
    run.record(r.RunBlocked("outcome_unknown", "once", "0"))
    verdict, hold = verdict_on(run, "doubtful", blocked=True)
    assert (verdict, hold and (hold.code, hold.key)) == (BLOCKED, ("outcome_unknown", "0"))


def test_a_missing_undo_stays_so() -> None:
    """A run that is blocked because what undoes it is gone is mended by code that has it, and by no other."""
    run = Run(undoable, {"cents": 5})
    run.cancel()
    run.fail("once")
    run.record(r.RunBlocked("compensation_failed", "once: DefinitionError: no step", "1!"))
    verdict, hold = verdict_on(run, None, without="once", blocked=True)
    assert (verdict, hold and (hold.code, hold.key)) == (BLOCKED, ("compensation_failed", "1!"))
    assert verdict_on(run, None, blocked=True).verdict == MENDED


# --- the judge ------------------------------------------------------------------------------------------------------


def test_the_code_is_put_away() -> None:
    """Nothing of a run outlives its verdict: its `finally` blocks have run."""
    CLOSED.clear()
    run = Run(tidy, {"cents": 5}, id="closed")
    assert verdict_on(run, "tidy") == Verdict(FITS)
    assert CLOSED == ["closed"]
    assert not CUT_OFF


@pytest.mark.parametrize("journal", [[], [(r.TimerFired("0"), EPOCH_US)]])
def test_what_is_no_history_is_refused(journal: Journal) -> None:
    """A history begins with the start of its run, or nobody can judge it."""
    with pytest.raises(JournalCorrupt, match="a history does not begin with"):
        verdict_on(journal, "order")


@pytest.mark.slow
@pytest.mark.chaos
@pytest.mark.parametrize("chunk", range(CHUNKS))
def test_any_program_fits_its_own_records(
    chunk: int, scale: Callable[[int, int], int], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of any program in any world, at any record: its own code is never called a danger, and a changed one only where a
    replay that the harness drives stands still as well, for the same reason."""
    count = scale(60, 2_000)
    verdicts: Counter[str] = Counter()
    for seed in range(chunk * count, (chunk + 1) * count):
        world = simulate(seed)
        if world.was_redeployed or world.was_codeless:
            continue
        rng = random.Random(seed)
        entries = entries_of(world.journal)
        other = programs.changed(rng, world.code)
        for upto in rng.sample(range(1, len(entries) + 1), min(12, len(entries))):
            assert judged(world.extra, entries[:upto], monkeypatch) == Verdict(FITS), f"simulate({seed}), record {upto}"
            verdict, hold = judged((other, BUGS), entries[:upto], monkeypatch)
            world.extra = (other, BUGS)
            expected = world.replay(upto)
            world.extra = (world.code, BUGS)
            assert hold == expected.halted, f"simulate({seed}), record {upto}"
            verdicts[verdict] += 1
    assert verdicts[BREAKS] > count
    assert verdicts[FITS] > count


def judged(extra: Any, entries: list[Entry], monkeypatch: pytest.MonkeyPatch) -> Verdict:
    def context(flow: Flow, sink: Any) -> Traced:
        made = Traced(flow, [])
        made.extra = extra
        return made

    monkeypatch.setattr(preflight, "Context", context)
    return judge(Registry(programs.app), entries, blocked=False, bounds=Bounds())
