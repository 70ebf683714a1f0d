"""Bring a journal file to the schema of this version, one transaction a step, so that a kill leaves a whole version."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import apsw

APPLICATION_ID = 0x72746A31
"""What SQLite's header says of a file of ours: `rtj1` in ASCII."""

Step = Callable[[apsw.Connection], None]


def _schema_1(connection: apsw.Connection) -> None:
    connection.execute(Path(__file__).with_name("schema.sql").read_text(encoding="utf-8"))
    connection.execute("insert into meta values ('created_at', cast(unixepoch('subsec') * 1000000 as integer))")
    connection.pragma("application_id", APPLICATION_ID)


def _schema_2(connection: apsw.Connection) -> None:
    connection.execute(Path(__file__).with_name("schema_2.sql").read_text(encoding="utf-8"))


STEPS: Sequence[Step] = (_schema_1, _schema_2)
"""STEPS[n] takes a file of version n to version n + 1. A released step is never changed."""

SCHEMA_VERSION = len(STEPS)


def migrate(connection: apsw.Connection, steps: Sequence[Step] = STEPS) -> int:
    """Run the steps that the file has not seen; the number of steps taken. The version is part of each transaction."""
    before = user_version(connection)
    for version in range(before, len(steps)):
        connection.execute("begin immediate")
        try:
            steps[version](connection)
            connection.pragma("user_version", version + 1)
            connection.execute("commit")
        except BaseException:
            if connection.in_transaction:
                connection.execute("rollback")
            raise
    return max(0, len(steps) - before)


def user_version(connection: apsw.Connection) -> int:
    """The schema version that the file says it has."""
    return int(connection.pragma("user_version"))
