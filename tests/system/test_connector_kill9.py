from __future__ import annotations

import contextlib
import random
from collections.abc import Callable
from pathlib import Path

import httpx2
import pytest
import trio

from tests.system.daemon_process import Daemon
from wal.errors import JournalError
from wal.queries import Reader

SEED = 20261128
FINISH_SECONDS = 120.0
ENVIRON = {"RUNTIMED__JOURNAL__BALLAST_BYTES": "0", "RUNTIMED__LOG__LEVEL": "warning"}


class Progress:
    """How far both connectors have come, read from the file beside the daemon."""

    def __init__(self, daemon: Daemon) -> None:
        self._path = daemon.data_dir / "journal.db"

    def records(self, name: str) -> int:
        with contextlib.suppress(JournalError, OSError), Reader.open(self._path) as reader:
            return reader.connector(name).records
        return 0

    async def until(self, name: str, records: int) -> None:
        with trio.fail_after(FINISH_SECONDS):
            while self.records(name) < records:  # noqa: ASYNC110 - another process's work
                await trio.sleep(0.01)


async def sync_with_kills(daemon: Daemon, kills: int, totals: dict[str, int], seed: int) -> None:
    """Kill the daemon at instants spread over the whole of both syncs, each time a little later than it got to."""
    chance, progress = random.Random(seed), Progress(daemon)
    await daemon.start()
    for number in range(kills):
        name = ("rows", "runs")[number % 2]
        share = (number + chance.random()) / (kills + 1)
        await progress.until(name, round(totals[name] * share))
        await trio.sleep(chance.uniform(0.0, 0.05))
        await daemon.kill()
        await daemon.start()
    for name, total in totals.items():
        await progress.until(name, total)


def all_keys(reader: Reader, stream: str) -> list[int]:
    keys: list[int] = []
    after = 0
    while (page := reader.stored(stream, after=after, limit=500)) is not None and page.items:
        keys += [int(item.key) for item in page.items]
        after = page.items[-1].seq
    return keys


def run_ids(reader: Reader) -> list[str]:
    ids: list[str] = []
    cursor: str | None = None
    while True:
        page = reader.runs(status="completed", limit=500, cursor=cursor)
        ids += [run.id for run in page.items]
        if page.next is None:
            return ids
        cursor = page.next


async def open_runs(client: httpx2.AsyncClient) -> int:
    answer = await client.get("/v1/runs", params={"status": "running"})
    return int(answer.json()["total"])


@pytest.mark.trio
@pytest.mark.slow
@pytest.mark.chaos
async def test_kill_minus_nine_in_a_sync_leaves_no_gap_and_no_double(
    short_dir: Path, scale: Callable[[int, int], int], figures: Callable[..., None]
) -> None:
    """Killed at any record of a sync, again and again: at the end each row is in the store once, each key has one run
    that ended, and no row was even taken twice, because cursor and records are one commit."""
    kills = scale(3, 20)
    totals = {"rows": scale(40_000, 200_000), "runs": scale(1_000, 10_000)}
    environ = {**ENVIRON, "INTAKE_ROWS": str(totals["rows"]), "INTAKE_RUNS": str(totals["runs"])}
    daemon = Daemon(short_dir, app="intake_flows:app", environ=environ)
    began = trio.current_time()
    try:
        await sync_with_kills(daemon, kills, totals, SEED)
        seconds = trio.current_time() - began
        with trio.fail_after(FINISH_SECONDS):
            async with daemon.client() as client:
                while await open_runs(client):  # noqa: ASYNC110 - another process's work
                    await trio.sleep(0.1)
        assert await daemon.stop() == 0, daemon.log_tail()
    finally:
        with trio.CancelScope(shield=True):
            await daemon.close()
    with Reader.open(daemon.data_dir / "journal.db") as reader:
        assert sorted(all_keys(reader, "rows")) == list(range(totals["rows"]))
        assert sorted(run_ids(reader)) == sorted(f"runs:{number}" for number in range(totals["runs"]))
        for name, total in totals.items():
            row = reader.connector(name)
            assert (row.records, row.repeated, row.refused) == (total, 0, 0)
    figures(
        "P2", connector_kills=kills, connector_rows=totals["rows"], connector_s=round(seconds, 1), doubled=0, gaps=0
    )
