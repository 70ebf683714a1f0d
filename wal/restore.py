"""Restore: put a backup in a data folder, after it was verified; what was there is moved aside, never deleted."""

from __future__ import annotations

import os
import struct
import time
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

import apsw
import msgspec

from wal import backup
from wal.connections import (
    checksum_vfs,
    close_untouched,
    guard_checksums,
    inspect_file,
    one_row,
    open_reader,
    open_writer,
    read_errors,
    sync_folder,
)
from wal.errors import JournalCorrupt, JournalError, JournalExists, JournalRefused
from wal.lock import DataFolderLock, WriterLock
from wal.verify import verify

JOURNAL_NAME = "journal.db"
_COMPANIONS = ("-wal", "-shm")


class Restored(msgspec.Struct, frozen=True):
    """What a data folder has now: the file, the last record in it and when that was submitted (microseconds since the
    epoch; 0 for an empty journal), and where the journal from before is, if there was one."""

    path: str
    seq: int
    at: int
    aside: str | None
    seconds: float


def restore(source: Path, folder: Path, *, force: bool = False, stale: Sequence[str] = ()) -> Restored:
    """Make the backup `source` the journal of a data folder. `force` moves a journal that is there aside. `stale` are
    names of files in the folder that speak of the journal before and are removed.

    The source is verified whole before anything is touched. Raises `JournalRefused` or `JournalCorrupt` for one that
    is foreign, newer, cut short or damaged, `JournalLocked` if a daemon runs on the folder, `JournalExists` without
    `force`, and `JournalError` if the disk does not take it; then the folder is as it was."""
    began = time.perf_counter()
    source, folder = source.absolute(), folder.absolute()
    _examine(source)
    target = folder / JOURNAL_NAME
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as error:
        raise JournalError(f"the data folder {folder} cannot be made: {error.strerror}") from error
    with DataFolderLock(folder), WriterLock(target, wait_seconds=0.0):
        there = target.exists() and target.stat().st_size > 0
        if there and target.samefile(source):
            raise JournalExists(f"{source} is the journal of {folder} already")
        if there and not force:
            raise JournalExists(f"there is a journal at {target}")
        part = folder / (JOURNAL_NAME + backup.PART)
        with backup.writing(part) as descriptor:
            seq = backup.copy(source, part, descriptor)
            backup.check(part, seq)
            aside = _move_aside(target) if there else None
            for suffix in _COMPANIONS:
                target.with_name(target.name + suffix).unlink(missing_ok=True)
            for name in stale:
                (folder / name).unlink(missing_ok=True)
            part.rename(target)
            sync_folder(folder)
    at = last_instant(target)
    return Restored(str(target), seq, at, None if aside is None else str(aside), time.perf_counter() - began)


def last_instant(path: Path) -> int:
    """When the last record of a journal was submitted; 0 for none."""
    with read_errors(path):
        connection = open_reader(path)
        try:
            row = one_row(connection, "select at from records order by seq desc limit 1")
        finally:
            connection.close()
    return 0 if row is None else int(row[0])


def _examine(source: Path) -> None:
    """That the source is a whole journal of ours. Raises `JournalRefused` or `JournalCorrupt`."""
    if not inspect_file(source):
        what = "is empty" if source.exists() else "is not there"
        raise JournalRefused(f"{source} {what}", hint="Name a file that `runtimed journal backup` has made.")
    with source.open("rb") as file:
        header = file.read(100)
    page, pages = struct.unpack_from(">H", header, 16)[0], struct.unpack_from(">I", header, 28)[0]
    wanted, size = (65_536 if page == 1 else page) * pages, source.stat().st_size
    if size < wanted:
        hint = "It was not copied to its end; take another backup."
        raise JournalRefused(f"{source} is cut short: {size} of {wanted} bytes are there", hint=hint)
    report = verify(source)
    if not report.ok:
        raise JournalCorrupt(f"{source} is damaged: {report.problems[0]}", hint="Take another backup.")


def _move_aside(target: Path) -> Path:
    """Give the journal that is there another name, complete, and leave it where it is too: the rename that follows
    replaces it, so that at no moment there is none."""
    stamp = datetime.now(UTC).strftime("%Y%m%dT%H%M%SZ")
    aside = target.with_name(f"{target.name}.before-{stamp}")
    number = 1
    while aside.exists():
        number += 1
        aside = target.with_name(f"{target.name}.before-{stamp}-{number}")
    if not _checkpoint(target):  # else what is only in its WAL would be taken for the restored journal's
        wal = target.with_name(target.name + "-wal")
        if wal.exists():
            os.link(wal, aside.with_name(aside.name + "-wal"))
    os.link(target, aside)
    sync_folder(target.parent)
    return aside


def _checkpoint(path: Path) -> bool:
    """Move SQLite's WAL into the file, whatever version it is of; whether nothing is left in the WAL."""
    try:
        guard_checksums(path)
        connection = open_writer(path, vfs=checksum_vfs(), synchronous="full")
        try:
            frames, moved = connection.wal_checkpoint("main", apsw.SQLITE_CHECKPOINT_TRUNCATE)
        finally:
            close_untouched(connection)
    except (apsw.Error, JournalError):
        return False  # it is damaged; its files are kept as they are
    return frames == moved


__all__ = ["JOURNAL_NAME", "Restored", "last_instant", "restore"]
