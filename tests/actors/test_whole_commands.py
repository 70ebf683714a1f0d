"""A command, what it brings about at once and its first answer are one commit, however large: else a kill in between
would leave what the repeat of the command does a second time."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
from msgspec import Raw

from actors import messages as m
from actors.flow.context import Context
from actors.flow.definitions import App
from actors.journal_link import _frames
from runtimed.settings import KIB, Limits, Settings
from runtimed.virtual import VirtualRuntime
from tests.actors.world import HANG, WORLD, World
from wal import records as r
from wal.protocol import FrameDecoder, decode_request
from wal.records import Entry

app = App("whole")
LARGE = 60 * KIB


@app.step(delivery="at_most_once")
async def once() -> str:
    return str(await WORLD.act("once"))


@app.workflow
async def takes(ctx: Context, text: str) -> int:
    return len(text)


@app.workflow
async def tells(ctx: Context) -> None:
    text = await ctx.signal("go", str)
    for number in range(5):
        await ctx.emit(f"{number}{text}")
    await ctx.signal("never")


@app.workflow
async def doubts(ctx: Context) -> None:
    text = await ctx.step(once)
    for number in range(5):
        await ctx.emit(f"{number}{text}")
    await ctx.signal("never")


@app.workflow
async def rests(ctx: Context) -> None:
    await ctx.sleep(10)
    for number in range(5):
        await ctx.emit(f"{number}" + "x" * LARGE)
    await ctx.signal("never")


@pytest.fixture
def runtime_settings() -> Settings:
    return Settings(limits=Limits(batch_bytes_max=100 * KIB))


def watched(runtime: VirtualRuntime) -> list[list[str]]:
    """The kinds of the records of each commit from now on, in this life."""
    found: list[list[str]] = []
    commit = runtime.disk.commit

    async def noted(entries: list[Entry]) -> None:
        found.append([entry.record.kind for entry in entries])
        await commit(entries)

    runtime.disk.commit = noted  # type: ignore[method-assign]
    return found


def asked(kind: type[Any], **fields: Any) -> Any:
    """A command with an Idempotency-Key."""
    return kind(origin=m.Origin(by="uid:1", request=m.RequestKey(principal="uid:1", key="k", digest="d")), **fields)


@pytest.mark.trio
async def test_a_batch_and_its_answer(runtime: VirtualRuntime, world: World) -> None:
    """Ten runs without ids of six times a commit's usual bytes: all there or none, and the repeat finds its answer."""
    await runtime.start(takes, "", id="before")
    batches = watched(runtime)
    item = m.StartRun(workflow="takes", input=Raw(msgspec.json.encode("x" * LARGE)))
    await runtime.ask(asked(m.StartRuns, items=[item] * 10))
    first = next(batch for batch in batches if "run_started" in batch)
    assert (first.count("run_started"), first.count("request_answered")) == (10, 1)
    await runtime.crash()
    again = await runtime.ask(asked(m.StartRuns, items=[item] * 10))
    assert len({each.run.id for each in again.items}) == 10
    assert sum(isinstance(entry.record, r.RunStarted) for entry in runtime.disk.entries) == 11


@pytest.mark.trio
async def test_a_signal_and_what_it_brings_about(runtime: VirtualRuntime, world: World) -> None:
    """A run that records much by a signal, in memory already: the answer is in the same commit."""
    handle = await runtime.start(tells)
    batches = watched(runtime)
    await runtime.ask(asked(m.SignalRun, run_id=handle.id, name="go", value=Raw(msgspec.json.encode("x" * LARGE))))
    kinds = next(batch for batch in batches if "signal_received" in batch)
    assert (kinds.count("output_emitted"), kinds.count("request_answered")) == (5, 1)


@pytest.mark.trio
async def test_a_command_that_waits_for_a_history(runtime: VirtualRuntime, world: World) -> None:
    """What is done once a run's history has been read is whole too."""
    world.script["once"].append(HANG)
    handle = await runtime.start(doubts)
    await world.begun["once"].wait()
    await runtime.crash()
    assert await runtime.status(handle.id) == "blocked"
    batches = watched(runtime)
    held = asked(m.ResolveCall, run_id=handle.id, call="0", happened=True, result=Raw(msgspec.json.encode("x" * LARGE)))
    await runtime.ask(held)
    kinds = next(batch for batch in batches if "step_resolved" in batch)
    assert (kinds.count("output_emitted"), kinds.count("request_answered")) == (5, 1)


@pytest.mark.trio
async def test_a_repeat_leaves_nothing_whole_behind_it(runtime: VirtualRuntime, world: World) -> None:
    """A repeated command records nothing, and what others record after it is bounded as ever."""
    await runtime.start(rests)
    start = asked(m.StartRuns, items=[m.StartRun(workflow="takes", input=Raw(b'""'))])
    await runtime.ask(start)
    await runtime.advance(1)
    await runtime.ask(start)
    batches = watched(runtime)
    await runtime.advance(10)
    assert max(batch.count("output_emitted") for batch in batches) < 5


def test_more_than_a_frame_takes_is_one_commit_all_the_same() -> None:
    """40 outputs of 2 MiB that a signal brought about, with its answer: several frames, of which only the last ends the
    commit."""
    big = Raw(b'"' + b"x" * (2 << 20) + b'"')
    entries = [Entry(1, 1, 0, 0, r.SignalReceived("go", Raw(b"1")))]
    entries += [Entry(n + 2, 1, n + 1, 0, r.OutputEmitted(str(n), big)) for n in range(40)]
    entries.append(Entry(42, 0, 0, 0, r.RequestAnswered("uid:1", "k", "d", 0, Raw(b"{}"))))
    decoder = FrameDecoder()
    bodies = [body for frame in _frames(entries) for body in decoder.feed(frame)]
    commits = [decode_request(body) for body in bodies]
    assert [commit.more for commit in commits] == [True] * (len(commits) - 1) + [False]
    assert len(commits) > 1
    assert [entry.seq for commit in commits for entry in commit.entries] == list(range(1, 43))
