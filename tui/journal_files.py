"""The journal's files before SQLite touches them: whose they are, rows in the WAL, who holds them, a copy."""

from __future__ import annotations

import os
import re
import shutil
import tempfile
from pathlib import Path

from wal.errors import JournalRefused

COPY_MAX_BYTES = 8 * 1024**3
"""A larger journal is not copied for a look; the service's own user reads it in place."""
_MAGIC = b"SQLite format 3\0"


def wal_of(journal: Path) -> Path:
    """SQLite's WAL beside a journal."""
    return journal.with_name(journal.name + "-wal")


def examine(journal: Path) -> bool:
    """Whether SQLite's WAL beside the journal holds rows. Raises `JournalRefused` for what is no journal of ours."""
    if not os.access(journal.parent, os.R_OK | os.X_OK) and journal.parent.exists():
        raise JournalRefused(f"{journal.parent} may not be read by this user")
    if not journal.exists():
        raise JournalRefused(f"there is no journal at {journal}")
    _check_header(journal)
    wal = wal_of(journal)
    return wal.exists() and wal.stat().st_size > 0


def _check_header(journal: Path) -> None:
    """Refuse what is not ours by its first bytes, before SQLite touches it."""
    from wal.migrations import APPLICATION_ID, SCHEMA_VERSION

    try:
        with journal.open("rb") as file:
            header = file.read(100)
    except OSError as error:
        raise JournalRefused(
            f"{journal} may not be read: {error.strerror}", hint="Read access to it and its -wal is wanted."
        ) from error
    if len(header) < 100 or header[:16] != _MAGIC:
        raise JournalRefused(f"{journal} is not a journal")
    version, application = int.from_bytes(header[60:64], "big"), int.from_bytes(header[68:72], "big")
    if application != APPLICATION_ID:
        raise JournalRefused(f"{journal} belongs to another program")
    if version > SCHEMA_VERSION:
        raise JournalRefused(f"{journal} is of a newer runtimed (schema {version}; this one knows {SCHEMA_VERSION})")


def copy_files(journal: Path) -> Path:
    """Both files in a folder of ours (0700 by itself); the path of the copied journal."""
    wal = wal_of(journal)
    if journal.stat().st_size + wal.stat().st_size > COPY_MAX_BYTES:
        raise JournalRefused(
            f"{journal} has rows in its WAL and is too large to copy for a look",
            hint="Read it as the service's user, or make a backup with `runtimed journal backup`.",
        )
    folder = Path(tempfile.mkdtemp(prefix="runtimed-look-"))
    copy = folder / "journal.db"
    try:
        shutil.copyfile(journal, copy)
        shutil.copyfile(wal, wal_of(copy))
    except OSError as error:
        shutil.rmtree(folder, ignore_errors=True)
        raise JournalRefused(f"{journal} cannot be read in place, nor copied for a look: {error.strerror}") from error
    return copy


def lock_is_held(folder: Path) -> bool:
    """Whether a daemon holds the folder's lock; taken to be held where that cannot be found out. The kernel's table is
    read, because taking the lock for a moment could turn away a daemon that starts just then."""
    try:
        inode = (folder / "lock").stat().st_ino
        table = Path("/proc/locks").read_text(encoding="ascii")
    except FileNotFoundError:
        return not Path("/proc/locks").exists()
    except OSError:
        return True
    return any(re.search(rf"\bFLOCK\b.*:{inode} ", line) for line in table.splitlines())
