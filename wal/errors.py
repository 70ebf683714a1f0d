"""Errors: the base of all of ours, and those of the journal.

Each class says, once, whose fault it is, its HTTP status and its problem code; `hint` says what to do.
The base lives on the lowest floor because everything may raise one; `runtimed` re-exports them all.
"""

from __future__ import annotations

from typing import ClassVar


class RuntimedError(Exception):
    """Base of every error that runtimed raises on purpose.

    `status` is the HTTP status, `code` the stable machine name of the problem, `exit_code` what the
    command line ends with. `hint` says what to do about it; a class has a general one, an instance
    may carry a better one.
    """

    status: ClassVar[int] = 500
    code: ClassVar[str] = "internal"
    exit_code: ClassVar[int] = 1
    hint: str = ""

    def __init__(self, message: str = "", *, hint: str | None = None) -> None:
        super().__init__(message or (self.__doc__ or "").strip().split("\n")[0])
        if hint is not None:
            self.hint = hint


class JournalError(RuntimedError):
    """The journal cannot be used."""

    code = "journal"
    status = 503


class JournalRefused(JournalError):
    """The file is not a journal that this version may touch (foreign, newer, or damaged); nothing was changed."""

    code = "journal_refused"
    exit_code = 78
    hint = "Check the data folder; a newer journal needs a newer runtimed."


class SqliteUnsafe(JournalError):
    """The SQLite library in use has a known corruption bug."""

    code = "sqlite_unsafe"
    exit_code = 78
    hint = "Install the pinned apsw wheel; it brings a fixed SQLite."


class JournalLocked(JournalError):
    """Another process holds the data folder."""

    code = "journal_locked"
    exit_code = 75
    hint = "Stop the other daemon, or use another --data-dir."


class CommitFailed(JournalError):
    """A commit failed, so its outcome is unknown: it may be there after a restart. The process must end."""

    code = "commit_failed"
    exit_code = 75
    hint = "Look at the disk; restart; idempotency keys decide what happened."


class JournalCorrupt(JournalError):
    """What was read is not what was written: a checksum, the chain or the structure does not hold."""

    code = "journal_corrupt"
    exit_code = 78
    hint = "Run `runtimed journal verify`; restore the last backup."


class WriterGone(JournalError):
    """The writer process ended or stopped answering; nothing more is acknowledged."""

    code = "writer_gone"
    exit_code = 75
    hint = "The daemon ends and is to be restarted by its supervisor (systemd, container)."


class CheckpointFailed(JournalError):
    """Moving SQLite's WAL into the file failed, and the disk may have dropped what it took. The process must end."""

    code = "checkpoint_failed"
    exit_code = 75
    hint = "Look at the disk; restart: what was committed is in SQLite's WAL."


class JournalExists(JournalError):
    """There is a journal where one was to be put; nothing was changed."""

    code = "journal_exists"
    status = 409
    exit_code = 5
    hint = "Name another --data-dir, or say --force: the journal that is there is moved aside, not deleted."


class BackupExists(JournalError):
    """There is a file where a backup was to be put; it overwrites nothing."""

    code = "backup_exists"
    status = 409
    exit_code = 5
    hint = "Name another file, or a folder."


class BackupRefused(JournalError):
    """A backup cannot be written there."""

    code = "backup_refused"
    status = 400
    exit_code = 2
    hint = "Name a file in a folder that is there and that the daemon may write to, or such a folder."


class JournalBusy(JournalError):
    """Another connection stood in the way for longer than we wait; nothing was changed."""

    code = "journal_busy"
    exit_code = 75
    hint = "Try again; if it persists, look for a program that keeps the file open."


class FrameRefused(JournalError):
    """A frame between the daemon and its writer breaks the protocol; it is a defect of one of the two."""

    code = "frame_refused"
    exit_code = 75


class BadCursor(RuntimedError):
    """The cursor of a page is not one that this list gave out."""

    status = 400
    code = "bad_cursor"
    exit_code = 2
    hint = "Take `next` of the page before, unchanged, or leave the cursor out to begin."


def error_of(code: str, message: str) -> JournalError:
    """The journal's error that a code stands for, as the writer process names it; a `JournalError` for any other."""
    for one in JournalError.__subclasses__():
        if one.code == code:
            return one(message)
    return JournalError(message)
