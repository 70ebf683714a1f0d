"""The options of a journal in one value: what the daemon's settings hand down, and the writer's command line."""

from __future__ import annotations

import msgspec


class JournalOptions(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """How to open and keep a journal. Sizes in bytes, times in seconds.

    `create`: make the file if there is none. `synchronous`: SQLite's level; anything but `full` loses acknowledged
    records in a power cut and exists for the tests that prove so. `vfs`: the name of a SQLite VFS, for tests; it must
    stand on top of the one that keeps the checksums. `ballast_bytes`: size of the file `ballast` that is given up when
    the disk is full; 0 for none. `checkpoint_bytes`: size of SQLite's WAL that is moved
    into the file even under load. `wal_max_bytes`: size beyond which the WAL file is cut back to nothing as soon as
    no reader stands in the way. `lock_wait_seconds`: how long to wait for the writer before. `check_max_bytes`:
    after an unclean stop the whole file is checked if it is no larger than this, else only the end of the log.
    `external`: another program checkpoints (Litestream); we only do where the WAL has grown beyond `wal_max_bytes`, and
    at the start after an unclean stop.
    """

    create: bool = True
    synchronous: str = "full"
    vfs: str | None = None
    ballast_bytes: int = 0
    checkpoint_bytes: int = 8 * 1024 * 1024
    wal_max_bytes: int = 64 * 1024 * 1024
    lock_wait_seconds: float = 10.0
    check_max_bytes: int = 1024 * 1024 * 1024
    external: bool = False
