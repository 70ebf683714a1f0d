"""Durable steps a second: 100 concurrent runs of 10 trivial steps, embedded, FULL, beside DBOS and the bare disk."""

from __future__ import annotations

import gc
import json
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import trio

from bench import raw
from bench.figures import Figure
from bench.workflows import STEPS, app, ten
from runtimed import open_runtime
from runtimed.daemon import GC_THRESHOLDS

CONCURRENCY = 100
RUNS = 5_000
ALONE_RUNS = 100
DBOS_RUNS = 200  # the same runs, fewer of them: at its rate 5,000 would take two minutes
DBOS_PYTHON = Path(__file__).resolve().parent.parent / ".venv-bench" / "bin" / "python"
DBOS_SECONDS_MAX = 90.0
TIMES_DBOS = 100.0
ALONE_TIMES_RAW = 3.0


async def _run_one(runtime: Any) -> None:
    handle = await runtime.start(ten, 0)
    assert await handle.result() == STEPS


async def _worker(runtime: Any, left: Iterator[int]) -> None:
    for _ in left:
        await _run_one(runtime)


async def _concurrent(runtime: Any, runs: int) -> float:
    left = iter(range(runs))
    began = time.perf_counter()
    async with trio.open_nursery() as nursery:
        for _ in range(CONCURRENCY):
            nursery.start_soon(_worker, runtime, left)
    return runs * STEPS / (time.perf_counter() - began)


async def _ours(folder: Path) -> tuple[float, float]:
    """Steps a second of concurrent runs, and the wall seconds of a commit when one run is alone."""
    # The collector as the daemon has it, here and in the neighbour's process.
    gc.set_threshold(*GC_THRESHOLDS)
    async with open_runtime(app, folder) as runtime:
        await _concurrent(runtime, CONCURRENCY)
        gc.collect()
        gc.freeze()
        rate = await _concurrent(runtime, RUNS)
        began = time.perf_counter()
        for _ in range(ALONE_RUNS):
            await _run_one(runtime)
        alone = (time.perf_counter() - began) / (ALONE_RUNS * (STEPS + 1))
    return rate, alone


def _dbos(folder: Path) -> dict[str, Any]:
    script = Path(__file__).with_name("dbos_steps.py")
    folder.mkdir()
    command = [str(DBOS_PYTHON), str(script), str(folder), *map(str, (DBOS_RUNS, STEPS, CONCURRENCY, *GC_THRESHOLDS))]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=DBOS_SECONDS_MAX, check=True)
    found: dict[str, Any] = json.loads(ended.stdout.splitlines()[-1])
    return found


def measure(folder: Path) -> list[Figure]:
    """All of it in one run, one after the other, on the same disk."""
    commits = raw.commits_per_second(folder)
    rate, alone = trio.run(_ours, folder / "ours")
    commits = (commits + raw.commits_per_second(folder / "ours")) / 2  # before and after: a disk has moods
    figures = [
        Figure("raw single-row FULL commits, apsw", commits, "1/s"),
        Figure(f"steps, {CONCURRENCY} concurrent runs of {STEPS}, FULL, embedded", rate, "1/s"),
        Figure("one run alone, wall per commit", alone * 1e3, "ms"),
        Figure("  against one raw commit", alone * commits, "times", at_most=ALONE_TIMES_RAW),
    ]
    if not DBOS_PYTHON.exists():
        return [*figures, Figure("DBOS: not installed, see `make bench`", 0, "")]
    theirs = _dbos(folder / "dbos")
    times = rate / theirs["steps_per_second"]
    return [
        *figures,
        Figure(f"steps, the same on DBOS {theirs['version']}, its default SQLite", theirs["steps_per_second"], "1/s"),
        Figure("  runtimed against DBOS", times, "times", at_least=TIMES_DBOS),
        Figure("one run alone on DBOS, wall per step", theirs["alone_step_seconds"] * 1e3, "ms"),
    ]
