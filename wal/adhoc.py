"""Ad-hoc queries of people: SQL on a read-only connection, bounded in rows, interruptible."""

from __future__ import annotations

import math
import time
from pathlib import Path
from typing import Any

import apsw
import msgspec

from wal.connections import open_reader, read_errors
from wal.errors import RuntimedError

STEPS_BETWEEN_SIGNALS = 10_000
"""SQLite's virtual machine lets Python look for an interrupt after so many steps; about a millisecond."""


class BadQuery(RuntimedError):
    """SQLite does not take this SQL."""

    status = 400
    code = "bad_query"
    exit_code = 2


class QueryTooLong(RuntimedError):
    """The query took longer than it may."""

    status = 504
    code = "timed_out"
    exit_code = 7


class Answer(msgspec.Struct, frozen=True):
    """Columns and rows; `more` says that there were more rows than asked for. A blob is `x'...'` text."""

    columns: list[str]
    rows: list[list[Any]]
    more: bool


def query(path: Path, sql: str, *, rows_max: int, seconds: float | None = None) -> Answer:
    """Run one or several statements, for so many seconds at most; the answer is that of the last one that has columns.

    Raises `BadQuery` for what SQLite refuses (a write, too), `QueryTooLong`, `JournalRefused` if there is no journal.
    """
    deadline = math.inf if seconds is None else time.monotonic() + seconds
    with read_errors(path):
        connection = open_reader(path)
        try:
            connection.set_progress_handler(lambda: time.monotonic() > deadline, STEPS_BETWEEN_SIGNALS)
            return _run(connection, sql, rows_max)
        except (apsw.SQLError, apsw.ReadOnlyError, apsw.IncompleteExecutionError, apsw.BindingsError) as error:
            raise BadQuery(str(error)) from None
        except apsw.InterruptError:
            raise QueryTooLong(f"the query has not ended within {seconds:g} s") from None
        finally:
            connection.close()


def _run(connection: apsw.Connection, sql: str, rows_max: int) -> Answer:
    columns: list[str] = []
    rows: list[list[Any]] = []

    def begins(cursor: apsw.Cursor, statement: str, bindings: Any) -> bool:
        nonlocal columns, rows
        described = [column[0] for column in cursor.get_description()] if cursor.get_description() else []
        if described:
            columns, rows = described, []
        return True

    cursor = connection.cursor()
    cursor.exec_trace = begins
    for row in cursor.execute(sql):
        if len(rows) == rows_max:
            cursor.close(True)
            return Answer(columns, rows, True)
        rows.append([_plain(value) for value in row])
    return Answer(columns, rows, False)


def _plain(value: Any) -> Any:
    return f"x'{value.hex()}'" if isinstance(value, bytes) else value
