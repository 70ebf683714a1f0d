"""A disk that fills up under the daemon: a small file system of its own, filled and freed by the test."""

from __future__ import annotations

import os
import subprocess
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import httpx2
import pytest
import trio

from tests.system.conftest import Running
from tests.system.daemon_process import Daemon
from wal.verify import verify

SIZE = "24m"
LEAST = 4 * 1024 * 1024
BIG = "x" * 300_000
BALLAST = {"RUNTIMED__JOURNAL__BALLAST_BYTES": str(LEAST // 2)}
NO_WATERMARK = {**BALLAST, "RUNTIMED__JOURNAL__DISK_FREE_MIN_BYTES": "0"}
WATERMARK = {**BALLAST, "RUNTIMED__JOURNAL__DISK_FREE_MIN_BYTES": str(LEAST)}


@asynccontextmanager
async def small_disk(folder: Path) -> AsyncIterator[None]:
    """A file system of `SIZE` at this folder, while the block lasts; skips where none can be mounted."""
    os.makedirs(folder, exist_ok=True)
    mount = ["mount", "-t", "tmpfs", "-o", f"size={SIZE},mode=0700", "tmpfs", str(folder)]
    done = await trio.run_process(mount, capture_stderr=True, check=False) if os.getuid() == 0 else None
    if done is None or done.returncode:
        pytest.skip("a small file system cannot be mounted here: that takes root")
    try:
        yield
    finally:
        with trio.CancelScope(shield=True):
            await trio.run_process(["umount", "--lazy", str(folder)], check=False, stderr=subprocess.DEVNULL)


def fill(folder: Path) -> Path:
    """Take all the room there is."""
    filler = folder / "filler"
    with filler.open("wb", buffering=0) as file:
        for size in (65_536, 4_096, 1):
            try:
                while file.write(b"\0" * size) == size:
                    pass
            except OSError:
                continue
    return filler


async def start(daemon: Daemon, run_id: str, status: str = "completed") -> int:
    """Start a run with a large input; the status of the answer, 0 if the daemon went away over it."""
    async with daemon.client() as client:
        try:
            run = {"workflow": "ending", "input": status, "id": run_id, "attributes": {"pad": BIG}}
            return (await client.post("/v1/runs", json=run)).status_code
        except httpx2.TransportError:
            return 0


@pytest.mark.trio
@pytest.mark.slow
@pytest.mark.chaos
async def test_a_disk_that_is_full_at_a_commit_costs_nothing_acknowledged(
    running: Running, short_dir: Path, scale: Callable[[int, int], int], figures: Callable[..., None]
) -> None:
    """P5: full at a commit in spite of the watermark: the daemon ends non-zero; started again, in the ballast's room,
    it is up for reads and probes and refuses new runs; with room it takes them again; nothing acknowledged is lost."""
    disks, cycles, kept = scale(1, 10), scale(3, 10), 0
    for _ in range(disks):  # what stays on one would in the end leave no room for the next cycle
        kept += await cycles_on_a_disk(running, short_dir / "data", cycles)
    figures("P5", cycles=disks * cycles, acknowledged=kept, lost=0)


async def cycles_on_a_disk(running: Running, data: Path, cycles: int) -> int:
    """Fill and free a new disk so often, under one daemon after the other; how many runs were acknowledged."""
    acknowledged: list[str] = []
    async with small_disk(data):
        for cycle in range(cycles):
            async with running(environ=NO_WATERMARK) as daemon:
                assert await start(daemon, f"before-{cycle}") == 201
                acknowledged.append(f"before-{cycle}")
                filler = fill(data)
                for number in range(200):
                    run_id = f"full-{cycle}-{number}"
                    answer = await start(daemon, run_id)
                    if answer != 201:
                        break
                    acknowledged.append(run_id)
                assert answer in (0, 503), "the disk was never full"
                assert await daemon.ended() == 75, daemon.log_tail()
                if not (data / "ballast").exists():  # given up in an idle moment, and used up by what was started then
                    os.truncate(filler, filler.stat().st_size - LEAST // 2)
            async with running(environ=WATERMARK) as daemon:
                assert await daemon.status_of("/health") == 200
                assert await daemon.status_of("/health/ready") == 503
                assert await start(daemon, "refused") == 503
                assert await daemon.status_of(f"/v1/runs/{acknowledged[-1]}") == 200
                filler.unlink()
                await daemon.until("/health/ready", 200)
                assert await start(daemon, f"after-{cycle}") == 201
                acknowledged.append(f"after-{cycle}")
                for run_id in acknowledged:
                    assert await daemon.status_of(f"/v1/runs/{run_id}") == 200
                assert await daemon.stop() == 0
            assert verify(data / "journal.db").problems == []
    return len(acknowledged)


@pytest.mark.trio
@pytest.mark.slow
async def test_the_watermark_refuses_before_the_disk_is_full(running: Running, short_dir: Path) -> None:
    """P5: webhooks and runs are refused with 503 and Retry-After, and the reason is told; nothing ends; it heals."""
    data = short_dir / "data"
    async with small_disk(data), running(environ=WATERMARK) as daemon:
        assert await start(daemon, "one") == 201
        for _ in range(3):
            filler = fill(data)
            os.truncate(filler, filler.stat().st_size - LEAST // 2)
            await daemon.until("/health/ready", 503)
            async with daemon.client() as client:
                refused = await client.post("/v1/runs", json={"workflow": "ending", "input": "completed"})
                assert (refused.status_code, refused.json()["code"]) == (503, "overloaded")
                assert "retry-after" in refused.headers
                assert "nearly full" in (await client.get("/health/detail")).text
                assert (await client.get("/v1/runs/one")).status_code == 200
                assert (await client.get("/metrics")).status_code == 200
            filler.unlink()
            await daemon.until("/health/ready", 200)
        assert await start(daemon, "two") == 201
