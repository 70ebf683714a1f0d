"""Backups: a verified copy of a journal, beside its live writer, whole under its name or not there at all.

`python -P -m wal.backup SOURCE TARGET KEEP SPARE` is the process that takes one for the daemon: neither the writer nor
the loop waits for it. It reads one snapshot, which delays no commit; it gives way to others (`nice`), and it flushes
what it has written every few megabytes, because the file system may make a commit's flush wait for all that is dirty.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import re
import sys
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import apsw
import msgspec

from wal import upkeep
from wal.connections import (
    CHECKSUM_BYTES,
    checksum_vfs,
    expect,
    inspect_file,
    one_row,
    open_reader,
    read_errors,
    scalar,
    sync_folder,
)
from wal.errors import BackupExists, BackupRefused, JournalBusy, JournalError, RuntimedError
from wal.records import BackupTaken, Entry

STEP_BYTES = 4 * 1024 * 1024
"""So much is copied between two flushes: what a commit's own flush may have to wait for."""

NICE = 5
"""At 10, a backup of a gigabyte took a minute and a half where both cores were busy; and the longer it takes, the more
of SQLite's WAL its snapshot holds back."""
PART = ".part"
NAME = re.compile(r"journal-(\d{8}T\d{6}Z)-(\d+)\.db")
"""How backups are called that nobody named: when they were taken, and up to which record they go."""

NO_PLACE = (errno.ENOENT, errno.ENOTDIR, errno.EACCES, errno.EPERM, errno.EROFS, errno.ELOOP, errno.ENAMETOOLONG)
"""What tells that a file cannot be where it is wanted, whatever the disk is like."""

_META = "last_backup"


class Backup(msgspec.Struct, frozen=True):
    """A backup: where it is, the last record in it, its size, how long it took (0 if that is not known), and when it
    was taken, in microseconds since the epoch."""

    path: str
    seq: int
    size_bytes: int
    seconds: float
    at: int


def taken(db: apsw.Connection, entry: Entry, record: BackupTaken) -> None:
    """A backup was taken: the journal remembers the last one."""
    last = Backup(record.path, record.backup_seq, record.size_bytes, record.seconds, entry.at)
    db.execute("insert or replace into meta values (?, ?)", (_META, msgspec.json.encode(last).decode()))


def last_recorded(db: apsw.Connection) -> Backup | None:
    """The last backup that the journal knows of."""
    text = scalar(db, "select value from meta where key = ?", (_META,))
    return None if text is None else msgspec.json.decode(text, type=Backup)


def backups_in(folder: Path) -> list[Backup]:
    """The backups in a folder that are called as ours are, oldest first. A name that tells no date, or that leads
    nowhere, is nobody's backup."""
    found = []
    for path in folder.iterdir() if folder.exists() else ():
        match = NAME.fullmatch(path.name)
        if match and path.is_file():
            with contextlib.suppress(ValueError, FileNotFoundError):
                taken_at = datetime.strptime(match[1], "%Y%m%dT%H%M%SZ").replace(tzinfo=UTC)
                at = int(taken_at.timestamp()) * 1_000_000
                found.append(Backup(str(path), int(match[2]), path.stat().st_size, 0.0, at))
    return sorted(found, key=lambda one: (one.at, one.seq, one.path))


def place(one: Backup, now: int) -> tuple[bool, int, int]:
    """Where a backup stands among others, greater if later: one of an instant after `now` is before all others, for a
    clock that was wrong has dated it. To the second, because a name tells no more.

    Not by the last record alone: after a restore those numbers go back, and what was taken of the past that was given
    up would stand above all that is taken from then on."""
    return one.at <= now, one.at // 1_000_000, one.seq


# --- taking one ---------------------------------------------------------------------------------------------------


def take(source: Path, target: Path, *, keep: int = 0, spare_bytes: int = 0) -> Backup:
    """Copy the journal at `source`, as of one commit, to `target`: a file that is not there yet, or a folder, in which
    the copy gets a name that tells its time and its last record, and of whose copies the newest `keep` stay (0: all).
    So much as `spare_bytes` is left free beside it, or it is not begun.

    The copy is verified before it gets its name: structure, page checksums, the digests at the end of the log. Raises
    `JournalRefused` for a source that is no journal, `JournalCorrupt` for a damaged one, `BackupExists` if the target
    exists, `BackupRefused` if it cannot be, `JournalBusy` while another backup is being written there, and another
    `JournalError` if the disk does not take it; then there is no file. The copy that was made stays in any case, also
    where the clock was ahead when others were."""
    began = time.perf_counter()
    source, target = source.absolute(), target.absolute()
    try:
        folder, named = (target, None) if target.is_dir() else (target.parent, target)
        if named is not None and (named.exists() or named.is_symlink()):
            raise BackupExists(f"{named} exists; a backup overwrites nothing")
    except OSError as error:  # it may not be looked at, or has an impossible name
        raise BackupRefused(f"a backup cannot be written to {target}: {error.strerror}") from error
    part = folder / ((named.name if named is not None else "journal.db") + PART)
    at = time.time_ns() // 1000
    _check_room(source, folder, spare_bytes)
    with writing(part) as descriptor:
        with read_errors(source):
            seq = copy(source, part, descriptor)
        with read_errors(part):
            check(part, seq)
        if named is None:
            stamp = datetime.fromtimestamp(at / 1_000_000, UTC).strftime("%Y%m%dT%H%M%SZ")
            named = folder / f"journal-{stamp}-{seq}.db"
        size = os.fstat(descriptor).st_size
        try:
            if named.exists():
                raise BackupExists(f"{named} has come meanwhile; a backup overwrites nothing")
            part.rename(named)  # not a link, which some file systems of removable disks do not have
            sync_folder(folder)
        except OSError as error:
            raise JournalError(f"the backup to {named} failed: {error.strerror}") from error
    if keep:
        _remove_older(named, keep)
    return Backup(str(named), seq, size, time.perf_counter() - began, at)


def _remove_older(fresh: Path, keep: int) -> None:
    """Leave `keep` backups in the folder: the one that was just made, and the newest of the others."""
    now = time.time_ns() // 1000
    others = [one for one in backups_in(fresh.parent) if one.path != str(fresh)]
    others.sort(key=lambda one: place(one, now), reverse=True)
    for old in others[keep - 1 :]:
        with contextlib.suppress(OSError):  # the copy is made all the same, and the next one tries again
            Path(old.path).unlink()


def _check_room(source: Path, folder: Path, spare_bytes: int) -> None:
    try:
        wanted = source.stat().st_size + spare_bytes
        free = upkeep.free_bytes(folder)
    except OSError:
        return  # what is wrong with the one or the other is said better where it is opened
    if free < wanted:
        hint = "Free some space, or name another folder; fewer backups are kept with journal.backup_keep."
        raise JournalError(f"a backup to {folder} needs {wanted} bytes free, and {free} are", hint=hint)


def check(path: Path, seq: int) -> None:
    """That a copy is a whole journal that ends with this record: its structure, which reads every page in use against
    its checksum, and the digests at the end of its log. Raises `JournalCorrupt` or another `JournalError`."""
    connection = open_reader(path)
    try:
        upkeep.check_structure(connection)
        upkeep.check_tail(connection)
        found = scalar(connection, "select coalesce(max(seq), 0) from records")
    finally:
        connection.close()
    if found != seq:
        raise JournalError(f"{path} ends with record {found} instead of {seq}")


def clean_leftovers(folder: Path) -> list[Path]:
    """Remove what backups that were interrupted have left in a folder; the names of what was removed."""
    removed = []
    with contextlib.suppress(FileNotFoundError):
        for part in folder.glob(f"*.db{PART}"):
            if not is_held(part):
                _remove(part)
                removed.append(part)
    return removed


def is_held(part: Path) -> bool:
    """Whether a backup is being written to this file right now."""
    try:
        descriptor = os.open(part, os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        return False
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(descriptor)
    return False


@contextlib.contextmanager
def writing(part: Path) -> Iterator[int]:
    """A new file for a copy, locked for as long as it is written: whoever finds it unlocked may remove it."""
    try:
        if part.exists() and not is_held(part):
            _remove(part)
        descriptor = os.open(part, os.O_CREAT | os.O_EXCL | os.O_RDWR | os.O_CLOEXEC, 0o600)
    except FileExistsError as error:
        raise JournalBusy(f"another backup is being written to {part}") from error
    except OSError as error:
        kind = BackupRefused if error.errno in NO_PLACE else JournalError
        raise kind(f"a backup cannot be written to {part.parent}: {error.strerror}") from error
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield descriptor
    except (OSError, apsw.Error) as error:
        raise JournalError(f"the backup to {part} failed: {error}") from error
    finally:
        _remove(part)
        os.close(descriptor)


def copy(source: Path, part: Path, descriptor: int) -> int:
    """Copy one snapshot of the source, page by page; the seq that it ends with."""
    reader = open_reader(source)
    try:
        reader.execute("begin")
        row = one_row(reader, "select coalesce(max(seq), 0) from records")  # from here on it sees this commit
        seq = int(row[0]) if row else 0
        # Through the same VFS, or the pages that the copy changes would lack their checksums.
        with contextlib.closing(apsw.Connection(str(part), vfs=checksum_vfs())) as new:
            expect(new, "journal_mode", "off")  # it has no name until it is whole: there is nothing to roll back to
            expect(new, "synchronous", 0)
            if checksum_vfs() is not None:
                # The VFS learns from the first page that there are checksums to write. The copy writes that page last,
                # and a page that is in the source's WAL alone has none yet.
                new.reserve_bytes(reserve=CHECKSUM_BYTES)
                new.pragma("page_size", int(reader.pragma("page_size")))
                new.pragma("user_version", 1)
            pages = max(1, STEP_BYTES // int(reader.pragma("page_size")))
            with new.backup("main", reader, "main") as backup:
                while not backup.done:
                    backup.step(pages)
                    os.fdatasync(descriptor)
        with contextlib.closing(apsw.Connection(str(part), vfs=checksum_vfs())) as new:
            expect(new, "journal_mode", "delete")  # so that it can be read without files beside it; a writer changes it
        os.fsync(descriptor)
        reader.execute("rollback")
    finally:
        reader.close()
    _read_back(descriptor)
    if not inspect_file(part):
        raise JournalError(f"the copy in {part} is empty")
    return seq


def _read_back(descriptor: int) -> None:
    """Have the copy in memory as it is on the disk, so that what is checked is what would be restored: dropped from the
    cache, and read again from end to end, which takes a third of the time of reading it page by page."""
    with contextlib.suppress(OSError):  # where the file system cannot forget, what is in memory is checked
        os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
    offset = 0
    while data := os.pread(descriptor, STEP_BYTES, offset):
        offset += len(data)


def _remove(part: Path) -> None:
    for suffix in ("", "-journal", "-wal", "-shm"):
        part.with_name(part.name + suffix).unlink(missing_ok=True)


# --- the process --------------------------------------------------------------------------------------------------


class Refusal(msgspec.Struct, frozen=True):
    """Why there is no backup, as the process tells it."""

    code: str
    message: str
    hint: str = ""


def main(arguments: list[str]) -> int:
    """Take a backup and print it as JSON; a `Refusal` and its exit code otherwise."""
    if len(arguments) != 4:
        sys.stderr.write("usage: python -P -m wal.backup SOURCE TARGET KEEP SPARE\n")
        return 2
    source, target, keep, spare = arguments
    os.nice(NICE)
    try:
        done = take(Path(source), Path(target), keep=int(keep), spare_bytes=int(spare))
    except RuntimedError as error:
        sys.stdout.buffer.write(msgspec.json.encode(Refusal(error.code, str(error), error.hint)) + b"\n")
        return error.exit_code
    sys.stdout.buffer.write(msgspec.json.encode(done) + b"\n")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
