"""SQLite connections made the one way that keeps its promises: version guard, checksums, pragmas read back.

Nothing here trusts that a setting took: the standard binding once stayed in another journal mode without a word, so
each pragma that matters is read back and a difference refuses the file.
"""

from __future__ import annotations

import contextlib
import os
import struct
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote

import apsw
import apsw.sqlite_extra

from wal.errors import (
    JournalBusy,
    JournalCorrupt,
    JournalError,
    JournalRefused,
    SqliteUnsafe,
)
from wal.migrations import APPLICATION_ID, SCHEMA_VERSION

BUSY_TIMEOUT_MS = 5_000
CACHE_KIB = 16 * 1024
READER_CACHE_KIB = 4 * 1024
CHECKSUM_BYTES = 8
"""What cksumvfs wants reserved at the end of each page; it must be set before the first page is written."""

SYNCHRONOUS_LEVELS = {"off": 0, "normal": 1, "full": 2, "extra": 3}

_MAGIC = b"SQLite format 3\0"
_HEADER_BYTES = 100
_checksum_lock = threading.Lock()


# --- the library --------------------------------------------------------------------------------------------------


def sqlite_is_safe(version: int) -> bool:
    """Whether a SQLite version number is free of the WAL-reset corruption bug: it came with 3.7.0 and was fixed in
    3.51.3, 3.50.7 and 3.44.6 (SQLite's change log); 3.52.0 was withdrawn."""
    if version == 3_052_000:
        return False
    backported = (3_050_007 <= version < 3_051_000) or (3_044_006 <= version < 3_045_000)
    return backported or version >= 3_051_003


def guard_sqlite() -> None:
    """Raise `SqliteUnsafe` if the SQLite in use may corrupt the file."""
    if not sqlite_is_safe(apsw.SQLITE_VERSION_NUMBER):
        raise SqliteUnsafe(f"SQLite {apsw.sqlite_lib_version()} can corrupt a file when its WAL is reset")


def checksum_vfs() -> str | None:
    """The name of the VFS that checks each page as it is read, or None where the wheel does not bring it. Loading it
    makes it SQLite's default in this process; files without the reserved bytes pass through it unchanged."""
    with _checksum_lock:
        if "cksmvfs" in apsw.vfs_names():
            return "cksmvfs"
        if apsw.sqlite_extra.has("cksumvfs") is None:
            return None
        connection = apsw.Connection(":memory:")
        try:
            apsw.sqlite_extra.load(connection, "cksumvfs")
        except apsw.sqlite_extra.NotAvailable:
            return None
        finally:
            connection.close()
        return "cksmvfs"


def guard_checksums(path: Path) -> None:
    """Raise `SqliteUnsafe` if the file keeps checksums that this process could not: pages written without them would
    be taken for damaged later. Reading needs no such care."""
    with path.open("rb") as file:
        reserved = file.read(_HEADER_BYTES)[20]
    if reserved >= CHECKSUM_BYTES and checksum_vfs() is None:
        raise SqliteUnsafe(f"{path} keeps checksums, and this installation of apsw comes without cksumvfs")


# --- the file -----------------------------------------------------------------------------------------------------


def inspect_file(path: Path) -> bool:
    """Whether there is a journal at the path, judged by its first bytes alone, so that what is not ours stays
    untouched. False for no file or an empty one. Raises `JournalRefused` for a foreign file and for a newer schema."""
    try:
        with path.open("rb") as file:
            header = file.read(_HEADER_BYTES)
    except FileNotFoundError:
        return False
    except OSError as error:
        raise JournalRefused(f"{path} cannot be read: {error.strerror}") from error
    if not header:
        return False
    if len(header) < _HEADER_BYTES or header[:16] != _MAGIC:
        raise JournalRefused(f"{path} is not a SQLite file")
    version, application_id = struct.unpack_from(">I4xI", header, 60)
    if application_id != APPLICATION_ID:
        raise JournalRefused(f"{path} belongs to another program (application id {application_id:#010x})")
    refuse_newer(path, version)
    return True


def refuse_newer(path: Path, version: int) -> None:
    """Raise `JournalRefused` if the version is one that this code does not know."""
    if version > SCHEMA_VERSION:
        raise JournalRefused(f"{path} has schema {version}; this runtimed knows up to {SCHEMA_VERSION}")


def sync_folder(folder: Path) -> None:
    """Make the folder's entries durable: a new or renamed file is not, until its folder is synced."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


# --- statements ---------------------------------------------------------------------------------------------------

Values = tuple[Any, ...] | dict[str, Any]


def all_rows(connection: apsw.Connection, sql: str, values: Values = ()) -> list[tuple[Any, ...]]:
    """Every row of a statement, which is finished then."""
    return connection.execute(sql, values).fetchall()


def one_row(connection: apsw.Connection, sql: str, values: Values = ()) -> tuple[Any, ...] | None:
    """The first row of a statement, or None for none; the statement is finished then."""
    cursor = connection.execute(sql, values)
    row = cursor.fetchone()
    cursor.close()
    return row


def scalar(connection: apsw.Connection, sql: str, values: Values = ()) -> Any:
    """The first column of the first row, or None for no row; the statement is finished then."""
    row = one_row(connection, sql, values)
    return None if row is None else row[0]


# --- connections --------------------------------------------------------------------------------------------------


def open_writer(path: Path, *, vfs: str | None, synchronous: str) -> apsw.Connection:
    """A read-write connection to an existing file of ours, in WAL mode, that never checkpoints by itself."""
    connection = apsw.Connection(str(path), flags=apsw.SQLITE_OPEN_READWRITE, vfs=vfs)
    try:
        connection.set_busy_timeout(BUSY_TIMEOUT_MS)
        harden(connection)
        expect(connection, "journal_mode", "wal")
        expect(connection, "synchronous", SYNCHRONOUS_LEVELS[synchronous])
        expect(connection, "wal_autocheckpoint", 0)
        expect(connection, "cache_size", -CACHE_KIB)
    except BaseException:
        close_untouched(connection)
        raise
    return connection


def open_reader(path: Path) -> apsw.Connection:
    """A read-only connection to a journal, beside a live daemon or without one. A file on read-only storage is opened
    as immutable, and only if no SQLite WAL beside it holds rows that this would hide."""
    guard_sqlite()
    if not inspect_file(path):
        raise JournalRefused(f"there is no journal at {path}")
    connection = _try_reader(path, "mode=ro") or _try_reader(path, "mode=ro&immutable=1")
    if connection is None:
        raise JournalRefused(f"{path} cannot be opened for reading")
    return connection


def _try_reader(path: Path, query: str) -> apsw.Connection | None:
    wal = path.with_name(path.name + "-wal")
    if "immutable" in query and wal.exists() and wal.stat().st_size > 0:
        return None
    flags = apsw.SQLITE_OPEN_READONLY | apsw.SQLITE_OPEN_URI
    connection = apsw.Connection(f"file:{quote(str(path))}?{query}", flags=flags, vfs=checksum_vfs())
    try:
        connection.set_busy_timeout(BUSY_TIMEOUT_MS)
        connection.pragma("trusted_schema", False)
        expect(connection, "query_only", 1)
        expect(connection, "cache_size", -READER_CACHE_KIB)
        refuse_newer(path, int(connection.pragma("user_version")))
    except (apsw.CantOpenError, apsw.ReadOnlyError):
        connection.close()
        return None
    except BaseException:
        connection.close()
        raise
    return connection


def harden(connection: apsw.Connection) -> None:
    """The settings that hold for every connection that writes."""
    expect(connection, "foreign_keys", 1)
    expect(connection, "trusted_schema", 0)
    expect(connection, "temp_store", 2)
    connection.config(apsw.SQLITE_DBCONFIG_DEFENSIVE, 1)


def expect(connection: apsw.Connection, pragma: str, value: int | str) -> None:
    """Set a pragma and read it back. Raises `JournalError` if it did not take."""
    connection.pragma(pragma, value)
    found = connection.pragma(pragma)
    if found != value:
        raise JournalError(f"SQLite did not take {pragma} = {value!r}; it has {found!r}")


def close_untouched(connection: apsw.Connection) -> None:
    """Close without the checkpoint that SQLite makes for the last connection: what is on disk stays as it is."""
    with contextlib.suppress(apsw.Error):  # the connection may be past answering; closing is all that is wanted
        connection.config(apsw.SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, 1)
    connection.close(True)


@contextlib.contextmanager
def read_errors(path: object) -> Iterator[None]:
    """Turn SQLite's errors of a read into ours: damage, a lock in the way, anything else."""
    try:
        yield
    except (apsw.CorruptError, apsw.NotADBError) as error:
        raise JournalCorrupt(f"{path}: {error}") from error
    except (apsw.BusyError, apsw.LockedError) as error:
        raise JournalBusy(f"{path}: {error}") from error
    except apsw.IOError as error:
        if getattr(error, "extendedresult", 0) == apsw.SQLITE_IOERR_DATA:
            raise JournalCorrupt(f"{path}: a page does not match its checksum") from error
        raise JournalError(f"{path}: {error}") from error
    except apsw.Error as error:
        raise JournalError(f"{path}: {error}") from error
