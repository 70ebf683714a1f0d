"""The record store: which streams there are, and their records in the order of their changes."""

from __future__ import annotations

from actors.errors import StreamNotFound
from runtimed.http.replies import Reply, encode
from runtimed.http.requests import Request
from runtimed.http.surface import Reader, RuntimeSurface
from runtimed.wire import PAGE_ITEMS_MAX, RecordsQuery, StreamView
from wal.views import Page


async def list_streams(rt: RuntimeSurface, request: Request) -> Reply:
    """The streams of the record store, by name."""

    def streams(reader: Reader) -> bytes:
        items = [StreamView(row.name, row.records) for row in reader.streams()]
        return encode(Page(items, None, len(items), reader.head_seq()))

    return Reply(200, await rt.read(streams))


async def list_records(rt: RuntimeSurface, request: Request) -> Reply:
    """A page of a stream's records, the change that is longest ago first; reading on after the last misses nothing."""
    query, stream = request.query(RecordsQuery), request.params["stream"]

    def page(reader: Reader) -> bytes:
        found = reader.stored(stream, after=query.after, limit=min(query.limit, PAGE_ITEMS_MAX))
        if found is None:
            raise StreamNotFound(f"the record store has no stream {stream[:200]!r}")
        return encode(found)

    return Reply(200, await rt.read(page))
