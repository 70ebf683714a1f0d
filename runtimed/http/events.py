"""The event stream: one server-sent event a committed record, resumable at any seq."""

from __future__ import annotations

from typing import Final

import msgspec
import trio

from runtimed.http.errors import BadRequest
from runtimed.http.replies import FIXED_HEADERS, Send, encode
from runtimed.http.requests import Request
from runtimed.http.surface import Reader, RuntimeSurface
from runtimed.wire import EventsQuery

PAGE_EVENTS: Final = 500
PAUSE_S: Final = 0.01
"""Between two pages: a busy journal is read in pages, and not record by record for each who listens."""
RETRY_MS: Final = 1_000
EVENT_STREAM: Final = b"text/event-stream; charset=utf-8"

_AFTER: Final = msgspec.json.Decoder(int)


async def stream(rt: RuntimeSurface, request: Request) -> EventStream:
    """The records beyond `after` or `Last-Event-ID`, then those to come, until the client leaves or we drain."""
    after = request.query(EventsQuery).after
    last_seen = request.header(b"last-event-id")
    if last_seen:  # it is the later word: the browser's own, on reconnecting
        if not (last_seen.isascii() and last_seen.isdecimal() and len(last_seen) <= 18):
            raise BadRequest("Last-Event-ID is the seq of the last event, a number")
        after = int(last_seen)
    begin = rt.feed.seq if after == "now" else after
    if begin > rt.feed.seq:
        raise BadRequest(
            f"after {begin} lies beyond the journal's last record, {rt.feed.seq}: another journal's number?"
        )
    request.streams.begin(_client(request))
    return EventStream(rt, request, begin)


def _client(request: Request) -> str:
    """Whose streams are counted together: a token's or a user's."""
    return request.peer.by or request.peer.address


class EventStream:
    """An answer that goes on. Sends pages as they become durable, and a comment when there was nothing for a while.

    Nothing is kept for a slow reader: it gets the next page when it has taken the one before, and a reader that takes
    nothing is ended by the server's send timeout.
    """

    status = 200

    def __init__(self, rt: RuntimeSurface, request: Request, after: int) -> None:
        self._rt = rt
        self._request = request
        self._after = after

    async def send(self, send: Send, traceparent: bytes) -> None:
        """Send until the client has left or the server drains."""
        try:
            await self._send(send, traceparent)
        finally:
            self._request.streams.end(_client(self._request))

    async def _send(self, send: Send, traceparent: bytes) -> None:
        headers = [(b"content-type", EVENT_STREAM), (b"traceparent", traceparent), *FIXED_HEADERS]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await _chunk(send, b"retry: %d\n\n" % RETRY_MS)
        if self._request.method != "HEAD":
            await self._request.unless_stopped(lambda: self._pump(send))
        await send({"type": "http.response.body", "body": b"", "more_body": False})

    async def _pump(self, send: Send) -> None:
        rt = self._rt
        while True:
            durable = rt.feed.seq
            page, last = await rt.read(self._page)
            if not self._request.still_may():
                return  # a reload took the level, or the token counts no more: the record that says so is not sent
            if page:
                self._after = last
                await _chunk(send, page)
                await trio.sleep(PAUSE_S)
                continue
            self._after = max(self._after, durable)  # not every record is an event: do not wait for those again
            with trio.move_on_after(self._request.limits.heartbeat_s) as scope:
                if await rt.feed.wait_beyond(self._after) <= self._after:
                    return  # the runtime has stopped: there will be no more
            if scope.cancelled_caught:
                await _chunk(send, b": heartbeat\n\n")

    def _page(self, reader: Reader) -> tuple[bytes, int]:
        """The next events as text; made where they are read, off the loop."""
        events = reader.events(self._after, PAGE_EVENTS)
        if not events:
            return b"", self._after
        text = b"".join(
            b"id: %d\nevent: %s\ndata: %s\n\n" % (event.seq, event.kind.encode(), encode(event)) for event in events
        )
        return text, events[-1].seq


async def _chunk(send: Send, data: bytes) -> None:
    await send({"type": "http.response.body", "body": data, "more_body": True})
