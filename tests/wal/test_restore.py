"""Restore: a whole past in its place, or everything as it was."""

from __future__ import annotations

import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from wal import backup, restore
from wal import records as r
from wal.connections import inspect_file
from wal.errors import JournalError, JournalExists, JournalLocked, JournalRefused
from wal.journal import Journal
from wal.lock import DataFolderLock
from wal.migrations import SCHEMA_VERSION
from wal.queries import Reader
from wal.records import Entry
from wal.verify import verify


@pytest.fixture
def saved(journal_path: Path, tmp_path: Path, random_program: Any) -> Path:
    """A backup of a journal that has gone on since."""
    with Journal.open(journal_path) as journal:
        for batch in random_program(2).batches(60):
            journal.commit(batch)
        done = backup.take(journal_path, tmp_path / "saved.db")
        journal.commit([Entry(done.seq + 1, 0, 0, 0, r.DaemonStopped())])
    return Path(done.path)


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir() if path.suffix != ".lock" and path.name != "lock"}


def test_a_backup_becomes_the_journal_of_an_empty_folder(saved: Path, tmp_path: Path) -> None:
    """What is restored verifies, says up to where and when it goes, and takes new records; the backup stays."""
    before = saved.read_bytes()
    done = restore.restore(saved, tmp_path / "data")

    assert (done.path, done.aside) == (str(tmp_path / "data" / "journal.db"), None)
    assert verify(done.path).seq == done.seq
    with Reader.open(saved) as reader:
        assert (done.seq, done.at) == (reader.head_seq(), restore.last_instant(saved))
    with Journal.open(done.path) as journal:
        journal.commit([Entry(done.seq + 1, 0, 0, 0, r.DaemonStopped())])
    assert verify(done.path).problems == []
    assert saved.read_bytes() == before


def test_a_journal_that_is_there_is_kept(saved: Path, journal_path: Path, tmp_path: Path) -> None:
    """Without force nothing happens; with it the journal from before is aside, whole, with what was in its WAL."""
    folder = journal_path.parent
    (folder / "advancing").write_bytes(b"run 7")
    with pytest.raises(JournalExists):
        restore.restore(saved, folder)
    assert (folder / "advancing").exists()

    with Journal.open(journal_path) as journal:
        seq = journal.head.seq + 1
        journal.commit([Entry(seq, 0, 0, 0, r.DaemonStopped())])
        wal = journal_path.with_name("journal.db-wal").read_bytes()
        database = journal_path.read_bytes()
    journal_path.write_bytes(database)  # as a kill leaves it: the last record is in the WAL alone
    journal_path.with_name("journal.db-wal").write_bytes(wal)

    done = restore.restore(saved, folder, force=True, stale=["advancing"])
    assert done.aside is not None
    assert (verify(done.aside).problems, verify(done.aside).seq) == ([], seq)
    assert (verify(journal_path).problems, verify(journal_path).seq) == ([], seq - 2)
    assert not (folder / "advancing").exists()
    again = restore.restore(saved, folder, force=True)
    assert again.aside is not None
    assert again.aside != done.aside


def test_a_damaged_journal_gives_way_and_is_kept_as_it_is(saved: Path, journal_path: Path) -> None:
    """The journal that is replaced may be past opening: then its files are kept byte for byte."""
    journal_path.write_bytes(journal_path.read_bytes()[:5000])
    journal_path.with_name("journal.db-wal").write_bytes(b"not a WAL")
    done = restore.restore(saved, journal_path.parent, force=True)
    assert done.aside is not None
    assert Path(done.aside).stat().st_size == 5000
    assert verify(journal_path).ok


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-4096])


def empty(path: Path) -> None:
    path.write_bytes(b"")


def foreign(path: Path) -> None:
    data = bytearray(path.read_bytes())
    struct.pack_into(">I", data, 68, 0x12345678)
    path.write_bytes(data)


def newer(path: Path) -> None:
    data = bytearray(path.read_bytes())
    struct.pack_into(">I", data, 60, SCHEMA_VERSION + 1)
    path.write_bytes(data)


def no_sqlite(path: Path) -> None:
    path.write_bytes(b"PK\x03\x04" * 100)


def a_folder(path: Path) -> None:
    path.unlink()
    path.mkdir()


def gone(path: Path) -> None:
    path.unlink()


def turned(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


BAD: list[tuple[Callable[[Path], None], str]] = [
    (cut, "cut short"), (empty, "is empty"), (foreign, "belongs to another program"),
    (newer, "this runtimed knows up to"),
    (no_sqlite, "is not a SQLite file"), (a_folder, "cannot be read"), (gone, "is not there"), (turned, "damaged"),
]  # fmt: skip


@pytest.mark.parametrize(("spoil", "said"), BAD, ids=[spoil.__name__ for spoil, _ in BAD])
@pytest.mark.parametrize("force", [False, True])
def test_what_is_no_whole_backup_is_refused_and_changes_nothing(
    saved: Path, journal_path: Path, spoil: Callable[[Path], None], said: str, force: bool
) -> None:
    """A truncated, foreign, newer, damaged or missing file ends in a sentence and exit code 78; nothing changes."""
    spoil(saved)
    folder = journal_path.parent / "data"
    if force:
        folder.mkdir()
        Journal.open(folder / "journal.db").close()
    before = contents(folder) if force else None
    with pytest.raises(JournalError, match=said) as raised:
        restore.restore(saved, folder, force=force)
    assert raised.value.exit_code == 78
    assert (contents(folder) if folder.exists() else None) == before


def test_a_live_journal_is_not_replaced(saved: Path, journal_path: Path) -> None:
    """A daemon's lock, or a writer's, refuses it, force or not."""
    folder = journal_path.parent
    with DataFolderLock(folder), pytest.raises(JournalLocked):
        restore.restore(saved, folder, force=True)
    with Journal.open(journal_path), pytest.raises(JournalLocked):
        restore.restore(saved, folder, force=True)
    assert verify(journal_path).seq == verify(saved).seq + 1


def test_a_journal_is_not_restored_over_itself(saved: Path, journal_path: Path) -> None:
    """To name the journal of the folder as its own backup is a slip, and is refused."""
    with pytest.raises(JournalExists, match="already"):
        restore.restore(journal_path, journal_path.parent, force=True)
    assert inspect_file(journal_path)


def test_a_disk_that_does_not_take_it_leaves_the_folder(
    saved: Path, journal_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An error while copying leaves the journal that is there, and nothing beside it."""

    def full(*_: Any) -> int:
        raise OSError(28, "No space left on device")

    before = contents(journal_path.parent)
    monkeypatch.setattr("os.fdatasync", full)
    with pytest.raises(JournalError, match="No space left"):
        restore.restore(saved, journal_path.parent, force=True)
    assert contents(journal_path.parent) == before


def test_an_older_version_is_restored_as_it_is(tmp_path: Path) -> None:
    """P13: a backup of an older schema is put back unchanged; the daemon's start brings it up to date."""
    import gzip

    golden = Path(__file__).parents[1] / "golden" / "journal-1.db.gz"
    (tmp_path / "old.db").write_bytes(gzip.decompress(golden.read_bytes()))
    done = restore.restore(tmp_path / "old.db", tmp_path / "data")
    with Journal.open(done.path) as journal:
        assert (journal.head.seq, journal.head.schema) == (done.seq, SCHEMA_VERSION)
    with pytest.raises(JournalRefused, match="no journal"):
        backup.take(tmp_path / "none.db", tmp_path)
