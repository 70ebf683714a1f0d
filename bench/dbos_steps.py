"""The neighbour's side of the step benchmark: the same work on DBOS with its default SQLite. Stands alone.

Run by `bench.steps` in an environment of its own: `dbos_steps.py FOLDER RUNS STEPS CONCURRENCY GC0 GC1 GC2`, the last
three the collector's thresholds; prints JSON.
"""

from __future__ import annotations

import asyncio
import gc
import json
import logging
import sys
import time
from importlib.metadata import version
from pathlib import Path

from dbos import DBOS, DBOSConfig

ALONE_RUNS = 20


@DBOS.step()
async def add(number: int) -> int:
    """The least that a step can do."""
    return number + 1


@DBOS.workflow()
async def many(number: int, steps: int) -> int:
    """Steps, one after the other."""
    for _ in range(steps):
        number = await add(number)
    return number


async def run_one(steps: int) -> None:
    """Start a run and wait for its result."""
    handle = await DBOS.start_workflow_async(many, 0, steps)
    assert await handle.get_result() == steps


async def steps_per_second(runs: int, steps: int, concurrency: int) -> float:
    """`runs` runs in all, `concurrency` at a time; returns steps a second."""
    left = iter(range(runs))

    async def worker() -> None:
        for _ in left:
            await run_one(steps)

    began = time.perf_counter()
    await asyncio.gather(*(worker() for _ in range(concurrency)))
    return runs * steps / (time.perf_counter() - began)


async def measure(runs: int, steps: int, concurrency: int) -> dict[str, float | str]:
    """Warm up, then the concurrent runs, then one run alone at a time."""
    await run_one(steps)
    gc.collect()
    gc.freeze()
    rate = await steps_per_second(runs, steps, concurrency)
    began = time.perf_counter()
    for _ in range(ALONE_RUNS):
        await run_one(steps)
    alone = (time.perf_counter() - began) / (ALONE_RUNS * steps)
    return {"version": version("dbos"), "steps_per_second": rate, "alone_step_seconds": alone}


def main() -> None:
    """Launch DBOS on a fresh file, measure, print."""
    folder, runs, steps, concurrency = Path(sys.argv[1]), *map(int, sys.argv[2:5])
    gc.set_threshold(*map(int, sys.argv[5:8]))
    config: DBOSConfig = {
        "name": "bench",
        "system_database_url": f"sqlite:///{folder / 'dbos.sqlite'}",
        "run_admin_server": False,
        "log_level": "ERROR",
    }
    logging.disable(logging.WARNING)
    DBOS(config=config)
    DBOS.launch()
    print(json.dumps(asyncio.run(measure(runs, steps, concurrency))), flush=True)
    DBOS.destroy()


if __name__ == "__main__":
    main()
