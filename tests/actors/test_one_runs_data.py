"""What one client or one run hands in is its own affair: nobody else waits, and the engine goes on."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone
from decimal import Decimal
from typing import Any

import msgspec
import pytest
import trio
from msgspec import Raw

from actors import messages as m
from actors.errors import ApprovalClosed, ChildFailed, KeyReused
from actors.flow.context import Context
from actors.flow.definitions import App
from runtimed.settings import Limits, Queue, Settings
from runtimed.virtual import VirtualRuntime
from tests.actors.world import HANG, WORLD, World, kinds, without_wake_source
from wal.records import Entry
from wal.views import LAST_US, rfc3339

pytestmark = pytest.mark.trio

app = App("affairs")


class Order(msgspec.Struct):
    cents: Decimal


class Polled(msgspec.Struct):
    rows: int


@app.step
async def work() -> int:
    return int(await WORLD.act("work", result=1))


@app.step
async def slow() -> None:
    await trio.sleep(5)


@app.workflow
async def buy(ctx: Context, order: Order) -> str:
    return str(order.cents)


@app.workflow
async def leaf(ctx: Context, number: int) -> int:
    return number


@app.workflow
async def naps(ctx: Context) -> str:
    await ctx.sleep(100)
    return "rested"


@app.workflow
async def named_after_itself(ctx: Context) -> str:
    try:
        return str(await ctx.child(leaf, 1, id=ctx.run_id))
    except ChildFailed as error:
        return type(error).__name__


@app.workflow
async def parent(ctx: Context) -> str:
    return str(await ctx.child(naps))


@app.workflow
async def anew_once(ctx: Context, round: int) -> int:
    if round == 0:
        await ctx.sleep(1)
        await ctx.continue_as_new(1)
    return round


@app.workflow
async def entity(ctx: Context) -> None:
    for _ in range(100):
        await ctx.signal("told")
    await ctx.continue_as_new()


@app.workflow
async def until(ctx: Context, offset_h: int) -> str:
    zone = timezone(timedelta(hours=offset_h))
    instant = datetime.max if offset_h < 0 else datetime.min + timedelta(hours=1)
    await ctx.sleep_until(instant.replace(tzinfo=zone))
    return "now"


async def word_or_approval(ctx: Context) -> str:
    name, _ = await ctx.race(word=ctx.signal("word"), yes=ctx.approval("ok?"))
    return str(name)


@app.workflow
async def asks_beside_a_step(ctx: Context) -> str:
    _, name = await ctx.gather(ctx.step(slow), word_or_approval(ctx))
    return str(name)


@app.workflow
async def both(ctx: Context) -> str:
    number, decision = await ctx.gather(ctx.step(work), ctx.approval("ok?"))
    return f"{number} {decision.approved}"


@pytest.fixture
def runtime_settings() -> Settings:
    return Settings(limits=Limits(park_after=1.0), queues={"one": Queue(concurrency=1)})


async def test_an_input_that_cannot_be_compared(runtime: VirtualRuntime, world: World) -> None:
    """A repeat with a type whose comparison raises: letter for letter the same is the same run, anything else another
    input, and the coordinator lives on."""
    await runtime.start(leaf, 1, id="p")
    item = m.StartRun(workflow="buy", input=Raw(b'{"cents":"sNaN"}'), id="same")
    spaced = m.StartRun(workflow="buy", input=Raw(b'{"cents": "sNaN"}'), id="same")
    replies = [(await runtime.ask(m.StartRuns(items=[each]))).items[0] for each in (item, item, spaced)]
    assert [reply.created for reply in replies] == [True, False, False]
    assert replies[2].problem is not None
    assert replies[2].problem.code == "id_conflict"


async def test_a_key_that_was_used_meanwhile(runtime: VirtualRuntime, world: World) -> None:
    """A call without a command (a poll, a backup) is at work, and another request has its answer under the same key:
    the call is refused, and nothing is recorded twice."""
    await runtime.start(leaf, 1)
    go = trio.Event()
    refused: list[str] = []

    def origin(digest: str) -> m.Origin:
        return m.Origin(by="uid:1", request=m.RequestKey(principal="uid:1", key="k", digest=digest))

    async def polls() -> Polled:
        await go.wait()
        return Polled(1)

    async def call() -> None:
        try:
            await runtime.once(origin("poll"), Polled, polls)
        except KeyReused as error:
            refused.append(error.code)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(call)
        await trio.sleep(0.1)
        item = m.StartRun(workflow="leaf", input=Raw(b"2"))
        assert (await runtime.ask(m.StartRuns(items=[item], origin=origin("start")))).items[0].created
        go.set()
    assert refused == ["idempotency_key_reused"]
    assert await (await runtime.start(leaf, 3)).result(10) == 3


async def test_a_child_with_its_parents_id(runtime: VirtualRuntime, world: World) -> None:
    """Refused, also before the parent's own start is on disk."""
    handle = await runtime.start(named_after_itself)
    assert await handle.result(10) == "ChildFailed"


async def test_a_parked_parent_is_told_once(runtime: VirtualRuntime, world: World) -> None:
    """The end of a child that has its parent loaded is not found and told again by the loading."""
    handle = await runtime.start(parent)
    await runtime.advance(200)
    assert await handle.result() == "rested"
    assert (await kinds(runtime, handle.id)).count("child_ended") == 1


async def test_a_place_in_a_queue_that_is_left_in_the_turn_of_a_new_beginning(
    runtime: VirtualRuntime, world: World
) -> None:
    """A run begins anew and ends at once: the next in the queue is let in by that, not by whatever comes later."""
    handles = [await runtime.start(anew_once, 0, queue="one") for _ in range(2)]
    await runtime.advance(100)
    assert [await handle.status() for handle in handles] == ["completed"] * 2


async def test_ids_of_signals_are_not_kept_in_memory(runtime: VirtualRuntime, world: World) -> None:
    """Once they are durable the journal knows them; a repeat is recognised all the same."""
    handle = await runtime.start(entity)
    first = await runtime.signal(handle.id, "told", 1, signal_id="s0")
    for number in range(1, 300):
        await runtime.signal(handle.id, "told", 1, signal_id=f"s{number}")
    assert runtime.actors.coordinator.engine.active.by_id[handle.id].signal_ids == {}
    assert await runtime.signal(handle.id, "told", 1, signal_id="s0") == first


async def test_instants_beyond_the_years_that_there_are(runtime: VirtualRuntime, world: World) -> None:
    """Before the year 1 in UTC is past; after 9999 blocks the run with a sentence. Lists and streams show all."""
    early = await runtime.start(until, 14)
    late = await runtime.start(until, -12)
    await runtime.advance(1)
    assert await early.result() == "now"
    blocked = await runtime.run(late.id)
    assert blocked.error is not None
    assert "after the year 9999" in blocked.error.message
    assert len((await runtime.runs()).items) == 2
    assert await runtime.read(lambda reader: len(reader.events(0, 500))) > 4
    # what is in an older journal is told as the first or the last instant that there is
    assert rfc3339(LAST_US + 1) == rfc3339(LAST_US) == "9999-12-31T23:59:59.999999Z"
    assert rfc3339(-(10**18)) == "0001-01-01T00:00:00.000000Z"
    assert datetime.fromisoformat("0001-01-01T00:00:00Z") == datetime.min.replace(tzinfo=UTC)


async def test_a_decision_on_a_paused_run_comes_after_what_it_was_told(runtime: VirtualRuntime, world: World) -> None:
    """Paused with a step at work, told a word that ends the wait for the approval: the decision is refused as late, and
    the run goes on when it is resumed."""
    handle = await runtime.start(asks_beside_a_step)
    view = await runtime.asked(handle.id)
    await runtime.pause(handle.id)
    await runtime.signal(handle.id, "word", "x")
    with pytest.raises(ApprovalClosed, match="not awaited"):
        await runtime.decide(view.id, approve=True, by="me", reason="fine")
    await runtime.advance(10)
    await runtime.resume(handle.id)
    await runtime.advance(10)
    assert await handle.result() == "word"


class SlowReads(VirtualRuntime):
    """A runtime that takes a second to read a history."""

    def _wire(self, disk: Any) -> None:
        super()._wire(disk)
        read = self.actors.coordinator._read

        async def slowly(query: Any) -> Any:
            await trio.sleep(1)
            return await read(query)

        self.actors.coordinator._read = slowly  # type: ignore[method-assign]


async def test_a_decision_while_a_run_is_recovered(virtual_clock: trio.testing.MockClock, world: World) -> None:
    """Decided while its history is read, with a step in doubt that the kill interrupted: cut after each single record,
    the run always has something that wakes it."""
    settings = Settings(limits=Limits(batch_records_max=1))
    world.script["work"].append(HANG)
    cuts: list[int] = []
    async with trio.open_nursery() as nursery:
        runtime = SlowReads(nursery, [app], settings=settings)
        await runtime.open()
        await runtime.start(both, id="x")
        view = await runtime.asked("x")
        await world.begun["work"].wait()
        await runtime.crash()
        commit = runtime.disk.commit

        async def noted(entries: list[Entry]) -> None:
            await commit(entries)
            cuts.append(len(runtime.disk.entries))

        runtime.disk.commit = noted  # type: ignore[method-assign]
        await runtime.decide(view.id, approve=True, by="me", reason="x")
        assert await runtime.result("x", 10) == "1 True"
        entries = list(runtime.disk.entries)
        await runtime.stop()
    for cut in [each for each in cuts if each <= len(entries)]:
        async with trio.open_nursery() as nursery:
            again = VirtualRuntime(nursery, [app], settings=settings, kept=entries[:cut], start_us=entries[cut - 1].at)
            await again.open()
            await again.advance(100)
            assert await without_wake_source(again) == []
            await again.stop()
