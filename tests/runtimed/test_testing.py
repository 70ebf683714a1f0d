"""The testing kit, as its users see it: the fixture, and the crash-point tester's report."""

from __future__ import annotations

import asyncio
import time

import pytest
import trio

from actors.current_step import current_step
from actors.errors import InvalidInput
from actors.flow.context import Context
from actors.flow.definitions import App, Retry
from runtimed.testing import CrashReport, SendSignal, VirtualRuntime, crash_everywhere

pytest_plugins = ["runtimed.testing"]

app = App("kit")
ATTEMPTS: list[int] = []
COUNT = {"starts": 0}


@app.step
async def charge(cents: int) -> str:
    return f"charged {cents}"


@app.step
def print_label(name: str) -> str:
    time.sleep(0.02)
    return name.upper()


@app.step(retry=Retry(max_attempts=3, initial_interval=1.0, jitter=0.0))
async def flaky() -> int:
    if current_step().attempt < 3:
        raise OSError("not yet")
    return 3


@app.workflow
async def checkout(ctx: Context, cents: int) -> str:
    charged = await ctx.step(charge, cents)
    await ctx.sleep(30 * 86_400)
    return f"{charged}, {await ctx.signal('go', str)}"


@app.workflow
async def label(ctx: Context) -> list[str]:
    name, _ = await ctx.race(label=ctx.step(print_label, "ann"), late=ctx.sleep(5))
    return [name]


@app.workflow
async def retrying(ctx: Context) -> int:
    return int(await ctx.step(flaky))


@app.workflow
async def forgetful(ctx: Context) -> int:
    """A workflow as it must not be: what it does depends on something that is not recorded."""
    COUNT["starts"] += 1
    await ctx.sleep(COUNT["starts"])
    return COUNT["starts"]


@app.workflow
async def never_ending(ctx: Context) -> None:
    await ctx.signal("never")


async def test_a_month_passes_in_milliseconds(runtime: VirtualRuntime) -> None:
    """`ctx.sleep(30 days)` costs no real time; signals and crashes fall where the test puts them."""
    began = time.perf_counter()
    handle = await runtime.start(checkout, 990)
    await runtime.advance(29 * 86_400)
    assert await handle.status() == "waiting"
    await runtime.crash(downtime=3_600)
    await runtime.advance(86_400)
    assert (await runtime.run(handle.id)).waiting_on == "signal"
    await runtime.signal(handle.id, "go", "shipped")
    assert await handle.result() == "charged 990, shipped"
    assert time.perf_counter() - began < 60.0  # some milliseconds, and what the machine adds to them
    assert [(each.step, each.attempt) for each in runtime.executed] == [("charge", 1)]


async def test_a_thread_takes_no_virtual_time(runtime: VirtualRuntime) -> None:
    """While a `def` step works, the virtual clock stands still: no timer overtakes it."""
    assert await (await runtime.start(label)).result() == ["label"]
    assert trio.current_time() == 0.0


async def test_a_crash_ends_everything_at_once(runtime: VirtualRuntime) -> None:
    """What was not on disk is gone, what was goes on, and nobody is told an untruth."""
    handle = await runtime.start(checkout, 990)
    entries = len(runtime.disk.entries)
    await runtime.crash()
    kinds = [entry.record.kind for entry in runtime.disk.entries]
    assert "daemon_stopped" not in kinds[2:]  # the first is of the runtime that the app was loaded into
    assert len(kinds) > entries
    await runtime.cancel(handle.id)
    assert (await runtime.settled(handle.id, None)).status == "cancelled"


class TestNamedApps:
    """With an app registered beforehand."""

    @pytest.fixture
    def runtime_app(self) -> App:
        return app

    async def test_a_workflow_by_its_name(self, runtime: VirtualRuntime) -> None:
        """`runtime_app` overridden, workflows are started by name."""
        assert await (await runtime.start("retrying")).result() == 3


@pytest.mark.trio
async def test_the_report_says_what_can_run_twice() -> None:
    """Each kill is listed with what it costs; a step in flight can run twice, anything else is repeated by nothing."""
    report = await crash_everywhere(checkout, 990, signals=[SendSignal("go", "on", after=5.0)])
    report.check()
    assert (report.ok, report.ending.status, report.repeatable) == (True, "completed", ("charge (call 0)",))
    assert report.ending.result == '"charged 990, on"'
    text = str(report)
    assert "killed after record 3 (step_scheduled charge call 0): charge (call 0) can run twice if killed here" in text
    assert "killed before any record: nothing is repeated" in text
    assert text.startswith(f"checkout ends completed; {len(report.cuts)} kills tried, 0 with another end")


def test_it_runs_on_any_loop() -> None:
    """The crash-point tester has loops of its own: it can be awaited on asyncio too."""
    report: CrashReport = asyncio.run(crash_everywhere(retrying, twice=True, pairs_max=20))
    assert report.ok and report.ending.result == "3"
    assert sum(bool(cut.again_after) for cut in report.cuts) == 20


@pytest.mark.trio
async def test_it_finds_code_that_forgets() -> None:
    """A workflow that depends on something unrecorded is found out, and the report says where and how."""
    COUNT["starts"] = 0
    report = await crash_everywhere(forgetful)
    assert not report.ok
    with pytest.raises(AssertionError, match=r"forgetful ends completed; .* with another end"):
        report.check()
    assert all("DIFFERS: result is" in str(cut) or "DIFFERS: status" in str(cut) for cut in report.differing)


@pytest.mark.trio
async def test_it_tells_a_run_that_never_ends() -> None:
    """A scenario that forgot its signal ends with the run as it stands; wrong input is refused as ever."""
    report = await crash_everywhere(never_ending)
    assert report.ok and report.ending.status == "waiting"
    with pytest.raises(InvalidInput):
        await crash_everywhere(checkout, "nine")
