"""What the runtime promises about state, output, attributes, chance and logs of a run."""

from __future__ import annotations

import logging
from datetime import datetime, timedelta
from typing import Any

import msgspec
import pytest
from msgspec import Raw

from actors import messages as m
from actors.errors import InvalidId, InvalidInput, NotFound, RunEnded, RunNotFound, SessionNotFound, VersionConflict
from actors.flow.context import Context
from actors.flow.definitions import App
from runtimed.virtual import VirtualRuntime
from tests.actors.world import WORLD, World, kinds, records
from wal import records as r

app = App("state")


class Basket(msgspec.Struct, frozen=True):
    items: list[str] = []


@app.step
async def work() -> None:
    await WORLD.act("work")


@app.workflow
async def keep(ctx: Context) -> list[Any]:
    state = ctx.state
    seen: list[Any] = [await state.get("basket", Basket), await state.get("basket", Basket, Basket(["none"]))]
    seen.append(await state.put("basket", Basket(["pen"])))
    seen.append(await state.get_versioned("basket", Basket))
    seen.append(await state.put("basket", Basket(["pen", "ink"]), expect_version=1))
    seen.append(await state.delete("basket"))
    seen.append(await state.get_versioned("basket", Basket))
    seen.append(await state.put("basket", Basket(), expect_version=0))
    return seen


@app.workflow
async def conflict(ctx: Context) -> str:
    await ctx.state.put("k", 1)
    try:
        await ctx.state.put("k", 2, expect_version=5)
    except VersionConflict as error:
        return str(error)
    return "no conflict"


@app.workflow
async def count_up(ctx: Context, times: int) -> int:
    for _ in range(times):
        while True:
            value, version = await ctx.global_state.get_versioned("count", int, 0)
            await ctx.step(work)
            try:
                await ctx.global_state.put("count", value + 1, expect_version=version)
                break
            except VersionConflict:
                continue
    return times


@app.workflow
async def listen(ctx: Context) -> list[Any]:
    first = await ctx.state.put("k", "own")
    await ctx.signal("go")
    return [first, *await ctx.state.get_versioned("k"), await ctx.state.put("k", "own again")]


@app.workflow
async def scopes(ctx: Context) -> None:
    await ctx.session_state.put("k", "session")
    await ctx.tenant_state.put("k", "tenant")
    await ctx.global_state.put("k", "global")
    await ctx.state.put("k", "run")


@app.workflow
async def tell(ctx: Context) -> None:
    ctx.set_attributes(colour="red", size=1)
    for number in range(3):
        await ctx.emit({"n": number})
    ctx.set_attributes(size=2)
    await ctx.signal("go")


@app.workflow
async def by_chance(ctx: Context) -> list[Any]:
    first = [ctx.random(), str(ctx.uuid()), ctx.now().isoformat()]
    await ctx.sleep(60)
    second = [ctx.random(), str(ctx.uuid()), ctx.now().isoformat()]
    await ctx.step(work)
    return [*first, *second, ctx.random()]


@app.workflow
async def chatty(ctx: Context) -> None:
    ctx.log.info("began %s", "well", colour="red")
    await ctx.sleep(60)
    ctx.log.warning("slept")
    await ctx.sleep(60)


@app.workflow
async def traced(ctx: Context) -> str | None:
    await ctx.step(work)
    return ctx.trace_id


def raw(value: Any) -> Raw:
    return Raw(msgspec.json.encode(value))


@pytest.mark.trio
async def test_a_runs_state_is_versioned(runtime: VirtualRuntime) -> None:
    """Get, put, delete and conditional writes; versions count on over a deletion, and absence is version 0."""
    handle = await runtime.start(keep)
    assert await handle.result() == [
        None, {"items": ["none"]}, 1, [{"items": ["pen"]}, 1], 2, 3, [None, 0], 4,
    ]  # fmt: skip


@pytest.mark.trio
async def test_a_conflicting_write_is_raised_and_changes_nothing(runtime: VirtualRuntime) -> None:
    """A write that expected another version raises VersionConflict at its await."""
    handle = await runtime.start(conflict)
    assert await handle.result() == f"run:{handle.id}/k: expected version 5, found version 1"
    row = await runtime.read(lambda reader: reader.state(f"run:{handle.id}", "k"))
    assert row is not None and (row.value, row.version) == (raw(1), 1)


@pytest.mark.trio
async def test_conditional_writes_of_many_runs_lose_nothing(runtime: VirtualRuntime) -> None:
    """Runs that read, work and write the same value under its version count every time, also over a crash."""
    handles = [await runtime.start(count_up, 5) for _ in range(8)]
    await runtime.crash()
    for handle in handles:
        await handle.result()
    row = await runtime.read(lambda reader: reader.state("global", "count"))
    assert row is not None and (row.value, row.version) == (raw(40), 40)


@pytest.mark.trio
async def test_each_scope_is_its_own(runtime: VirtualRuntime) -> None:
    """The same key in the scopes of run, session, tenant and all; each row tells its tenant and classification."""
    await runtime.ask(m.OpenSession(id="s", tenant="acme", classification="client"))
    handle = await runtime.start(scopes, session_id="s")
    await handle.result()
    for scope in ("session:s", "tenant:acme", "global", f"run:{handle.id}"):
        row = await runtime.read(lambda reader, scope=scope: reader.state(scope, "k"))
        assert row is not None and row.value == raw(scope.split(":")[0])
        assert (row.tenant, row.classification) == ("acme", "client")


@pytest.mark.trio
async def test_state_from_outside(runtime: VirtualRuntime) -> None:
    """Written, read and deleted by others too, under the same versions; what is refused leaves no trace."""
    put = await runtime.ask(m.PutState(scope="global", key="k", value=raw([1]), expect_version=0))
    assert (put.created, put.state.version, put.state.value) == (True, 1, raw([1]))
    before = runtime.actors.writer.seq
    with pytest.raises(VersionConflict, match="it has version 1"):
        await runtime.ask(m.PutState(scope="global", key="k", value=raw(2), expect_version=0))
    with pytest.raises(VersionConflict, match="it does not exist"):
        await runtime.ask(m.PutState(scope="global", key="other", value=raw(2), expect_version=3))
    with pytest.raises(InvalidInput, match="scope"):
        await runtime.ask(m.PutState(scope="planet", key="k", value=raw(2)))
    with pytest.raises(InvalidId):
        await runtime.ask(m.PutState(scope="global", key="a/b", value=raw(2)))
    with pytest.raises(SessionNotFound):
        await runtime.ask(m.PutState(scope="session:none", key="k", value=raw(2)))
    with pytest.raises(NotFound):
        await runtime.ask(m.DeleteState(scope="global", key="other"))
    assert runtime.actors.writer.seq == before
    await runtime.ask(m.DeleteState(scope="global", key="k", expect_version=1))
    with pytest.raises(NotFound):
        await runtime.ask(m.DeleteState(scope="global", key="k"))
    again = await runtime.ask(m.PutState(scope="global", key="k", value=raw(3), expect_version=0))
    assert again.state.version == 3


@pytest.mark.trio
async def test_state_put_into_a_run_is_a_record_of_it(runtime: VirtualRuntime) -> None:
    """Put while the run idles or sleeps, it is in the run's history, moves nothing, is no answer to the run's code in a
    replay, and is what the code reads next."""
    await runtime.start(listen, id="a")
    await runtime.ask(m.PutState(scope="run:a", key="k", value=raw("idle")))
    assert await kinds(runtime, "a") == ["run_started", "state_written", "run_waiting", "state_written"]
    await runtime.crash()
    await runtime.ask(m.PutState(scope="run:a", key="k", value=raw("asleep")))
    await runtime.ask(m.DeleteState(scope="run:a", key="k"))
    await runtime.ask(m.PutState(scope="run:a", key="k", value=raw("theirs")))
    assert (await runtime.run("a")).status == "waiting"
    await runtime.crash()
    await runtime.signal("a", "go")
    assert await runtime.handle("a").result() == [1, "theirs", 5, 6]
    written = [one for one in await records(runtime, "a") if isinstance(one, r.StateWritten)]
    assert [bool(one.key) for one in written] == [True, False, False, False, False, True]


@pytest.mark.trio
async def test_state_put_into_a_run_that_has_not_begun(runtime: VirtualRuntime) -> None:
    """It is there when the run begins, in its time; and a refusal leaves nothing in memory."""
    start_at = runtime.clock.now_us() + 60_000_000
    await runtime.start(listen, id="a", start_at=start_at)
    for number in range(3):
        await runtime.ask(m.PutState(scope="run:a", key="k", value=raw(number)))
        await runtime.crash()
    with pytest.raises(VersionConflict):
        await runtime.ask(m.PutState(scope="run:a", key="k", value=raw(9), expect_version=1))
    assert len(runtime.actors.coordinator.engine.active) == 0
    assert (await runtime.run("a")).status == "queued"
    await runtime.advance(61)
    await runtime.signal("a", "go")
    assert await runtime.handle("a").result() == [4, "own", 4, 5]


@pytest.mark.trio
async def test_an_ended_run_takes_no_state(runtime: VirtualRuntime) -> None:
    """Nor does one that there is not: it would be nobody's, and nothing would forget it. It can still be read."""
    await (await runtime.start(keep, id="a")).result()
    before = runtime.actors.writer.seq
    for command in (m.PutState(scope="run:a", key="k", value=raw(2)), m.DeleteState(scope="run:a", key="basket")):
        with pytest.raises(RunEnded):
            await runtime.ask(command)
    with pytest.raises(RunNotFound):
        await runtime.ask(m.PutState(scope="run:none", key="k", value=raw(2)))
    assert runtime.actors.writer.seq == before
    row = await runtime.read(lambda reader: reader.state("run:a", "basket"))
    assert row is not None and not row.deleted


@pytest.mark.trio
async def test_output_and_attributes(runtime: VirtualRuntime) -> None:
    """What a run emits is kept in order, and it is found by its attributes, merged as they were set."""
    handle = await runtime.start(tell, attributes={"shape": "round"})
    await runtime.advance(1)
    await runtime.crash()
    emitted = [bytes(one.value) for one in await records(runtime, handle.id) if isinstance(one, r.OutputEmitted)]
    assert emitted == [b'{"n":0}', b'{"n":1}', b'{"n":2}']
    assert (await runtime.run(handle.id)).attributes == {"colour": "red", "size": 2, "shape": "round"}
    assert [run.id for run in (await runtime.runs(attributes={"size": "2"})).items] == [handle.id]
    assert (await runtime.runs(attributes={"size": "1"})).items == []


@pytest.mark.trio
async def test_chance_and_time_are_the_same_after_a_crash(runtime: VirtualRuntime, world: World) -> None:
    """`random`, `uuid` and `now` give in a replay what they gave at first, and something else in another run."""
    undisturbed = await (await runtime.start(by_chance, id="a")).result()
    other = await (await runtime.start(by_chance, id="b")).result()
    runtime.disk.entries = []
    await runtime.crash()  # as on a new machine: the same run again, from nothing
    handle = await runtime.start(by_chance, id="a")
    await runtime.advance(30)
    await runtime.crash()
    again = await handle.result()
    chance = [0, 1, 3, 4, 6]
    assert [again[i] for i in chance] == [undisturbed[i] for i in chance]
    assert len({undisturbed[i] for i in chance} | {other[i] for i in chance}) == 10
    began, later = datetime.fromisoformat(again[2]), datetime.fromisoformat(again[5])
    assert later - began == timedelta(seconds=60)


@pytest.mark.trio
async def test_a_line_of_the_log_is_written_once(runtime: VirtualRuntime, caplog: pytest.LogCaptureFixture) -> None:
    """`ctx.log` is quiet in a replay; each line carries the run's id and what it was given."""
    with caplog.at_level(logging.INFO, logger="runtimed.runs"):
        handle = await runtime.start(chatty)
        await runtime.advance(70)
        await runtime.crash()
        await handle.result()
    lines = [record for record in caplog.records if getattr(record, "run_id", None) == handle.id]
    assert [line.getMessage() for line in lines] == ["began well", "slept"]
    assert (lines[0].colour, lines[0].workflow) == ("red", "chatty")  # type: ignore[attr-defined]


@pytest.mark.trio
async def test_a_trace_goes_along(runtime: VirtualRuntime, world: World) -> None:
    """The trace of the request is the run's: on its record, in its view, in the code and in its steps."""
    await runtime.start(traced)
    origin = m.Origin(by="token:ci", trace_id="4bf92f3577b34da6a3ce929d0e0e4736", traceparent="00-4b-01")
    await runtime.ask(m.StartRuns(items=[m.StartRun(workflow="traced", id="t")], origin=origin))
    assert await runtime.result("t") == origin.trace_id
    assert (await runtime.run("t")).trace_id == origin.trace_id
    first = (await records(runtime, "t"))[0]
    assert (first.by, first.trace_id, first.traceparent) == ("token:ci", origin.trace_id, "00-4b-01")
    events = await runtime.read(lambda reader: reader.events(0))
    assert {event.trace_id for event in events if event.run_id == "t"} == {origin.trace_id}
