"""Readiness under load: what a balancer waits for `/health/ready` while 100 runs/s and 5,000 steps/s go through."""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path

from bench.daemon import running
from bench.figures import Figure, percentile
from bench.load_client import Connection, get

RUNS_PER_SECOND = 100
STEPS = 50
SECONDS = 8.0
LOOKS_PER_SECOND = 50
READY_P99_MS_MAX = 100.0


def _steps_done(connection: Connection) -> float:
    """The attempts that have ended, as the daemon counts them."""
    text = connection.ask(get("/metrics")).decode()
    return sum(
        float(line.split()[-1]) for line in text.splitlines() if line.startswith("runtimed_step_attempts_total{")
    )


def measure(folder: Path) -> list[Figure]:
    """A client starts runs of 50 steps at an even pace from a process of its own; this one looks, and notes how long
    each answer took, from the connect on, as a balancer's check does."""
    with running(folder / "probes") as daemon:
        script = Path(__file__).with_name("load_client.py")
        path = str(daemon.socket)
        counting = Connection(path)
        command = [sys.executable, str(script), path, "paced", str(RUNS_PER_SECOND), str(SECONDS + 2.0)]
        with subprocess.Popen(command, stdout=subprocess.DEVNULL) as load:
            time.sleep(1.0)  # until the load is even
            before, began = _steps_done(counting), time.perf_counter()
            latencies = []
            while (now := time.perf_counter()) - began < SECONDS:
                look = Connection(path)
                look.ask(get("/health/ready"))
                latencies.append(time.perf_counter() - now)
                look.socket.close()
                time.sleep(max(0.0, 1 / LOOKS_PER_SECOND - latencies[-1]))
            steps = (_steps_done(counting) - before) / (time.perf_counter() - began)
            load.wait(60)
    return [
        Figure("steps meanwhile", steps, "1/s", note=f"{RUNS_PER_SECOND} runs/s of {STEPS} steps, over HTTP"),
        Figure("GET /health/ready, p50", percentile(latencies, 0.50) * 1e3, "ms", note="a connection each"),
        Figure("GET /health/ready, p99", percentile(latencies, 0.99) * 1e3, "ms", at_most=READY_P99_MS_MAX),
        Figure("GET /health/ready, slowest", max(latencies) * 1e3, "ms", note=f"of {len(latencies)}"),
    ]
