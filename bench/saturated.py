"""Beside a saturated loop: how long a commit and the start of a `def` step take while another task never rests."""

from __future__ import annotations

import time
from pathlib import Path

import trio

from bench import workflows
from bench.figures import Figure, percentile
from bench.workflows import app, thread
from runtimed import open_runtime

PROBES = 300
SLICE_SECONDS = 100e-6
P99_MS_MAX = 10.0


async def _spin() -> None:
    """Take the loop for 100 µs, give it up for a moment, and so on: a loop without a free instant."""
    while True:
        until = time.perf_counter() + SLICE_SECONDS
        while time.perf_counter() < until:
            pass
        await trio.lowlevel.checkpoint()


async def _probe(folder: Path) -> tuple[list[float], list[float]]:
    """Seconds from asking for a start to its acknowledgement, and to the first line of its `def` step."""
    acknowledged, entered = [], []
    workflows.entered.clear()
    async with open_runtime(app, folder) as runtime, trio.open_nursery() as nursery:
        nursery.start_soon(_spin)
        for number in range(PROBES):
            asked = time.perf_counter()
            handle = await runtime.start(thread, number)
            acknowledged.append(time.perf_counter() - asked)
            await handle.result()
            entered.append(workflows.entered[-1] - asked)
        nursery.cancel_scope.cancel()
    return acknowledged, entered


def measure(folder: Path) -> list[Figure]:
    """The start of a run is one commit; the figures hold the turns of the busy loop that the answer has to wait for."""
    acknowledged, entered = trio.run(_probe, folder / "saturated")
    spinning = "beside a loop that spins in slices of 100 µs"
    return [
        Figure("start asked to committed, p50", percentile(acknowledged, 0.50) * 1e3, "ms", note=spinning),
        Figure("start asked to committed, p99", percentile(acknowledged, 0.99) * 1e3, "ms", at_most=P99_MS_MAX),
        Figure("start asked to `def` step begun, p50", percentile(entered, 0.50) * 1e3, "ms"),
        Figure("start asked to `def` step begun, p99", percentile(entered, 0.99) * 1e3, "ms", at_most=P99_MS_MAX),
    ]
