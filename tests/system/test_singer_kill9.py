from __future__ import annotations

import json
import random
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import trio

from tests.system.daemon_process import Daemon, children_of, exited
from wal.errors import JournalError
from wal.queries import Reader

TAP = Path(__file__).parents[1] / "runtimed" / "connectors" / "tap_faults.py"
SYNC_SECONDS = 240.0
SEED = 20260301
CONFIG = """
[connectors.crm]
kind = "singer"
every = 0.5
command = [{python}, "-S", {tap}]
config = {{ count = {count}, every = 500 }}
"""


def records_taken(journal: Path) -> int:
    """What the journal counts of the connector; 0 while it is not to be read."""
    try:
        with Reader.open(journal) as reader:
            return reader.connector("crm").records
    except JournalError:
        return 0


async def until_taken(daemon: Daemon, count: int) -> None:
    """Wait until so many records have been taken; there is no one to tell us, because nobody is to know of us."""
    with trio.fail_after(SYNC_SECONDS):
        while records_taken(daemon.data_dir / "journal.db") < count:  # noqa: ASYNC110 - see above
            await trio.sleep(0.01)


def stored(journal: Path) -> list[tuple[int, int]]:
    """Place and number of every record in the store, in the store's order."""
    found: list[tuple[int, int]] = []
    with Reader.open(journal) as reader:
        while (page := reader.stored("people", after=found[-1][0] if found else 0, limit=500)) and page.items:
            found += [(item.seq, json.loads(bytes(item.data))["id"]) for item in page.items]
    return found


@pytest.mark.chaos
@pytest.mark.slow
@pytest.mark.trio
async def test_kill_9_in_a_sync(tmp_path: Path, scale: Callable[[int, int], int], figures: Callable[..., None]) -> None:
    """However often the daemon is killed in a Singer sync, in the end every record is there once, and no child of a
    killed daemon lives on."""
    kills, count = scale(2, 20), scale(40_000, 200_000)
    config = tmp_path / "runtimed.toml"
    python, tap = json.dumps(sys.executable), json.dumps(str(TAP))
    config.write_text(CONFIG.format(python=python, tap=tap, count=count), encoding="utf-8")
    daemon, chance = Daemon(tmp_path, app="", options=["--config", str(config)]), random.Random(SEED)
    orphans = 0
    try:
        for kill in range(kills):
            await daemon.start()
            await until_taken(daemon, count * kill // kills + chance.randrange(1, count // kills))
            family = children_of(daemon.pid)
            family += [grandchild for child in family for grandchild in children_of(child)]
            await daemon.kill()
            for pid in family:
                await exited(pid)
            orphans += len(family)
        await daemon.start()
        journal = daemon.data_dir / "journal.db"
        with trio.fail_after(SYNC_SECONDS):
            while json.loads(cursor_of(journal) or "{}").get("id") != count:  # noqa: ASYNC110 - as above
                await trio.sleep(0.05)
        found = stored(journal)
        assert sorted(number for _, number in found) == list(range(count))
        assert [place for place, _ in found] == sorted({place for place, _ in found})
        figures("singer", kills=kills, records=count, rows=len(found), children_ended=orphans)
        assert await daemon.stop() == 0
    finally:
        await daemon.close()


def cursor_of(journal: Path) -> str:
    with Reader.open(journal) as reader:
        cursor = bytes(reader.connector("crm").cursor).decode()
        return "" if cursor == "null" else cursor
