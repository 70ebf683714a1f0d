"""Queues: concurrency, rate and priority, as a pure table and in a runtime that is killed."""

from __future__ import annotations

from datetime import timedelta

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from actors import messages as m
from actors.active_run import ActiveRun, ActiveRuns
from actors.errors import InvalidInput
from actors.queues import Queues, QueueSpec
from runtimed import App, Context
from runtimed.settings import Limits, Queue, Settings
from runtimed.virtual import VirtualRuntime

app = App("queueing")
STARTED: list[str] = []


@app.step
async def note(name: str) -> None:
    STARTED.append(name)


@app.workflow
async def holding(ctx: Context, name: str) -> str:
    await ctx.step(note, name)
    await ctx.signal("go")
    return name


@app.workflow
async def quick(ctx: Context, name: str) -> str:
    await ctx.step(note, name)
    return name


@pytest.fixture
def runtime_app() -> App:
    return app


@pytest.fixture
def runtime_settings() -> Settings:
    return Settings(
        queues={
            "one": Queue(concurrency=1),
            "two": Queue(concurrency=2),
            "slow": Queue(rate=2, rate_period=60.0),
            "daily": Queue(rate=1, rate_period=86_400.0),
        }
    )


@pytest.fixture(autouse=True)
def _nobody_started() -> None:
    STARTED.clear()


# --- the table ------------------------------------------------------------------------------------------------------


def test_higher_priority_first_then_in_order() -> None:
    """Who has the higher priority goes first; among equals, who came first."""
    queues = Queues({"q": QueueSpec(concurrency=1)})
    for run_key, priority in ((1, 0), (2, 5), (3, 5), (4, -1)):
        queues.wait("q", run_key, priority)
    order = []
    while admitted := queues.admit(0.0):
        order += admitted
        queues.left(admitted[0])
    assert order == [2, 3, 1, 4]


def test_a_rate_lets_so_many_in_and_says_when_the_next() -> None:
    """A rate admits at most so many in its period, and tells how long the next has to wait."""
    queues = Queues({"q": QueueSpec(rate=2, rate_period=10.0)})
    for run_key in range(1, 6):
        queues.wait("q", run_key, 0)
    assert queues.admit(0.0) == [1, 2]
    assert queues.wait_s(0.0) == pytest.approx(5.0)
    assert queues.admit(5.0) == [3]
    assert queues.admit(100.0) == [4, 5]
    assert queues.wait_s(100.0) == float("inf")


def test_a_queue_that_is_no_more_limits_nothing() -> None:
    """Runs of a queue that was taken out of the configuration are not stranded."""
    queues = Queues({})
    queues.wait("gone", 1, 0)
    queues.wait("gone", 2, 0)
    assert "gone" not in queues
    assert queues.admit(0.0) == [1, 2]


@given(st.lists(st.tuples(st.sampled_from(["wait", "left", "admit"]), st.integers(1, 8), st.integers(-2, 2))))
def test_no_more_than_its_places_and_nobody_is_forgotten(acts: list[tuple[str, int, int]]) -> None:
    """Whatever comes in whatever order: never more at once than places, nobody twice, and all that wait come in."""
    queues = Queues({"q": QueueSpec(concurrency=3)})
    waiting: set[int] = set()
    active: set[int] = set()
    for act, run_key, priority in acts:
        if act == "wait":
            queues.wait("q", run_key, priority)
            waiting |= {run_key} - active
        elif act == "left":
            queues.left(run_key)
            waiting.discard(run_key)
            active.discard(run_key)
        else:
            admitted = queues.admit(0.0)
            assert len(set(admitted)) == len(admitted)
            assert set(admitted) <= waiting
            waiting -= set(admitted)
            active |= set(admitted)
            assert len(active) <= 3
            assert not waiting or len(active) == 3
    counts = queues.counts()
    assert (counts["q", "waiting"], counts["q", "active"]) == (len(waiting), len(active))


def test_so_many_are_admitted_in_one_go() -> None:
    """However many may begin, they are given out in portions, none twice and none left."""
    queues = Queues({"q": QueueSpec(concurrency=8), "r": QueueSpec()})
    for run_key in range(1, 21):
        queues.wait("q" if run_key % 2 else "r", run_key, 0)
    portions = [queues.admit(0.0, 5) for _ in range(5)]
    assert [len(portion) for portion in portions] == [5, 5, 5, 3, 0]
    assert len(set().union(*portions)) == 18


# --- in a runtime ---------------------------------------------------------------------------------------------------


@pytest.mark.trio
async def test_so_many_at_once(runtime: VirtualRuntime) -> None:
    """A queue of two places runs two; the end of one lets the next begin."""
    for name in "abcd":
        await runtime.start(holding, name, id=name, queue="two")
    await runtime.advance(1)
    assert STARTED == ["a", "b"]
    waiting = await runtime.run("c")
    assert (waiting.status, waiting.waiting_on, waiting.queue) == ("queued", "queue", "two")
    await runtime.signal("b", "go")
    await runtime.advance(1)
    assert STARTED == ["a", "b", "c"]


@pytest.mark.trio
async def test_priority_decides_who_is_next(runtime: VirtualRuntime) -> None:
    """Of those that wait the highest priority begins next."""
    await runtime.start(holding, "first", id="first", queue="one")
    await runtime.start(quick, "low", id="low", queue="one")
    await runtime.start(quick, "high", id="high", queue="one", priority=9)
    await runtime.advance(1)
    await runtime.signal("first", "go")
    await runtime.advance(1)
    assert STARTED == ["first", "high", "low"]


@pytest.mark.trio
async def test_a_rate_spreads_the_beginnings(runtime: VirtualRuntime) -> None:
    """Two a minute: five runs take a minute and a half to begin."""
    for name in "abcde":
        await runtime.start(quick, name, id=name, queue="slow")
    await runtime.advance(1)
    assert STARTED == ["a", "b"]
    await runtime.advance(60)
    assert STARTED == ["a", "b", "c", "d"]
    await runtime.advance(60)
    assert "".join(STARTED) == "abcde"


@pytest.mark.trio
async def test_a_slow_queue_does_not_keep_a_fast_one_waiting(runtime: VirtualRuntime) -> None:
    """Who waits for the rate of one queue is woken in time, whatever another queue waits for."""
    for name in "ab":
        await runtime.start(quick, name, id=name, queue="daily")
    await runtime.advance(1)
    for name in "cde":
        await runtime.start(quick, name, id=name, queue="slow")
    await runtime.advance(45)
    assert STARTED == ["a", "c", "d", "e"]


@pytest.mark.trio
async def test_a_backlog_that_is_let_go_begins_in_portions(
    runtime: VirtualRuntime, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Hundreds that may begin at once, because their queue is no more, begin within what may be in memory."""
    await runtime.start(quick, "first", id="first", queue="daily")
    spec = m.StartRun(workflow="holding", input=msgspec.Raw(b'"x"'), queue="daily")
    await runtime.ask(m.StartRuns(items=[spec] * 400, origin=m.Origin()))
    runtime._virtual_settings = Settings(limits=Limits(runs_active_max=100))
    sizes, add = [0], ActiveRuns.add

    def noted(table: ActiveRuns, run: ActiveRun) -> ActiveRun:
        sizes.append(len(table))
        return add(table, run)

    monkeypatch.setattr(ActiveRuns, "add", noted)
    await runtime.crash()
    while STARTED.count("x") < 400:
        await runtime.advance(0.001)
    assert max(sizes) <= 100


@pytest.mark.trio
async def test_one_that_is_held_in_a_queue_is_not_kept_in_memory(runtime: VirtualRuntime) -> None:
    """A paused run whose turn comes lets it pass, and leaves memory again."""
    await runtime.start(holding, "a", id="a", queue="one")
    await runtime.start(quick, "b", id="b", queue="one")
    await runtime.advance(1)
    await runtime.pause("b")
    await runtime.advance(1)
    await runtime.signal("a", "go")
    await runtime.advance(1)
    assert not runtime.actors.coordinator.engine.active.by_id


@pytest.mark.trio
async def test_places_and_turns_survive_a_kill(runtime: VirtualRuntime) -> None:
    """After a restart who had begun has its place, and who waits waits on, in the same order."""
    for name in "abcd":
        await runtime.start(holding, name, id=name, queue="two")
    await runtime.advance(1)
    await runtime.crash()
    await runtime.advance(1)
    assert STARTED == ["a", "b"]
    for name in "abcd":
        await runtime.signal(name, "go")
        await runtime.advance(1)
    assert STARTED == ["a", "b", "c", "d"]
    assert {(await runtime.run(name)).status for name in "abcd"} == {"completed"}


@pytest.mark.trio
async def test_a_queued_run_can_be_cancelled_paused_and_resumed(runtime: VirtualRuntime) -> None:
    """Cancelled, it never begins; paused, it lets others pass, and waits for its turn again when it is resumed."""
    await runtime.start(holding, "a", id="a", queue="one")
    for name in ("b", "c", "d"):
        await runtime.start(quick, name, id=name, queue="one")
    await runtime.advance(1)
    await runtime.cancel("b")
    await runtime.pause("c")
    await runtime.signal("a", "go")
    await runtime.advance(1)
    assert STARTED == ["a", "d"]
    await runtime.resume("c")
    await runtime.advance(1)
    assert STARTED == ["a", "d", "c"]
    assert (await runtime.run("b")).status == "cancelled"


@pytest.mark.trio
async def test_a_later_start_takes_its_turn_when_it_is_due(runtime: VirtualRuntime) -> None:
    """With a start time and a queue, a run waits for the one and then for the other, also over a kill."""
    now = runtime.clock.now_us()
    await runtime.start(holding, "a", id="a", queue="one")
    later = now + timedelta(minutes=5) // timedelta(microseconds=1)
    await runtime.start(quick, "b", id="b", queue="one", start_at=later)
    await runtime.advance(1)
    await runtime.crash()
    await runtime.advance(600)
    assert STARTED == ["a"]
    await runtime.signal("a", "go")
    await runtime.advance(1)
    assert STARTED == ["a", "b"]


@pytest.mark.trio
async def test_an_unknown_queue_is_refused(runtime: VirtualRuntime) -> None:
    """A queue that is not configured is a mistake of the caller's, and nothing is recorded."""
    with pytest.raises(InvalidInput, match="no queue 'tree' is configured"):
        await runtime.start(quick, "a", queue="tree")
