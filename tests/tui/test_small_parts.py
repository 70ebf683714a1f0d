"""The small pure parts: jumps, copying, the link's words, metrics, bars, event texts."""

from __future__ import annotations

import asyncio
import base64
from types import SimpleNamespace
from typing import Any

import pytest

from runtimed.client_wire import Broken
from tests.tui.fake_daemon import NOW, event
from tui.copying import COPY_MAX_BYTES, osc52
from tui.event_text import NOTABLE, level_of, says, state_of_event
from tui.glyphs import ASCII, UTF8
from tui.jump import Jump, parse_jump
from tui.link import Link
from tui.link_state import LIVE, OFFLINE, STALE, LinkState
from tui.model import Model
from tui.source import Metrics
from tui.widgets.bars import bar, sparkline


@pytest.mark.parametrize(
    ("text", "where"),
    [
        ("runs st:fail", Jump("runs", filter="st:fail")),
        (":run 7f3", Jump("runs", target="7f3")),
        ("a #812", Jump("approvals", target="812")),
        ("a", Jump("approvals")),
        ("seq 10440", Jump("journal", target="10440")),
        ("log", Jump("logs")),
        ("3", Jump("approvals")),
        ("nowhere", None),
        ("", None),
    ],
)
def test_a_jump_is_a_place(text: str, where: Jump | None) -> None:
    """The words of `:`, abbreviated as people do."""
    assert parse_jump(text) == where


def test_copying_is_wrapped_and_bounded() -> None:
    """OSC 52 as terminals take it, doubled for tmux, in pieces for screen, nothing beyond the limit."""
    plain = osc52("order-42", {})
    assert plain == f"\x1b]52;c;{base64.b64encode(b'order-42').decode()}\x07"
    assert osc52("order-42", {"TMUX": "x"}) == f"\x1bPtmux;\x1b{plain}\x1b\\"
    pieces = osc52("y" * 1_000, {"STY": "x"})
    assert pieces is not None
    assert max(len(piece) for piece in pieces.split("\x1b\\")) <= 252
    assert osc52("y" * (COPY_MAX_BYTES + 1), {}) is None
    assert osc52("\x1b]52;c;evil\x07", {}) is not None


def test_the_link_says_how_fresh_it_is() -> None:
    """LIVE, LAG while events are late, STALE with the time and the next try, OFFLINE: and why nothing can be done."""
    model = Model()
    state = LinkState(LIVE, NOW)
    assert state.stream_word(NOW) == ("LIVE", "ok")
    state.behind, state.behind_at = 3_000_000, NOW
    assert state.stream_word(NOW) == ("LAG 3s", "warn")
    assert state.stream_word(NOW + 5_000_000) == ("LIVE", "ok")
    state = LinkState(STALE, NOW - 12_000_000, retry_at=NOW + 4_000_000, problem="nobody listens")
    assert state.stream_word(NOW) == ("STALE 10s retry 4s", "need")
    assert "nobody listens" in state.why_not()
    state = LinkState(OFFLINE, NOW)
    assert state.status_word(model) == ("DOWN (file 14:13:20Z)", "need")
    assert "down" in state.why_not()
    model.health_status, model.reasons = "fail", ["the daemon is draining"]
    assert LinkState(LIVE).status_word(model) == ("DRAINING", "need")
    model.health_status, model.reasons = "warn", ["disk is low"]
    assert LinkState(LIVE).status_word(model) == ("DEGRADED disk is low", "warn")


def test_metrics_give_counts_and_quantiles() -> None:
    """Runs by status over all workflows, sizes by name, the commit's quantiles out of its histogram."""
    text = """# HELP x y
runtimed_runs{status="running",workflow="a"} 2.0
runtimed_runs{status="running",workflow="b\\"c"} 3.0
runtimed_sqlite_wal_bytes 4096.0
runtimed_build_info{version="0.1.0"} 1.0
runtimed_commit_seconds_bucket{le="0.001"} 50.0
runtimed_commit_seconds_bucket{le="0.01"} 99.0
runtimed_commit_seconds_bucket{le="+Inf"} 100.0
runtimed_step_seconds_bucket{le="0.001",step="x",workflow="a"} 7.0
"""
    metrics = Metrics(text)
    assert metrics.counts == {"running": 5}
    assert metrics.version == "0.1.0"
    assert metrics.figures == {"sqlite_wal_bytes": 4096.0, "commit_p50_seconds": 0.001, "commit_p99_seconds": 0.01}
    assert Metrics("").figures == {}


def test_bars_and_curves_fill_their_room() -> None:
    """A bar of what is there is never empty, and never too long; a curve has a cell a value."""
    assert bar(1, 1_000_000, 10, UTF8) == "█"
    assert bar(50, 100, 10, ASCII) == "#####"
    assert bar(0, 100, 10, UTF8) == ""
    assert sparkline([0, 1, 2, 4], 10, UTF8) == "▁▃▅█"
    assert sparkline([], 10, UTF8) == ""
    assert sparkline([0.0] * 40, 15, ASCII) == "_" * 15


def test_records_speak() -> None:
    """A record in a few words: its error, what it waits on, who decided; its level and its state."""
    failed = event(1, "step_failed", "r", name="charge", attempt=2, error={"type": "Timeout", "message": "late"})
    assert says(failed) == "charge try 2 Timeout: late"
    assert level_of(failed) == "WARN"
    assert says(event(2, "run_waiting", "r", on="timer", until="2026")) == "on timer until 2026"
    voted = event(3, "approval_voted", "r", approve=True, by="alice", reason="checked")
    assert says(voted) == "APPROVE by alice checked"
    fork = event(5, "run_forked", "r", from_id="o", from_seq=7, past=[[1, 2, {}]], by="alice", reason="mended")
    assert says(fork) == 'from o at record 7, 1 record by alice "mended"'
    assert says(event(5, "run_forked", "r", from_id="o", from_seq=7, past="(9999 bytes)")).endswith("7, (9999 bytes)")
    assert (level_of(fork), fork.kind in NOTABLE) == ("INFO", True)
    blocked = event(4, "run_blocked", "r", code="outcome_unknown", message="who knows")
    assert (state_of_event(blocked) or ASCII)[0] == "DOUBT"


@pytest.mark.anyio
@pytest.mark.parametrize("how", ["breaks", "cancelled"])
async def test_a_refused_stream_of_events_is_closed_whatever_happens_to_its_answer(how: str) -> None:
    """A refusal that breaks off, or that nobody waits for any more, leaves no connection open."""
    closed: list[bool] = []

    class Refusal:
        status, headers = 503, dict[str, str]()

        async def read(self) -> bytes:
            if how == "breaks":
                raise Broken("the connection ended in the middle of an answer")
            await asyncio.Event().wait()
            return b""

        async def aclose(self) -> None:
            closed.append(True)

    async def open_events(after: int) -> Refusal:
        return Refusal()

    client: Any = SimpleNamespace(link=SimpleNamespace(open_events=open_events))
    link = Link(Model(), lambda: client, None, lambda change: None)
    following = asyncio.create_task(link._follow(client))
    await asyncio.sleep(0)
    following.cancel()
    with pytest.raises((Broken, asyncio.CancelledError)):
        await following
    assert closed == [True]
