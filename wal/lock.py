"""Two advisory locks: one daemon a data folder, one writer a journal.

Both are `flock`s, which end with the process that holds them however it ends, so neither can be left behind. The
daemon's lock fails at once and names the holder. The writer's is waited for, bounded: a new daemon may start while
the writer of a killed one still puts its last batch on disk.
"""

from __future__ import annotations

import errno
import fcntl
import os
import time
from pathlib import Path
from types import TracebackType
from typing import Self

from wal.errors import JournalError, JournalLocked

_RETRY_SECONDS = 0.02


class FileLock:
    """An exclusive `flock` on a file that holds the pid of its holder. Leave it by `release`, or as a context."""

    def __init__(self, path: Path, *, wait_seconds: float = 0.0, held_by: str = "another process") -> None:
        """Take the lock. Raises `JournalLocked`, naming the holder's pid, if it is still taken after `wait_seconds`;
        blocks the thread until then."""
        self.path = path
        self._fd = self._open(path)
        deadline = time.monotonic() + wait_seconds
        while not self._try():
            if time.monotonic() >= deadline:
                pid = self._holder()
                os.close(self._fd)
                raise JournalLocked(f"{held_by} (pid {pid}) holds {path}")
            time.sleep(_RETRY_SECONDS)
        os.ftruncate(self._fd, 0)
        os.pwrite(self._fd, f"{os.getpid()}\n".encode(), 0)

    def release(self) -> None:
        """Give the lock up; a second call does nothing. The file stays: to remove it would let two in."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.release()

    @staticmethod
    def _open(path: Path) -> int:
        try:
            return os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except OSError as error:
            raise JournalError(f"{path} cannot be opened: {error.strerror}") from error

    def _try(self) -> bool:
        try:
            fcntl.flock(self._fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            if error.errno in (errno.EWOULDBLOCK, errno.EINTR):
                return False
            raise JournalError(f"{self.path} cannot be locked: {error.strerror}") from error
        return True

    def _holder(self) -> str:
        return os.pread(self._fd, 32, 0).decode("ascii", "replace").strip() or "unknown"


class DataFolderLock(FileLock):
    """The daemon's lock on its data folder, in the file `lock`; a second daemon fails at once."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder / "lock", held_by="another daemon")


class WriterLock(FileLock):
    """The writer's lock on one journal, in a file beside it; waited for, because the writer of a killed daemon ends
    only after its last batch."""

    def __init__(self, journal: Path, *, wait_seconds: float) -> None:
        path = journal.with_name(journal.name + ".lock")
        super().__init__(path, wait_seconds=wait_seconds, held_by="another writer")
