"""The journal: open a file safely, commit batches of records with all that follows from them, close."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Self

import apsw
import msgspec

from wal import backup, upkeep
from wal.chain import GENESIS, extend
from wal.codec import kind_of
from wal.connections import (
    BUSY_TIMEOUT_MS,
    CHECKSUM_BYTES,
    checksum_vfs,
    close_untouched,
    expect,
    guard_checksums,
    guard_sqlite,
    harden,
    inspect_file,
    one_row,
    open_writer,
    read_errors,
    refuse_newer,
    scalar,
    sync_folder,
)
from wal.errors import CheckpointFailed, CommitFailed, JournalError, JournalRefused
from wal.lock import WriterLock
from wal.migrations import migrate, user_version
from wal.options import JournalOptions
from wal.projections import Projector
from wal.protocol import Head
from wal.records import Entry
from wal.sqlite_wal import check_wal

if TYPE_CHECKING:
    from wal.queries import Reader

_HEAD = "insert into meta values ('head_seq', ?) on conflict (key) do update set value = excluded.value"
_INSERT = "insert into records (seq, run_key, prev_seq, at, digest, body) values (?, ?, ?, ?, ?, ?)"
_MODES = {
    "passive": apsw.SQLITE_CHECKPOINT_PASSIVE,
    "full": apsw.SQLITE_CHECKPOINT_FULL,
    "restart": apsw.SQLITE_CHECKPOINT_RESTART,
    "truncate": apsw.SQLITE_CHECKPOINT_TRUNCATE,
}
FILL_EXTRA_BYTES = 1024 * 1024
"""What a batch may add to the WAL beyond the size at which it is checkpointed, as a rule."""

_FRAME_HEADER_BYTES = 24  # SQLite's WAL keeps a header of this size before each page


class Journal:
    """One open journal, for one thread. Only `open` makes one.

    A commit that fails has an unknown outcome: it may be there after a restart. So the first failure kills the
    object, everything later raises, and nothing is ever tried again in the same process.
    """

    head: Head

    def __init__(
        self, connection: apsw.Connection, path: Path | None, options: JournalOptions, lock: WriterLock | None
    ) -> None:
        self._db = connection
        self._path = path
        self._options = options
        self._lock = lock
        self._dead = False
        self._closed = False
        self._filled = False
        self._db_bytes = 0 if path is None else _size(path)
        self._projector = Projector(connection)
        self._page_bytes = int(connection.pragma("page_size"))
        self._due_frames = min(options.checkpoint_bytes, options.wal_max_bytes) // self._bytes(1)
        self._wal_frames = 0  # in the WAL as of the last commit
        self._moved_frames = 0  # of those, how many a checkpoint has put into the file
        self._tried_frames = 0  # how many there were when a checkpoint was last tried
        connection.set_wal_hook(self._note_wal)
        self.head = _read_head(connection)

    # --- open and close -------------------------------------------------------------------------------------------

    @classmethod
    def open(
        cls, path: str | os.PathLike[str] | None, options: JournalOptions | None = None, **changes: object
    ) -> Journal:
        """Open the journal at `path`, or one in memory for None; `changes` are fields of `JournalOptions`.

        Waits for another writer up to `lock_wait_seconds`. Raises `JournalRefused` for a foreign or newer file, which
        is left untouched; `SqliteUnsafe`, `JournalLocked`, `JournalCorrupt`, or another `JournalError`.
        """
        options = msgspec.structs.replace(options or JournalOptions(), **changes)
        guard_sqlite()
        if path is None:
            return cls(_open_memory(), None, options, None)
        path = Path(path).absolute()
        if not inspect_file(path) and not options.create:
            raise JournalRefused(f"there is no journal at {path}")
        lock = WriterLock(path, wait_seconds=options.lock_wait_seconds)
        try:
            return cls._open_file(path, options, lock)
        except BaseException:
            lock.release()
            raise

    @classmethod
    def _open_file(cls, path: Path, options: JournalOptions, lock: WriterLock) -> Journal:
        vfs = _vfs_of(options)
        if options.ballast_bytes and upkeep.free_bytes(path.parent) < options.ballast_bytes:
            upkeep.release_ballast(path.parent)  # even opening a file takes a little room
        with read_errors(path):
            if not inspect_file(path):
                _create(path, vfs)
            guard_checksums(path)
            connection = open_writer(path, vfs=vfs, synchronous=options.synchronous)
            try:
                refuse_newer(path, user_version(connection))  # the WAL may hold a newer one than the header
                frames, _ = connection.wal_checkpoint("main", apsw.SQLITE_CHECKPOINT_NOOP)
                check_wal(_wal_of(path), frames)
                steps = migrate(connection)
                journal = cls(connection, path, options, lock)
                journal._check_after_unclean_stop()
                if steps or not (options.external and journal.head.clean):
                    # A new generation of the WAL, see `wal.sqlite_wal`; and the header then names the schema in use.
                    journal.checkpoint("truncate")
            except BaseException:
                close_untouched(connection)
                raise
        if options.ballast_bytes:
            upkeep.tend_ballast(path.parent, options.ballast_bytes)
        return journal

    def close(self) -> None:
        """Checkpoint, truncate SQLite's WAL, close the file, release the lock. A second call does nothing; a journal
        that died, or whose checkpoint is held back, is left on disk as it is, for the next start to take up. Raises
        `CheckpointFailed`, with everything closed all the same."""
        whole = False
        try:
            whole = not self._dead and not self._options.external and self.checkpoint("truncate")
        finally:
            self._shut(whole=whole)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    # --- commit ---------------------------------------------------------------------------------------------------

    def commit(self, entries: Sequence[Entry]) -> None:
        """Put a batch on disk in one transaction: its records and all that is derived from them.

        When it returns, the batch survives a power cut. Raises `CommitFailed` on any error: the outcome is unknown,
        the journal is dead, and the process should end.
        """
        if self._dead:
            raise CommitFailed("the journal died of an earlier failure")
        if not entries:
            return
        head = self.head
        try:
            rows = extend(entries, head.seq, head.digest)
            self._db.execute("begin immediate")
            self._db.executemany(_INSERT, rows)
            self._projector.apply(entries)
            if not all([row[1] for row in rows]):
                # A chain cannot tell by itself that its end was cut off. The rows of runs name their last records; for
                # those of no run it is told here, which costs a page more: a tenth of what a small commit costs.
                self._db.execute(_HEAD, (rows[-1][0],))
            self._db.execute("commit")
        except BaseException as error:
            self._die()
            if not isinstance(error, Exception):
                raise
            raise CommitFailed(
                f"the commit of records {entries[0].seq} to {entries[-1].seq} failed: {type(error).__name__}: {error}"
            ) from error
        self.head = Head(
            seq=rows[-1][0],
            run_key=max(head.run_key, *[row[1] for row in rows]),
            digest=rows[-1][4],
            clean=False,
            created_at=head.created_at,
            schema=head.schema,
            db_bytes=head.db_bytes,
        )
        if self._bytes(self._wal_frames - self._tried_frames) > self._options.wal_max_bytes:
            self.checkpoint("passive")  # a caller that never finds time for upkeep must not fill the disk

    # --- checkpoints ----------------------------------------------------------------------------------------------

    @property
    def wal_bytes(self) -> int:
        """Bytes of SQLite's WAL in use as of the last commit (0 in memory)."""
        return self._bytes(self._wal_frames)

    @property
    def db_bytes(self) -> int:
        """Size of the file as of the last checkpoint (0 in memory); it grows at no other time."""
        return self._db_bytes

    def checkpoint(self, mode: str = "passive") -> bool:
        """Move SQLite's WAL into the file; `truncate` also cuts it back to nothing. Says whether all of it was moved:
        a reader or a full disk in the way leaves the rest for later and loses nothing. Never waits for a reader.

        Raises `CheckpointFailed` for any other error, after which the journal is dead: a page whose sync failed may
        be gone from the disk's cache, and a later success would drop it from the WAL too.
        """
        if self._dead:
            raise CheckpointFailed("the journal died of an earlier failure")
        if self._path is None:
            return True
        self._tried_frames = self._wal_frames
        try:
            self._db.set_busy_timeout(0)
            frames, moved = self._db.wal_checkpoint("main", _MODES[mode])
            self._db.set_busy_timeout(BUSY_TIMEOUT_MS)
        except (apsw.BusyError, apsw.LockedError, apsw.FullError):
            self._db.set_busy_timeout(BUSY_TIMEOUT_MS)
            return False
        except apsw.Error as error:
            self._die()
            raise CheckpointFailed(f"a checkpoint failed: {error}") from error
        self._wal_frames, self._moved_frames, self._tried_frames = frames, moved, frames
        self._db_bytes = _size(self._path)
        return self._wal_frames == self._moved_frames

    def upkeep(self, *, idle: bool = True) -> None:
        """Do the checkpoint that is due, if any; see `wal.upkeep.checkpoint_mode`. Raises `CheckpointFailed`."""
        if self._dead or self._path is None:
            return
        # Under load, what a reader held back is tried again only when as much again has come: each try costs time.
        done = self._moved_frames if idle else max(self._moved_frames, self._tried_frames)
        if not idle and self._wal_frames - done < self._due_frames:
            return  # nearly always, after each commit
        mode = upkeep.checkpoint_mode(
            pending_bytes=self._bytes(self._wal_frames - done),
            file_bytes=_size(_wal_of(self._path)),
            idle=idle,
            checkpoint_bytes=self._options.checkpoint_bytes,
            max_bytes=self._options.wal_max_bytes,
            external=self._options.external,
        )
        if mode and not self.checkpoint(mode) and mode == "truncate":
            self.checkpoint("passive")  # what a reader holds back from cutting can be moved all the same
        elif mode == "truncate" and self._filled:
            self.fill_wal()
        if idle and self._options.ballast_bytes:
            upkeep.tend_ballast(self._path.parent, self._options.ballast_bytes)

    def fill_wal(self) -> None:
        """Make the WAL file as large as it gets between two checkpoints, and keep it so; see `upkeep.fill_wal`."""
        if self._path is not None and not self._dead and self._options.vfs is None and not self._options.external:
            self._filled = upkeep.fill_wal(_wal_of(self._path), self._options.checkpoint_bytes + FILL_EXTRA_BYTES)

    # --- others ---------------------------------------------------------------------------------------------------

    def reader(self) -> Reader:
        """A reader of this journal: a connection of its own for a file, this very connection in memory."""
        from wal.queries import Reader  # not needed by the writer process, which should start fast

        return Reader.on(self._db) if self._path is None else Reader.open(self._path)

    def backup(self, target: str | os.PathLike[str]) -> int:
        """Copy the journal as of the last commit to a new file, whole or not at all; the seq that the copy ends with.
        Raises `JournalError`; see `wal.backup.take`, which needs no open journal. One in memory has no file to copy."""
        if self._path is None:
            raise JournalError("a journal in memory has no backup")
        return backup.take(self._path, Path(target)).seq

    def _check_after_unclean_stop(self) -> None:
        if self.head.clean:
            return
        upkeep.check_tail(self._db)
        if self.db_bytes <= self._options.check_max_bytes:
            upkeep.check_structure(self._db)

    def _note_wal(self, connection: apsw.Connection, name: str, frames: int) -> int:
        if frames < self._wal_frames:
            self._moved_frames = self._tried_frames = 0  # SQLite began the WAL anew
        self._wal_frames = frames
        return int(apsw.SQLITE_OK)

    def _bytes(self, frames: int) -> int:
        return frames * (self._page_bytes + _FRAME_HEADER_BYTES)

    def _die(self) -> None:
        """Touch the disk no more. The transaction is left to SQLite's recovery, the lock to `close`."""
        self._dead = True

    def _shut(self, *, whole: bool) -> None:
        if self._closed:
            return
        self._closed = True
        self._db.set_wal_hook(None)
        if whole:
            self._db.close()
        else:
            close_untouched(self._db)
        self._dead = True  # nothing more is taken
        if self._lock is not None:
            self._lock.release()


def _open_memory() -> apsw.Connection:
    connection = apsw.Connection(":memory:")
    harden(connection)
    migrate(connection)
    return connection


def _create(path: Path, vfs: str) -> None:
    """Make a new journal under another name and rename it, so that a kill leaves a whole one or none."""
    part = path.with_name(path.name + ".new")
    _remove(part)
    try:
        _make_private(part)
    except OSError as error:
        raise JournalError(f"{path} cannot be made: {error.strerror}") from error
    connection = apsw.Connection(str(part), flags=apsw.SQLITE_OPEN_READWRITE, vfs=vfs)
    try:
        if checksum_vfs() is not None:
            connection.reserve_bytes(reserve=CHECKSUM_BYTES)
        expect(connection, "synchronous", 2)
        harden(connection)
        migrate(connection)
        expect(connection, "journal_mode", "wal")
    finally:
        connection.close()
    _publish(part, path)


def _make_private(path: Path) -> None:
    """An empty file that only we may read; SQLite gives its companions the same mode."""
    os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_CLOEXEC, 0o600))


def _publish(part: Path, path: Path) -> None:
    with part.open("rb") as file:
        os.fsync(file.fileno())
    part.rename(path)
    sync_folder(path.parent)


def _remove(part: Path) -> None:
    for suffix in ("", "-journal", "-wal", "-shm"):
        part.with_name(part.name + suffix).unlink(missing_ok=True)


def _vfs_of(options: JournalOptions) -> str:
    return options.vfs or checksum_vfs() or "unix"


def _wal_of(path: Path) -> Path:
    return path.with_name(path.name + "-wal")


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except FileNotFoundError:
        return 0


def _read_head(connection: apsw.Connection) -> Head:
    last = one_row(connection, "select seq, digest, substr(body, 1, 100) from records order by seq desc limit 1")
    seq, digest, body = last or (0, GENESIS, "")
    run_key = scalar(connection, "select coalesce(max(run_key), 0) from runs")
    created_at = scalar(connection, "select value from meta where key = 'created_at'")
    return Head(
        seq=seq,
        run_key=run_key,
        digest=digest,
        clean=not seq or kind_of(body) == "daemon_stopped",
        created_at=created_at,
        schema=user_version(connection),
        db_bytes=int(connection.pragma("page_count")) * int(connection.pragma("page_size")),
    )


__all__ = ["Head", "Journal"]
