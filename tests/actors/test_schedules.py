"""Schedules: when ticks are, and that each starts one run, whatever the clock and the daemon do."""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec
import pytest
import trio
import trio.testing
from cronsim import CronSim
from hypothesis import given
from hypothesis import strategies as st

from actors.clock import VIRTUAL_START_US
from actors.errors import DefinitionError, DuplicateName
from actors.schedules import ScheduleSpec, check, due_ticks, instant, key_of, next_tick, ticks_between
from runtimed import App, Context
from runtimed.virtual import VirtualRuntime

app = App("clockwork")
BEGAN = instant(VIRTUAL_START_US)
RUNS: list[str] = []


@app.step
async def note(id: str) -> None:
    RUNS.append(id)


@app.schedule(every=3600.0)
@app.schedule(cron="30 6 * * *", timezone="Europe/Berlin", name="mornings", input=7)
@app.workflow
async def hourly(ctx: Context, number: int | None) -> None:
    await ctx.step(note, ctx.run_id)


@app.schedule(every=3600.0, catchup="all")
@app.workflow
async def every_one(ctx: Context) -> None:
    await ctx.step(note, ctx.run_id)


@pytest.fixture
async def runtime(virtual_clock: trio.testing.MockClock) -> AsyncIterator[VirtualRuntime]:
    """A runtime whose app is there from the start: nobody starts what the clock starts."""
    async with trio.open_nursery() as nursery:
        made = VirtualRuntime(nursery, [app])
        await made.open()
        yield made
        await made.stop()


@pytest.fixture(autouse=True)
def _none_ran() -> None:
    RUNS.clear()


other = App("other")


@other.schedule(every=60.0)
@other.workflow
async def wants_input(ctx: Context, number: int) -> None: ...


def spec(**changes: Any) -> ScheduleSpec:
    return ScheduleSpec(name="s", workflow="w", **changes)


def at(text: str) -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=UTC)


def of(name: str) -> list[str]:
    return [run for run in RUNS if run.startswith(f"{name}:")]


# --- when ----------------------------------------------------------------------------------------------------------


def test_every_counts_from_1970() -> None:
    """Ticks of an interval lie at its multiples, so that a restart moves none."""
    assert next_tick(spec(every=3600.0), at("2026-03-01T10:20:00")) == at("2026-03-01T11:00:00")
    assert next_tick(spec(every=3600.0), at("2026-03-01T11:00:00")) == at("2026-03-01T12:00:00")


def test_cron_is_meant_in_its_time_zone() -> None:
    """Six in Berlin is five in UTC in winter and four in summer."""
    berlin = spec(cron="0 6 * * *", timezone="Europe/Berlin")
    assert next_tick(berlin, at("2026-01-10T00:00:00")) == at("2026-01-10T05:00:00")
    assert next_tick(berlin, at("2026-07-10T00:00:00")) == at("2026-07-10T04:00:00")


def test_in_the_hour_that_comes_twice_the_next_tick_is_ahead() -> None:
    """When summer time ends, 02:10 comes again after the tick of 02:30; the next one is that of the day after."""
    berlin = spec(cron="10,30 2 * * *", timezone="Europe/Berlin")
    for minutes in range(180):
        after = at("2026-10-25T00:00:00") + timedelta(minutes=minutes)
        tick = next_tick(berlin, after)
        assert tick is not None
        assert tick > after
    assert next_tick(berlin, at("2026-10-25T01:05:00")) == at("2026-10-26T01:10:00")
    whole = ticks_between(berlin, at("2026-10-24T12:00:00"), at("2026-10-26T12:00:00"))
    assert len(whole) == len(set(whole)) == 4


def test_a_long_absence_costs_no_walk(monkeypatch: pytest.MonkeyPatch) -> None:
    """Away for three years, a schedule of every minute looks only at the ticks that it may run."""
    steps, advance = [0], CronSim.__next__

    def counted(walk: CronSim) -> datetime:
        steps[0] += 1
        return advance(walk)

    monkeypatch.setattr(CronSim, "__next__", counted)
    minutely, now = spec(cron="* * * * *", timezone="Europe/Berlin", catchup="all"), at("2026-06-01T10:20:30")
    ticks = due_ticks(minutely, at("2023-06-01T00:00:00"), now)
    assert ticks == [at("2026-06-01T10:20:00") - timedelta(minutes=n) for n in reversed(range(1_000))]
    assert due_ticks(msgspec.structs.replace(minutely, catchup="last"), at("2023-06-01T00:00:00"), now) == ticks[-1:]
    assert steps[0] < 5_000


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({}, "either every= or cron="),
        ({"every": 60.0, "cron": "* * * * *"}, "either every= or cron="),
        ({"every": 0.0}, "not 1 second"),
        ({"cron": "61 * * * *"}, "cron '61"),
        ({"cron": "* * * * * *"}, "expected five fields"),
        ({"cron": "* * * * *", "timezone": "Mars/Olympus"}, "no time zone"),
        ({"every": 60.0, "catchup": "some"}, "catchup 'some'"),
    ],
)
def test_a_schedule_that_cannot_be_is_refused(changes: dict[str, Any], said: str) -> None:
    """A mistake in a schedule shows where it is declared, with what was expected."""
    with pytest.raises(DefinitionError, match=said):
        check(spec(**changes))


@given(st.integers(1, 10_000), st.integers(0, 500_000), st.integers(0, 50_000))
def test_ticks_tile_time(every: int, start: int, length: int) -> None:
    """However time is cut into looks, each tick lies in one of them, and none in two."""
    schedule = spec(every=float(every))
    began = at("2026-01-01T00:00:00") + timedelta(seconds=start)
    middle, end = began + timedelta(seconds=length // 3), began + timedelta(seconds=length)
    whole = ticks_between(schedule, began, end)
    if len(whole) < 1_000:
        assert ticks_between(schedule, began, middle) + ticks_between(schedule, middle, end) == whole
    assert len(whole) <= 1_000


def test_what_was_missed_is_told_by_catchup() -> None:
    """After five missed hours: the last one, all five, or none; one that is only a look late was not missed."""
    after, now = at("2026-01-01T00:10:00"), at("2026-01-01T05:10:00")
    hours = [at(f"2026-01-01T0{hour}:00:00") for hour in range(1, 6)]
    assert due_ticks(spec(every=3600.0), after, now) == hours[-1:]
    assert due_ticks(spec(every=3600.0, catchup="all"), after, now) == hours
    assert due_ticks(spec(every=3600.0, catchup="none"), after, now) == []
    assert due_ticks(spec(every=3600.0, catchup="none"), after, hours[-1] + timedelta(seconds=30)) == hours[-1:]


def test_declarations_are_checked() -> None:
    """A name given twice, what is no workflow, and an input that does not fit are refused."""
    with pytest.raises(DefinitionError, match="its input does not fit"):
        other.check()
    with pytest.raises(DuplicateName):
        other.schedule(every=60.0)(wants_input)
    with pytest.raises(DefinitionError, match="is of a workflow"):
        other.schedule(every=60.0)(len)  # type: ignore[arg-type]


# --- in a runtime ---------------------------------------------------------------------------------------------------


@pytest.mark.trio
async def test_each_tick_starts_one_run(runtime: VirtualRuntime) -> None:
    """Five hours are five runs, named by their ticks; the day's cron adds its one, with its input."""
    await runtime.advance(5 * 3600 + 60)
    hours = [f"hourly:{key_of(BEGAN + timedelta(hours=n))}" for n in range(1, 6)]
    assert of("hourly") == hours
    await runtime.advance(86_400)
    (morning,) = of("mornings")
    assert morning == f"mornings:{key_of(BEGAN.replace(hour=5, minute=30))}"
    assert msgspec.json.decode((await runtime.run(morning)).input) == 7


@pytest.mark.trio
async def test_kills_lose_and_double_no_tick(runtime: VirtualRuntime) -> None:
    """Killed again and again, a schedule that catches up all has a run for every tick, and one only."""
    for _ in range(12):
        await runtime.advance(1_700)
        await runtime.crash()
    await runtime.advance(3600)
    ticks = sorted(set(of("every_one")))
    assert ticks == [f"every_one:{key_of(BEGAN + timedelta(hours=n))}" for n in range(1, len(ticks) + 1)]
    assert len(ticks) >= 6


@pytest.mark.trio
@pytest.mark.parametrize("jump_s", [3_600.0, -3_600.0, 10 * 366 * 86_400.0])
async def test_clock_jumps_double_no_tick_and_stop_no_schedule(runtime: VirtualRuntime, jump_s: float) -> None:
    """P8: set forward, back, or ten years ahead and back again, a tick runs once and the schedule goes on."""
    await runtime.advance(3_700)
    runtime.clock.jump(jump_s)
    await runtime.advance(120)
    runtime.clock.jump(-jump_s)
    await runtime.advance(4 * 3600)
    ticks = of("hourly")
    assert len(ticks) == len(set(ticks))
    assert {f"hourly:{key_of(BEGAN + timedelta(hours=n))}" for n in range(3, 6)} <= set(ticks)


@pytest.mark.trio
async def test_paused_it_starts_nothing(runtime: VirtualRuntime) -> None:
    """A paused schedule starts nothing, says so, and tells by its catchup what becomes of that when it is resumed."""
    from actors.messages import PauseConnector, ResumeConnector

    await runtime.advance(10)
    await runtime.ask(PauseConnector(name="schedule:hourly"))
    await runtime.advance(4 * 3600)
    assert of("hourly") == []
    assert (runtime.schedule("hourly").status, runtime.schedule("hourly").next_at) == ("paused", None)
    await runtime.ask(ResumeConnector(name="schedule:hourly"))
    await runtime.advance(60)
    assert of("hourly") == [f"hourly:{key_of(BEGAN + timedelta(hours=4))}"]


@pytest.mark.trio
async def test_schedules_are_no_connectors_to_people(runtime: VirtualRuntime) -> None:
    """They are listed as schedules, with what comes next, and not among the connectors."""
    await runtime.advance(10)
    made = runtime
    assert [view.name for view in made.schedules()] == ["every_one", "hourly", "mornings"]
    assert made.connectors() == []
    view = made.schedule("hourly")
    assert (view.workflow, view.status, view.every, view.next_at) == (
        "hourly", "ok", 3600.0, f"{BEGAN + timedelta(hours=1):%Y-%m-%dT%H:%M:%S}.000000Z",
    )  # fmt: skip
