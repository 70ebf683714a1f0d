"""A table of somebody else's SQLite file, read page by page along a cursor column; never written to, never kept open.

Names come from a configuration, so each is checked against the columns that the table really has before it is quoted
into a statement; values are bound.
"""

from __future__ import annotations

import base64
from collections.abc import Sequence
from pathlib import Path
from typing import Any
from urllib.parse import quote

import apsw
import msgspec

from wal.connections import all_rows, guard_sqlite
from wal.errors import RuntimedError

Value = int | float | str | bytes | None


class ForeignRefused(RuntimedError):
    """A foreign file, or what was asked of it, is not there or not as it was said."""

    status = 502
    code = "foreign"
    exit_code = 75


class ForeignBusy(ForeignRefused):
    """Somebody is writing the foreign file just now. It is not waited for here, because whoever asks has a loop."""


class Column(msgspec.Struct, frozen=True):
    """A column of a table: its name and its declared type."""

    name: str
    type: str


class ForeignTable:
    """Reads one table: `columns` (all, if none are named) in the order of `cursor` and then `key`. Open and close it
    within one go of the loop: an open read would keep its owner from cleaning up."""

    def __init__(self, path: Path, table: str, cursor: str, key: str, columns: Sequence[str] = ()) -> None:
        guard_sqlite()
        self._path, self._table = path, table
        self._db = self._open()
        try:
            self.columns = self._columns(table, cursor, key, columns)
        except BaseException:
            self._db.close()
            raise
        names = [column.name for column in self.columns]
        self._cursor, self._key = names.index(cursor), names.index(key)
        c, k = _quoted(cursor), _quoted(key)
        picked = ", ".join(map(_quoted, names))
        # A record whose cursor is null has no place in the order: it is read once it has one.
        base = f"select {picked} from {_quoted(table)} where {c} is not null"
        self._first = f"{base} order by {c}, {k} limit ?"
        self._from = f"{base} and {c} >= ? order by {c}, {k} limit ?"
        self._after = f"{base} and ({c}, {k}) > (?, ?) order by {c}, {k} limit ?"
        self._after_null = f"{base} and ({c} > ?1 or ({c} = ?1 and {k} is not null)) order by {c}, {k} limit ?2"

    def __enter__(self) -> ForeignTable:
        return self

    def __exit__(self, *_: object) -> None:
        self._db.close()

    def first(self, since: Value, limit: int) -> list[dict[str, Any]]:
        """The first rows, from a cursor value on, inclusively; None from the beginning. Raises ForeignRefused."""
        return self._page(self._first, (limit,)) if since is None else self._page(self._from, (since, limit))

    def after(self, cursor: Value, key: Value, limit: int) -> list[dict[str, Any]]:
        """The rows behind this one, which `place` gave. Raises ForeignRefused."""
        if key is None:  # nulls come first in SQLite's order, and compare with nothing
            return self._page(self._after_null, (cursor, limit))
        return self._page(self._after, (cursor, key, limit))

    def place(self) -> tuple[Value, Value]:
        """Cursor and key of the last row of the page before. There must have been one."""
        return self._last[self._cursor], self._last[self._key]

    def _page(self, sql: str, values: tuple[Value, ...]) -> list[dict[str, Any]]:
        names = [column.name for column in self.columns]
        rows = self._rows(sql, values)
        if rows:
            self._last: tuple[Any, ...] = rows[-1]
        return [dict(zip(names, map(_plain, row), strict=True)) for row in rows]

    def _rows(self, sql: str, values: tuple[Value, ...]) -> list[tuple[Any, ...]]:
        try:
            return all_rows(self._db, sql, values)
        except (apsw.BusyError, apsw.LockedError) as error:
            raise ForeignBusy(f"{self._path}: {error}") from None
        except apsw.Error as error:
            raise ForeignRefused(f"{self._path}: {error}") from None

    def _open(self) -> apsw.Connection:
        if not self._path.is_file():
            raise ForeignRefused(f"there is no file {self._path}")
        flags = apsw.SQLITE_OPEN_READONLY | apsw.SQLITE_OPEN_URI
        try:
            db = apsw.Connection(f"file:{quote(str(self._path))}?mode=ro", flags=flags)
        except apsw.Error as error:
            raise ForeignRefused(f"{self._path} cannot be opened for reading: {error}") from None
        db.pragma("trusted_schema", False)
        return db

    def _columns(self, table: str, cursor: str, key: str, wanted: Sequence[str]) -> list[Column]:
        found = self._rows("select name, type from pragma_table_xinfo(?) where hidden <> 1", (table,))
        there = {name: Column(name, type) for name, type in found}
        if not there:
            raise ForeignRefused(f"{self._path} has no table {table!r}")
        for name in (cursor, key, *wanted):
            if name not in there:
                raise ForeignRefused(f"table {table!r} has no column {name!r}; it has {', '.join(there)}")
        picked = dict.fromkeys([*wanted, cursor, key]) if wanted else there
        return [there[name] for name in picked]


def _quoted(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'


def _plain(value: Value) -> Any:
    """Bytes as base64, because JSON has none."""
    return base64.b64encode(value).decode("ascii") if isinstance(value, bytes) else value
