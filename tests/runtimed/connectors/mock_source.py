"""A real HTTP server on loopback that answers as it is told to, and misbehaves when it is told to.

`faults` are used up one a request, before the answer. The shapes of Stripe and HubSpot are in modules of their own.
"""

from __future__ import annotations

import socket
import ssl
import struct
from collections import deque
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from email.utils import formatdate
from typing import Any
from urllib.parse import parse_qs, urlsplit

import h11
import msgspec
import trio


@dataclass(frozen=True)
class Asked:
    """One request."""

    method: str
    path: str
    query: Mapping[str, str]
    headers: Mapping[str, str]
    body: bytes

    def json(self) -> Any:
        return msgspec.json.decode(self.body)


@dataclass(frozen=True)
class Reply:
    """One answer. `fault`: `truncate` cuts the body off, `drip` sends a byte and then nothing, `reset` none at all."""

    body: bytes = b"{}"
    status: int = 200
    headers: Mapping[str, str] = field(default_factory=dict)
    fault: str = ""


def json_reply(data: Any, status: int = 200, **headers: str) -> Reply:
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return Reply(msgspec.json.encode(data), status, {"Content-Type": "application/json", **named})


RESET, TRUNCATE, DRIP = (Reply(b'{"data": [' + b" " * 500, fault=name) for name in ("reset", "truncate", "drip"))
HALF_JSON = Reply(b'{"data": [{"id": "a"', headers={"Content-Type": "application/json"})
HTML = Reply(b"<html>Sorry</html>", headers={"Content-Type": "text/html"})


class MockSource:
    """The server. `now_s` is its clock; None leaves the Date header out."""

    def __init__(self, answer: Callable[[Asked], Reply]) -> None:
        self.answer = answer
        self.asked: list[Asked] = []
        self.faults: deque[Reply | Callable[[Asked], Reply]] = deque()
        self.before: Callable[[Asked], None] = lambda asked: None
        self.now_s: float | None = None
        self.url = ""
        self.hold_at: int | None = None
        self.held, self.released = trio.Event(), trio.Event()
        self._connected, self.all_left = 0, trio.Event()
        self.dripping = trio.Event()

    def hold(self, count: int) -> None:
        """The `count`th request from now on sets `held`, and waits for `released` before it is answered."""
        self.hold_at = len(self.asked) + count
        self.held, self.released = trio.Event(), trio.Event()

    def fail(self, *faults: Reply | Callable[[Asked], Reply]) -> None:
        """The next requests meet these."""
        self.faults.extend(faults)

    async def serve(self, stream: trio.abc.HalfCloseableStream) -> None:
        """One connection."""
        connection = h11.Connection(h11.SERVER)
        if not self._connected:
            self.all_left = trio.Event()
        self._connected += 1
        try:
            await self._serve(connection, stream)
        finally:
            self._connected -= 1
            if not self._connected:
                self.all_left.set()

    async def _serve(self, connection: h11.Connection, stream: trio.abc.HalfCloseableStream) -> None:
        async with stream:
            try:
                while (asked := await self._request(connection, stream)) is not None:
                    self.asked.append(asked)
                    self.before(asked)
                    if len(self.asked) == self.hold_at:
                        self.held.set()
                        await self.released.wait()
                    fault = self.faults.popleft() if self.faults else None
                    reply = fault if isinstance(fault, Reply) else fault(asked) if fault else self.answer(asked)
                    if not await self._reply(connection, stream, reply):
                        return
                    if connection.states[h11.SERVER] is h11.MUST_CLOSE:
                        return
                    connection.start_next_cycle()
            except (trio.BrokenResourceError, trio.ClosedResourceError, h11.RemoteProtocolError):
                return  # the client has gone, or speaks TLS to us; some tests are about that

    async def _request(self, connection: h11.Connection, stream: trio.abc.Stream) -> Asked | None:
        head: h11.Request | None = None
        body = b""
        while True:
            event = connection.next_event()
            if event is h11.NEED_DATA:
                connection.receive_data(await stream.receive_some(65_536))
            elif isinstance(event, h11.Request):
                head = event
            elif isinstance(event, h11.Data):
                body += bytes(event.data)
            elif isinstance(event, h11.EndOfMessage):
                assert head is not None
                parts = urlsplit(head.target.decode())
                query = {name: values[-1] for name, values in parse_qs(parts.query, keep_blank_values=True).items()}
                headers = {name.decode(): value.decode() for name, value in head.headers}
                return Asked(head.method.decode(), parts.path, query, headers, body)
            else:
                return None

    async def _reply(self, connection: h11.Connection, stream: trio.abc.Stream, reply: Reply) -> bool:
        """Send it; False if the connection is at its end."""
        if reply.fault == "reset":
            linger = struct.pack("ii", 1, 0)
            inner = stream.transport_stream if isinstance(stream, trio.SSLStream) else stream
            inner.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)  # type: ignore[attr-defined]
            return False
        dates = {} if self.now_s is None else {"Date": formatdate(self.now_s, usegmt=True)}
        headers = {"Content-Length": str(len(reply.body)), **dates, **reply.headers}
        head = h11.Response(status_code=reply.status, headers=[*headers.items()])
        await stream.send_all(connection.send(head) or b"")
        body = connection.send(h11.Data(data=reply.body)) or b""
        if reply.fault:
            await stream.send_all(body[: len(body) // 2 if reply.fault == "truncate" else 1])
            if reply.fault == "drip":
                self.dripping.set()
                await stream.receive_some(1)  # until the client has had enough
            return False
        await stream.send_all(body + (connection.send(h11.EndOfMessage()) or b""))
        return True


class NoNames(trio.abc.HostnameResolver):
    """Knows no name, at once: what the servers of names of this machine do takes them any time."""

    async def getaddrinfo(self, host: Any, *rest: Any) -> Any:
        await trio.lowlevel.checkpoint()
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    async def getnameinfo(self, sockaddr: Any, flags: int) -> Any:
        await self.getaddrinfo(sockaddr)


@asynccontextmanager
async def serving(source: MockSource, tls: ssl.SSLContext | None = None) -> AsyncIterator[MockSource]:
    """`source` on a port of its own for as long as the block lasts."""
    async with trio.open_nursery() as nursery:
        listeners = await trio.open_tcp_listeners(0, host="127.0.0.1")
        port = listeners[0].socket.getsockname()[1]
        source.url = f"{'https' if tls else 'http'}://127.0.0.1:{port}"

        async def connection(stream: trio.SocketStream) -> None:
            if tls is None:
                await source.serve(stream)
                return
            secured = trio.SSLStream(stream, tls, server_side=True, https_compatible=True)
            try:
                await source.serve(secured)  # type: ignore[arg-type]
            except (trio.BrokenResourceError, ssl.SSLError):
                return  # the client does not trust us: that is the test

        nursery.start_soon(trio.serve_listeners, connection, listeners)
        yield source
        nursery.cancel_scope.cancel()
