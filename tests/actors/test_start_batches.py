"""Many starts at once: batches of all kinds of runs, a turn that ends early, and items that cannot be written down."""

from __future__ import annotations

from typing import Any

import pytest
import trio
import trio.testing
from msgspec import Raw

from actors import messages as m
from actors.errors import InvalidInput
from actors.flow.context import Context
from actors.flow.definitions import App
from actors.mailbox import Letter
from actors.run_starts import RunStarts
from runtimed.settings import Queue, Settings
from runtimed.virtual import VirtualRuntime
from tests.actors.world import WORLD, World

app = App("batches")


@app.step
async def note(name: str) -> None:
    await WORLD.act(name)


@app.workflow
async def quick(ctx: Context, name: str) -> str:
    await ctx.step(note, name)
    return name


@pytest.fixture
def runtime_settings() -> Settings:
    return Settings(queues={"one": Queue(concurrency=1), "daily": Queue(rate=1, rate_period=86_400.0)})


@pytest.fixture
async def runtime(runtime: VirtualRuntime) -> VirtualRuntime:
    """The runtime, with the workflows of this module loaded."""
    await runtime.restart(apps=[app])
    return runtime


def item(name: str, **more: Any) -> m.StartRun:
    return m.StartRun(workflow="quick", input=Raw(b'"%s"' % name.encode()), id=name, **more)


def items(letter: str, n: int, **more: Any) -> list[m.StartRun]:
    return [item(f"{letter}{index}", **more) for index in range(n)]


def starts_of(runtime: VirtualRuntime) -> RunStarts:
    handler = runtime.actors.coordinator._commands.handlers[m.StartRuns]
    starts = handler.__self__  # type: ignore[attr-defined]
    assert isinstance(starts, RunStarts)
    return starts


@pytest.mark.trio
async def test_all_kinds_in_one_batch_are_kept_apart_and_let_go(runtime: VirtualRuntime, world: World) -> None:
    """Runs that begin now, later, in a queue or both, asked for twice: each begins once, nothing stays in memory."""
    now = runtime.clock.now_us()
    batch = (
        items("now", 20)
        + items("late", 20, start_at=now + 5_000_000)
        + items("past", 5, start_at=now - 5)
        + items("queue", 20, queue="one")
        + items("both", 5, queue="one", start_at=now + 3_000_000)
        + items("daily", 5, queue="daily")
    )
    started = await runtime.ask(m.StartRuns(items=batch))
    assert all(one.created for one in started.items)
    again = await runtime.ask(m.StartRuns(items=batch))
    assert [one.run.id for one in again.items if one.run] == [one.id for one in batch]
    assert not any(one.created for one in again.items)
    await trio.sleep(10)
    assert sorted(world.names) == sorted([one.id for one in batch if one.queue != "daily"] + ["daily0"])
    assert starts_of(runtime)._undurable == {}
    assert runtime.actors.coordinator.engine.active.by_key == {}


@pytest.mark.trio
async def test_who_no_longer_waits_costs_the_others_nothing(runtime: VirtualRuntime) -> None:
    """A turn ends after some hundred records, and what it did not come to is put back, whoever waits for it or not."""
    created: dict[int, int] = {}

    async def ask(number: int, scope: trio.CancelScope | None = None) -> None:
        with scope or trio.CancelScope():
            reply = await runtime.ask(m.StartRuns(items=items(f"b{number}-", 100)))
            created[number] = sum(one.created for one in reply.items)

    async with trio.open_nursery() as nursery:
        scopes = [trio.CancelScope() for _ in range(20)]
        for number, scope in enumerate(scopes):
            nursery.start_soon(ask, number)
            nursery.start_soon(ask, 100 + number, scope)
        await trio.lowlevel.checkpoint()
        for scope in scopes:
            scope.cancel()
    assert {number: n for number, n in created.items() if number < 100} == dict.fromkeys(range(20), 100)
    assert runtime.actors.coordinator.mailbox.statistics().unanswered == 0


@pytest.mark.trio
async def test_a_crash_between_loses_no_command_that_waits(
    runtime: VirtualRuntime, world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The command that crashes the coordinator costs those before it certainty, and those behind it nothing."""
    answers: list[str] = []
    commands = runtime.actors.coordinator._commands
    handle, handled = commands.handle, []

    def failing(letter: Letter) -> None:
        handled.append(letter)
        if len(handled) == 9:
            raise RuntimeError("boom")
        handle(letter)

    async def ask(number: int) -> None:
        try:
            reply = await runtime.ask(m.StartRuns(items=items(f"c{number}-", 100)))
        except Exception as error:  # noqa: BLE001 - whatever is answered is compared
            answers.append(type(error).__name__)
        else:
            answers.append(f"{sum(one.created for one in reply.items)} created")

    monkeypatch.setattr(commands, "handle", failing)
    async with trio.open_nursery() as nursery:
        for number in range(20):
            nursery.start_soon(ask, number)
    assert len(answers) == 20  # those that were handled and not durable yet are in doubt, and told so
    assert set(answers) == {"100 created", "ActorRestarted"}
    assert answers.count("100 created") >= 20 - 9
    again = await runtime.ask(m.StartRuns(items=[one for number in range(20) for one in items(f"c{number}-", 100)]))
    assert not any(one.problem for one in again.items)
    await trio.sleep(10)
    assert len(set(world.names)) == 2_000


def deep() -> dict[str, Any]:
    nest: dict[str, Any] = {}
    for _ in range(2_000):
        nest = {"a": nest}
    return nest


@pytest.mark.trio
@pytest.mark.parametrize(
    ("more", "path"),
    [
        ({"tenant": "\ud800"}, "$.tenant"),
        ({"attributes": {"a": object()}}, "$.attributes"),
        ({"attributes": {"a": "\udc00"}}, "$.attributes"),
        ({"attributes": {"a": "x" * 3_000_000}}, "$.attributes"),
        ({"attributes": deep()}, "$.attributes"),
        ({"start_at": 10**18}, "$.start_at"),
        ({"start_at": 10**19}, "$.start_at"),
        ({"start_at": -1}, "$.start_at"),
        ({"priority": 2**63}, "$.priority"),
    ],
)
async def test_one_that_cannot_be_written_down_is_refused_alone(
    runtime: VirtualRuntime, more: dict[str, Any], path: str
) -> None:
    """The problem names the path; the items before and after it are runs."""
    reply = await runtime.ask(m.StartRuns(items=[item("before"), item("bad", **more), item("after")]))
    bad = reply.items[1].problem
    assert bad is not None
    assert (bad.code, bad.detail.partition(":")[0]) == ("invalid_input", path)
    assert [one.created for one in reply.items] == [True, False, True]


@pytest.mark.trio
async def test_an_origin_that_cannot_be_written_down_refuses_all(runtime: VirtualRuntime) -> None:
    """Who asks is on each record of the batch."""
    with pytest.raises(InvalidInput, match=r"\$\.by"):
        await runtime.ask(m.StartRuns(items=items("x", 3), origin=m.Origin(by="\ud800")))
