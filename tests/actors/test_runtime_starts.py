"""What the runtime promises about starting runs: acknowledged is on disk, an id is one run, a refusal has no trace."""

from __future__ import annotations

from collections import Counter
from typing import Any

import msgspec
import pytest
import trio
from msgspec import Raw

from actors import messages as m
from actors.errors import (
    IdConflict,
    InvalidId,
    InvalidInput,
    KeyReused,
    MailboxFull,
    PayloadTooLarge,
    RunBlocked,
    RunNotFound,
    UnknownWorkflow,
)
from actors.flow.context import Context
from actors.flow.definitions import App
from runtimed.settings import Limits, Settings
from runtimed.virtual import VirtualRuntime
from tests.actors.world import HANG, WORLD, World, kinds

app = App("starts")


class Order(msgspec.Struct, frozen=True):
    id: str
    cents: int = 0


@app.step
async def take(text: str) -> str:
    return str(await WORLD.act("take", result=text))


@app.step
async def large(size: int) -> str:
    return "x" * size


@app.workflow
async def buy(ctx: Context, order: Order) -> str:
    return str(await ctx.step(take, order.id))


@app.workflow
async def sell(ctx: Context, order: Order) -> str:
    return "sold"


@app.workflow
async def nothing(ctx: Context) -> str:
    return ctx.now().isoformat()


@app.workflow(signals={"go": str})
async def await_go(ctx: Context) -> str:
    return str(await ctx.signal("go"))


@app.workflow
async def carry(ctx: Context, what: str) -> None:
    text = "x" * 2_000
    if what == "args":
        await ctx.step(take, text)
    elif what == "result":
        await ctx.step(large, 2_000)
    elif what == "state":
        await ctx.state.put("k", text)
    elif what == "emit":
        await ctx.emit(text)
    else:
        ctx.set_attributes(text=text)


@app.workflow
async def echo(ctx: Context, text: str) -> str:
    return text * 2_000


@pytest.mark.trio
async def test_an_acknowledged_start_is_on_disk(runtime: VirtualRuntime, world: World) -> None:
    """When `start` returns, a reader sees the run, and a kill at that instant does not lose it."""
    world.script["take"].append(HANG)
    handle = await runtime.start(buy, Order("A-1", 5), id="order-1")
    entries = len(runtime.disk.entries)
    assert (await runtime.run("order-1")).input == Raw(b'{"id":"A-1","cents":5}')
    runtime.disk.entries = runtime.disk.entries[:entries]
    await runtime.crash()
    assert await handle.result() == "A-1"


@pytest.mark.trio
async def test_a_second_start_finds_the_first(runtime: VirtualRuntime, world: World) -> None:
    """The same id with the same decoded input is the same run, however the input is written down, running or ended."""
    first = await runtime.start(buy, Order("A-1"), id="r")
    again = await runtime.start(buy, {"cents": 0, "id": "A-1"}, id="r")
    assert (first.created, again.created) == (True, False)
    await first.result()
    ended = await runtime.start("buy", {"id": "A-1"}, id="r")
    assert (ended.created, await ended.result()) == (False, "A-1")
    await runtime.crash()
    assert not (await runtime.start(buy, Order("A-1"), id="r")).created
    assert world.names == ["take"]


@pytest.mark.trio
async def test_starts_of_one_id_at_once_make_one_run(runtime: VirtualRuntime, world: World) -> None:
    """A hundred starts at once: one is created, the others find it."""
    created: list[bool] = []
    await runtime.start(nothing)

    async def start() -> None:
        created.append((await runtime.start(buy, Order("A-1"), id="r")).created)

    async with trio.open_nursery() as nursery:
        for _ in range(100):
            nursery.start_soon(start)
    assert Counter(created) == {True: 1, False: 99}
    assert world.names == ["take"]


@pytest.mark.trio
async def test_an_id_with_other_input_is_a_conflict(runtime: VirtualRuntime, world: World) -> None:
    """The same id with another input, or another workflow, is refused and records nothing."""
    handle = await runtime.start(buy, Order("A-1"), id="r")
    await handle.result()
    before = runtime.actors.writer.seq
    with pytest.raises(IdConflict, match="another input"):
        await runtime.start(buy, Order("A-2"), id="r")
    with pytest.raises(IdConflict, match="another workflow"):
        await runtime.start(sell, Order("A-1"), id="r")
    assert runtime.actors.writer.seq == before


@pytest.mark.trio
async def test_default_ids_are_in_order_of_time(runtime: VirtualRuntime) -> None:
    """Ids that the runtime gives are different, and sort as they were given."""
    ids = [(await runtime.start(nothing)).id for _ in range(20)]
    assert len(set(ids)) == 20
    assert [each[:13] for each in ids] == sorted(each[:13] for each in ids)


@pytest.mark.trio
@pytest.mark.parametrize(
    ("workflow", "input", "id", "error", "text"),
    [
        ("buy", {"id": 1}, None, InvalidInput, r"Expected `str`, got `int` - at `\$.input.id`"),
        ("buy", None, None, InvalidInput, r"Expected `object`, got `null` - at `\$.input`"),
        ("nothing", {"a": 1}, None, InvalidInput, r"Expected `null`"),
        ("buy", {"id": "A"}, "no/slash", InvalidId, "1 to 200 characters"),
        ("buy", {"id": "A"}, "", InvalidId, "1 to 200 characters"),
        ("buy", {"id": "A"}, "x" * 201, InvalidId, "1 to 200 characters"),
        ("bye", {"id": "A"}, None, UnknownWorkflow, "no workflow 'bye'"),
    ],
)
async def test_a_wrong_start_is_refused_and_leaves_no_trace(
    runtime: VirtualRuntime, workflow: str, input: Any, id: str | None, error: type[Exception], text: str
) -> None:
    """Each mistake is named with its path and what was expected; no record is written."""
    await (await runtime.start(nothing)).result()
    before = runtime.actors.writer.seq
    with pytest.raises(error, match=text):
        await runtime.start(workflow, input, id=id)
    assert runtime.actors.writer.seq == before


@pytest.mark.trio
async def test_a_batch_answers_item_by_item(runtime: VirtualRuntime, world: World) -> None:
    """Runs of one batch start in one commit; an item that is wrong is refused alone, in its place."""
    items = [
        m.StartRun(workflow="buy", input=Raw(b'{"id":"A"}'), id="a"),
        m.StartRun(workflow="buy", input=Raw(b'{"id":7}'), id="b"),
        m.StartRun(workflow="buy", input=Raw(b'{"id":"A"}'), id="a"),
        m.StartRun(workflow="buy", input=Raw(b'{"id":"C"}'), id="a"),
        m.StartRun(workflow="buy", input=Raw(b'{"id":"D"}'), id="d"),
    ]
    await runtime.start(nothing)
    replied: m.StartedRuns = await runtime.ask(m.StartRuns(items=items))
    told = [(item.created, item.problem.code if item.problem else None) for item in replied.items]
    assert told == [(True, None), (False, "invalid_input"), (False, None), (False, "id_conflict"), (True, None)]
    assert [await runtime.result(run_id) for run_id in ("a", "d")] == ["A", "D"]
    with pytest.raises(RunNotFound):
        await runtime.run("b")


@pytest.mark.trio
async def test_a_run_may_start_later(runtime: VirtualRuntime) -> None:
    """With `start_at` a run is queued until then; the instant at which it begins is its first `now`."""
    at = runtime.clock.now_us() + 3_600_000_000
    handle = await runtime.start(nothing, start_at=at)
    found = await runtime.run(handle.id)
    assert (found.status, found.waiting_on, found.waiting_until) == ("queued", "timer", "2026-01-01T01:00:00.000000Z")
    assert await handle.result() == "2026-01-01T01:00:00+00:00"


@pytest.mark.trio
async def test_a_later_start_survives_a_crash(runtime: VirtualRuntime) -> None:
    """It begins when it is due, or at once where the daemon was down then; and only once."""
    at = runtime.clock.now_us() + 3_600_000_000
    ahead = await runtime.start(nothing, start_at=at)
    await runtime.crash(downtime=60)
    missed = await runtime.start(nothing, start_at=at)
    await runtime.crash(downtime=2 * 3600)
    assert await ahead.result() == await missed.result() == "2026-01-01T02:01:00+00:00"
    assert (await kinds(runtime, ahead.id)).count("timer_fired") == 1


@pytest.mark.trio
async def test_a_signal_to_a_queued_run_is_kept(runtime: VirtualRuntime) -> None:
    """What arrives before a run has begun waits for it, also over a crash."""
    handle = await runtime.start(await_go, start_at=runtime.clock.now_us() + 3_600_000_000)
    await runtime.signal(handle.id, "go", "first")
    await runtime.crash()
    await runtime.signal(handle.id, "go", "second")
    assert await handle.status() == "queued"
    assert await handle.result() == "first"


# --- idempotency keys


def keyed(key: str, *ids: str, digest: str = "d", principal: str = "uid:1") -> m.StartRuns:
    items = [m.StartRun(workflow="buy", input=Raw(b'{"id":"A"}'), id=id) for id in ids]
    return m.StartRuns(items=items, origin=m.Origin(request=m.RequestKey(principal=principal, key=key, digest=digest)))


@pytest.mark.trio
async def test_a_repeated_key_gets_the_first_answer(runtime: VirtualRuntime, world: World) -> None:
    """The repeat of a request under its key is answered as the first was, at once, later, and after a crash."""
    await runtime.start(nothing)
    command = m.StartRuns(
        items=[m.StartRun(workflow="buy", input=Raw(b'{"id":"A"}'))],
        origin=m.Origin(request=m.RequestKey(principal="uid:1", key="k", digest="d")),
    )
    answers: list[m.StartedRuns] = []

    async def ask() -> None:
        answers.append(await runtime.ask(command))

    async with trio.open_nursery() as nursery:
        for _ in range(10):
            nursery.start_soon(ask)
    await ask()
    await runtime.crash()
    await ask()
    first = answers[0]
    assert first.items[0].created
    assert [answer == first for answer in answers] == [True] * 12
    assert world.names == ["take"]


@pytest.mark.trio
async def test_a_key_stands_for_one_request(runtime: VirtualRuntime) -> None:
    """Another request under a used key is refused; another principal's key is another key."""
    await runtime.start(nothing)
    await runtime.ask(keyed("k", "a"))
    with pytest.raises(KeyReused):
        await runtime.ask(keyed("k", "b", digest="other"))
    with pytest.raises(RunNotFound):
        await runtime.run("b")
    assert (await runtime.ask(keyed("k", "b", digest="other", principal="uid:2"))).items[0].created


@pytest.mark.trio
async def test_a_refusal_uses_no_key_up(runtime: VirtualRuntime) -> None:
    """An error means that no record was written: the key is still free."""
    await runtime.start(nothing)
    request = m.RequestKey(principal="uid:1", key="k", digest="d")
    with pytest.raises(RunNotFound):
        await runtime.ask(m.CancelRun(run_id="nobody", origin=m.Origin(request=request)))
    wrong = m.StartRuns(items=[m.StartRun(workflow="bye")], origin=m.Origin(request=request))
    assert (await runtime.ask(wrong)).items[0].problem.code == "unknown_workflow"
    assert (await runtime.ask(keyed("k", "a"))).items[0].created


# --- limits


class TestSmallPayloads:
    """With a limit of 1 KiB on payloads."""

    @pytest.fixture
    def runtime_settings(self) -> Settings:
        return Settings(limits=Limits(payload_max_bytes=1024))

    @pytest.mark.trio
    async def test_what_comes_in_is_refused(self, runtime: VirtualRuntime) -> None:
        """A large input, signal or state value is refused at the door; nothing is recorded."""
        handle = await runtime.start(await_go)
        await runtime.advance(0)
        before = runtime.actors.writer.seq
        text = "x" * 2_000
        with pytest.raises(PayloadTooLarge):
            await runtime.start(echo, text)
        with pytest.raises(PayloadTooLarge):
            await runtime.signal(handle.id, "go", text)
        with pytest.raises(PayloadTooLarge):
            await runtime.ask(m.PutState(scope="global", key="k", value=Raw(msgspec.json.encode(text))))
        assert runtime.actors.writer.seq == before

    @pytest.mark.trio
    @pytest.mark.parametrize("what", ["args", "result", "state", "emit", "attributes"])
    async def test_what_code_makes_is_refused_where_it_is_made(self, runtime: VirtualRuntime, what: str) -> None:
        """Large arguments, results, state, output or attributes raise PayloadTooLarge; uncaught, a defect."""
        handle = await runtime.start(carry, what)
        with pytest.raises(RunBlocked, match=r"PayloadTooLarge|over 1024"):
            await handle.result()

    @pytest.mark.trio
    async def test_a_large_result_of_a_run_is_a_defect(self, runtime: VirtualRuntime) -> None:
        """A workflow that returns too much is blocked, not failed."""
        handle = await runtime.start(echo, "x")
        with pytest.raises(RunBlocked, match="PayloadTooLarge"):
            await handle.result()


class TestSmallMailbox:
    """With room for four commands."""

    @pytest.fixture
    def runtime_settings(self) -> Settings:
        return Settings(limits=Limits(mailbox_size=4))

    @pytest.mark.trio
    async def test_overload_is_refused_not_suffered(self, runtime: VirtualRuntime) -> None:
        """Beyond its limit a mailbox refuses; what was accepted is done, and later there is room again."""
        await runtime.start(nothing)
        told: list[str] = []

        async def start() -> None:
            try:
                told.append((await runtime.start(nothing)).id)
            except MailboxFull:
                told.append("full")

        async with trio.open_nursery() as nursery:
            for _ in range(20):
                nursery.start_soon(start)
        assert told.count("full") == 16
        for run_id in set(told) - {"full"}:
            await runtime.result(run_id)
        assert (await runtime.start(nothing)).created


class TestFewActive:
    """With room for five runs in memory."""

    @pytest.fixture
    def runtime_settings(self) -> Settings:
        return Settings(limits=Limits(runs_active_max=5))

    @pytest.mark.trio
    @pytest.mark.parametrize("crashed", [False, True], ids=["live", "after a crash"])
    async def test_many_runs_end_in_little_memory(self, runtime: VirtualRuntime, world: World, crashed: bool) -> None:
        """Two hundred runs of a batch all end, a few at a time."""
        await runtime.start(nothing)
        items = [m.StartRun(workflow="buy", input=Raw(b'{"id":"A"}'), id=f"r{i}") for i in range(200)]
        await runtime.ask(m.StartRuns(items=items))
        if crashed:
            await runtime.crash()
        with trio.fail_after(3600):
            for i in range(200):
                assert await runtime.result(f"r{i}") == "A"
        assert runtime.actors.coordinator.statistics().active <= 5

    @pytest.mark.trio
    async def test_many_waiting_runs_end_in_little_memory(self, runtime: VirtualRuntime) -> None:
        """Two hundred runs that wait for a signal are put away and come back."""
        await runtime.start(nothing)
        items = [m.StartRun(workflow="await_go", id=f"w{i}") for i in range(200)]
        await runtime.ask(m.StartRuns(items=items))
        await runtime.advance(60)
        assert (await runtime.read(lambda reader: reader.counts()))["await_go", "waiting"] == 200
        for i in range(200):
            await runtime.signal(f"w{i}", "go", f"{i}")
        assert [await runtime.result(f"w{i}") for i in range(200)] == [f"{i}" for i in range(200)]


@pytest.mark.trio
async def test_a_start_found_again_is_shown_as_it_stands(runtime: VirtualRuntime) -> None:
    """Found in the very batch that made it, or later, a queued run is told as queued, with what it was given."""
    later = runtime.clock.now_us() + 60_000_000
    item = m.StartRun(workflow="nothing", id="q", start_at=later, priority=3, attributes={"colour": "red"})
    await runtime.start(nothing)
    replied: m.StartedRuns = await runtime.ask(m.StartRuns(items=[item, item]))
    again: m.StartedRuns = await runtime.ask(m.StartRuns(items=[item]))
    for found in (*replied.items, *again.items):
        assert found.run is not None
        assert (found.run.status, found.run.priority, found.run.attributes) == ("queued", 3, {"colour": "red"})
