"""HTTP over the unix socket: starts acknowledged a second, one by one and in batches, and from start to done."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

from bench.daemon import Daemon, running
from bench.figures import Figure, percentile
from bench.load_client import BATCH

CONNECTIONS = 16
SECONDS = 4.0
SINGLE_AT_LEAST = 2_000.0
BATCH_AT_LEAST = 60_000.0
DONE_P50_MS_MAX = 2.5


def _load(daemon: Daemon, kind: str, connections: int, seconds: float) -> dict[str, Any]:
    script = Path(__file__).with_name("load_client.py")
    command = [sys.executable, str(script), str(daemon.socket), kind, str(connections), str(seconds)]
    ended = subprocess.run(command, stdout=subprocess.PIPE, text=True, timeout=seconds + 60, check=True)
    found: dict[str, Any] = json.loads(ended.stdout)
    return found


def _runs_per_second(found: dict[str, Any]) -> float:
    return float(found["answers"] * BATCH / found["seconds"])


def measure(folder: Path) -> list[Figure]:
    """Each kind on a daemon of its own, so that none pays for the runs of another."""
    with running(folder / "single") as daemon:
        _load(daemon, "single", CONNECTIONS, 0.5)
        single = _load(daemon, "single", CONNECTIONS, SECONDS)
    with running(folder / "later") as daemon:
        later = _load(daemon, "later", 2, SECONDS)
    with running(folder / "batch") as daemon:
        batch = _load(daemon, "batch", 2, SECONDS)
    with running(folder / "done") as daemon:
        _load(daemon, "done", 1, 0.5)
        done = _load(daemon, "done", 1, SECONDS)
    latencies, seconds = single["latencies"], single["seconds"]
    return [
        Figure(
            f"POST /v1/runs, {CONNECTIONS} keep-alive connections", single["answers"] / seconds, "1/s",
            at_least=SINGLE_AT_LEAST, note="each a run of one step, run meanwhile",
        ),
        Figure("  answer, p50", percentile(latencies, 0.50) * 1e3, "ms"),
        Figure("  answer, p99", percentile(latencies, 0.99) * 1e3, "ms"),
        Figure(
            f"runs acknowledged in batches of {BATCH:,}", _runs_per_second(later), "1/s", at_least=BATCH_AT_LEAST,
            note=f"{later['answers']} batches on 2 connections, to start later",
        ),
        Figure("  the same, each run meanwhile", _runs_per_second(batch), "1/s", note="one step each"),
        Figure(
            "start to done, one step, p50", percentile(done["latencies"], 0.50) * 1e3, "ms", at_most=DONE_P50_MS_MAX,
            note="POST, then GET result",
        ),
        Figure("start to done, one step, p99", percentile(done["latencies"], 0.99) * 1e3, "ms"),
    ]  # fmt: skip
