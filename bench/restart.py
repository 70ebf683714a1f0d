"""Starting and resting: cold start, restart with 100,000 open runs, and what an idle daemon costs."""

from __future__ import annotations

import json
import os
import signal
import statistics
import time
from pathlib import Path

from bench.daemon import Daemon, running
from bench.figures import Figure
from bench.load_client import BATCH, Connection, get, post

OPEN_RUNS = 100_000
SETTLE_SECONDS_MAX = 90.0
IDLE_SECONDS = 20.0
COLD_STARTS = 3
COLD_START_SECONDS_MAX = 0.8
RESTART_SECONDS_MAX = 5.0
IDLE_PERCENT_MAX = 1.0
RSS_MB_MAX = 110.0


def _cold_start(folder: Path) -> float:
    seconds = []
    for number in range(COLD_STARTS):
        daemon = Daemon(folder / f"cold-{number}")
        seconds.append(daemon.start())
        daemon.stop()
    return statistics.median(seconds)


def open_runs(daemon: Daemon, count: int, workflow: str = "wait") -> None:
    """Start runs that come to wait for a signal, and return when all that there are wait."""
    connection = Connection(str(daemon.socket))
    mark = os.urandom(4).hex()
    for start in range(0, count, BATCH):
        items = [{"workflow": workflow, "input": n, "id": f"w-{mark}-{n}"} for n in range(start, start + BATCH)]
        connection.ask(post("/v1/runs", items))
    until = time.perf_counter() + SETTLE_SECONDS_MAX
    while json.loads(connection.ask(get("/v1/runs?status=waiting&limit=1")))["total"] < count:
        if time.perf_counter() > until:
            raise SystemExit(f"{count:,} runs did not come to wait in {SETTLE_SECONDS_MAX:.0f} s")
        time.sleep(0.2)


def _idle(daemon: Daemon) -> tuple[float, float]:
    """Percent of a core and MB of a daemon that has nothing to do."""
    time.sleep(2.0)  # let it settle: the first checkpoint, the first collection
    before, began = daemon.cpu_seconds(), time.perf_counter()
    time.sleep(IDLE_SECONDS)
    return 100 * (daemon.cpu_seconds() - before) / (time.perf_counter() - began), daemon.rss_mb()


def measure(folder: Path) -> list[Figure]:
    """An empty daemon first, then one with many open runs: asked to stop, and killed."""
    cold = _cold_start(folder)
    with running(folder / "idle") as daemon:
        percent, rss = _idle(daemon)
    daemon = Daemon(folder / "open")
    try:
        daemon.start()
        open_runs(daemon, OPEN_RUNS)
        daemon.stop()
        clean = daemon.start()
        daemon.stop(signal.SIGKILL)
        killed = daemon.start()
        loaded = daemon.rss_mb()
    finally:
        daemon.stop()
    return [
        Figure("cold start of an empty daemon, to ready", cold, "s", at_most=COLD_START_SECONDS_MAX),
        Figure("idle, of one core", percent, "%", at_most=IDLE_PERCENT_MAX, note=f"over {IDLE_SECONDS:.0f} s"),
        Figure("idle, resident, daemon and writer", rss, "MB", at_most=RSS_MB_MAX),
        Figure(f"restart with {OPEN_RUNS:,} open runs, after SIGTERM", clean, "s", at_most=RESTART_SECONDS_MAX),
        Figure(f"restart with {OPEN_RUNS:,} open runs, after kill -9", killed, "s", at_most=RESTART_SECONDS_MAX),
        Figure(f"resident with {OPEN_RUNS:,} open runs", loaded, "MB"),
    ]
