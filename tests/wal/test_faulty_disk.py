"""P4: a disk that fails is answered by a dead journal, never by a false acknowledgement."""

from __future__ import annotations

import random
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import apsw
import pytest

from wal.errors import CheckpointFailed, CommitFailed, JournalError
from wal.journal import Journal
from wal.records import Entry
from wal.verify import verify

BATCHES = 40


class FailingDisk:
    """Fails the n-th change of one kind with an error of SQLite's; a short write leaves half of its data behind."""

    def __init__(self, kind: str, n: int, code: int) -> None:
        self._kind, self._left, self._code = kind, n, code
        self.failed = False

    def _count(self, kind: str) -> None:
        if kind != self._kind:
            return
        self._left -= 1
        if self._left == 0:
            self.failed = True
            raise apsw.exception_for(self._code)

    def writing(self, name: str, data: bytes, offset: int) -> None:
        self._count("write")

    def written(self, name: str, data: bytes, offset: int) -> None:
        self._count("written")

    def truncate(self, name: str, size: int) -> None:
        self._count("truncate")

    def sync(self, name: str) -> None:
        self._count("sync")

    def synced(self, name: str) -> None:
        self._count("synced")

    def delete(self, name: str) -> None:
        self._count("delete")


FAULTS = {
    "a sync fails": ("sync", apsw.SQLITE_IOERR_FSYNC),
    "a sync works and says it did not": ("synced", apsw.SQLITE_IOERR_FSYNC),
    "a write fails": ("write", apsw.SQLITE_IOERR_WRITE),
    "a write works and says it did not": ("written", apsw.SQLITE_IOERR_WRITE),
    "a write finds the disk full": ("write", apsw.SQLITE_FULL),
    "a truncation fails": ("truncate", apsw.SQLITE_IOERR_TRUNCATE),
}


def live(path: Path, vfs: str, batches: list[list[Entry]]) -> tuple[int, JournalError | None]:
    """What a journal on this disk acknowledged, and the error that ended it."""
    acknowledged = 0
    try:
        journal = Journal.open(path, vfs=vfs, checkpoint_bytes=32 * 1024, wal_max_bytes=128 * 1024)
        try:
            for batch in batches:
                journal.commit(batch)
                acknowledged = batch[-1].seq
                journal.upkeep(idle=False)
        finally:
            journal.close()
    except JournalError as error:
        return acknowledged, error
    return acknowledged, None


@pytest.mark.slow
@pytest.mark.chaos
@pytest.mark.parametrize("fault", FAULTS)
def test_a_failing_disk_never_makes_a_false_acknowledgement(
    fault: str,
    ram_dir: Path,
    watched: Callable[..., str],
    random_program: Callable[..., Any],
    scale: Callable[[int, int], int],
    figures: Callable[..., None],
) -> None:
    """P4: whichever write or sync fails, no batch is acknowledged after it, and a restart finds a prefix of whole
    batches with all that was acknowledged."""
    kind, code = FAULTS[fault]
    rounds = scale(50, 2_000)
    failed = 0
    for n in range(1, rounds + 1):
        batches = list(random_program(n).batches(BATCHES))
        path = Path(tempfile.mkdtemp(dir=ram_dir)) / "journal.db"
        Journal.open(path).close()
        disk = FailingDisk(kind, n, code)
        acknowledged, error = live(path, watched(disk), batches)

        failed += disk.failed
        if error is not None:
            assert disk.failed, error
            assert isinstance(error, JournalError)
        with Journal.open(path) as journal:
            seq = journal.head.seq
        assert seq in {0, *(batch[-1].seq for batch in batches)}
        assert acknowledged <= seq
        assert seq <= next((batch[-1].seq for batch in batches if batch[0].seq > acknowledged), acknowledged)
        if n % 10 == 0:
            assert verify(path).problems == []
        shutil.rmtree(path.parent)

    figures("P4", **{fault.replace(" ", "_"): f"{failed}/{rounds}"})
    assert failed > 0


@pytest.mark.parametrize("kind", ["sync", "write"])
def test_after_a_failed_commit_the_journal_is_dead(
    kind: str, journal_path: Path, watched: Callable[..., str], random_program: Callable[..., Any]
) -> None:
    """A commit whose outcome is unknown is the last thing that the object does."""
    Journal.open(journal_path).close()
    batches = list(random_program(1).batches(3))
    disk = FailingDisk(kind, 10_000, apsw.SQLITE_IOERR)
    journal = Journal.open(journal_path, vfs=watched(disk))
    journal.commit(batches[0])
    disk._left = 1

    with pytest.raises(CommitFailed, match="IOError"):
        journal.commit(batches[1])
    with pytest.raises(CommitFailed, match="died"):
        journal.commit(batches[1])
    with pytest.raises(CheckpointFailed, match="died"):
        journal.checkpoint()

    journal.upkeep()
    before = journal_path.read_bytes()
    journal.close()
    assert journal_path.read_bytes() == before


def test_a_failed_checkpoint_ends_the_journal(
    journal_path: Path, watched: Callable[..., str], random_program: Callable[..., Any]
) -> None:
    """A sync that failed in a checkpoint may have lost pages for good: what a later one says is not trusted."""
    Journal.open(journal_path).close()
    disk = FailingDisk("sync", 10_000, apsw.SQLITE_IOERR_FSYNC)
    journal = Journal.open(journal_path, vfs=watched(disk))
    batches = list(random_program(1).batches(2))
    journal.commit(batches[0])
    disk._left = 2  # the WAL's own sync works, the file's fails

    with pytest.raises(CheckpointFailed):
        journal.checkpoint()
    with pytest.raises(CommitFailed):
        journal.commit(batches[1])
    journal.close()

    with Journal.open(journal_path) as again:
        assert again.head.seq == batches[0][-1].seq


def test_a_full_disk_puts_a_checkpoint_off(
    journal_path: Path, watched: Callable[..., str], random_program: Callable[..., Any]
) -> None:
    """A checkpoint that finds no room loses nothing: it is made later, and the journal lives on."""
    Journal.open(journal_path).close()
    disk = FailingDisk("write", 10_000, apsw.SQLITE_FULL)
    batches = list(random_program(1).batches(2))
    with Journal.open(journal_path, vfs=watched(disk)) as journal:
        journal.commit(batches[0])
        disk._left = 1
        assert not journal.checkpoint()
        assert disk.failed

        journal.commit(batches[1])
        assert journal.checkpoint()


class SmallDisk:
    """Has room for so many bytes of the journal's files and no more; it fails before it takes a part."""

    def __init__(self, room: int) -> None:
        self.room = room
        self._sizes: dict[str, int] = {}

    def writing(self, name: str, data: bytes, offset: int) -> None:
        size = max(self._sizes.get(name, 0), offset + len(data))
        if size > self._sizes.get(name, 0) and sum(self._sizes.values()) - self._sizes.get(name, 0) + size > self.room:
            raise apsw.exception_for(apsw.SQLITE_FULL)
        self._sizes[name] = size

    def written(self, name: str, data: bytes, offset: int) -> None: ...

    def truncate(self, name: str, size: int) -> None:
        self._sizes[name] = size

    def sync(self, name: str) -> None: ...

    def synced(self, name: str) -> None: ...

    def delete(self, name: str) -> None:
        self._sizes.pop(name, None)


@pytest.mark.slow
def test_a_full_disk_heals(
    ram_dir: Path, watched: Callable[..., str], random_program: Callable[..., Any], scale: Callable[[int, int], int]
) -> None:
    """P5: a disk that is full at a commit ends the journal; it opens and reads while the disk is full, and goes on
    once there is room: nothing acknowledged is lost."""
    path = ram_dir / "journal.db"
    Journal.open(path).close()
    disk = SmallDisk(300_000)
    vfs = watched(disk)
    program = random_program(12)
    pending: list[list[Entry]] = []
    for _ in range(scale(3, 100)):
        journal = Journal.open(path, vfs=vfs)
        pending = [batch for batch in pending if batch[0].seq > journal.head.seq]
        pending += program.batches(400)
        acknowledged = journal.head.seq
        with pytest.raises(CommitFailed, match="FullError"):  # noqa: PT012 - at whichever of them
            for batch in pending:
                journal.commit(batch)
                acknowledged = batch[-1].seq
        journal.close()

        with Journal.open(path, vfs=vfs) as full, full.reader() as reader:
            assert reader.head_seq() == full.head.seq >= acknowledged
            assert reader.runs().items
        disk.room += 300_000
    assert verify(path).problems == []


@pytest.mark.slow
def test_random_faults_in_a_row(ram_dir: Path, watched: Callable[..., str], random_program: Callable[..., Any]) -> None:
    """P4: a journal that is restarted after each of many faults still holds a prefix with all acknowledged."""
    rng = random.Random(7)
    path = ram_dir / "journal.db"
    Journal.open(path).close()
    batches = list(random_program(3).batches(200))
    done = 0
    for _ in range(60):
        kind, code = rng.choice(list(FAULTS.values()))
        disk = FailingDisk(kind, rng.randint(1, 40), code)
        acknowledged, _ = live(path, watched(disk), batches[done : done + 5])
        with Journal.open(path) as journal:
            assert journal.head.seq >= acknowledged
            done = next(n for n, batch in enumerate(batches) if batch[0].seq > journal.head.seq)
    assert verify(path).problems == []
