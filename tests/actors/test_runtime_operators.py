"""What people do to runs survives a kill after every commit: pause, resume, retry, resolve, cancel, close a session.

Each scenario is played once; then the journal is cut after each of its commits, a fresh runtime goes on from there, and
everybody repeats what they had asked for, under the same idempotency keys. The run must end as it did.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import msgspec
import pytest
import trio
import trio.testing
from msgspec import Raw

from actors import messages as m
from actors.clock import VIRTUAL_START_US
from actors.errors import Failure
from actors.flow.context import Context
from actors.flow.definitions import App, Retry, Workflow
from runtimed.virtual import VirtualRuntime
from tests.actors.world import without_wake_source
from wal import records as r
from wal.records import Entry

app = App("operators")
ONCE = Retry(max_attempts=1)
MENDED_AT = 50.0
NOW: list[VirtualRuntime] = []


def is_mended() -> bool:
    """Whether, in the time of the play, somebody has repaired what was broken."""
    return (NOW[-1].clock.now_us() - VIRTUAL_START_US) / 1e6 >= MENDED_AT


class Refused(Failure):
    """The business said no."""


@app.step(retry=ONCE)
async def charge(cents: int) -> str:
    return f"charged {cents}"


@charge.compensation(retry=ONCE)
async def refund(charged: str, cents: int) -> None:
    if not is_mended():
        raise OSError("the bank is closed")


@app.step(retry=ONCE)
async def reserve() -> str:
    return "reserved"


@reserve.compensation(retry=ONCE)
async def release(reserved: str) -> None:
    await trio.sleep(1)


@app.step(retry=Retry(max_attempts=10, initial_interval=7.0, jitter=0.0))
async def slow() -> str:
    await trio.sleep(3)
    return "slow"


@app.workflow
async def in_order(ctx: Context) -> list[Any]:
    seen = [await ctx.signal("n"), await ctx.step(slow), await ctx.signal("n")]
    await ctx.sleep(5)
    return [*seen, await ctx.signal("n")]


@app.workflow
async def with_a_bug(ctx: Context) -> list[Any]:
    charged = await ctx.step(charge, 5)
    if not is_mended():  # the code is changed later: what it does until then is a bug
        raise RuntimeError("a bug")
    return [charged, await ctx.signal("n"), await ctx.signal("n")]


@app.workflow
async def undone(ctx: Context) -> None:
    await ctx.step(reserve)
    await ctx.step(charge, 5)
    await ctx.step(reserve)
    raise Refused("no")


@app.workflow
async def waiting(ctx: Context) -> None:
    await ctx.step(reserve)
    await ctx.gather(ctx.signal("never"), ctx.sleep(3_600), ctx.step(slow))


class Act(NamedTuple):
    """What somebody asks for, at so many seconds from the start."""

    at: float
    command: m.Message


def signal(at: float, value: int) -> Act:
    return Act(at, m.SignalRun(run_id="r", name="n", value=Raw(msgspec.json.encode(value))))


PAUSE, RESUME, RETRY = m.PauseRun(run_id="r"), m.ResumeRun(run_id="r"), m.RetryRun(run_id="r")
CANCEL = m.CancelRun(run_id="r", reason="enough")

SCENARIOS: dict[str, tuple[Workflow, list[Act], str]] = {
    "signals while paused": (
        in_order, [Act(1, PAUSE), signal(2, 1), signal(3, 2), Act(10, RESUME), signal(40, 3)], "completed",
    ),
    "paused in a step": (
        in_order, [signal(1, 1), Act(2, PAUSE), signal(3, 2), Act(20, RESUME), signal(40, 3)], "completed",
    ),
    "paused over a timer": (
        in_order, [signal(1, 1), signal(2, 2), Act(5, PAUSE), signal(6, 3), Act(30, RESUME)], "completed",
    ),
    "a defect, mended": (with_a_bug, [signal(5, 1), Act(60, RETRY), signal(70, 2)], "completed"),
    "a defect, retried in vain, paused": (
        with_a_bug, [Act(10, RETRY), Act(20, PAUSE), signal(30, 1), Act(60, RETRY), signal(65, 2), Act(70, RESUME)],
        "completed",
    ),
    "a defect, cancelled": (with_a_bug, [signal(5, 1), Act(60, CANCEL)], "cancelled"),
    "an undo that failed, retried": (undone, [Act(20, RETRY), Act(60, RETRY)], "failed"),
    "an undo that failed, done by hand": (
        undone, [Act(20, m.ResolveCall(run_id="r", call="1!", happened=True))], "failed",
    ),
    "an undo that failed, not done by hand": (
        undone, [Act(60, m.ResolveCall(run_id="r", call="1!", happened=False))], "failed",
    ),
    "cancelled while paused": (waiting, [Act(1, PAUSE), Act(60, CANCEL)], "cancelled"),
    "cancelled, then paused and resumed": (waiting, [Act(60, CANCEL), Act(60.5, PAUSE), Act(90, RESUME)], "cancelled"),
    "its session closed": (waiting, [Act(60, m.CloseSession(id="s"))], "cancelled"),
    "its session closed while it is paused": (waiting, [Act(10, PAUSE), Act(60, m.CloseSession(id="s"))], "cancelled"),
}  # fmt: skip


class Played(NamedTuple):
    ending: tuple[Any, ...]
    entries: list[Entry]
    commits: list[int]


def play(workflow: Workflow, acts: list[Act], kept: list[Entry]) -> Played:
    return trio.run(_play, workflow, acts, kept, clock=trio.testing.MockClock(autojump_threshold=0))


async def _play(workflow: Workflow, acts: list[Act], kept: list[Entry]) -> Played:
    start_us = kept[-1].at if kept else VIRTUAL_START_US
    async with trio.open_nursery() as nursery:
        runtime = VirtualRuntime(nursery, [app], kept=kept, start_us=start_us)
        NOW.append(runtime)
        commits = [len(kept)]
        commit = runtime.disk.commit

        async def note(entries: list[Entry]) -> None:
            await commit(entries)
            commits.append(len(runtime.disk.entries))

        runtime.disk.commit = note  # type: ignore[method-assign]
        await runtime.open()
        await ask(runtime, "open", m.OpenSession(id="s", on_close="cancel"))
        await ask(runtime, "start", m.StartRuns(items=[m.StartRun(workflow=workflow.name, id="r", session_id="s")]))
        for number, act in enumerate(acts):
            await trio.sleep(max(0.0, act.at - (runtime.clock.now_us() - VIRTUAL_START_US) / 1e6))
            await ask(runtime, f"{number}", act.command)
        found = await runtime.settled("r", 100_000)
        lost = await without_wake_source(runtime)
        entries = list(runtime.disk.entries)
        await runtime.stop()
    undone = sorted(e.record.key for e in entries if isinstance(e.record, r.CompensationCompleted))
    error = None if found.error is None else (found.error.type, found.error.message)
    return Played((found.status, bytes(found.result), error, undone, lost), entries, commits)


async def ask(runtime: VirtualRuntime, key: str, command: Any) -> None:
    request = m.RequestKey(principal="uid:1", key=key, digest="")
    await runtime.ask(msgspec.structs.replace(command, origin=m.Origin(by="uid:1", request=request)))


@pytest.mark.slow
@pytest.mark.parametrize("name", SCENARIOS)
def test_what_people_do_survives_a_kill_after_every_commit(name: str) -> None:
    """Whatever commit is the last before a kill, the run ends as it did undisturbed, and nothing waits for ever."""
    workflow, acts, status = SCENARIOS[name]
    undisturbed = play(workflow, acts, [])
    assert (undisturbed.ending[0], undisturbed.ending[4]) == (status, [])
    for commit in undisturbed.commits:
        kept = undisturbed.entries[:commit]
        last = kept[-1].record.kind if kept else "nothing"
        ending = play(workflow, acts, kept).ending
        assert ending == undisturbed.ending, f"killed after commit {commit} ({last})"
