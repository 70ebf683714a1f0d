"""P18: what is backed up under load restores to a consistent past."""

from __future__ import annotations

import itertools
import json
import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

import httpx2
import pytest
import trio

from tests.system.conftest import Running
from tests.system.daemon_process import HERE, ROOT, Daemon
from wal.queries import Reader
from wal.verify import verify

TASKS = 4


async def runtimed(*arguments: str, codes: Sequence[int] = (0,)) -> bytes:
    """A command of the command line; what it printed as data."""
    environ = {**os.environ, "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-P", "-m", "runtimed", *arguments]
    ended = await trio.run_process(
        command, capture_stdout=True, capture_stderr=True, check=False, env=environ, cwd=HERE
    )
    assert ended.returncode in codes, ended.stderr.decode()
    return ended.stdout


async def load(daemon: Daemon, numbers: itertools.count[int], acknowledged: list[str]) -> None:
    async with daemon.client() as client:
        while True:
            run_id = f"run-{next(numbers)}"
            try:
                body = {"workflow": "ending", "input": "completed", "id": run_id}
                answer = await client.post("/v1/runs", json=body)
            except httpx2.TransportError:
                return
            if answer.status_code == 201:
                acknowledged.append(run_id)


def digest_of(path: Path, seq: int) -> bytes:
    with Reader.open(path) as reader:
        row = reader._row("select digest from records where seq = ?", seq)
    assert row is not None
    return bytes(row[0])


def runs_in(path: Path) -> set[str]:
    with Reader.open(path) as reader:
        return {row[0] for row in reader._rows("select id from runs")}


@pytest.mark.trio
@pytest.mark.slow
@pytest.mark.chaos
async def test_a_backup_under_load_restores_to_a_consistent_past(
    running: Running, short_dir: Path, scale: Callable[[int, int], int], figures: Callable[..., None]
) -> None:
    """P18: each backup holds whatever was acknowledged before it was asked for, is exactly the beginning of the journal
    it was taken of, verifies when restored, and a daemon goes on from it."""
    times = scale(3, 100)
    acknowledged: list[str] = []
    taken: list[tuple[Path, int, list[str]]] = []
    async with running() as daemon:
        async with trio.open_nursery() as nursery:
            numbers = itertools.count(1)
            for _ in range(TASKS):
                nursery.start_soon(load, daemon, numbers, acknowledged)
            for number in range(times):
                before = list(acknowledged)
                target = short_dir / f"backup-{number}.db"
                printed = await runtimed(
                    "-o", "json", "journal", "backup", str(target), "--reason", "P18", "--socket", str(daemon.socket)
                )
                view = json.loads(printed)
                assert view["path"] == str(target)
                taken.append((target, view["seq"], before))
            nursery.cancel_scope.cancel()
        assert await daemon.stop() == 0
    live = daemon.data_dir / "journal.db"
    missing = 0
    for target, seq, before in taken:
        folder = short_dir / f"restored-{target.stem}"
        told = json.loads(await runtimed("-o", "json", "journal", "restore", str(target), "--data-dir", str(folder)))
        restored = Path(told["path"])
        assert (told["seq"], verify(restored).problems) == (seq, [])
        assert digest_of(restored, seq) == digest_of(live, seq)
        missing += len(set(before) - runs_in(restored))
    figures("P18", backups=times, acknowledged=len(acknowledged), missing=missing)
    assert missing == 0
    assert len(runs_in(live)) > len(runs_in(taken[0][0])) >= 1

    refused = await runtimed("journal", "restore", str(taken[0][0]), "--data-dir", str(folder), codes=(5,))
    assert refused == b""
    again = Daemon(short_dir / "again", app="daemon_flows:app")
    again.folder.mkdir()
    await runtimed("journal", "restore", str(taken[-1][0]), "--data-dir", str(again.data_dir))
    try:
        await again.start()
        async with again.client() as client:
            for run_id in taken[-1][2][-3:]:
                found = await client.get(f"/v1/runs/{run_id}/result", params={"wait": 30})
                assert (found.status_code, found.json()) == (200, "completed")
        locked = ("journal", "restore", str(taken[0][0]), "--force", "--data-dir", str(again.data_dir))
        await runtimed(*locked, codes=(75,))
        assert await again.stop() == 0
    finally:
        await again.close()
