"""Rule 1: calls are keyed by fiber path, and a replay that meets something else stands still and says what."""

from __future__ import annotations

from typing import Any

import pytest

from actors.errors import Failure
from actors.flow.definitions import App
from actors.flow.driver import Flow
from tests.actors.flow.harness import Run, Traced, raw
from wal import records as r

app = App("keys")


@app.step
async def one(x: int = 0) -> Any: ...


@app.step
async def two(x: int = 0, y: int = 0) -> Any: ...


@app.step
async def number(x: int = 0) -> int:
    return x


@app.step
async def put_back(result: Any, x: int = 0) -> None: ...


@app.step
async def take_out(x: int = 0) -> Any: ...


take_out.undo = put_back


async def pair(ctx: Traced, first: int) -> int:
    first = await ctx.step(one, first)
    return first + int(await ctx.step(one, first))


@app.workflow
async def branches(ctx: Traced) -> Any:
    await ctx.step(one, 1)
    await ctx.sleep(1)
    got = await ctx.gather(pair(ctx, 10), ctx.step(two, 20), pair(ctx, 30))
    await ctx.step(two, 2)
    return got


@app.workflow
async def line(ctx: Traced) -> None:
    """What a run does is in `ctx.extra`, so that a test may change the code below its records."""
    for what, *args in ctx.extra:
        await CALLS[what](ctx, *args)


@app.workflow
async def wants_text(ctx: Traced, text: str) -> str:
    return text


async def catch_all(ctx: Traced) -> None:
    try:
        await ctx.step(one, 1)
    except BaseException as error:  # noqa: BLE001 - the point of the test
        ctx.saw(type(error).__name__)


async def fail(ctx: Traced) -> None:
    raise Failure("no")


async def breaks(ctx: Traced) -> None:
    raise KeyError("no")


CALLS: dict[str, Any] = {
    "fail": fail,
    "break": breaks,
    "number": lambda ctx, *args: ctx.step(number, *args),
    "one": lambda ctx, *args: ctx.step(one, *args),
    "two": lambda ctx, *args: ctx.step(two, *args),
    "take_out": lambda ctx, *args: ctx.step(take_out, *args),
    "sleep": lambda ctx, *args: ctx.sleep(*args),
    "signal": lambda ctx, *args: ctx.signal(*args),
    "emit": lambda ctx, *args: ctx.emit(*args),
    "put": lambda ctx, *args: ctx.state.put(*args),
    "get": lambda ctx, *args: ctx.state.get(*args),
    "catch_all": catch_all,
    "continue": lambda ctx, *args: ctx.continue_as_new(*args),
}


def changed(run: Run, *code: Any) -> Flow:
    """The flow of other code over the run's records."""
    run.extra = code
    return run.replay()


def test_keys_follow_the_path_of_the_fiber() -> None:
    """A key is the path of the fiber and the number of the call in it, whatever the order of completions."""
    run = Run(branches)
    run.complete("one", 1)
    run.fire("1")
    assert run.open == ["step 2/0.0 one", "step 2/1.0 two", "step 2/2.0 one"]
    run.complete("2/2.0", 5)
    run.complete("2/2.1", 6)
    run.complete("2/1.0", 7)
    run.complete("2/0.0", 8)
    run.complete("2/0.1", 9)
    assert run.open == ["step 3 two"]
    run.complete("3")
    assert run.end == "completed [17,7,11]"
    run.check()


def test_another_order_of_completions_gives_the_same_keys() -> None:
    """The order in which branches complete plays no part in the keys."""
    orders = (["2/0.0", "2/0.1", "2/1.0", "2/2.0", "2/2.1"], ["2/2.0", "2/1.0", "2/2.1", "2/0.0", "2/0.1"])
    for order in orders:
        run = Run(branches)
        run.complete("one", 1)
        run.fire("1")
        for key in order:
            run.complete(key, 1)
        scheduled = {(fact.key, fact.name) for fact in run.facts(r.StepScheduled)}
        assert scheduled >= {("2/0.0", "one"), ("2/0.1", "one"), ("2/1.0", "two"), ("2/2.1", "one"), ("3", "two")}


@pytest.mark.parametrize(
    ("was", "now", "recorded", "instead"),
    [
        (("one", 1), ("two", 1), "step_scheduled 'one' (call 0)", "step 'two' (call 0)"),
        (("one", 1), ("one", 2), "[[1],{}]", "[[2],{}]"),
        (("one", 1), ("sleep", 5), "step_scheduled 'one' (call 0)", "timer (call 0)"),
        (("sleep", 5), ("one", 1), "timer_set (call 0)", "step 'one' (call 0)"),
        (("one", 1), ("emit", 5), "step_scheduled 'one' (call 0)", "emit (call 0)"),
        (("emit", 5), ("emit", 6), "output_emitted (call 0) 5", "emit (call 0) 6"),
        (("emit", 5), ("get", "k"), "output_emitted (call 0)", "state_get"),
        (("get", "k"), ("get", "l"), "state_read 'k' (call 0)", "state_get 'run:run-1/l' (call 0)"),
        (("put", "k", 1), ("put", "k", 2), "state_written 'k' (call 0) 1", "state_put 'run:run-1/k' (call 0) 2"),
        (("put", "k", 1), ("get", "k"), "state_written", "state_get"),
        (("one", 1), ("continue",), "step_scheduled 'one' (call 0)", "continue (call 0)"),
        (("signal", "s", Any, 5), ("one", 1), "timer_set (call 0)", "step 'one' (call 0)"),
    ],
)
def test_another_call_than_the_record_has_blocks_the_run(was: Any, now: Any, recorded: str, instead: str) -> None:
    """A call of another name, kind or arguments than its record is `nondeterminism`, with both sides named."""
    run = Run(line, extra=[was, ("one", 9)])
    halted = changed(run, now, ("one", 9)).halted
    assert halted is not None
    assert halted.code == "nondeterminism"
    assert recorded in halted.message
    assert instead in halted.message
    assert halted.message.index(recorded) <= halted.message.index(instead)


def test_a_record_of_a_call_that_is_not_made_blocks_the_run() -> None:
    """A record that the code does not ask for any more is `nondeterminism`."""
    run = Run(line, extra=[("one", 1), ("one", 2)])
    run.complete("0")
    halted = changed(run, ("one", 1), ("signal", "s")).halted
    assert halted is not None
    assert (halted.code, halted.key) == ("nondeterminism", "1")
    assert halted.message == "recorded: step_scheduled 'one' (call 1) [[2],{}]; the code makes no such call"


def test_an_answer_to_a_call_that_is_not_made_blocks_the_run() -> None:
    """A timer that fired where the code now waits for a signal is `nondeterminism`, not a crash."""
    run = Run(line, extra=[("one", 1)])
    run.record(r.TimerFired("7"))
    halted = run.replay().halted
    assert halted is not None
    assert (halted.code, halted.key) == ("nondeterminism", "7")


@pytest.mark.parametrize("ends", ["returns", "fails", "breaks"])
def test_an_end_while_records_are_left_blocks_the_run(ends: str) -> None:
    """Code that now returns, fails or breaks where it went on before is `nondeterminism`, never an end."""
    run = Run(line, extra=[("one", 1), ("one", 2)])
    run.complete("0")
    code = {"returns": [], "fails": [("fail",)], "breaks": [("break",)]}
    flow = changed(run, ("one", 1), *code[ends])
    assert flow.halted is not None
    assert flow.halted.code == ("code_error" if ends == "breaks" else "nondeterminism")
    assert not flow.ended
    assert not flow.compensating


def test_nondeterminism_never_compensates() -> None:
    """A contradiction between code and records undoes nothing by itself."""
    run = Run(line, extra=[("take_out", 1), ("one", 2), ("one", 3)])
    run.complete("0", 5)
    run.complete("1")
    run.extra = [("take_out", 1), ("two", 2)]
    run.resume()
    assert run.hold.code == "nondeterminism"
    assert run.undone == []
    assert run.end == "open"


def test_a_halted_run_goes_on_when_the_code_is_back() -> None:
    """Records that arrive while the code contradicts its history count once the old code is back."""
    run = Run(line, extra=[("one", 1), ("one", 2), ("signal", "go"), ("one", 3)])
    run.complete("0")
    run.extra = [("two", 1)]
    run.resume()
    assert run.hold.code == "nondeterminism"
    run.tell(r.StepCompleted("1", "one", run.facts(r.StepCompleted)[0].result))
    run.signal("go")
    run.extra = [("one", 1), ("one", 2), ("signal", "go"), ("one", 3)]
    run.retry()
    assert run.open == ["step 3 one"]
    run.complete("3")
    assert run.end == "completed null"
    run.check()


def test_code_that_catches_everything_does_not_hide_a_contradiction() -> None:
    """`except BaseException` in the workflow sees no replay error: the comparison is not made in its frames."""
    run = Run(line, extra=[("one", 1)])
    run.extra = [("catch_all",)]
    flow = run.replay()
    assert flow.halted is None
    run.extra = [("two", 1)]
    flow = run.replay()
    assert flow.halted is not None
    assert flow.context.trace == []


def test_the_waiting_note_is_compared_too() -> None:
    """A run whose last record says what it waited for does not silently wait for something else."""
    run = Run(line, extra=[("signal", "s")])
    run.record(r.RunWaiting("signal", None, run.flow.open_calls()))
    assert run.replay().halted is None
    halted = changed(run, ("signal", "t")).halted
    assert halted is not None
    assert halted.code == "nondeterminism"
    assert "signal s (call 0)" in halted.message
    assert "signal t (call 0)" in halted.message


def test_a_waiting_note_of_the_past_is_not_compared() -> None:
    """What came after the note, an answer or something that the code asked for, takes its force away."""
    run = Run(line, extra=[("signal", "s"), ("emit", 1), ("signal", "t")])
    run.record(r.RunWaiting("signal", None, run.flow.open_calls()))
    run.signal("s")
    assert run.replay().halted is None
    note = r.RunWaiting("emit", None, [r.OpenCallData("1", "emit")])
    run.journal.insert(-1, (note, run.now))  # a run that was paused may note what it waits for before it emits
    run.check()


def test_an_input_that_does_not_decode_any_more_blocks_the_run() -> None:
    """An old input that the new code cannot read is `undecodable`; the run waits for better code."""
    run = Run(wants_text, "text")
    run.journal[0] = (r.RunStarted("run-1", "wants_text", raw(7)), run.journal[0][1])
    flow = run.replay()
    assert flow.halted is not None
    assert flow.halted.code == "undecodable"
    assert not flow.asks


def test_a_result_that_does_not_decode_any_more_blocks_the_run() -> None:
    """An old result that the new code cannot read is `undecodable`; nothing is compensated for it."""
    run = Run(line, extra=[("take_out", 1), ("number", 2)])
    run.complete("0", 1)
    run.complete("1", "not a number")
    assert run.hold.code == "undecodable"
    assert "number" in run.hold.message
    assert run.hold.key == "1"
    assert run.undone == []
    run.check()


def test_a_workflow_that_is_gone_blocks_the_run_and_its_return_continues_it() -> None:
    """`unknown_workflow` keeps all records; the code coming back continues the run."""
    run = Run(line, extra=[("one", 1), ("one", 2)])
    run.complete("0")
    run.workflow = None
    run.resume()
    assert run.hold.code == "unknown_workflow"
    run.tell(r.StepCompleted("1", "one", raw(1)))
    run.workflow = line
    run.retry()
    assert run.end == "completed null"


def test_the_order_of_fibers_does_not_depend_on_the_hash_seed() -> None:
    """Branches run in the order they were given, first calls before any second one."""
    run = Run(branches)
    run.complete("one", 1)
    run.fire("1")
    scheduled = [fact.key for fact in run.facts(r.StepScheduled)]
    assert scheduled == ["0", "2/0.0", "2/1.0", "2/2.0"]
