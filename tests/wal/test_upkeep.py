"""Checkpoints, ballast, and that the files beside the journal stay bounded."""

from __future__ import annotations

import errno
import os
from pathlib import Path
from typing import Any

import pytest
from msgspec import Raw

from wal import upkeep
from wal.errors import JournalCorrupt
from wal.journal import Journal
from wal.records import DaemonStopped, Entry, RunStarted
from wal.upkeep import checkpoint_mode, free_bytes, release_ballast, restore_ballast

KIB = 1024
MIB = 1024 * KIB


def wal_file(path: Path) -> int:
    return path.with_name(path.name + "-wal").stat().st_size


@pytest.mark.parametrize(
    ("pending", "file", "idle", "expected"),
    [
        (0, 0, True, ""),
        (MIB - 1, MIB, True, ""),
        (MIB, MIB, True, "passive"),
        (MIB, MIB, False, ""),
        (16 * MIB, 16 * MIB, False, "passive"),
        (0, 65 * MIB, False, ""),
        (0, 65 * MIB, True, "truncate"),
        (65 * MIB, 65 * MIB, False, "truncate"),
    ],
)
def test_when_a_checkpoint_is_due(pending: int, file: int, idle: bool, expected: str) -> None:
    """Little is moved when idle, much under load, and a file that grew too large is cut back."""
    mode = checkpoint_mode(
        pending_bytes=pending, file_bytes=file, idle=idle, checkpoint_bytes=16 * MIB, max_bytes=64 * MIB
    )
    assert mode == expected


def commit_some(journal: Journal, log: Any, n: int) -> None:
    for _ in range(n):
        journal.commit(log.step(1, payload=b"1" * 2_000))
        journal.upkeep(idle=False)


def test_the_wal_stays_bounded_under_load(journal_path: Path, log: Any) -> None:
    """P7: checkpoints under load let SQLite begin its WAL anew, so the file stops growing."""
    with Journal.open(journal_path, checkpoint_bytes=100 * KIB, wal_max_bytes=MIB) as journal:
        journal.commit([log.start(1)])
        commit_some(journal, log, 200)
        assert wal_file(journal_path) < 200 * KIB


def test_a_stuck_reader_does_not_stop_commits_and_the_wal_shrinks_after_it(journal_path: Path, log: Any) -> None:
    """P7: one unfinished read holds the WAL back; commits go on, and once it ends the file is cut back to nothing."""
    with Journal.open(journal_path, checkpoint_bytes=100 * KIB, wal_max_bytes=300 * KIB) as journal:
        journal.commit([log.start(1)])
        with journal.reader() as reader:
            reader._db.execute("begin")
            reader._db.execute("select count(*) from records").fetchall()
            commit_some(journal, log, 100)
            assert wal_file(journal_path) > 300 * KIB
        journal.upkeep()
        assert wal_file(journal_path) == 0
        assert journal.wal_bytes == 0


def test_a_stuck_reader_does_not_cost_a_try_at_every_batch(journal_path: Path, log: Any) -> None:
    """A checkpoint that a reader holds back is tried again when as much again has come, not at each commit."""
    with Journal.open(journal_path, checkpoint_bytes=100 * KIB) as journal:
        journal.commit([log.start(1)])
        tries = 0
        checkpoint = journal.checkpoint

        def counted(mode: str = "passive") -> bool:
            nonlocal tries
            tries += 1
            return checkpoint(mode)

        journal.checkpoint = counted  # type: ignore[method-assign]
        with journal.reader() as reader:
            reader._db.execute("begin")
            reader._db.execute("select count(*) from records").fetchall()
            commit_some(journal, log, 100)
        assert 0 < tries <= journal.wal_bytes // (100 * KIB)


def test_commits_alone_bound_the_wal_too(journal_path: Path, log: Any) -> None:
    """A caller that never finds time for upkeep does not fill the disk."""
    with Journal.open(journal_path, wal_max_bytes=200 * KIB) as journal:
        journal.commit([log.start(1)])
        for _ in range(200):
            journal.commit(log.step(1, payload=b"1" * 2_000))
        assert wal_file(journal_path) < 400 * KIB


def test_an_idle_checkpoint_moves_all(journal_path: Path, log: Any) -> None:
    """What is moved when idle need not be read again at the next start."""
    with Journal.open(journal_path) as journal:
        journal.commit([log.start(1, input=Raw(b'"' + b"x" * 2 * MIB + b'"'))])
        before = journal.db_bytes
        journal.upkeep()
        assert journal.db_bytes > before + MIB
        assert journal.checkpoint()


def test_memory_needs_no_upkeep(memory: Journal) -> None:
    """A journal in memory takes the same calls and does nothing."""
    memory.upkeep()
    assert memory.checkpoint("truncate")
    assert (memory.wal_bytes, memory.db_bytes) == (0, 0)


# --- the check after an unclean stop --------------------------------------------------------------------------------


def test_the_tail_of_a_log_is_checked(memory: Journal, log: Any) -> None:
    """Changed, missing and moved records among the last ones are seen; an untouched tail passes at any length."""
    memory.commit([log.start(1), *(entry for n in range(20) for entry in log.step(1, str(n)))])
    for records in (1, 5, 41, 100):
        upkeep.check_tail(memory._db, records)

    for damage in (
        "update records set body = replace(body, 'charge', 'refund') where seq = 39",
        "delete from records where seq = 39",
        "update records set run_key = 2 where seq = 41",
        "update records set digest = zeroblob(16) where seq = 41",
    ):
        memory._db.execute("savepoint s")
        memory._db.execute(damage)
        with pytest.raises(JournalCorrupt, match="not what was written"):
            upkeep.check_tail(memory._db, 5)
        memory._db.execute("rollback to s")
    upkeep.check_tail(memory._db, 5)


def test_an_empty_log_passes() -> None:
    """Nothing is not damaged."""
    with Journal.open(None) as journal:
        upkeep.check_tail(journal._db)
        upkeep.check_structure(journal._db)


# --- ballast --------------------------------------------------------------------------------------------------------


def test_ballast_is_real_space(tmp_path: Path) -> None:
    """The ballast's blocks are allocated, given up at once, and restored."""
    assert restore_ballast(tmp_path, MIB)
    blocks = (tmp_path / "ballast").stat().st_blocks * 512
    assert blocks >= MIB
    assert restore_ballast(tmp_path, MIB)
    assert release_ballast(tmp_path) == MIB
    assert release_ballast(tmp_path) == 0
    assert list(tmp_path.iterdir()) == []


def test_ballast_takes_another_size(tmp_path: Path) -> None:
    """A changed setting changes the file; 0 removes it."""
    for size in (64 * KIB, 16 * KIB, 128 * KIB):
        assert restore_ballast(tmp_path, size)
        assert (tmp_path / "ballast").stat().st_size == size
    assert restore_ballast(tmp_path, 0)
    assert not (tmp_path / "ballast").exists()


def test_a_full_disk_leaves_no_ballast_and_no_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """P5: with no room for the ballast the journal still opens; half a ballast is not kept."""

    def full(*_: int) -> None:
        raise OSError(errno.ENOSPC, "full")

    monkeypatch.setattr(os, "posix_fallocate", full)
    assert not restore_ballast(tmp_path, MIB)
    assert not (tmp_path / "ballast").exists()
    with Journal.open(tmp_path / "journal.db", ballast_bytes=MIB) as journal:
        assert journal.head.seq == 0


def test_ballast_is_given_up_and_made_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """P5: a nearly full disk gets the ballast's space; once there is room for two of it, it is made again."""
    free = 10 * MIB
    monkeypatch.setattr(upkeep, "free_bytes", lambda folder: free)
    with Journal.open(tmp_path / "journal.db", ballast_bytes=MIB) as journal:
        held = [(tmp_path / "ballast").exists()]
        for free in (2 * MIB, MIB - 1, MIB, 2 * MIB - 1, 2 * MIB):  # noqa: B007 - the lambda above reads it
            journal.upkeep()
            held.append((tmp_path / "ballast").exists())
        free = MIB - 1
    assert held == [True, True, False, False, False, True]
    Journal.open(tmp_path / "journal.db", ballast_bytes=MIB).close()
    assert not (tmp_path / "ballast").exists()


def test_free_space_is_a_number_of_bytes(tmp_path: Path) -> None:
    """What the watermark looks at is what a process of ours could still write."""
    status = os.statvfs(tmp_path)
    assert abs(free_bytes(tmp_path) - status.f_bavail * status.f_frsize) < 1024 * MIB


# --- the WAL filled ahead ---------------------------------------------------------------------------------------------


def test_a_filled_wal_holds_what_was_committed(tmp_path: Path) -> None:
    """Zeros behind the end of the WAL are no frames: commits overwrite them, a kill leaves nothing else to read."""
    path = tmp_path / "journal.db"
    journal = Journal.open(path)
    journal.fill_wal()
    size = wal_size(path)
    assert size > journal._options.checkpoint_bytes

    journal.commit([Entry(1, 1, 0, 5, RunStarted("a", "shop", Raw(b"1")))])
    assert wal_size(path) == size

    left = tmp_path / "left"  # the folder as a kill would leave it
    left.mkdir()
    for name in ("journal.db", "journal.db-wal"):
        (left / name).write_bytes((tmp_path / name).read_bytes())
    with Journal.open(left / "journal.db") as after, after.reader() as reader:
        assert (after.head.seq, reader.run("a") is not None) == (1, True)
    journal.close()
    assert not path.with_name("journal.db-wal").exists()


def test_a_full_disk_leaves_the_wal_as_it_was(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where there is little room, nothing is filled ahead and everything works."""
    monkeypatch.setattr(upkeep, "free_bytes", lambda folder: 1_000)
    with Journal.open(tmp_path / "journal.db") as journal:
        journal.fill_wal()
        assert wal_size(tmp_path / "journal.db") == 0
        journal.commit([Entry(1, 1, 0, 5, RunStarted("a", "shop", Raw(b"1")))])


def wal_size(path: Path) -> int:
    return path.with_name(path.name + "-wal").stat().st_size


class TestExternal:
    """Another program checkpoints: SQLite's WAL is left alone."""

    def test_the_wal_is_left_alone(self, journal_path: Path, log: Any) -> None:
        """Neither upkeep nor closing nor the next start moves anything; nothing is lost by that."""
        with Journal.open(journal_path, external=True) as journal:
            before = journal_path.read_bytes()
            journal.fill_wal()
            journal.commit([log.start(1)])
            for n in range(60):
                journal.commit(log.step(1, str(n), payload=b"1" * 40_000))
                journal.upkeep(idle=bool(n % 2))
            journal.commit([log.add(0, DaemonStopped())])
            size = wal_file(journal_path)
            assert size > 2 * MIB
        assert journal_path.read_bytes() == before
        assert wal_file(journal_path) == size

        with Journal.open(journal_path, external=True) as journal:
            assert (journal.head.seq, journal.head.clean) == (log.seq, True)
            assert wal_file(journal_path) == size
        with Journal.open(journal_path) as journal:  # and by itself again
            assert (journal.head.seq, wal_file(journal_path)) == (log.seq, 0)

    def test_beyond_the_maximum_it_is_moved_all_the_same(self, journal_path: Path, log: Any) -> None:
        """Were the other program to stop, the disk would fill: the maximum holds."""
        with Journal.open(journal_path, external=True, wal_max_bytes=200 * KIB) as journal:
            journal.commit([log.start(1)])
            commit_some(journal, log, 200)
            assert wal_file(journal_path) < 500 * KIB

    def test_after_an_unclean_stop_a_new_one_is_begun(self, journal_path: Path, log: Any) -> None:
        """What a power cut tore must not lie behind what comes after it, so that start moves everything."""
        with Journal.open(journal_path, external=True) as journal:
            journal.commit([log.start(1)])
        assert wal_file(journal_path) > 0
        with Journal.open(journal_path, external=True) as journal:
            assert wal_file(journal_path) == 0
            assert not journal.head.clean
