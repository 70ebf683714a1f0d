"""The upgrade preflight: how long all open runs take to be replayed beside the daemon, and in how much memory."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

from bench.daemon import HERE, Daemon, running
from bench.figures import Figure
from bench.restart import open_runs

COUNTS = (1_000, 10_000)
TRIES = 3


def _check(daemon: Daemon, count: int) -> tuple[float, float, float]:
    """Seconds, seconds of CPU and peak MB of one `runtimed check --runs`, which has to find that all of them fit."""
    command = [sys.executable, "-P", "-m", "runtimed", "check", "--runs", "-o", "jsonl", "--app", *daemon.apps]
    began = time.perf_counter()
    with subprocess.Popen(
        [*command, "--data-dir", str(daemon.data_dir)], cwd=HERE, stdout=subprocess.PIPE, stdin=subprocess.DEVNULL
    ) as process:
        assert process.stdout is not None
        fits = sum(b'"verdict":"fits"' in line for line in process.stdout)
        _, status, used = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
    if (process.returncode, fits) != (0, count):
        raise SystemExit(f"the check ended with {process.returncode}, and {fits:,} of {count:,} runs fit")
    return time.perf_counter() - began, used.ru_utime + used.ru_stime, used.ru_maxrss * 1024 / 1e6


def measure(folder: Path) -> list[Figure]:
    """Runs of ten steps each that wait for a signal, so of 22 records."""
    figures = []
    for count in COUNTS:
        with running(folder / f"open-{count}") as daemon:
            open_runs(daemon, count, "parked")
            seconds, cpu, megabytes = zip(*(_check(daemon, count) for _ in range(TRIES)), strict=True)
        about = f"{count:,} open runs of 22 records"
        figures.append(Figure(f"check --runs, {about}", min(seconds), "s", note=f"best of {TRIES}"))
        figures.append(Figure(f"CPU of it, {about}", min(cpu), "s", note=f"best of {TRIES}"))
        figures.append(Figure(f"resident at most, {about}", max(megabytes), "MB"))
    return figures
