from __future__ import annotations

import itertools
import os
import shutil
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import httpx2
import pytest
import trio

from tests.system.conftest import Running
from tests.system.daemon_process import Daemon
from tests.system.findings import Findings
from tests.system.load import Ack

FAULTS = tuple(itertools.product(("fdatasync", "pwrite64"), ("EIO", "ENOSPC")))
TASKS = 4


def why_not() -> str:
    """Why faults cannot be injected into system calls here; empty if they can."""
    strace = shutil.which("strace")
    if strace is None:
        return "strace is not installed"
    inject = [strace, "-o", os.devnull, "-e", "inject=write:error=EIO:when=60000", sys.executable, "-c", ""]
    tried = subprocess.run(inject, capture_output=True, text=True, timeout=60, check=False)
    return "" if tried.returncode == 0 else f"strace cannot trace here: {tried.stderr.strip()[:200]}"


@asynccontextmanager
async def failing(pid: int, call: str, error: str, when: int) -> AsyncIterator[None]:
    """Let the n-th call of this kind that the process makes from now on fail, just that one."""
    inject = ["-e", f"trace={call}", "-e", f"inject={call}:error={error}:when={when}", "-o", os.devnull]
    strace = await trio.lowlevel.open_process(["strace", *inject, "-p", str(pid)], stderr=subprocess.PIPE)
    assert strace.stderr is not None
    try:
        with trio.fail_after(30.0):
            said = await strace.stderr.receive_some()
        assert b"attached" in said, said
        yield
    finally:
        with trio.CancelScope(shield=True):
            if strace.poll() is None:
                strace.send_signal(signal.SIGTERM)
            await strace.wait()
            await strace.stderr.aclose()


async def start_runs(daemon: Daemon, numbers: itertools.count[int], acks: list[Ack]) -> None:
    """Start one run after the other until the daemon does not answer any more."""
    async with daemon.client() as client:
        while True:
            run_id = f"run-{next(numbers)}"
            try:
                answer = await client.post("/v1/runs", json={"workflow": "ending", "input": "completed", "id": run_id})
            except httpx2.TransportError:
                return
            if answer.status_code == 201:
                acks.append(Ack("run_started", run_id, {"input": "completed"}))
            else:
                assert answer.status_code == 503, answer.text


@pytest.mark.trio
@pytest.mark.slow
@pytest.mark.chaos
async def test_a_failing_disk_stops_the_daemon_and_costs_nothing_acknowledged(
    running: Running, scale: Callable[[int, int], int], figures: Callable[..., None]
) -> None:
    """P4: when the n-th write or sync of the writer fails, the daemon ends non-zero; and after all those failures
    everything that was ever acknowledged is in a journal that verifies."""
    if reason := why_not():
        pytest.skip(reason)
    rounds, calls_max = scale(50, 400), scale(50, 2_000)
    acks: list[Ack] = []
    numbers = itertools.count(1)
    codes: Counter[int] = Counter()
    async with running(started=False) as daemon:
        for at in range(rounds):
            call, error = FAULTS[at % len(FAULTS)]
            when = 1 + at * calls_max // rounds
            await daemon.start()
            writer = daemon.writer_pid()
            assert writer is not None
            async with failing(writer, call, error, when), trio.open_nursery() as nursery:
                for _ in range(TASKS):
                    nursery.start_soon(start_runs, daemon, numbers, acks)
                code = await daemon.ended()
                codes[code] += 1
                assert code > 0, f"{error} at {call} {when}: exit code {code}\n{daemon.log_tail()}"
        await daemon.start()
        assert await daemon.stop() == 0
    found = Findings(daemon.data_dir / "journal.db")
    found.check_file()
    found.check_acknowledged(acks)
    figures(
        "P4",
        strace_rounds=rounds,
        strace_acknowledged=len(acks),
        strace_exits=dict(codes),
        strace_lost=len(found.problems),
    )
    assert found.problems == []
