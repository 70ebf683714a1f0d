"""P3: killed after every record of a scenario, and again in the recovery, the end is the same."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from actors import messages as m
from actors.current_step import current_step
from actors.errors import Failure, StepFailed
from actors.flow.context import Context
from actors.flow.definitions import App, Retry
from runtimed.runtime import Runtime
from runtimed.settings import Limits, Settings
from runtimed.testing import CrashReport, SendSignal, crash_everywhere

app = App("crashes")
QUICK = Retry(max_attempts=3, initial_interval=1.0, jitter=0.0)
PAIRS = 400


class Refused(Failure):
    """The business said no."""


@app.step(retry=QUICK)
async def charge(cents: int) -> str:
    return f"charged {cents}"


@charge.compensation
async def refund(charged: str, cents: int) -> None:
    assert charged == f"charged {cents}"


@app.step(retry=QUICK)
async def flaky(name: str) -> str:
    if current_step().attempt < 3:
        raise OSError("not yet")
    return f"{name} at last"


@flaky.compensation(on_unknown=True)
async def unflake(result: str | None, name: str) -> None:
    if current_step().attempt < 2:
        raise OSError("not yet")


@app.step(retry=Retry(max_attempts=1))
async def refuse() -> None:
    raise ValueError("no")


@app.step
def threaded(text: str) -> str:
    return text.upper()


@app.step(delivery="at_most_once")
async def launch() -> str:
    return "launched"


async def helper(ctx: Context, name: str) -> str:
    charged = await ctx.step(charge, 1)
    await ctx.sleep(5)
    return f"{name}: {charged}"


@app.workflow(signals={"go": int, "more": str})
async def everything(ctx: Context, cents: int) -> dict[str, Any]:
    """Every kind of call that there is."""
    seen: dict[str, Any] = {"charged": await ctx.step(charge, cents), "uuid": str(ctx.uuid()), "random": ctx.random()}
    ctx.set_attributes(stage="begun")
    await ctx.sleep(3_600)
    seen["go"] = await ctx.signal("go")
    seen["shout"] = await ctx.step(threaded, "hello")
    await ctx.emit(seen["go"])
    ctx.add_compensation(refund, "charged 9", 9)
    seen["both"] = await ctx.gather(helper(ctx, "a"), ctx.step(flaky, "b"), ctx.signal("more"))
    seen["race"] = await ctx.race(undo_losers=True, slow=helper(ctx, "slow"), quick=ctx.sleep(2))
    try:
        async with ctx.saga():
            await ctx.step(charge, 2)
            await ctx.step(refuse)
    except StepFailed as error:
        seen["caught"] = str(error)
    await ctx.state.put("k", seen["go"])
    value, version = await ctx.global_state.get_versioned("total", int, 0)
    await ctx.global_state.put("total", value + cents, expect_version=version)
    await ctx.session_state.put("last", ctx.run_id)
    seen["patched"] = ctx.patched("new-way")
    try:
        await ctx.signal("never", timeout=60.0)
    except TimeoutError:
        seen["never"] = True
    await ctx.emit("done")
    return seen


@app.workflow
async def failing(ctx: Context) -> None:
    await ctx.step(charge, 5)
    await ctx.gather(ctx.step(charge, 6), ctx.step(flaky, "c"))
    ctx.add_compensation(refund, "charged 7", 7)
    await ctx.sleep(10)
    raise Refused("after all")


@app.workflow
async def cancelled(ctx: Context) -> None:
    await ctx.step(charge, 5)
    async with ctx.saga():
        await ctx.step(flaky, "c")
        await ctx.sleep(1_000)


@app.workflow
async def launching(ctx: Context) -> str:
    await ctx.step(charge, 5)
    return str(await ctx.step(launch))


@app.workflow
async def blocking(ctx: Context) -> None:
    await ctx.step(charge, 5)
    raise RuntimeError("a bug")


async def open_session(runtime: Runtime) -> None:
    await runtime.ask(m.OpenSession(id="s", tenant="acme"))


async def play_everything(**options: Any) -> CrashReport:
    signals = [SendSignal("more", "early"), SendSignal("go", 1, after=10.0), SendSignal("go", 2, after=20.0)]
    return await crash_everywhere(everything, 100, signals=signals, session_id="s", prepare=open_session, **options)


@pytest.mark.trio
@pytest.mark.slow
async def test_every_kind_of_call_survives_a_kill_after_every_record(figures: Callable[..., None]) -> None:
    """One workflow with every kind of call ends the same, wherever it is killed."""
    report = await play_everything()
    report.check()
    assert report.ending.status == "completed"
    assert "refund (call" in report.ending.compensated[0]
    figures("P3", cuts=len(report.cuts), different=len(report.differing))


@pytest.mark.trio
@pytest.mark.slow
@pytest.mark.chaos
async def test_and_a_second_kill_in_the_recovery(
    figures: Callable[..., None], scale: Callable[[int, int | None], int | None]
) -> None:
    """The same for two kills in a row: a bounded sample of the pairs, or every pair at the long size."""
    report = await play_everything(twice=True, pairs_max=scale(PAIRS, None))
    report.check()
    figures("P3", pairs=sum(bool(cut.again_after) for cut in report.cuts), different_pairs=len(report.differing))


@pytest.mark.trio
@pytest.mark.slow
@pytest.mark.parametrize("settings", [Settings(), Settings(limits=Limits(park_after=0.5))], ids=["awake", "parked"])
async def test_a_failing_run_is_undone_whatever_kills_it(settings: Settings) -> None:
    """Its compensations are all carried out, each completed once, also where runs are put away at every wait."""
    report = await crash_everywhere(failing, twice=True, pairs_max=PAIRS, settings=settings)
    report.check()
    assert report.ending.status == "failed"
    assert len(report.ending.compensated) == 4


@pytest.mark.trio
@pytest.mark.slow
async def test_a_cancelled_run_is_undone_whatever_kills_it() -> None:
    """The same for a cancellation that falls into a saga block."""
    report = await crash_everywhere(cancelled, cancel_after=30.0, twice=True, pairs_max=PAIRS)
    report.check()
    assert report.ending.status == "cancelled"
    assert len(report.ending.compensated) == 2


@pytest.mark.trio
async def test_at_most_once_is_in_doubt_in_one_place_only() -> None:
    """Only a kill between its start and its outcome leaves the outcome to a person; nothing else differs."""
    report = await crash_everywhere(launching)
    report.check()
    doubts = [cut for cut in report.cuts if cut.in_doubt]
    assert [(cut.in_doubt, cut.after) for cut in doubts] == [(("launch (call 1)",), "step_scheduled launch call 1")]


@pytest.mark.trio
async def test_a_blocked_run_stays_blocked() -> None:
    """A defect is found again at the same place after every kill."""
    report = await crash_everywhere(blocking, twice=True, pairs_max=PAIRS)
    report.check()
    assert (report.ending.status, report.ending.error) == ("blocked", "code_error: RuntimeError: a bug")
