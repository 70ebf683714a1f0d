"""How a list becomes pages: limits, opaque cursors, and one snapshot for all statements of a page."""

from __future__ import annotations

import base64
import binascii
import contextlib
from collections.abc import Iterator
from typing import Any

import apsw
import msgspec

from wal.errors import BadCursor

PAGE_ROWS_MAX = 500
"""A longer page would hold SQLite's WAL back from its checkpoint for longer."""

PAGE_BYTES_MAX = 8 * 1024 * 1024
"""A page of records ends early beyond this size; a single larger record is a page of its own."""

TOTAL_MAX = 10_000
"""Totals that must be counted row by row are given up to this; beyond, the total is unknown."""

_CURSOR_CHARS_MAX = 2_000


def page_limit(limit: int) -> int:
    """The limit that holds: at least 1, at most `PAGE_ROWS_MAX`."""
    return max(1, min(limit, PAGE_ROWS_MAX))


def write_cursor(kind: str, position: int | str) -> str:
    """The opaque cursor that continues a list of this kind after a position."""
    return base64.urlsafe_b64encode(msgspec.json.encode((kind, position))).decode().rstrip("=")


def read_int_cursor(kind: str, cursor: str | None) -> int | None:
    """The position in a cursor, or None for none. Raises `BadCursor` if it is not of this kind."""
    return None if cursor is None else _read(cursor, kind, tuple[str, int])


def read_text_cursor(kind: str, cursor: str | None) -> str | None:
    """As `read_int_cursor`, for a list that is ordered by text."""
    return None if cursor is None else _read(cursor, kind, tuple[str, str])


def _read(cursor: str, kind: str, shape: Any) -> Any:
    try:
        if len(cursor) > _CURSOR_CHARS_MAX:
            raise ValueError("too long")
        text = base64.b64decode(cursor + "=" * (-len(cursor) % 4), altchars=b"-_", validate=True)
        found, position = msgspec.json.decode(text, type=shape)
    except (binascii.Error, ValueError, msgspec.MsgspecError) as error:
        raise BadCursor("this cursor is not one of ours") from error
    if found != kind or not -(2**63) <= (position if isinstance(position, int) else 0) < 2**63:
        raise BadCursor(f"this cursor is not one of the list of {kind}")
    return position


@contextlib.contextmanager
def snapshot(connection: apsw.Connection) -> Iterator[None]:
    """All statements inside see the journal as of one commit. Ends with the block: no row outlives it."""
    connection.execute("begin")
    try:
        yield
    finally:
        if connection.in_transaction:
            connection.execute("rollback")


def within_bytes(cursor: apsw.Cursor, limit: int) -> tuple[list[tuple[Any, ...]], bool]:
    """The first rows, at most `limit`, whose last columns together stay within `PAGE_BYTES_MAX` (always one row, if
    there is one), and whether there are more. Finishes the statement."""
    taken: list[tuple[Any, ...]] = []
    size = 0
    try:
        for row in cursor:
            size += len(row[-1])
            if len(taken) == limit or (taken and size > PAGE_BYTES_MAX):
                return taken, True
            taken.append(row)
        return taken, False
    finally:
        cursor.close()
