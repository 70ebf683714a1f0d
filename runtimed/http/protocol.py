"""HTTP/1.1 as we speak it: hypercorn's h11 protocol without upgrades, with problem documents and fewer sends.

What is overridden here and in `connection` is checked by a test against the pinned version of hypercorn.
"""

from __future__ import annotations

from collections import deque
from http import HTTPStatus
from time import time
from typing import Any, Final
from wsgiref.handlers import format_date_time

import h11
import trio
from hypercorn.config import Config
from hypercorn.events import Closed, Event, RawData, Updated
from hypercorn.protocol.events import Body, EndBody, Request, Response, StreamClosed
from hypercorn.protocol.events import Event as StreamEvent
from hypercorn.protocol.h11 import STREAM_ID, H11Protocol
from hypercorn.protocol.http_stream import HTTPStream

from runtimed.http.faults import PROBLEM_TYPE, protocol_problem

_LAST_STATES: Final = frozenset((h11.MUST_CLOSE, h11.CLOSED, h11.ERROR))
_REASONS: Final = {status.value: status.phrase.encode() for status in HTTPStatus}
_LINE_BYTES: Final = 4
"""What a header's line has besides name and value: colon, space, the end."""
DISCONNECT: Final = {"type": "http.disconnect"}


class EdgeConfig(Config):
    """Hypercorn's configuration, with a date header that is made once a second."""

    def __init__(self) -> None:
        super().__init__()
        self._headers: list[tuple[bytes, bytes]] = []
        self._headers_at = 0

    def response_headers(self, protocol: str) -> list[tuple[bytes, bytes]]:
        now = int(time())
        if now != self._headers_at:
            self._headers_at = now
            self._headers = [(b"date", format_date_time(now).encode("ascii"))]
        return self._headers


class RequestPipe:
    """What was read for one request and waits for its handler, bounded in bytes.

    Not a memory channel: the bound is on bytes, and when the handler has ended nobody blocks here. (Upstream, a client
    that sends more than is wanted blocks the handler on its own queue for ever.)
    """

    __slots__ = ("_closed", "_gone", "_max_bytes", "_messages", "_news", "_room", "_size_bytes")

    def __init__(self, max_bytes: int) -> None:
        self._max_bytes = max_bytes
        self._messages: deque[dict[str, Any]] = deque()
        self._size_bytes = 0
        self._gone = False
        self._closed = False
        self._news: trio.Event | None = None
        self._room: trio.Event | None = None

    async def put(self, message: Any) -> None:
        """Hand a message to the handler; waits while too much is waiting there."""
        if self._closed:
            return
        if message["type"] == "http.disconnect":
            self._gone = True
        elif self._messages and not message["body"]:
            self._messages[-1]["more_body"] = message["more_body"]  # the end goes with the last part
        else:
            self._messages.append(message)
            self._size_bytes += len(message["body"])
        if self._news is not None:
            self._news.set()
        while self._full:
            self._room = trio.Event()
            await self._room.wait()

    async def receive(self) -> Any:
        """The next message, as ASGI has it; `http.disconnect` again and again once the client has left."""
        while not self._messages:
            if self._gone:
                return DISCONNECT
            self._news = trio.Event()
            await self._news.wait()
        message = self._messages.popleft()
        self._size_bytes -= len(message["body"])
        if self._room is not None:
            self._room.set()
        return message

    @property
    def _full(self) -> bool:
        return self._size_bytes > self._max_bytes and not (self._closed or self._gone)

    def close(self) -> None:
        """The handler has ended: drop what waits and let nobody wait."""
        self._closed = True
        self._messages.clear()
        self._size_bytes = 0
        if self._room is not None:
            self._room.set()


class _Refused(Exception):
    def __init__(self, status: int, detail: str) -> None:
        super().__init__(detail)
        self.status, self.detail = status, detail


class Http11(H11Protocol):
    """One connection's protocol state. Answers leave in one send where they can."""

    connection: h11.Connection

    def __init__(self, *arguments: Any, **named: Any) -> None:
        super().__init__(*arguments, **named)
        self._out: list[bytes] = []
        self._asked_for_head = False  # then an answer has no body, not even a problem's

    @property
    def busy(self) -> bool:
        """A request is being handled."""
        return self.stream is not None

    @property
    def has_partial_head(self) -> bool:
        """Something of the next request was read, but not its whole head. Copies what is buffered."""
        return self.stream is None and bool(self.connection.trailing_data[0])

    async def handle(self, event: Event) -> None:
        """Take what was read, or that the connection ended. After the last request, what comes is nobody's."""
        if isinstance(event, RawData) and self.connection.their_state in _LAST_STATES:
            return
        try:
            await super().handle(event)
        except _Refused as refused:
            await self.refuse(refused.status, refused.detail)

    async def _handle_events(self) -> None:
        while self.connection.their_state not in _LAST_STATES:
            if self.connection.they_are_waiting_for_100_continue:
                await self._send_h11_event(h11.InformationalResponse(status_code=100, headers=[]))
            try:
                event = self.connection.next_event()
            except h11.RemoteProtocolError as error:
                await self.refuse(error.error_status_hint, str(error))
                return
            if isinstance(event, h11.Request):
                await self.send(Updated(idle=False))
                await self._check_protocol(event)
                await self._create_stream(event)
            elif event is h11.PAUSED:  # the next request waits for this one's answer
                await self.can_read.clear()
                await self.can_read.wait()
            elif event is h11.NEED_DATA or self.stream is None or isinstance(event, h11.ConnectionClosed):
                return
            elif isinstance(event, h11.Data):
                await self.stream.handle(Body(stream_id=STREAM_ID, data=event.data))
            elif isinstance(event, h11.EndOfMessage):
                await self.stream.handle(EndBody(stream_id=STREAM_ID))

    async def refuse(self, status: int, detail: str = "") -> None:
        """Answer with a problem if an answer may still be given, and close."""
        if self.connection.our_state in (h11.IDLE, h11.SEND_RESPONSE):
            await self._send_error_response(status, detail)
        await self.send(Closed())

    async def stream_send(self, event: StreamEvent) -> None:
        if isinstance(event, Response):
            status = event.status_code
            self._encode(
                h11.Response(
                    status_code=status, headers=self._complete(event.headers), reason=_REASONS.get(status, b"")
                )
            )
        elif isinstance(event, Body):
            self._encode(h11.Data(data=event.data))
            await self._flush()
        elif isinstance(event, EndBody):
            self._encode(h11.EndOfMessage())
            await self._flush()
        elif isinstance(event, StreamClosed):
            await self._flush()
            self._asked_for_head = False
            await self._maybe_recycle()

    def _complete(self, headers: list[tuple[bytes, bytes]]) -> list[tuple[bytes, bytes]]:
        complete = headers + self.config.response_headers("h11")
        # With the body unread or the server draining, the connection will be closed after this answer: say so.
        last = self.keep_alive_requests >= self.config.keep_alive_max_requests
        if last or self.connection.their_state is h11.SEND_BODY or self.context.terminated.is_set():
            complete.append((b"connection", b"close"))
        return complete

    def _encode(self, event: h11.Event) -> None:
        try:
            data = self.connection.send(event)
        except h11.LocalProtocolError:
            if self.connection.their_state is not h11.ERROR:  # else the client broke off: nobody reads this
                raise
        else:
            if data:
                self._out.append(data)

    async def _flush(self) -> None:
        if self._out:
            data = b"".join(self._out)
            self._out.clear()
            await self.send(RawData(data=data))

    async def _send_error_response(self, status_code: int, detail: str = "") -> None:
        body = protocol_problem(status_code, detail)
        headers = [
            (b"content-type", PROBLEM_TYPE),
            (b"content-length", str(len(body)).encode()),
            (b"connection", b"close"),
        ]
        headers += self.config.response_headers("h11")
        self._encode(h11.Response(status_code=status_code, headers=headers, reason=_REASONS.get(status_code, b"")))
        if not self._asked_for_head:
            self._encode(h11.Data(data=body))
        self._encode(h11.EndOfMessage())
        await self._flush()

    async def _check_protocol(self, event: h11.Request) -> None:
        """Refuse what is not plain HTTP/1.x. An `Upgrade` is ignored, as RFC 9110, 7.8 lets a server do."""
        self._asked_for_head = event.method == b"HEAD"
        if event.http_version not in (b"1.1", b"1.0"):
            raise _Refused(505, "HTTP/1.1 is spoken here")
        if event.method == b"CONNECT":
            raise _Refused(405, "CONNECT is not served")
        names, size = [], len(event.method) + len(event.target)
        for name, value in event.headers:
            names.append(name)
            size += len(name) + len(value) + _LINE_BYTES
        if size > self.config.h11_max_incomplete_size:  # h11 looks at what is not whole yet, and this came in one piece
            raise _Refused(431, f"the head is larger than {self.config.h11_max_incomplete_size} bytes")
        if b"transfer-encoding" in names and (b"content-length" in names or event.http_version == b"1.0"):
            # Proxies disagree on where such a request ends (request smuggling; RFC 9112, 6.1 and 11.2).
            raise _Refused(400, "Transfer-Encoding beside Content-Length, or in HTTP/1.0, is not taken")

    async def _create_stream(self, request: h11.Request) -> None:
        self.stream = HTTPStream(
            self.app,
            self.config,
            self.context,
            self.task_group,
            self.ssl,
            self.client,
            self.server,
            self.stream_send,
            STREAM_ID,
        )
        await self.stream.handle(
            Request(
                stream_id=STREAM_ID,
                headers=list(request.headers),
                http_version=request.http_version.decode(),
                method=request.method.decode("ascii"),  # methods are case-sensitive (RFC 9110, 9.1)
                raw_path=request.target,
                state=self.connection_state,
            )
        )
        self.keep_alive_requests += 1
