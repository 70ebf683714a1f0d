"""What the runtime promises about signals: on disk when acknowledged, buffered, in order, once for each id, typed."""

from __future__ import annotations

import pytest
import trio

from actors.errors import InvalidId, InvalidInput, RunEnded, RunNotFound
from actors.flow.context import Context
from actors.flow.definitions import App
from runtimed.settings import Limits, Settings
from runtimed.virtual import VirtualRuntime
from tests.actors.world import HANG, WORLD, World, kinds, records
from wal import records as r

app = App("signals")


@app.step
async def work() -> None:
    await WORLD.act("work")


@app.workflow
async def take_two(ctx: Context) -> list[object]:
    await ctx.step(work)
    return [await ctx.signal("a"), await ctx.signal("b"), await ctx.signal("a")]


@app.workflow(signals={"count": int})
async def count(ctx: Context) -> int:
    total = 0
    while (number := await ctx.signal("count")) >= 0:
        total += number
    return total


@app.workflow
async def undeclared(ctx: Context) -> int:
    return int(await ctx.signal("number", int))


@app.workflow
async def patient(ctx: Context) -> str:
    try:
        return str(await ctx.signal("go", str, timeout=60.0))
    except TimeoutError:
        return "nobody came"


@app.workflow
async def first_of(ctx: Context) -> str:
    name, value = await ctx.race(go=ctx.signal("go"), stop=ctx.signal("stop"), late=ctx.sleep(3600))
    return f"{name} {value}"


@pytest.mark.trio
async def test_signals_wait_until_they_are_asked_for(runtime: VirtualRuntime, world: World) -> None:
    """A signal that comes before the run asks for it is kept; each name has an order of its own."""
    world.script["work"].append(HANG)
    handle = await runtime.start(take_two)
    await world.begun["work"].wait()
    for name, value in (("b", 1), ("a", 2), ("a", {"three": 3})):
        await runtime.signal(handle.id, name, value)
    await runtime.crash()
    assert await handle.result() == [2, 1, {"three": 3}]


@pytest.mark.trio
async def test_an_acknowledged_signal_is_on_disk(runtime: VirtualRuntime) -> None:
    """When `signal` returns, its record can be read under the seq that it gave, and a kill does not lose it."""
    handle = await runtime.start(patient)
    await runtime.advance(1)
    seq = await runtime.signal(handle.id, "go", "now")
    entry = next(entry for entry in runtime.disk.entries if entry.seq == seq)
    assert isinstance(entry.record, r.SignalReceived) and entry.record.name == "go"
    runtime.disk.entries = runtime.disk.entries[:seq]
    await runtime.crash()
    assert await handle.result() == "now"


@pytest.mark.trio
async def test_a_signal_with_an_id_counts_once(runtime: VirtualRuntime) -> None:
    """The repeat of a `signal_id` gets the first one's answer: at once, after a crash, and after the run has ended."""
    handle = await runtime.start(count)
    await runtime.advance(1)
    seq = await runtime.signal(handle.id, "count", 5, signal_id="s1")
    assert await runtime.signal(handle.id, "count", 5, signal_id="s1") == seq
    await runtime.crash()
    assert await runtime.signal(handle.id, "count", 5, signal_id="s1") == seq
    await runtime.signal(handle.id, "count", -1, signal_id="end")
    assert await handle.result() == 5
    assert await runtime.signal(handle.id, "count", 5, signal_id="s1") == seq
    assert (await kinds(runtime, handle.id)).count("signal_received") == 2


@pytest.mark.trio
async def test_one_id_sent_many_times_at_once_counts_once(runtime: VirtualRuntime) -> None:
    """Fifty repeats in one batch are one signal."""
    handle = await runtime.start(count)
    seqs: set[int] = set()

    async def send() -> None:
        seqs.add(await runtime.signal(handle.id, "count", 1, signal_id="s1"))

    async with trio.open_nursery() as nursery:
        for _ in range(50):
            nursery.start_soon(send)
    await runtime.signal(handle.id, "count", -1)
    assert (len(seqs), await handle.result()) == (1, 1)


@pytest.mark.trio
async def test_a_declared_signal_is_checked_at_the_door(runtime: VirtualRuntime) -> None:
    """A wrong type is refused with its path, and records nothing."""
    handle = await runtime.start(count)
    await runtime.advance(1)
    before = await kinds(runtime, handle.id)
    with pytest.raises(InvalidInput, match=r"signal 'count': Expected `int`, got `str` - at `\$.value`"):
        await runtime.signal(handle.id, "count", "five")
    with pytest.raises(InvalidId):
        await runtime.signal(handle.id, "no name", 1)
    with pytest.raises(InvalidId):
        await runtime.signal(handle.id, "count", 1, signal_id="")
    assert await kinds(runtime, handle.id) == before
    await runtime.signal(handle.id, "count", -1)
    assert await handle.result() == 0


@pytest.mark.trio
@pytest.mark.parametrize("early", [False, True], ids=["while it waits", "before it begins"])
async def test_a_signal_that_does_not_decode_is_set_aside(runtime: VirtualRuntime, early: bool) -> None:
    """An undeclared signal of the wrong type becomes a record, and the wait goes on."""
    later = runtime.clock.now_us() + 60_000_000 if early else None
    handle = await runtime.start(undeclared, start_at=later)
    await runtime.signal(handle.id, "number", "seven")
    await runtime.signal(handle.id, "number", 7)
    assert await handle.result() == 7
    aside = [one for one in await records(runtime, handle.id) if isinstance(one, r.SignalSetAside)]
    assert [one.name for one in aside] == ["number"]
    assert "Expected `int`" in aside[0].error


@pytest.mark.trio
async def test_a_wait_may_time_out(runtime: VirtualRuntime) -> None:
    """`ctx.signal(timeout=...)` raises a TimeoutError when nobody signals; a signal in time cancels the timer."""
    assert await (await runtime.start(patient)).result() == "nobody came"
    assert trio.current_time() == pytest.approx(60.0)
    handle = await runtime.start(patient)
    await runtime.advance(59)
    await runtime.signal(handle.id, "go", "in time")
    assert await handle.result() == "in time"
    assert (await runtime.read(lambda reader: reader.due_timers())) == []


@pytest.mark.trio
async def test_a_race_takes_what_comes_first(runtime: VirtualRuntime) -> None:
    """Of several waits the first to be answered wins, and the others leave nothing behind."""
    handle = await runtime.start(first_of)
    await runtime.advance(1)
    found = await runtime.run(handle.id)
    assert (found.waiting_on, found.waiting_until) == ("signal", "2026-01-01T01:00:00.000000Z")
    await runtime.signal(handle.id, "stop", 1)
    assert await handle.result() == "stop 1"
    assert (await runtime.read(lambda reader: reader.due_timers())) == []
    assert await (await runtime.start(first_of)).result() == "late None"


@pytest.mark.trio
async def test_an_ended_or_unknown_run_takes_no_signal(runtime: VirtualRuntime) -> None:
    """409 `run_ended`, 404 `run_not_found`."""
    handle = await runtime.start(patient)
    await runtime.signal(handle.id, "go", "now")
    await handle.result()
    with pytest.raises(RunEnded):
        await runtime.signal(handle.id, "go", "again")
    await runtime.crash()
    with pytest.raises(RunEnded, match="completed"):
        await runtime.signal(handle.id, "go", "again", signal_id="new")
    with pytest.raises(RunNotFound):
        await runtime.signal("nobody", "go")


class TestParking:
    """With runs put away after a second of waiting."""

    @pytest.fixture
    def runtime_settings(self) -> Settings:
        return Settings(limits=Limits(park_after=1.0))

    @pytest.mark.trio
    async def test_a_parked_run_holds_no_memory_and_wakes(self, runtime: VirtualRuntime) -> None:
        """A run that waits is put away, and a signal brings it back as it was."""
        handle = await runtime.start(count)
        for _ in range(3):
            await runtime.signal(handle.id, "count", 2)
            await runtime.advance(30)
            figures = runtime.actors.coordinator.statistics()
            assert (figures.active, figures.idle) == (0, 0)
        assert runtime.actors.coordinator.statistics().parked_total >= 3
        await runtime.signal(handle.id, "count", -1)
        assert await handle.result() == 6

    @pytest.mark.trio
    async def test_a_timer_wakes_a_parked_run(self, runtime: VirtualRuntime) -> None:
        """A wait that times out, and the race of a signal against a timer, also when parked."""
        patience, race = await runtime.start(patient), await runtime.start(first_of)
        await runtime.advance(30)
        assert runtime.actors.coordinator.statistics().active == 0
        assert await patience.result() == "nobody came"
        await runtime.signal(race.id, "go", 3)
        assert await race.result() == "go 3"

    @pytest.mark.trio
    async def test_many_signals_at_once_to_a_parked_run(self, runtime: VirtualRuntime) -> None:
        """What arrives while a run is being loaded is not lost and not reordered."""
        handle = await runtime.start(count)
        await runtime.advance(30)
        async with trio.open_nursery() as nursery:
            for number in range(1, 101):
                nursery.start_soon(runtime.signal, handle.id, "count", number)
        await runtime.signal(handle.id, "count", -1)
        assert await handle.result() == 5050
