"""Probes beside a load: how long the daemon's answers took, told by a process that does nothing else."""

from __future__ import annotations

import json
import os
import re
import statistics
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import trio

from tests.system.daemon_process import HERE

PROBER = HERE / "prober.py"
PARTS = 5


class Probes:
    """What the prober saw; filled when its block ends."""

    def __init__(self) -> None:
        self.seconds: list[float] = []
        """In the order of asking."""
        self.statuses: dict[int, int] = {}

    def steady_p(self, share: float) -> float:
        """The seconds within which this share of the probes had their answer: of five parts of the time the one in the
        middle. A machine that stands still for a moment spoils one of them, a daemon that is slow spoils all."""
        size = max(1, len(self.seconds) // PARTS)
        parts = [sorted(self.seconds[at : at + size]) for at in range(0, size * PARTS, size)]
        return statistics.median(part[min(len(part) - 1, int(share * len(part)))] for part in parts if part)


@asynccontextmanager
async def probed(port: int, path: str) -> AsyncIterator[Probes]:
    """Probe the daemon while the block runs."""
    found = Probes()
    command = [sys.executable, str(PROBER), str(port), path]
    process = await trio.lowlevel.open_process(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert process.stdin is not None
    assert process.stdout is not None
    try:
        await process.stdout.receive_some(100)
        yield found
        await process.stdin.aclose()
        told = b""
        while data := await process.stdout.receive_some():
            told += data
        answer: dict[str, Any] = json.loads(told)
        found.seconds = answer["seconds"]
        found.statuses = {int(status): count for status, count in answer["statuses"].items()}
    finally:
        with trio.CancelScope(shield=True):
            process.kill()
            await process.wait()
            await process.stdout.aclose()


def tcp_port(log: Path) -> int:
    """The TCP port of a daemon that is ready, from its log."""
    found = re.findall(r"127\.0\.0\.1:(\d+)", log.read_text(encoding="utf-8"))
    return int(found[-1])


def patience_s() -> float:
    """What p99 may be: 300 ms, three times what it is; four seconds on a machine that others keep busier than it has
    cores."""
    return 0.3 if os.getloadavg()[0] <= (os.cpu_count() or 1) else 4.0
