"""What comes in from outside: cursors, delivered keys and the record store; what their records do, and how they read.

An item's position in the store is the seq of the record that brought it, times 4,096, plus its place in the page: it
rises with every change, is a function of the records, and needs no counter.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import apsw
import msgspec
from msgspec import Raw

from wal.connections import all_rows, one_row, scalar
from wal.pages import within_bytes
from wal.records import (
    ConnectorPaused,
    ConnectorQuarantined,
    ConnectorReset,
    ConnectorResumed,
    CursorAdvanced,
    DeliveryRefused,
    Entry,
    ErrorData,
    RecordsStored,
    SchemaSeen,
    StoredItem,
    WebhookReceived,
)
from wal.views import ConnectorView, Page, StoredView, rfc3339

WEBHOOK = "webhook:"
"""Before a webhook's name where a connector's may stand too. Part of the file format: never changed."""
ITEMS_MAX = 4_096
"""Items of one page; see the module. Part of the file format: never changed."""

COLUMNS = """name, kind, status, cursor, generation, records, repeated, refused, error, advanced_at, updated_at"""
_NEW = """insert into connectors values (?, ?, 'running', 'null', 0, 0, 0, 0, null, null, ?)
    on conflict (name) do nothing"""
_ADVANCE = """update connectors set kind = ?, cursor = ?, records = records + ?, repeated = repeated + ?,
    refused = refused + ?, advanced_at = ?, updated_at = ? where name = ?"""
_RECEIVE = """update connectors set kind = 'webhook', records = records + 1, advanced_at = ?, updated_at = ?
    where name = ?"""
_REFUSE = "update connectors set error = ?, refused = refused + ?, updated_at = ? where name = ?"
# What did not change keeps its place: a source that tells the same again and again makes no work for readers.
_STORE = """insert into stored (position, stream_key, key, at, deleted, data) values (?, ?, ?, ?, ?, ?)
    on conflict (stream_key, key) do update set position = excluded.position, at = excluded.at,
    deleted = excluded.deleted, data = excluded.data
    where data <> excluded.data or deleted <> excluded.deleted"""
_PAGE = """select position, key, at, deleted, data from stored
    where stream_key = ? and position > ? order by position"""

_encode = msgspec.json.encode
_error = msgspec.json.Decoder(ErrorData)


class ConnectorRow(msgspec.Struct, frozen=True, gc=False):
    """A connector, or a webhook under `webhook:NAME`, as the journal knows it. `status` is `running | paused |
    quarantined`; `generation` counts resets; instants are microseconds since the epoch."""

    name: str
    kind: str = "poller"
    status: str = "running"
    cursor: Raw = Raw(b"null")
    generation: int = 0
    records: int = 0
    repeated: int = 0
    refused: int = 0
    error: ErrorData | None = None
    advanced_at: int | None = None
    updated_at: int = 0

    def view(self) -> ConnectorView:
        """The connector for people, as far as the journal knows it: whether it polls only a running daemon knows."""
        said = None if self.error is None else f"{self.error.type}: {self.error.message}"
        return ConnectorView(
            self.name.removeprefix(WEBHOOK),
            "webhook" if self.name.startswith(WEBHOOK) else self.kind,
            "ok" if self.status == "running" else self.status,
            self.cursor,
            last_poll_at=rfc3339(self.advanced_at),
            last_error=said,
            records_total=self.records,
            generation=self.generation,
            repeated_total=self.repeated,
            refused_total=self.refused,
        )


class StreamRow(msgspec.Struct, frozen=True, gc=False):
    """A stream of the record store and how many records it holds, deleted ones included."""

    name: str
    records: int


# --- effects of records ---------------------------------------------------------------------------------------------


def records_stored(db: apsw.Connection, entry: Entry, record: RecordsStored) -> None:
    """A page went into the store."""
    stream = stream_key(db, record.stream)
    if stream is None:
        db.execute("insert into streams (name) values (?)", (record.stream,))
        stream = db.last_insert_rowid()
    first, at = entry.seq * ITEMS_MAX, entry.at
    db.executemany(
        _STORE,
        [
            (first + place, stream, item.key, at, int(item.deleted), bytes(item.data).decode())
            for place, item in enumerate(record.items)
        ],
    )


def cursor_advanced(db: apsw.Connection, entry: Entry, record: CursorAdvanced) -> None:
    """A source was read further."""
    _ensure(db, record.connector, record.source_kind, entry.at)
    cursor = bytes(record.cursor).decode()
    counts = (record.records, record.repeated, record.refused)
    db.execute(_ADVANCE, (record.source_kind, cursor, *counts, entry.at, entry.at, record.connector))
    if record.keys:
        rows = [(record.connector, key, entry.seq) for key in record.keys]
        db.executemany("insert into deliveries values (?, ?, ?)", rows)


def webhook_received(db: apsw.Connection, entry: Entry, record: WebhookReceived) -> None:
    """A delivery came; its key is known from now on."""
    source = WEBHOOK + record.webhook
    db.execute("insert into deliveries values (?, ?, ?)", (source, record.key, entry.seq))
    _ensure(db, source, "webhook", entry.at)
    db.execute(_RECEIVE, (entry.at, entry.at, source))


def delivery_refused(db: apsw.Connection, entry: Entry, record: DeliveryRefused) -> None:
    """A record was set aside: people see why the last one was."""
    _ensure(db, record.connector, "poller", entry.at)
    error = _encode(ErrorData(record.code, record.message)).decode()
    # a poller's are counted by its CursorAdvanced
    count = int(record.connector.startswith(WEBHOOK))
    db.execute(_REFUSE, (error, count, entry.at, record.connector))


def connector_moved(
    db: apsw.Connection, entry: Entry, record: ConnectorPaused | ConnectorResumed | ConnectorQuarantined
) -> None:
    """A connector was held, or let go."""
    _ensure(db, record.connector, "poller", entry.at)
    status = {ConnectorPaused: "paused", ConnectorResumed: "running", ConnectorQuarantined: "quarantined"}[type(record)]
    error = _encode(record.error).decode() if isinstance(record, ConnectorQuarantined) else None
    keeps = isinstance(record, ConnectorPaused)  # what was wrong before is still to be read
    sql = "update connectors set status = ?, error = case when ? then error else ? end, updated_at = ? where name = ?"
    db.execute(sql, (status, keeps, error, entry.at, record.connector))


def connector_reset(db: apsw.Connection, entry: Entry, record: ConnectorReset) -> None:
    """A connector begins from another cursor."""
    _ensure(db, record.connector, "poller", entry.at)
    db.execute(
        "update connectors set cursor = ?, generation = generation + 1, updated_at = ? where name = ?",
        (bytes(record.cursor).decode(), entry.at, record.connector),
    )


def schema_seen(db: apsw.Connection, entry: Entry, record: SchemaSeen) -> None:
    """A stream has a new shape."""
    row = (record.connector, record.stream, bytes(record.shape).decode(), entry.seq)
    db.execute("insert or replace into shapes values (?, ?, ?, ?)", row)


def _ensure(db: apsw.Connection, name: str, kind: str, at: int) -> None:
    db.execute(_NEW, (name, kind, at))


# --- reading --------------------------------------------------------------------------------------------------------


def connector(db: apsw.Connection, name: str) -> ConnectorRow | None:
    """What the journal knows of a connector; None before it has recorded anything."""
    row = one_row(db, f"select {COLUMNS} from connectors where name = ?", (name,))
    return None if row is None else connector_row(row)


def connectors(db: apsw.Connection) -> list[ConnectorRow]:
    """All connectors that have recorded anything, by name."""
    return [connector_row(row) for row in all_rows(db, f"select {COLUMNS} from connectors order by name")]


def delivered(db: apsw.Connection, source: str, keys: Iterable[str]) -> set[str]:
    """Those of these keys that this source has delivered before."""
    sql = "select key from deliveries where source = ? and key in (select value from json_each(?))"
    return {row[0] for row in all_rows(db, sql, (source, _encode(list(keys)).decode()))}


def deliveries(db: apsw.Connection, source: str) -> int:
    """How many keys this source has delivered."""
    return int(scalar(db, "select count(*) from deliveries where source = ?", (source,)))


def delivery_seq(db: apsw.Connection, source: str, key: str) -> int | None:
    """The record by which this source delivered this key."""
    found = one_row(db, "select seq from deliveries where source = ? and key = ?", (source, key))
    return None if found is None else int(found[0])


def shape(db: apsw.Connection, connector_name: str, stream: str) -> Raw | None:
    """The shape that a stream was last taken over with, as JSON Schema."""
    found = one_row(db, "select shape from shapes where connector = ? and stream = ?", (connector_name, stream))
    return None if found is None else Raw(found[0].encode())


def stream_key(db: apsw.Connection, name: str) -> int | None:
    """The key of a stream of the store; None if there is none of this name."""
    found = one_row(db, "select stream_key from streams where name = ?", (name,))
    return None if found is None else int(found[0])


def streams(db: apsw.Connection) -> list[StreamRow]:
    """The streams of the store, by name."""
    sql = """select name, (select count(*) from stored t where t.stream_key = s.stream_key) from streams s
             order by name"""
    return [StreamRow(*row) for row in all_rows(db, sql)]


def unchanged(db: apsw.Connection, stream: str, items: Sequence[StoredItem]) -> set[str]:
    """The keys of those items that the store holds just so: storing them again would change nothing."""
    found = stream_key(db, stream)
    if found is None:
        return set()
    sql = "select key, data, deleted from stored where stream_key = ? and key in (select value from json_each(?))"
    keys = _encode([item.key for item in items]).decode()
    held = {key: (data, gone) for key, data, gone in all_rows(db, sql, (found, keys))}
    return {item.key for item in items if held.get(item.key) == (bytes(item.data).decode(), item.deleted)}


def stored_page(db: apsw.Connection, stream: str, *, after: int, limit: int) -> Page | None:
    """A page of `StoredView` of a stream after a position; its `next` is the position to go on after, as text. None
    if there is no such stream. Call within a snapshot."""
    found = stream_key(db, stream)
    if found is None:
        return None
    rows, more = within_bytes(db.execute(_PAGE, (found, after)), limit)
    items = [
        StoredView(position, key, rfc3339(at) or "", bool(gone), Raw(data.encode()))
        for position, key, at, gone, data in rows
    ]
    head = int(scalar(db, "select coalesce(max(seq), 0) from records"))
    return Page(items=items, next=str(items[-1].seq) if more else None, seq=head)


def connector_row(row: tuple[Any, ...]) -> ConnectorRow:
    """A row of `COLUMNS` as a value."""
    name, kind, status, cursor, generation, records, repeated, refused, error, advanced_at, updated_at = row
    said = None if error is None else _error.decode(error)
    counts = (records, repeated, refused)
    return ConnectorRow(name, kind, status, Raw(cursor.encode()), generation, *counts, said, advanced_at, updated_at)
