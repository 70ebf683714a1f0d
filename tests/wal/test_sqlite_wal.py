"""P6: SQLite's WAL is not believed when it hides committed transactions."""

from __future__ import annotations

import random
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from wal.errors import JournalCorrupt
from wal.journal import Journal

HEADER, FRAME = 32, 24


@pytest.fixture
def crashed(journal_path: Path, tmp_path: Path, log: Any) -> Callable[[], tuple[Path, bytearray]]:
    """A journal as a kill left it: 40 commits, all of them in the WAL."""
    with Journal.open(journal_path) as journal:
        journal.commit([log.start(1)])
        journal.checkpoint("truncate")
        for n in range(40):
            journal.commit(log.step(1, str(n)))
        database = journal_path.read_bytes()
        wal = journal_path.with_name("journal.db-wal").read_bytes()

    def remake() -> tuple[Path, bytearray]:
        path = tmp_path / "crashed.db"
        for old in tmp_path.glob("crashed.db*"):
            old.unlink()
        path.write_bytes(database)
        return path, bytearray(wal)

    return remake


def reopen(path: Path, wal: bytes) -> int:
    path.with_name(path.name + "-wal").write_bytes(wal)
    with Journal.open(path) as journal:
        return journal.head.seq


def commits(wal: bytes) -> list[int]:
    """Where each frame that ends a transaction ends."""
    page = struct.unpack_from(">I", wal, 8)[0]
    ends = range(HEADER + FRAME + page, len(wal) + 1, FRAME + page)
    return [end for end in ends if struct.unpack_from(">I", wal, end - page - FRAME + 4)[0]]


def test_an_undamaged_wal_is_read_whole(crashed: Any) -> None:
    """After a kill everything committed is there."""
    path, wal = crashed()
    assert reopen(path, wal) == 81


def test_a_torn_tail_is_the_end(crashed: Any) -> None:
    """What a power cut tears off the last transaction was never acknowledged: the log ends before it."""
    path, wal = crashed()
    ends = commits(wal)
    for size in (len(wal) - 1, ends[-2] + 1, ends[-2] + FRAME, ends[-2]):
        path, wal = crashed()
        assert reopen(path, wal[:size]) == 79
    path, wal = crashed()
    wal[ends[-1] - 100] ^= 1
    assert reopen(path, wal) == 79


@pytest.mark.slow
@pytest.mark.chaos
def test_a_turned_bit_before_the_last_commit_is_seen(
    crashed: Any, scale: Callable[[int, int], int], figures: Callable[..., None]
) -> None:
    """P6: a single bit anywhere before the last transaction would silently drop all after it: refused instead."""
    rng = random.Random(3)
    flips = scale(100, 1_000)
    seen = 0
    for _ in range(flips):
        path, wal = crashed()
        place = rng.randrange(commits(wal)[-2])
        wal[place] ^= 1 << rng.randrange(8)
        try:
            reopen(path, wal)
        except JournalCorrupt:
            seen += 1
    figures("P6", wal_flips=flips, wal_seen=seen)
    assert seen == flips


def test_a_wal_of_nothing_is_nothing(crashed: Any) -> None:
    """An empty WAL, and one whose header was never written, hold nothing."""
    for wal in (b"", bytes(HEADER), bytes(5)):
        path, _ = crashed()
        assert reopen(path, wal) == 1
