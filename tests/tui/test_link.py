"""The link: what the events do not tell is asked for, until the model is as the daemon is."""

from __future__ import annotations

import asyncio

import pytest

from tests.tui.driving import driven
from tests.tui.fake_daemon import FakeDaemon, approval, at, event, run
from tui import link as link_module
from wal.views import ErrorView

pytestmark = pytest.mark.anyio


async def test_what_happens_while_it_is_asked_for_is_asked_for_again() -> None:
    """A second approval, and the end of a run, that come while an answer without them is on its way, are shown."""
    daemon = FakeDaemon()
    daemon.runs = [run("r1", status="paused"), run("r2", status="waiting", waiting_on="approval")]
    async with driven(daemon) as shown:
        daemon.answers_held = held = asyncio.Event()
        daemon.asked.clear()
        daemon.runs[0] = run("r1", seq=11)
        daemon.approvals = [approval("1", "first", "r2")]
        daemon.push(event(11, "run_resumed", "r1"), event(12, "approval_requested", "r2"))
        await shown.until(lambda: "approvals" in daemon.asked)
        daemon.runs[0] = run("r1", status="paused", seq=14)
        daemon.approvals.append(approval("2", "second", "r2"))
        daemon.push(event(13, "approval_requested", "r2"), event(14, "run_resumed", "r1"))
        await shown.until(lambda: shown.app.model.seq == 14 and "approvals" in shown.app.link._once_more)
        daemon.answers_held = None
        held.set()
        model = shown.app.model
        await shown.until(lambda: set(model.approvals) == {"1", "2"} and model.runs["r1"].status == "paused")


async def test_what_was_refused_is_asked_for_again(monkeypatch: pytest.MonkeyPatch) -> None:
    """A question that a busy daemon refuses is asked again a little later; of a run that is gone it is not."""
    monkeypatch.setattr(link_module, "REFUSED_FIRST", 0.05)
    daemon = FakeDaemon()
    daemon.runs = [run("r1", status="paused"), run("r2", status="waiting", waiting_on="approval")]
    async with driven(daemon) as shown:
        daemon.refusals = ["approvals", "run r1", "run r1"]
        daemon.runs[0] = run("r1", seq=11)
        daemon.approvals = [approval("1", "first", "r2")]
        daemon.push(
            event(11, "run_resumed", "r1"), event(12, "approval_requested", "r2"), event(13, "run_resumed", "gone")
        )
        await shown.until(lambda: set(shown.app.model.approvals) == {"1"})
        await shown.until(lambda: shown.app.model.runs["r1"].status == "running")
        assert not shown.app.link._refused
        assert daemon.asked.count("run gone") == 1


async def test_however_many_runs_change_at_once_each_is_asked_for() -> None:
    """More runs than are asked for in one turn are asked for in several."""
    daemon = FakeDaemon()
    count = 2 * link_module.ASK_RUNS_MAX + 1
    daemon.runs = [run(f"r{n}", status="paused") for n in range(count)]
    async with driven(daemon) as shown:
        daemon.runs = [run(f"r{n}", seq=11 + n) for n in range(count)]
        daemon.push(*(event(11 + n, "run_resumed", f"r{n}") for n in range(count)))
        await shown.until(lambda: {one.status for one in shown.app.model.runs.values()} == {"running"})


async def test_the_oldest_run_that_is_blocked_needs_us_however_many_are_open() -> None:
    """Of more runs than are held the newest are, and every blocked one, also one that becomes so."""
    daemon = FakeDaemon()
    daemon.runs = [run(f"r{n}", status="waiting", waiting_on="signal", ago=n + 1.0) for n in range(2_500)]
    daemon.runs.append(run("old", "payout", "blocked", ago=9_000.0, error=ErrorView("outcome_unknown", "x", "wire")))
    async with driven(daemon) as shown:
        await shown.sees("DOUBT", "run old")
        assert "r2400" not in shown.app.model.runs
        daemon.runs[2_400] = run("r2400", "payout", "blocked", ago=2_401.0, seq=11, error=ErrorView("code_error", "x"))
        daemon.push(event(11, "run_blocked", "r2400", code="code_error"))
        await shown.sees("STUCK", "run r2400")


async def test_decided_approvals_are_seen_however_many_are_open() -> None:
    """Those decided last stand there also where the newest of all are open; of more open ones than are asked for the
    count has a plus."""
    daemon = FakeDaemon()
    daemon.runs = [run("r1", status="waiting", waiting_on="approval")]
    daemon.approvals = [approval(str(1_000 - n), "asked") for n in range(250)]
    daemon.approvals += [approval("2", "old", status="refused", decided_at=at(5))]
    daemon.approvals += [approval("1", "older", status="approved", decided_at=at(9))]
    async with driven(daemon, area="approvals") as shown:
        await shown.sees("appr 200+!", "Appr(200+)", "open 200+")
        assert [view.id for view in shown.app.model.decided] == ["2", "1"]
