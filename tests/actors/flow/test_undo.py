"""Compensation: what is undone, in which order, once; and what a person does when it fails."""

from __future__ import annotations

from typing import Any

import pytest

from actors.errors import Failure, StepFailed
from actors.flow.definitions import App
from actors.flow.saga_core import UndoLedger, undo_args
from tests.actors.flow.harness import Run, Traced, raw
from wal import records as r

app = App("undo")


@app.step
async def book(x: Any = 0) -> Any: ...


@book.compensation
async def unbook(result: Any, x: Any = 0) -> None: ...


@app.step
async def work(x: Any = 0) -> Any: ...


@app.step
async def clean(what: str, *, deep: bool = False) -> None: ...


@app.step(delivery="at_most_once")
async def announce(what: str) -> None: ...


@app.workflow
async def line(ctx: Traced) -> None:
    await ctx.step(book, 1)
    await ctx.step(work, 2)
    ctx.add_compensation(clean, "desk", deep=True)
    await ctx.step(book, 3)
    raise Failure("no")


@app.workflow
async def nothing_done(ctx: Traced) -> None:
    await ctx.step(work)
    raise Failure("no")


@app.workflow
async def nested(ctx: Traced) -> Any:
    await ctx.step(book, "outer")
    try:
        async with ctx.saga():
            await ctx.step(book, "middle")
            try:
                async with ctx.saga():
                    await ctx.step(book, "inner")
                    ctx.add_compensation(clean, "inner")
                    await ctx.step(work, "inner")
            except StepFailed:
                ctx.saw("inner undone")
            await ctx.step(work, "middle")
    except StepFailed:
        ctx.saw("middle undone")
    await ctx.step(work, "outer")
    return "done"


@app.workflow
async def finished_block(ctx: Traced) -> None:
    async with ctx.saga():
        await ctx.step(book, "in a block")
    await ctx.step(book, "behind it")
    await ctx.signal("end")
    raise Failure("no")


@app.workflow
async def block_meets_defect(ctx: Traced) -> None:
    try:
        async with ctx.saga():
            await ctx.step(book, 1)
            raise KeyError("a defect")
    except KeyError:
        ctx.saw("caught")
    await ctx.signal("end")


@app.workflow
async def announces(ctx: Traced) -> None:
    ctx.add_compensation(announce, "sorry")
    await ctx.signal("end")


def booked(workflow: Any, **more: Any) -> Run:
    """A run whose steps complete with the text of their key, up to its end or its first wait."""
    run = Run(workflow, **more)
    while any(call.kind == "step" for call in run.flow.open_calls()):
        call = next(call for call in run.flow.open_calls() if call.kind == "step")
        run.complete(call.key, f"r{call.key}")
    return run


def test_completed_steps_are_undone_in_reverse_with_result_and_arguments() -> None:
    """Each compensation gets the step's result, then its arguments; an undo of the workflow's own exactly its own."""
    run = booked(line)
    for _ in range(3):
        run.check()
        run.complete(next(iter(run.flow.calls)))
    assert run.undone == ["unbook('r3', 3)", "clean('desk', deep=True)", "unbook('r0', 1)"]
    assert run.end == "failed Failure"
    run.check()


def test_each_compensation_is_done_before_the_next_starts() -> None:
    """Undoing is one at a time, each for good before the next."""
    run = booked(line)
    assert run.open == ["compensation 3! unbook"]
    run.fail("unbook", retry_in=1)
    assert run.open == ["compensation 3! unbook"]
    run.fire("unbook")
    assert run.started[-1] == ("3!", "unbook", 2)
    run.complete("unbook")
    assert run.open == ["compensation 2! clean"]
    run.check()


def test_a_run_with_nothing_to_undo_fails_at_once() -> None:
    """Without anything to undo, a failure is the end and no `RunCompensating` is written."""
    run = booked(nothing_done)
    assert run.end == "failed Failure"
    assert run.facts(r.RunCompensating) == []


def test_a_compensation_that_fails_for_good_holds_the_run_and_retry_continues() -> None:
    """`compensation_failed` says what is left; `retry` tries that compensation again, and the others follow."""
    run = booked(line)
    run.fail("unbook", "Down")
    assert (run.hold.code, run.hold.key) == ("compensation_failed", "3!")
    assert "Down" in run.hold.message
    assert [undo.key for undo in run.flow._undo.newest_first()] == ["3", "2", "0"]
    run.check()
    run.crash()
    assert run.hold.code == "compensation_failed"
    run.retry()
    assert run.flow.hold is None
    run.finish_undo()
    assert run.end == "failed Failure"
    run.check()


def test_a_defect_in_a_compensation_holds_the_run_as_code_error() -> None:
    """A bug in a compensation blocks the run with its own code, and `retry` continues."""
    run = booked(line)
    run.fail("unbook", "TypeError", defect=True)
    assert run.hold.code == "code_error"
    run.retry()
    run.finish_undo()
    assert run.end == "failed Failure"


def test_cancelling_while_compensating_changes_nothing() -> None:
    """A run that is being undone for a failure ends failed, also when it is cancelled meanwhile."""
    run = booked(line)
    run.cancel()
    run.finish_undo()
    assert run.end == "failed Failure"
    assert len(run.undone) == 3
    run.check()


def test_a_crash_anywhere_in_the_undoing_undoes_each_once() -> None:
    """Killed after any record, the run ends the same and every compensation completes once."""
    whole = booked(line)
    whole.finish_undo()
    for keep in range(1, len(whole.journal)):
        run = Run(line)
        run.journal, run.now = list(whole.journal), whole.now
        run.crash(keep)
        while run.end == "open":
            call = next(iter(run.flow.calls))
            run.complete(call, f"r{call}")
        assert [fact.key for fact in run.facts(r.CompensationCompleted)] == ["3!", "2!", "0!"]
        assert run.end == "failed Failure"


def test_saga_blocks_undo_just_themselves() -> None:
    """A failure that leaves a block undoes what completed inside it, and is raised when that is done."""
    run = Run(nested)
    run.complete("book", "o")
    run.complete("book", "m")
    run.complete("book", "i")
    run.fail("work")
    assert run.undone == ["clean('inner')"]
    run.check()
    run.finish_undo()
    assert run.undone == ["clean('inner')", "unbook('i', 'inner')"]
    assert run.trace == ["inner undone"]
    run.fail("work")
    run.finish_undo()
    assert run.undone[2:] == ["unbook('m', 'middle')"]
    run.check()
    run.complete("work")
    assert run.end == 'completed "done"'
    assert len(run.undone) == 3
    run.check()


def test_a_block_that_ended_well_is_undone_with_what_is_round_it() -> None:
    """What a finished block completed belongs to the run: a later failure undoes it, in order."""
    run = booked(finished_block)
    run.signal("end")
    run.finish_undo()
    assert run.undone == ["unbook('r1', 'behind it')", "unbook('r0', 'in a block')"]
    assert run.end == "failed Failure"
    run.check()


def test_a_cancellation_undoes_a_block_and_then_the_run() -> None:
    """Cancelled inside a block, the block undoes itself, then the run what is left, each once."""
    run = Run(nested)
    run.complete("book", "o")
    run.complete("book", "m")
    run.complete("book", "i")
    run.cancel()
    run.fail("work", cancelled=True)
    run.finish_undo()
    assert run.undone == ["clean('inner')", "unbook('i', 'inner')", "unbook('m', 'middle')", "unbook('o', 'outer')"]
    assert run.end == "cancelled"
    run.check()


def test_a_defect_that_leaves_a_block_undoes_nothing() -> None:
    """A bug does not make its own block compensate, even if the code catches it further out."""
    run = booked(block_meets_defect)
    assert run.trace == ["caught"]
    assert run.undone == []
    run.cancel()
    run.finish_undo()
    assert run.undone == ["unbook('r0', 1)"]
    run.check()


def test_an_added_undo_may_be_at_most_once() -> None:
    """An undo whose outcome is unknown under `at_most_once` is resolved by a person."""
    run = Run(announces)
    run.cancel()
    run.crash()
    assert run.hold.code == "outcome_unknown"
    run.resolve("announce", True)
    assert run.end == "cancelled"
    run.check()


@pytest.mark.parametrize("keywords", [{}, {"deep": True}, {'we"ird': 1, "ü": [1]}])
def test_the_arguments_of_a_compensation_are_json(keywords: dict[str, Any]) -> None:
    """The result goes in front of the positional arguments; keywords are kept, whatever their names."""
    made = undo_args(raw({"id": 1}), raw([[1, "two"], keywords]))
    assert bytes(made) == bytes(raw([[{"id": 1}, 1, "two"], keywords]))


def test_the_ledger_folds_the_same_from_records_alone() -> None:
    """What is to be undone follows from the records, at every point of a run that is driven by its code."""
    run = booked(line)
    run.finish_undo()
    for upto in range(1, len(run.journal)):
        ledger = UndoLedger(run.steps)
        for fact, _ in run.journal[:upto]:
            ledger.fold(fact)
        flow = run.replay(upto)
        recorded = {
            fact.key for fact, _ in run.journal[:upto] if isinstance(fact, r.StepScheduled | r.CompensationAdded)
        }
        expected = [undo.key for undo in flow._undo.newest_first() if undo.key in recorded]
        assert [undo.key for undo in ledger.newest_first()] == expected
