"""Care for the journal's disk: when to checkpoint, the check after an unclean stop, free space and the ballast."""

from __future__ import annotations

import os
from pathlib import Path

import apsw

from wal.chain import GENESIS, link
from wal.connections import all_rows, sync_folder
from wal.errors import JournalCorrupt

IDLE_CHECKPOINT_BYTES = 1024 * 1024
"""With nothing else to do, a WAL of this size is moved into the file; less is not worth two syncs."""

FILL_MARGIN = 4
"""The WAL is filled ahead only where this many times its size is free."""

TAIL_RECORDS = 1_000
"""How many of the last records have their digests checked after an unclean stop."""

BALLAST_NAME = "ballast"


def checkpoint_mode(
    *, pending_bytes: int, file_bytes: int, idle: bool, checkpoint_bytes: int, max_bytes: int, external: bool = False
) -> str:
    """Which checkpoint is due: `truncate`, `passive` or `` for none. `pending_bytes` of the WAL are not in the file
    yet; `file_bytes` is the size of the WAL file, which stays large after a burst until it is cut back. `external`:
    another program sees to it, and only what is beyond the maximum is ours."""
    if external:
        return "passive" if pending_bytes > max_bytes else ""
    if file_bytes > max_bytes and (idle or pending_bytes > max_bytes):
        return "truncate"
    threshold = min(IDLE_CHECKPOINT_BYTES, checkpoint_bytes) if idle else checkpoint_bytes
    return "passive" if pending_bytes >= threshold else ""


def fill_wal(path: Path, size_bytes: int) -> bool:
    """Make SQLite's WAL file this large with zeros behind its end; says whether it is.

    A commit that makes the file longer has the file's size synced too, which took half as long again as the commit
    (150 to 190 microseconds against 100, ext4). SQLite starts its WAL anew from the front after a checkpoint, so a file
    that is long once stays so. Zeros are no frames: neither SQLite nor `wal.sqlite_wal` takes them for any. Allocating
    without writing would not do: the first write to such a block is a change of the file's map, which is synced too.
    """
    if free_bytes(path.parent) < FILL_MARGIN * size_bytes:
        return False
    descriptor = os.open(path, os.O_RDWR | os.O_CLOEXEC)
    try:
        end = os.fstat(descriptor).st_size
        zeros = bytes(1024 * 1024)
        while end < size_bytes:
            end += os.pwrite(descriptor, zeros[: size_bytes - end], end)
        os.fsync(descriptor)
    except OSError:  # a full disk; what is there is as good as before
        return False
    finally:
        os.close(descriptor)
    return True


# --- the check after an unclean stop ------------------------------------------------------------------------------


def check_structure(connection: apsw.Connection) -> None:
    """SQLite's own quick check, about 0.6 s a gigabyte. Raises `JournalCorrupt` with what it found."""
    found = [str(row[0]) for row in connection.execute("pragma quick_check(5)")]
    if found != ["ok"]:
        raise JournalCorrupt(f"the file's structure is damaged: {'; '.join(found)}")


def check_tail(connection: apsw.Connection, records: int = TAIL_RECORDS) -> None:
    """The digests of the last records, and that no seq is missing among them. Raises `JournalCorrupt`."""
    sql = "select seq, run_key, prev_seq, at, digest, body from records order by seq desc limit ?"
    rows = all_rows(connection, sql, (records + 1,))
    rows.reverse()
    before = GENESIS
    if len(rows) > records or (rows and rows[0][0] > 1):
        before = rows.pop(0)[4]
    expected = rows[0][0] if rows else 0
    for seq, run_key, prev_seq, at, digest, body in rows:
        # A forgotten record has no body to compute its digest from; `wal.verify` looks whether it may be so.
        if seq != expected or (body and digest != link(before, seq, run_key, prev_seq, at, body.encode())):
            raise JournalCorrupt(f"record {seq} is not what was written, or one before it is missing")
        before, expected = digest, seq + 1


# --- free space and ballast ---------------------------------------------------------------------------------------


def free_bytes(folder: Path) -> int:
    """Bytes that an unprivileged process may still write on the folder's filesystem."""
    status = os.statvfs(folder)
    return status.f_bavail * status.f_frsize


def tend_ballast(folder: Path, size_bytes: int) -> None:
    """Give the ballast up when the disk is nearly full; make it again once there is room for it and as much again."""
    free = free_bytes(folder)
    if free < size_bytes:
        release_ballast(folder)
    elif free >= 2 * size_bytes:
        restore_ballast(folder, size_bytes)


def restore_ballast(folder: Path, size_bytes: int) -> bool:
    """Make sure that the file `ballast` holds this many allocated bytes; 0 removes it. Says whether it does: a full
    disk leaves no ballast behind, which is no error here, because intake is refused by free space."""
    path = folder / BALLAST_NAME
    if size_bytes <= 0:
        path.unlink(missing_ok=True)
        return True
    if path.exists() and path.stat().st_size == size_bytes:
        return True
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        os.ftruncate(descriptor, 0)
        os.posix_fallocate(descriptor, 0, size_bytes)
        os.fsync(descriptor)
    except OSError:
        path.unlink(missing_ok=True)
        return False
    finally:
        os.close(descriptor)
    sync_folder(folder)
    return True


def release_ballast(folder: Path) -> int:
    """Give the ballast's space to the journal; the number of bytes that were in it."""
    path = folder / BALLAST_NAME
    try:
        size = path.stat().st_size
        path.unlink()
    except FileNotFoundError:
        return 0
    sync_folder(folder)
    return size
