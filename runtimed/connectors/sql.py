"""A table of another SQLite file, read along a column that rises: an id, a version, a time of change.

Between polls the cursor is the largest value that was read, and the next poll begins *at* it, so that a row which came
later with the same value is not missed; what was read before is recognised by its key. Within a poll it goes on behind
the last row by cursor and key together.
"""

from __future__ import annotations

import math
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Annotated, Any

import msgspec
import trio
from msgspec import Meta, Raw

from actors.connector_spec import PAGE_RECORDS_MAX, ConnectorSpec, Page, Poll, deliver_to
from actors.errors import SourceError
from actors.shapes import KEY_FIELDS
from runtimed.config_layers import ConfigError
from runtimed.connectors.options import read_options
from runtimed.settings import Connector
from wal.foreign import Column, ForeignBusy, ForeignRefused, ForeignTable
from wal.records import DeliveryRefused, StoredItem

BUSY_PAUSE_S = 0.05
BUSY_TRIES = 100
"""The loop goes on while somebody writes the file; after so many looks the poll fails, and comes again later."""

Text = Annotated[str, Meta(min_length=1, max_length=4096)]


class SqlOptions(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """`database` is the file, `cursor` the column that rises; `columns` are those to take, empty for all."""

    database: Text
    table: Text
    cursor: Text
    columns: tuple[Text, ...] = ()
    page_size: Annotated[int, Meta(ge=1, le=PAGE_RECORDS_MAX)] = 500


def make(name: str, settings: Connector) -> ConnectorSpec:
    """The connector of a `kind = "sql"` table. Raises ConfigError."""
    options = read_options(name, settings.options, SqlOptions)
    if not settings.key:
        raise ConfigError(f"connectors.{name}.key: it is needed: which column tells two rows apart", hint='key = "id"')
    key = settings.key

    async def source(poll: Poll[int | float | str]) -> AsyncIterator[Page]:
        reading = _Reading(options, key, poll.cursor)
        while not reading.is_last:
            rows = await reading.next_rows()
            if reading.is_first and poll.shapes is not None:
                await poll.shapes.settle(poll.name, reading.shape())
            if rows:
                yield Page(records=[_item(poll.name, row, key) for row in rows], cursor=reading.cursor())

    return ConnectorSpec(
        name=name, kind="sql", source=source, deliver=deliver_to(settings.deliver, settings.run_id_from),
        every=settings.every, timeout=settings.timeout, cursor_type=int | float | str, ahead=True,
        credential=settings.credential,
    )  # fmt: skip


class _Reading:
    """One poll of a table, page by page."""

    def __init__(self, options: SqlOptions, key: str, since: int | float | str | None) -> None:
        self._options, self._key, self._since = options, key, since
        self._place: tuple[Any, Any] | None = None  # cursor and key of the last row that was read
        self._columns: list[Column] = []
        self.is_first = self.is_last = False

    async def next_rows(self) -> list[dict[str, Any]]:
        """The next page of rows. Raises SourceError."""
        await trio.lowlevel.checkpoint()
        for _ in range(BUSY_TRIES):
            try:
                return self._read()
            except ForeignBusy:
                await trio.sleep(BUSY_PAUSE_S)
            except ForeignRefused as error:
                raise SourceError(str(error)) from None
        raise SourceError(f"{self._options.database} has been locked for {BUSY_TRIES * BUSY_PAUSE_S:g} s")

    def _read(self) -> list[dict[str, Any]]:
        options = self._options
        # Opened for each page: between two of them there is a commit, and nobody's clean-up is to wait for us.
        with ForeignTable(Path(options.database), options.table, options.cursor, self._key, options.columns) as table:
            self.is_first = self._place is None
            if self._place is None:
                rows = table.first(self._since, options.page_size)
            else:
                rows = table.after(*self._place, options.page_size)
            self._place = table.place() if rows else self._place
            self._columns = table.columns
        self.is_last = len(rows) < options.page_size
        return rows

    def cursor(self) -> int | float | str:
        """The largest value that was read. Raises SourceError if it is none to go on from."""
        value = None if self._place is None else self._place[0]
        if not isinstance(value, int | float | str) or (isinstance(value, float) and not math.isfinite(value)):
            raise SourceError(f"column {self._options.cursor!r} holds {value!r:.100}, which is no cursor")
        return value

    def shape(self) -> Raw:
        """The columns as JSON Schema. SQLite's types are advice, so only a column that is gone can narrow it."""
        properties: dict[str, Any] = {column.name: {} for column in self._columns}
        return Raw(msgspec.json.encode({"type": "object", "properties": properties, KEY_FIELDS: [self._key]}))


def _item(connector: str, row: dict[str, Any], key: str) -> StoredItem | DeliveryRefused:
    data = Raw(msgspec.json.encode(row))
    value = row[key]
    if isinstance(value, int | str) and value != "":
        return StoredItem(str(value), data)
    return DeliveryRefused(connector, "", "no_key", f"its key {key!r} is neither text nor a whole number", data)
