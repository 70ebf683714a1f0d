"""Forks: a run that begins with another's past, in the pure core."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from actors.errors import ForkRefused
from actors.flow.definitions import App
from actors.flow.forks import forked
from tests.actors.flow.harness import Run, Traced, raw
from wal import records as r
from wal.records import Entry

app = App("forks")


@app.step
async def work(x: Any = 0) -> Any: ...


@app.step
async def book(x: Any = 0) -> Any: ...


@book.compensation
async def unbook(result: Any, x: Any = 0) -> None: ...


@app.step(delivery="at_most_once")
async def wire(x: Any = 0) -> Any: ...


def at(run: Run, kind: type[r.Fact], key: str = "") -> int:
    """The number of the first record of this kind, of this call."""
    return next(
        n for n, (fact, _) in enumerate(run.journal, 1) if type(fact) is kind and getattr(fact, "key", "") == key
    )


@app.workflow
async def ordered(ctx: Traced) -> Any:
    one = await ctx.step(book, 1)
    ctx.saw("booked", one, ctx.run_id)
    two = await ctx.step(work, ctx.run_id)
    ctx.saw("worked", two, ctx.run_id, ctx.random())
    return await ctx.step(work, "last")


def test_what_was_done_is_recalled_and_the_rest_is_done_anew() -> None:
    """A fork behind the first step recalls that, and calls the second as itself: its id is its own."""
    run = Run(ordered)
    run.complete("book", "B")
    run.complete("work", "W")
    run.fork(at(run, r.StepCompleted, "0"))
    run.take()
    assert run.trace == [("booked", "B", "fork-1")]
    assert [(fact.key, bytes(fact.args)) for fact in run.facts(r.StepScheduled)] == [("1", b'[["fork-1"],{}]')]
    run.complete("1", "other")
    run.complete("2", "end")
    assert run.end == 'completed "end"'
    run.check()


def test_before_the_point_the_code_is_the_other_run() -> None:
    """What the code did before the last answer that is taken over, it did under the other run's id, and does again."""
    run = Run(ordered)
    run.complete("book", "B")
    run.complete("work", "W")
    seen = run.trace
    run.fork()
    assert run.trace[0] == ("booked", "B", "run-1") == seen[0]
    assert run.trace[1][:3] == ("worked", "W", "fork-1")
    assert run.trace[1][3] != seen[1][3], "its chance is its own"
    run.check()


@pytest.mark.parametrize("upto", [1, 2])
def test_a_fork_at_the_beginning_has_no_past(upto: int) -> None:
    """Where nothing was answered yet, the fork begins like any run."""
    run = Run(ordered)
    run.fork(upto)
    assert run.facts(r.RunForked)[0].past == []
    run.take()
    assert run.open == ["step 0 book"]


def test_a_fork_that_fails_undoes_its_past() -> None:
    """What it has taken over is its own: it is undone if the fork fails."""
    run = Run(ordered)
    run.complete("book", "B")
    run.fork()
    run.take()
    run.fail("work")
    run.finish_undo()
    assert run.undone == ["unbook('B', 1)"]
    assert run.end == "failed StepFailed"
    run.check()


@app.workflow
async def waits(ctx: Traced) -> Any:
    async def second() -> Any:
        return await ctx.step(work, "beside")

    async def first() -> Any:
        await ctx.step(work, "before")
        return await ctx.race(
            asked=ctx.approval("Ship?", timeout=60), told=ctx.signal("go", timeout=30), slept=ctx.sleep(10)
        )

    return await ctx.gather(first(), second())


def test_what_was_open_is_asked_anew() -> None:
    """Timers, approvals and steps that were open at the point are no part of the past: the fork has its own."""
    run = Run(waits)
    run.complete("0/0.0", 1)
    opened = run.open
    run.fork()
    assert run.kinds == ["run_started", "run_forked", "step_interrupted"]
    run.take()
    assert sorted(run.open) == sorted(opened)
    assert run.kinds[3:] == ["approval_requested", "timer_set", "timer_set"]
    run.fire("0/0.1/2.0")
    run.complete("0/1.0", 2)
    assert run.end == 'completed [["slept",null],2]'
    run.check()


def test_a_signal_that_nobody_had_asked_for_goes_along() -> None:
    """Buffered signals are part of the past."""

    run = Run(waits)
    run.signal("go", 7)
    run.fork()
    run.take()
    run.complete("0/0.0", 1)
    run.complete("0/1.0", 2)
    assert run.end == 'completed [["told",7],2]'
    run.check()


def test_what_was_in_flight_has_all_of_its_tries() -> None:
    """How long and how often the other run had tried it does not count: it may have been weeks ago."""
    run = Run(retries)
    for _ in range(3):
        run.fail("work", retry_in=1.0)
        run.fire("work")
    run.signal("go")
    run.fork()
    call = run.call("work")
    assert (call.attempt, call.first_attempt, call.first_at) == (5, 4, run.journal[1][1])
    run.check()


@app.workflow
async def pays(ctx: Traced) -> Any:
    first, _ = await ctx.gather(ctx.step(wire, 1), ctx.step(work, 2))
    return first


def test_what_was_in_flight_counts_as_interrupted() -> None:
    """An at_most_once step that was under way is in doubt in the fork too, and goes on once a person says so."""
    run = Run(pays)
    run.complete("work", 2)
    run.fork()
    assert run.hold.code == "outcome_unknown"
    run.resolve("wire", True, "sent")
    assert run.end == 'completed "sent"'
    run.check()


@app.workflow
async def retries(ctx: Traced) -> Any:
    _, first = await ctx.gather(ctx.signal("go"), ctx.step(work, 1))
    return first


@pytest.mark.parametrize("more", [{"retry_in": 3600.0}, {"defect": True}])
def test_what_was_to_be_tried_again_is_tried_now(more: dict[str, Any]) -> None:
    """A step in backoff, or one that a defect holds, is in its next attempt in the fork, which counts from there."""
    run = Run(retries)
    run.fail("work", **more)
    run.signal("go")
    run.fork()
    call = run.call("work")
    assert (run.flow.hold, call.attempt, call.first_attempt) == (None, 3, 2)
    run.complete("work", "W")
    assert run.end == 'completed "W"'
    run.check()


def test_an_at_most_once_step_that_was_under_way_last_is_in_doubt_too() -> None:
    """Also where the past ends with it: that it may have been done does not depend on what came after it."""
    run = Run(pays)
    run.fork(at(run, r.StepScheduled, "0/0.0"))
    assert run.hold.code == "outcome_unknown"
    run.resolve("wire", True, "sent")
    run.take()
    assert run.open == ["step 0/1.0 work"]
    run.check()


def test_a_defect_of_an_at_most_once_step_holds_the_fork() -> None:
    """It failed, so it is in no doubt; that it may be tried again is for a person to say, of the fork too."""
    run = Run(pays)
    run.fail("wire", defect=True)
    run.complete("work", 2)
    run.fork()
    assert run.hold.code == "code_error"
    run.retry()
    assert run.call("wire").attempt == 2
    run.check()


@app.workflow
async def remembers(ctx: Traced) -> Any:
    mine = ctx.state
    await mine.put("n", 1)
    await ctx.session_state.put("s", 1)
    await ctx.emit("said")
    await ctx.step(work)
    await mine.put("n", 2)
    return await ctx.state.get("n")


def test_state_of_its_own_scope_is_the_forks() -> None:
    """What the code asks of its own scope after the point is of the fork's scope, also through what it kept."""
    run = Run(remembers, session_id="s-1")
    run.complete("work")
    run.fork(at(run, r.StepScheduled, "3"))
    run.take()
    run.complete("work")
    written = [(fact.scope, fact.name) for fact in run.facts(r.StateWritten)]
    assert written == [("run:fork-1", "n")]
    assert [type(one.record).__name__ for one in run.facts(r.RunForked)[0].past] == [
        "RunStarted", "StateWritten", "StateWritten", "OutputEmitted",
    ]  # fmt: skip
    run.check()


@app.workflow
async def parent(ctx: Traced) -> Any:
    return await ctx.child(ordered)


def test_a_child_that_has_not_ended_is_not_shared() -> None:
    """Where a child is open the run cannot be forked; the hint says where it can, and there the fork starts its own."""
    run = Run(parent)
    with pytest.raises(ForkRefused, match="child 'run-1:0' has not ended") as refused:
        run.fork()
    assert "record 1," in (refused.value.hint or "")
    run.fork(1)
    run.take()
    assert run.facts(r.ChildStarted)[0].child_id == "fork-1:0"


@app.workflow
async def many(ctx: Traced) -> Any:
    first = await ctx.start_child(ordered)
    second = await ctx.start_child(ordered)
    return [await first, await second]


def test_the_hint_names_the_last_record_without_an_open_child() -> None:
    """Before the start of the child that is open, another may have been."""
    run = Run(many)
    run.tell(r.ChildEnded("0", "run-1:0", "completed", raw("R")))
    with pytest.raises(ForkRefused, match="child 'run-1:1' has not ended") as refused:
        run.fork()
    assert "record 1," in (refused.value.hint or "")


def test_a_child_of_an_earlier_round_is_another() -> None:
    """A child that was left behind and ends now has the key of one that this round has open."""
    entries = [
        Entry(7, 1, 6, 1, r.RunContinued("1", r.RunStarted("run-1", "parent", raw(None)), children=["run-1:0"])),
        Entry(8, 1, 7, 1, r.ChildStarted("0", "ordered", "run-1:g1:0")),
        Entry(9, 1, 8, 1, r.ChildEnded("0", "run-1:0", "completed", raw("R"))),
    ]
    with pytest.raises(ForkRefused, match="child 'run-1:g1:0' has not ended"):
        forked(entries)


def test_the_end_of_a_child_is_recalled() -> None:
    """A child that had ended is the other run's, and its result part of the past."""
    run = Run(parent)
    run.tell(r.ChildEnded("0", "run-1:0", "completed", raw("R")))
    run.fork(len(run.journal) - 1)
    run.take()
    assert run.end == 'completed "R"'


@pytest.mark.parametrize("how", ["fail", "cancel"])
def test_a_run_that_is_being_undone_is_forked_before_that(how: str) -> None:
    """A fork of something that is half undone would believe what is not so; the hint names the record before."""
    run = Run(ordered)
    run.complete("book", "B")
    place = len(run.journal)
    if how == "fail":
        run.fail("work")
    else:
        run.cancel()
    with pytest.raises(ForkRefused, match="was ended or being undone") as refused:
        run.fork()
    assert f"record {place + (how == 'fail')}, " in (refused.value.hint or "")


def test_changed_code_that_contradicts_the_past_blocks_the_fork() -> None:
    """The past is held to the code as any history is."""
    run = Run(ordered)
    run.complete("book", "B")
    run.complete("work", "W")
    run.workflow = app.workflows["pays"]
    run.fork()
    assert run.hold.code == "nondeterminism"
    assert "book" in run.hold.message


def test_code_behind_the_point_may_have_changed() -> None:
    """What a run asked for after the last answer is asked anew: so mended code can go another way from there."""
    run = Run(ordered)
    run.complete("book", "B")
    run.workflow = App("mended").workflow(name="ordered")(mended)
    run.steps = app.steps
    run.fork()
    run.take()
    assert [fact.name for fact in run.facts(r.StepScheduled)] == ["wire"]


async def mended(ctx: Traced) -> Any:
    await ctx.step(book, 1)
    return await ctx.step(wire, "instead")


def test_a_fork_keeps_the_instants_of_its_past() -> None:
    """The code sees the same time at the same places, though answers that moved only the time are left out."""
    run = Run(clocked)
    run.interrupt("0/0.0")
    run.tell(r.SignalReceived("go", raw(1)))
    seen = run.trace
    run.fork()
    assert run.trace == seen
    assert run.flow.now_us == run.journal[-1][1]


@app.workflow
async def clocked(ctx: Traced) -> Any:
    async def tells() -> None:
        await ctx.signal("go")
        ctx.saw(ctx.now())
        await ctx.emit(1)
        ctx.saw(ctx.now())

    await ctx.gather(ctx.step(work), tells())


def test_the_past_of_a_run_that_had_waited_begins_when_its_code_did() -> None:
    """Not when the run was asked for: in its queue it may have waited for long."""
    started = r.RunStarted("run-1", "ordered", raw(None), queue="slow")
    entries = [
        Entry(1, 1, 0, 100, started),
        Entry(2, 1, 1, 900, r.TimerFired("")),
        Entry(3, 1, 2, 901, r.SignalReceived("go", raw(1))),
    ]
    assert [one.at for one in forked(entries).past] == [900, 901]


@app.workflow
async def asks_beside(ctx: Traced) -> Any:
    async def asks() -> Any:
        return await ctx.approval("old?")

    async def works() -> None:
        await ctx.signal("go")
        await ctx.step(work, "old")
        await ctx.signal("more")

    await ctx.gather(asks(), works())


async def asks_otherwise(ctx: Traced) -> Any:
    async def asks() -> Any:
        return await ctx.approval("new?" if ctx.patched("v2") else "old?")

    async def works() -> None:
        await ctx.signal("go")
        await ctx.step(work, "new" if ctx.patched("v2") else "old")
        await ctx.signal("more")

    await ctx.gather(asks(), works())


def test_patched_code_finds_the_same_passed_as_in_the_other_run() -> None:
    """Also by what was open and is no part of the past: else one branch would go the new way, and with that each place
    of the same change behind it, against the records."""
    run = Run(asks_beside)
    run.signal("go")
    run.complete("work", 1)
    run.workflow = App("patched").workflow(name="asks_beside")(asks_otherwise)
    run.steps = app.steps
    for _ in range(2):  # a fork of the fork as well
        run.fork()
        run.take()
        assert run.open == ["approval 0/0.0 old?", "signal 0/1.2 more"]
        run.signal("other")
        run.check()


def test_a_past_is_kept_as_it_is() -> None:
    """The record of a fork comes back from JSON as it was."""
    run = Run(ordered)
    run.complete("book", "B")
    run.fork()
    forked = run.facts(r.RunForked)[0]
    again = msgspec.json.decode(msgspec.json.encode(forked), type=r.Record)
    assert msgspec.json.encode(again) == msgspec.json.encode(forked)
