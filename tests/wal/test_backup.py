"""Backups: whole under their name or not there, at whatever moment they are interrupted."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

from tests.wal.conftest import ROOT
from wal import backup
from wal import records as r
from wal.errors import BackupExists, BackupRefused, JournalBusy, JournalCorrupt, JournalError, JournalRefused
from wal.journal import Journal
from wal.queries import Reader
from wal.records import Entry
from wal.verify import verify


@pytest.fixture
def filled(journal_path: Path, random_program: Any) -> Iterator[Journal]:
    """An open journal with a few hundred records, some of them in SQLite's WAL alone."""
    with Journal.open(journal_path) as journal:
        for batch in random_program(5).batches(120):
            journal.commit(batch)
        yield journal


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "backups").mkdir()
    return tmp_path / "backups"


def process(source: Path, target: Path, keep: int = 0, *, prelude: str = "") -> subprocess.CompletedProcess[bytes]:
    """The process that takes a backup, with lines of Python run before it."""
    arguments = [str(source), str(target), str(keep), "0"]
    main = f"import sys\nfrom wal import backup\n{prelude}\nsys.exit(backup.main({arguments!r}))"
    environ = {**os.environ, "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-P", "-c", main]
    return subprocess.run(command, env=environ, capture_output=True, timeout=60, check=False)


def test_a_backup_is_the_journal_as_of_one_commit(filled: Journal, journal_path: Path, folder: Path) -> None:
    """Beside an open writer: the copy verifies, keeps page checksums and the writer's rights, and ends where it says;
    the journal goes on."""
    done = backup.take(journal_path, folder / "copy.db")
    filled.commit([Entry(done.seq + 1, 0, 0, 0, r.DaemonStopped())])

    report = verify(done.path)
    assert (report.problems, report.seq, done.seq) == ([], done.seq, filled.head.seq - 1)
    assert [path.name for path in folder.iterdir()] == ["copy.db"]
    assert Path(done.path).stat().st_mode & 0o777 == 0o600
    with Reader.open(done.path) as reader:
        assert reader.statistics().checksums
    with Journal.open(done.path) as copy:  # and it can be used as it is
        copy.commit([Entry(done.seq + 1, 0, 0, 0, r.DaemonStopped())])
    assert verify(done.path).problems == []


@pytest.mark.slow
def test_what_is_in_the_wal_alone_is_copied_with_checksums(journal_path: Path, folder: Path, log: Any) -> None:
    """Pages that no checkpoint has moved yet, more of them than a cache holds, are as good in the copy as others."""
    with Journal.open(journal_path) as journal:
        journal.commit([log.start(1)])
        journal.checkpoint("truncate")
        for n in range(300):
            journal.commit(log.step(1, str(n), payload=b'"' + b"x" * 20_000 + b'"'))
        assert journal.wal_bytes > 6_000_000
        assert verify(backup.take(journal_path, folder / "copy.db").path).problems == []


def test_a_folder_keeps_the_newest(filled: Journal, journal_path: Path, folder: Path) -> None:
    """In a folder a backup is called by its time and last record; of those so called the newest stay, and nothing
    else is touched."""
    (folder / "mine.db").write_bytes(b"precious")
    (folder / "journal-20200101T000000Z-5.db").write_bytes(b"old")
    names = []
    for _ in range(3):
        filled.commit([Entry(filled.head.seq + 1, 0, 0, 0, r.DaemonStopped())])
        names.append(Path(backup.take(journal_path, folder, keep=2).path).name)

    assert {path.name for path in folder.iterdir()} == {"mine.db", *names[1:]}
    assert [one.seq for one in backup.backups_in(folder)] == [filled.head.seq - 1, filled.head.seq]
    assert backup.backups_in(folder / "nowhere") == []
    (folder / "journal-99999999T999999Z-1.db").write_bytes(b"no date")
    (folder / "journal-20260101T000000Z-1.db").symlink_to(folder / "gone")
    (folder / "journal-20260101T000001Z-1.db").mkdir()
    assert [one.seq for one in backup.backups_in(folder)] == [filled.head.seq - 1, filled.head.seq]


@pytest.mark.parametrize("keep", [1, 2, 3])
def test_a_clock_that_was_ahead_costs_no_fresh_backup(
    keep: int, filled: Journal, journal_path: Path, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Copies with a time that is still to come are the first to go, also of more records, as after a restore; the one
    that was just made is there when it is told of, whatever the clock says."""
    now = time.time_ns()
    ahead = [f"journal-2999010{day}T000000Z-9999.db" for day in (1, 2, 3)]
    for name in ahead:
        (folder / name).write_bytes(b"of a clock that was ahead")
    names: list[str] = []
    for n in range(3):
        monkeypatch.setattr(time, "time_ns", lambda n=n: now + n * 10**9)
        names.append(Path(backup.take(journal_path, folder, keep=keep).path).name)
        stay = [*ahead, *names][-keep:]
        assert sorted(path.name for path in folder.iterdir()) == sorted(stay)
    monkeypatch.setattr(time, "time_ns", lambda: now - 3_600 * 10**9)  # what is there is of the future now
    last = Path(backup.take(journal_path, folder, keep=keep).path)
    assert last.exists()
    assert len(list(folder.iterdir())) == keep


def test_nothing_is_overwritten(filled: Journal, journal_path: Path, folder: Path) -> None:
    """A target that is there, a dangling link too, is refused and stays as it is."""
    (folder / "copy.db").write_bytes(b"precious")
    (folder / "link.db").symlink_to(folder / "elsewhere.db")
    for name in ("copy.db", "link.db"):
        with pytest.raises(BackupExists, match="overwrites nothing"):
            backup.take(journal_path, folder / name)
    assert (folder / "copy.db").read_bytes() == b"precious"
    assert sorted(path.name for path in folder.iterdir()) == ["copy.db", "link.db"]


def test_where_no_file_can_be_is_refused(filled: Journal, journal_path: Path, folder: Path) -> None:
    """A folder that is not there, a file in the place of one: whoever asked named it wrongly, the disk is well."""
    (folder / "file").write_bytes(b"")
    for target in (folder / "gone" / "copy.db", folder / "file" / "copy.db", folder / ("x" * 300)):
        with pytest.raises(BackupRefused) as refused:
            backup.take(journal_path, target)
        assert (refused.value.status, refused.value.exit_code) == (400, 2)


def test_what_is_no_journal_has_no_backup(tmp_path: Path, folder: Path) -> None:
    """A missing or foreign source is refused, and nothing is left."""
    (tmp_path / "other.db").write_bytes(b"not SQLite" * 20)
    for name in ("missing.db", "other.db"):
        with pytest.raises(JournalRefused):
            backup.take(tmp_path / name, folder)
    assert list(folder.iterdir()) == []


@pytest.mark.slow
def test_a_damaged_journal_has_no_backup(filled: Journal, journal_path: Path, folder: Path) -> None:
    """A page or a record that is not as it was written ends the backup: no bad one takes a good one's place."""
    filled.close()
    whole = journal_path.read_bytes()
    rng, seen = random.Random(8), 0
    for _ in range(20):
        data = bytearray(whole)
        data[rng.randrange(4096, len(data))] ^= 1 << rng.randrange(8)
        journal_path.write_bytes(data)
        try:
            backup.take(journal_path, folder)
        except JournalCorrupt:
            seen += 1
    free = len(list(folder.iterdir()))  # a bit in a page that holds nothing is nobody's
    assert (seen + free, free) == (20, 0)


def test_two_backups_to_one_file_do_not_meet(filled: Journal, journal_path: Path, folder: Path) -> None:
    """While one is being written, another to the same name is refused; leftovers are not taken for one."""
    part = folder / "copy.db.part"
    with backup.writing(part):
        assert backup.is_held(part)
        assert backup.clean_leftovers(folder) == []
        with pytest.raises(JournalBusy):
            backup.take(journal_path, folder / "copy.db")
    part.write_bytes(b"half")
    assert not backup.is_held(part)
    assert verify(backup.take(journal_path, folder / "copy.db").path).ok


def test_a_disk_that_is_full_leaves_nothing(
    filled: Journal, journal_path: Path, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An error of the disk at any flush ends the backup in a sentence; no file is left, and the journal goes on."""

    def full(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    for name in ("fdatasync", "fsync"):
        with monkeypatch.context() as patch:
            patch.setattr(os, name, full)
            with pytest.raises(JournalError, match="No space left"):
                backup.take(journal_path, folder)
        assert list(folder.iterdir()) == []
    filled.commit([Entry(filled.head.seq + 1, 0, 0, 0, r.DaemonStopped())])


KILL = """
import os, signal
left = {n}
def counting(call):
    def counted(*args, **more):
        global left
        left -= 1
        if left == 0:
            os.kill(os.getpid(), signal.SIGKILL)
        return call(*args, **more)
    return counted
backup.STEP_BYTES = 65536
for name in ("open", "fdatasync", "fsync", "rename", "unlink", "posix_fadvise", "fstat"):
    setattr(os, name, counting(getattr(os, name)))
"""


@pytest.mark.slow
@pytest.mark.chaos
def test_a_kill_at_any_moment_leaves_a_whole_backup_or_none(
    filled: Journal, journal_path: Path, folder: Path, figures: Callable[..., None]
) -> None:
    """Killed before every call to the system: under the final name there is nothing, or a whole backup; and the next
    backup clears away what was left."""
    kills = whole = 0
    while True:
        ended = process(journal_path, folder, prelude=KILL.format(n=kills + 1))
        if ended.returncode == 0:
            break
        assert ended.returncode == -signal.SIGKILL, ended.stderr.decode()
        kills += 1
        for one in backup.backups_in(folder):
            assert verify(one.path).ok
            Path(one.path).unlink()
            whole += 1
        backup.clean_leftovers(folder)
        assert list(folder.iterdir()) == []
    figures("backup", kills=kills, whole=whole)
    assert kills >= 10
    assert verify(journal_path).ok


def test_the_process_tells_what_it_did(filled: Journal, journal_path: Path, folder: Path) -> None:
    """It prints the backup as JSON, or why there is none with the exit code of that error."""
    done = process(journal_path, folder / "copy.db")
    told = msgspec.json.decode(done.stdout, type=backup.Backup)
    assert (done.returncode, told.path, told.seq) == (0, str(folder / "copy.db"), filled.head.seq)

    again = process(journal_path, folder / "copy.db")
    refusal = msgspec.json.decode(again.stdout, type=backup.Refusal)
    assert (again.returncode, refusal.code) == (5, "backup_exists")
    assert process(journal_path.with_name("none.db"), folder).returncode == 78


def test_a_backup_does_not_fill_the_disk(filled: Journal, journal_path: Path, folder: Path) -> None:
    """Where there is not room for it and what is to be left free, it is not begun."""
    with pytest.raises(JournalError, match="bytes free"):
        backup.take(journal_path, folder, spare_bytes=2**60)
    assert list(folder.iterdir()) == []


def test_the_journal_remembers_its_last_backup(memory: Journal, log: Any) -> None:
    """A recorded backup is what is told of the last one; the older one is forgotten."""
    assert backup.last_recorded(memory._db) is None
    memory.commit([log.add(0, r.BackupTaken("/b/1.db", 5, 4096, 0.5)), log.add(0, r.BackupTaken("/b/2.db", 6))])
    last = backup.last_recorded(memory._db)
    assert last is not None
    assert (last.path, last.seq, last.at) == ("/b/2.db", 6, 1_700_000_000_000_002)


def test_a_copy_that_ends_elsewhere_is_no_backup(filled: Journal, journal_path: Path, folder: Path) -> None:
    """The check of a copy knows which record it must end with."""
    done = backup.take(journal_path, folder / "copy.db")
    with pytest.raises(JournalError, match="ends with record"):
        backup.check(Path(done.path), done.seq + 1)


def test_a_snapshot_does_not_stop_the_writer(filled: Journal, journal_path: Path, folder: Path) -> None:
    """Commits and checkpoints go on between two steps of a copy, and the copy does not see them."""
    seq = filled.head.seq
    steps = 0
    original = os.fdatasync

    def commit_too(descriptor: int) -> None:
        nonlocal steps
        steps += 1
        filled.commit([Entry(filled.head.seq + 1, 0, 0, 0, r.DaemonStopped())])
        filled.checkpoint("passive")
        original(descriptor)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "fdatasync", commit_too)
        patch.setattr(backup, "STEP_BYTES", 16_384)
        done = backup.take(journal_path, folder / "copy.db")
    assert steps > 3
    assert (done.seq, verify(done.path).problems) == (seq, [])
