"""Rules 6 and 7: values make the round trip; the time, chance and versions are those of the records."""

from __future__ import annotations

import uuid
from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec
import pytest

from actors.errors import DefinitionError, PayloadTooLarge, VersionConflict
from actors.flow.context import Context, decoder_for
from actors.flow.definitions import App
from actors.flow.driver import Flow
from actors.flow.run_info import RunInfo
from tests.actors.flow.harness import EPOCH_US, Run, Traced, raw
from wal import records as r

app = App("values")


class Order(msgspec.Struct, frozen=True):
    id: str
    cents: int = 0


@app.step
async def echo(x: Any = None) -> Any: ...


@app.step
async def buy(order: Order, *more: Order, gift: Order | None = None) -> Order: ...


@buy.compensation
async def unbuy(result: Order | None, order: Order, *more: Order, gift: Order | None = None) -> None: ...


@app.workflow
async def round_trip(ctx: Traced, given: Any) -> Any:
    ctx.saw(given)
    got = await ctx.step(echo)
    ctx.saw(got)
    ctx.saw(await ctx.signal("s"))
    await ctx.state.put("k", {2: "b"})
    ctx.saw(await ctx.state.get("k"))
    return got


@app.workflow
async def typed(ctx: Traced, order: Order) -> Order:
    bought = await ctx.step(buy, order, Order("b"), gift=Order("c"))
    ctx.saw(type(bought).__name__, bought.cents)
    await ctx.signal("end")
    return bought


@app.workflow
async def chance(ctx: Traced) -> None:
    ctx.saw(ctx.now(), ctx.random(), ctx.uuid())
    await ctx.step(echo, 1)
    ctx.saw(ctx.now(), ctx.random(), ctx.uuid())
    await ctx.sleep(60)
    ctx.saw(ctx.now(), ctx.random(), ctx.uuid())
    await ctx.signal("end")


@app.workflow
async def versions(ctx: Traced) -> None:
    """The code is in `ctx.extra`: steps by number, `?id` for a branch on `patched`, `s:name` for a signal."""
    await steps_of(ctx, ctx.extra)


async def steps_of(ctx: Traced, code: tuple[Any, ...]) -> None:
    for what in code:
        if isinstance(what, int):
            await ctx.step(echo, what)
        elif isinstance(what, tuple):
            await ctx.gather(*(steps_of(ctx, branch) for branch in what))
        elif what.startswith("?"):
            new = ctx.patched(what)
            ctx.saw(what, new)
            if new:
                await ctx.step(echo, what)
        else:
            await ctx.signal(what)


@app.workflow
async def state(ctx: Traced) -> Any:
    ctx.saw(await ctx.state.get("k", int, 7), await ctx.state.get_versioned("k"))
    ctx.saw(await ctx.state.put("k", 1, expect_version=0))
    try:
        await ctx.state.put("k", 2, expect_version=5)
    except VersionConflict as error:
        ctx.saw(str(error))
    ctx.saw(await ctx.state.get_versioned("k", int))
    ctx.saw(await ctx.state.delete("k", expect_version=1))
    ctx.saw(await ctx.state.get("k"), await ctx.state.put("k", 3))
    ctx.saw([await scope.get("k") for scope in (ctx.session_state, ctx.tenant_state, ctx.global_state)])


@app.workflow
async def notes(ctx: Traced) -> None:
    ctx.set_attributes(customer="c1", total=5)
    await ctx.emit({"at": 1})
    ctx.log.info("emitted %d", 1)
    await ctx.emit("second")
    await ctx.signal("end")
    ctx.log.warning("ended")


@app.workflow
async def until(ctx: Traced, when: str) -> None:
    at = {"aware": datetime(2024, 5, 1, tzinfo=UTC), "naive": datetime(2024, 5, 1)}[when]
    await ctx.sleep_until(at)


@app.workflow
async def too_much(ctx: Traced, what: str) -> None:
    big = "x" * (3 << 20)
    calls: dict[str, Any] = {
        "step": lambda: ctx.step(echo, big),
        "emit": lambda: ctx.emit(big),
        "put": lambda: ctx.state.put("k", big),
        "attributes": lambda: ctx.set_attributes(big=big),
        "undo": lambda: ctx.add_compensation(echo, big),
        "sleep": lambda: ctx.sleep(-1),
        "timeout": lambda: ctx.signal("s", timeout=float("nan")),
        "signal name": lambda: ctx.signal("a name"),
        "state key": lambda: ctx.state.get(""),
        "arguments": lambda: ctx.step(echo, 1, 2),
        "no step": lambda: ctx.step(len, 1),
        "session": lambda: ctx.session_state,
        "tenant": lambda: ctx.tenant_state,
    }
    calls[what]()


def test_values_are_what_the_record_says_at_once() -> None:
    """What a workflow receives is the decoded record, live as after a crash: `{1: "a"}` is `{"1": "a"}`."""
    run = Run(round_trip, {1: "a"})
    run.complete("echo", {1: ("b", {2})})
    run.signal("s", {3: None})
    assert run.trace == [{"1": "a"}, {"1": ["b", [2]]}, {"3": None}, {"2": "b"}]
    run.check()


def test_arguments_and_results_have_their_annotated_types() -> None:
    """Structs, variadic and keyword arguments are decoded for steps, results and compensations."""
    run = Run(typed, Order("a", 5))
    call = run.call("buy")
    args, kwargs = call.step.signature.decode(call.args)
    assert (list(args), kwargs) == ([Order("a", 5), Order("b")], {"gift": Order("c")})
    run.complete("buy", Order("z", 9))
    assert run.trace == [("Order", 9)]
    run.cancel()
    undo = run.call("unbuy")
    args, kwargs = undo.step.signature.decode(undo.args)
    assert (list(args), kwargs) == ([Order("z", 9), Order("a", 5), Order("b")], {"gift": Order("c")})
    run.check()


def test_now_is_the_instant_of_the_last_answer() -> None:
    """`ctx.now()` moves only with what happened to the run, and never back."""
    run = Run(chance)
    began = run.journal[0][1]
    run.complete("echo")
    run.fire("1")
    answers = [at for fact, at in run.journal if type(fact) in (r.StepCompleted, r.TimerFired)]
    base = datetime(1970, 1, 1, tzinfo=UTC)
    assert [row[0] for row in run.trace] == [base + timedelta(microseconds=us) for us in (began, *answers)]
    run.check()


def test_a_clock_that_goes_back_does_not_take_now_back() -> None:
    """A wall clock that was set back leaves `ctx.now()` where it was."""
    run = Run(chance)
    run.now = EPOCH_US - 10_000_000
    run.complete("echo")
    assert run.trace[1][0] == run.trace[0][0]
    run.check()


def test_random_and_uuid_are_the_run_s_own() -> None:
    """Chance is seeded by the run and counted apart: the same in every replay, another in another run."""
    run, other = Run(chance), Run(chance, id="run-2")
    for one in (run, other):
        one.complete("echo")
        one.fire("1")
        one.check()
    numbers = [row[1] for row in run.trace + other.trace]
    assert len(set(numbers)) == 6
    assert all(0 <= number < 1 for number in numbers)
    ids = [row[2] for row in run.trace + other.trace]
    assert len(set(ids)) == 6
    assert all(one.version == 4 and one.variant == uuid.RFC_4122 for one in ids)


def test_another_generation_draws_anew() -> None:
    """The history that follows under the same id has chance of its own."""
    drawn = []
    for generation in (0, 1):
        flow = Flow(chance, RunInfo("run-1", "chance", raw(None), generation), app.steps)
        ctx = Context(flow, lambda *_: None)
        drawn.append((ctx.random(), ctx.uuid()))
    assert drawn[0] != drawn[1]


def test_random_draws_do_not_shift_uuids() -> None:
    """Drawing another random number between does not change the uuids that follow."""
    flows = [Flow(chance, RunInfo("run-1", "chance", raw(None)), app.steps) for _ in range(2)]
    one, two = (Context(flow, lambda *_: None) for flow in flows)
    one.random()
    assert one.uuid() == two.uuid()


def test_patched_is_true_and_marked_in_a_new_run() -> None:
    """A run that comes to the change first takes the new branch, and the marker is recorded before its calls."""
    run = Run(versions, extra=(1, "?p", 2))
    run.complete("echo")
    assert run.trace == [("?p", True)]
    assert run.kinds[-2:] == ["patch_marked", "step_scheduled"]
    run.check()
    run.complete("1")
    assert run.open == ["step 2 echo"]
    run.check()


@pytest.mark.parametrize(
    ("was", "done", "now", "taken"),
    [
        ((1, 2), 1, ("?p", 1, 2), False),  # in front of a recorded call
        ((1, 2), 1, (1, "?p", 2), False),  # in front of a call that is open
        ((1, 2), 1, (1, 2, "?p", 3), True),  # behind all that is recorded: reached only later
        ((1, "s", 2), 1, (1, "?p", "s", 2), True),  # in front of a wait that left no record: nothing is contradicted
        ((((1,), (2,)), 3), 0, ("?p", ((1,), (2,)), 3), False),  # in front of a group
    ],
)
def test_code_inserted_under_patched_fits_old_records(was: Any, done: int, now: Any, taken: bool) -> None:
    """`patched` is False only where a record of a call at or after the next one of this fiber is in the history."""
    run = Run(versions, extra=was)
    for key in range(done):
        run.complete(str(key))
    run.extra = now
    run.resume()
    assert run.flow.halted is None
    if run.flow.calls:
        while run.trace == []:
            run.complete(next(iter(run.flow.calls)))
    assert run.trace[0] == ("?p", taken)
    run.check()


def test_a_noted_wait_counts_as_a_record() -> None:
    """A run that was noted as waiting for a signal takes the old branch in front of that wait."""
    run = Run(versions, extra=(1, "s", 2))
    run.complete("echo")
    run.record(r.RunWaiting("signal", None, run.flow.open_calls()))
    run.extra = (1, "?p", "s", 2)
    run.resume()
    assert run.trace == [("?p", False)]
    run.check()


def test_patched_in_branches_looks_at_its_own_fiber() -> None:
    """A branch that is further than its sibling takes the old path while the sibling takes the new one."""
    run = Run(versions, extra=(((1, 2), (3, "s")),))
    run.complete("0/0.0")
    run.complete("0/1.0")
    run.extra = (((1, "?a", 2), (3, "s", "?b", 4)),)
    run.resume()
    assert run.trace == [("?a", False)]
    run.signal("s")
    assert run.trace == [("?a", False), ("?b", True)]
    run.check()


def test_patched_in_a_branch_that_had_ended_is_false() -> None:
    """A record of a call behind the group means that all its branches are over, whatever they left."""
    run = Run(versions, extra=(((1, "s"), (2,)), 3))
    run.complete("0/0.0")
    run.complete("0/1.0")
    run.signal("s")
    assert run.open == ["step 1 echo"]
    run.extra = (((1, "?p", "s"), (2,)), 3)
    run.resume()
    assert run.flow.halted is None
    assert run.trace == [("?p", False)]
    run.check()


def test_patched_answers_the_same_at_each_question() -> None:
    """Once a run took the new branch it takes it wherever it asks for the same change."""
    run = Run(versions, extra=("?p", 1, "?p", 2))
    for _ in range(4):
        assert len(run.flow.calls) == 1
        run.complete(next(iter(run.flow.calls)))
    assert run.trace == [("?p", True), ("?p", True)]
    assert run.kinds.count("patch_marked") == 1


def test_a_marker_that_a_crash_took_away_is_made_again() -> None:
    """The marker and the calls behind it are lost together or kept together."""
    run = Run(versions, extra=(1, "?p", 2))
    run.complete("echo")
    assert run.kinds[-3:] == ["step_completed", "patch_marked", "step_scheduled"]
    run.crash(keep=len(run.journal) - 2)
    assert run.kinds[-3:] == ["step_completed", "patch_marked", "step_scheduled"]
    run.check()


def test_state_is_versioned_and_scoped() -> None:
    """`get`, `put`, `delete` give versions; a wrong expectation is a VersionConflict that says both."""
    run = Run(state, session_id="s1", tenant="t1")
    assert run.trace == [
        (7, (None, 0)), 1, "run:run-1/k: expected version 5, found version 1", (1, 1), 2, (None, 3), [None] * 3,
    ]  # fmt: skip
    assert {fact.scope for fact in run.facts(r.StateRead)} == {"run:run-1", "session:s1", "tenant:t1", "global"}
    assert run.end == "completed null"
    run.check()


def test_a_value_put_from_outside_answers_nothing() -> None:
    """Wherever it stands in the history it is counted and passed over, also if the code puts the same."""
    run = Run(state, session_id="s1", tenant="t1")
    whole = list(run.journal)
    put = next(fact for fact in run.facts(r.StateWritten))
    for place in range(1, len(whole) + 1):
        run.journal = [*whole[:place], (msgspec.structs.replace(put, key=""), whole[place - 1][1]), *whole[place:]]
        flow = run.replay()
        assert (flow.halted, flow.ended, flow.records) == (None, True, run.flow.records + 1)


def test_emits_and_attributes_are_recorded_in_their_order() -> None:
    """Output and attributes are records; replay writes no log line again."""
    run = Run(notes)
    assert run.kinds == ["run_started", "attributes_set", "output_emitted", "output_emitted"]
    assert run.logged == ["emitted 1"]
    run.crash()
    assert run.logged == ["emitted 1"]
    run.signal("end")
    assert run.logged == ["emitted 1", "ended"]
    assert run.facts(r.AttributesSet) == [r.AttributesSet("0", {"customer": "c1", "total": 5})]
    run.check()


def test_sleep_until_takes_an_instant() -> None:
    """`sleep_until` sets its timer to the microsecond; a naive datetime is a defect with a sentence."""
    run = Run(until, "aware")
    assert run.facts(r.TimerSet) == [r.TimerSet("0", 1714521600000000)]
    run.fire("0")
    assert run.end == "completed null"
    assert "aware datetime" in Run(until, "naive").hold.message


@pytest.mark.parametrize(
    ("what", "error"),
    [
        ("step", PayloadTooLarge.__name__), ("emit", PayloadTooLarge.__name__), ("put", PayloadTooLarge.__name__),
        ("attributes", PayloadTooLarge.__name__), ("undo", PayloadTooLarge.__name__), ("sleep", "ValueError"),
        ("timeout", "ValueError"), ("signal name", "InvalidId"), ("state key", "InvalidId"), ("arguments", "TypeError"),
        ("no step", "TypeError"), ("session", DefinitionError.__name__), ("tenant", DefinitionError.__name__),
    ],
)  # fmt: skip
def test_a_call_that_cannot_be_is_refused_at_its_line(what: str, error: str) -> None:
    """Unfit values are refused where they are made, as defects of the code with a traceback."""
    run = Run(too_much, what)
    assert run.hold.code == "code_error"
    assert run.hold.message.startswith(error)
    assert "too_much" in (run.hold.traceback or "")
    assert run.kinds == ["run_started"]


def test_decoders_are_kept_and_unhashable_types_work() -> None:
    """A decoder is made once a type; an annotation that cannot be hashed is decoded all the same."""
    assert decoder_for(dict[str, int]) is decoder_for(dict[str, int])
    assert decoder_for(Any).decode(b"[1]") == [1]
