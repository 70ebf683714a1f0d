"""HTTP/1.1 to the daemon over its unix socket or TCP: kept connections, one safe repeat, time limits.

On h11 and anyio rather than a general client library: those load every event loop there is (100 ms that each command
of the command line would pay), and leave async generators behind when a stream is dropped in the middle.
"""

from __future__ import annotations

import ssl
from collections import deque
from collections.abc import Mapping
from contextlib import AsyncExitStack
from typing import Any, NamedTuple
from urllib.parse import quote, urlsplit

import anyio
import anyio.abc
import h11

from actors.errors import InvalidInput, NotAllowed
from runtimed.client_errors import BadAnswer, DaemonUnreachable, TimedOut

CHUNK_BYTES = 65_536
ANSWER_MAX_BYTES = 256 * 1024**2
"""The largest answer taken into memory: a page of histories with the largest payloads stays far below it."""
IDLE_MAX = 16
CONNECT_TIMEOUT = 5.0


class Answer(NamedTuple):
    """A whole answer; header names in lower case."""

    status: int
    headers: dict[str, str]
    body: bytes


class Broken(Exception):
    """The connection ended in the middle of a request; whether the daemon acted is not known."""


class Target(NamedTuple):
    """Where the daemon is: a unix socket's path, or a host and port."""

    path: str | None
    host: str
    port: int
    tls: bool
    prefix: str = ""

    @classmethod
    def of(cls, socket: str | None, url: str | None) -> Target:
        """Exactly one of both. Raises `InvalidInput` for what is no http(s) URL."""
        if socket is not None:
            return cls(socket, "localhost", 0, False)
        wrong = InvalidInput(f"{url!r} is not a URL of a daemon", hint="Write http://HOST:PORT or https://HOST:PORT.")
        try:
            parts = urlsplit(url or "")
            port = parts.port
        except ValueError:
            raise wrong from None
        if parts.scheme not in ("http", "https") or not parts.hostname or parts.query or parts.fragment:
            raise wrong
        tls = parts.scheme == "https"
        return cls(None, parts.hostname, port or (443 if tls else 80), tls, quote(parts.path.rstrip("/"), safe="/%"))

    @property
    def authority(self) -> str:
        """The Host header."""
        if self.path is not None:
            return self.host
        host = f"[{self.host}]" if ":" in self.host else self.host
        return host if self.port == (443 if self.tls else 80) else f"{host}:{self.port}"

    def __str__(self) -> str:
        return self.path or f"{'https' if self.tls else 'http'}://{self.authority}{self.prefix}"


class Connection:
    """One connection that carries one request at a time."""

    def __init__(self, stream: anyio.abc.ByteStream) -> None:
        self._stream = stream
        self._http = h11.Connection(h11.CLIENT, max_incomplete_event_size=CHUNK_BYTES)
        self._ended = False

    async def send(
        self, method: str, target: str, headers: list[tuple[str, str]], body: bytes
    ) -> tuple[int, dict[str, str]]:
        """Send a request and wait for the head of its answer. Raises `Broken`, `BadAnswer`."""
        request = h11.Request(method=method, target=target, headers=headers)
        data = self._out(request) + (self._out(h11.Data(data=body)) if body else b"") + self._out(h11.EndOfMessage())
        try:
            await self._stream.send(data)
        except (anyio.BrokenResourceError, anyio.ClosedResourceError):
            pass  # a server may refuse a large body before it has read it all; without an answer, reading says `Broken`
        while True:
            event = await self._next()
            if isinstance(event, h11.Response):
                return event.status_code, {
                    name.decode("latin-1"): value.decode("latin-1") for name, value in event.headers
                }
            if not isinstance(event, h11.InformationalResponse):
                raise Broken("the connection ended before an answer")

    async def read(self) -> bytes:
        """The next part of the body; empty at its end. Raises `Broken`."""
        event = await self._next()
        if isinstance(event, h11.Data):
            return bytes(event.data)
        if isinstance(event, h11.EndOfMessage):
            return b""
        raise Broken("the connection ended in the middle of an answer")

    def rewind(self) -> bool:
        """Make ready for another request; False if this connection cannot carry one."""
        if self._http.our_state is h11.DONE and self._http.their_state is h11.DONE and not self._http.trailing_data[0]:
            self._http.start_next_cycle()
            return True
        return False

    async def aclose(self) -> None:
        """Close at once; safe in a cancelled scope."""
        with anyio.CancelScope(shield=True):
            await anyio.aclose_forcefully(self._stream)

    def _out(self, event: Any) -> bytes:
        return self._http.send(event) or b""

    async def _next(self) -> Any:
        try:
            while (event := self._http.next_event()) is h11.NEED_DATA:
                self._http.receive_data(await self._receive())
        except h11.RemoteProtocolError as error:
            if self._ended:
                raise Broken("it ended too early") from error
            raise BadAnswer(f"not HTTP as we know it: {error}") from error
        return event

    async def _receive(self) -> bytes:
        try:
            return await self._stream.receive(CHUNK_BYTES)
        except anyio.EndOfStream:
            self._ended = True
            return b""
        except (anyio.BrokenResourceError, anyio.ClosedResourceError) as error:
            raise Broken(str(error)) from error


class Stream:
    """An answer that is read part by part. Leave it with `aclose`."""

    def __init__(self, connection: Connection, status: int, headers: dict[str, str]) -> None:
        self._connection = connection
        self.status = status
        self.headers = headers

    async def read(self) -> bytes:
        """The next part; empty at the end. Raises `Broken`."""
        return await self._connection.read()

    async def aclose(self) -> None:
        """Close the connection."""
        await self._connection.aclose()


class Wire:
    """All connections to one daemon. Requests may run side by side; each has a connection to itself."""

    def __init__(self, target: Target, *, timeout: float) -> None:
        self.target = target
        self.timeout = timeout
        self._idle: deque[Connection] = deque()
        self._tls: ssl.SSLContext | None = None
        self._closed = False

    async def aclose(self) -> None:
        """Close the idle connections, all of them also where it is cancelled at the first; one at work closes when its
        request is done."""
        self._closed = True
        async with AsyncExitStack() as each:  # a task of asyncio may be cancelled once more, which no scope holds off
            while self._idle:
                each.push_async_callback(self._idle.pop().aclose)

    async def request(
        self,
        method: str,
        target: str,
        *,
        headers: Mapping[str, str],
        body: bytes = b"",
        repeatable: bool,
        timeout: float | None = None,
    ) -> Answer:
        """One request and its whole answer; repeated once on a new connection if that is safe and the first one broke.

        `timeout` is seconds for all of it. Raises `DaemonUnreachable`, `TimedOut`, `BadAnswer`, `NotAllowed`.
        """
        limit = self.timeout if timeout is None else timeout
        with anyio.move_on_after(limit) as scope:
            return await self._request(method, target, headers, body, repeatable)
        assert scope.cancelled_caught
        raise TimedOut(f"no answer from {self.target} to {method} {target.split('?')[0]} within {limit:g} s")

    async def _request(
        self, method: str, target: str, headers: Mapping[str, str], body: bytes, repeatable: bool
    ) -> Answer:
        connection = self._idle.pop() if repeatable and self._idle else await self._connect()
        try:
            return await self._exchange(connection, method, target, headers, body)
        except Broken as error:
            if not repeatable:
                raise _unknown_outcome(self.target, error) from error
        connection = await self._connect()
        try:
            return await self._exchange(connection, method, target, headers, body)
        except Broken as error:
            raise _unknown_outcome(self.target, error) from error

    async def _exchange(
        self, connection: Connection, method: str, target: str, headers: Mapping[str, str], body: bytes
    ) -> Answer:
        async with AsyncExitStack() as unless_whole:
            unless_whole.push_async_callback(connection.aclose)
            status, answered = await connection.send(
                method, self._path(target), self._head(method, headers, body), body
            )
            parts, size = [], 0
            while part := await connection.read():
                parts.append(part)
                size += len(part)
                if size > ANSWER_MAX_BYTES:
                    raise BadAnswer(f"an answer of more than {ANSWER_MAX_BYTES:,} bytes")
            if not self._closed and len(self._idle) < IDLE_MAX and connection.rewind():
                unless_whole.pop_all()
                self._idle.append(connection)
        return Answer(status, answered, b"".join(parts))

    async def open(self, target: str, *, headers: Mapping[str, str]) -> Stream:
        """A GET without an end; its head must come within the time limit. Raises as `request`, and `Broken`."""
        with anyio.move_on_after(self.timeout):
            connection = await self._connect()
            async with AsyncExitStack() as unless_open:
                unless_open.push_async_callback(connection.aclose)
                status, answered = await connection.send(
                    "GET", self._path(target), self._head("GET", headers, b""), b""
                )
                unless_open.pop_all()
            return Stream(connection, status, answered)
        raise TimedOut(f"no answer from {self.target} within {self.timeout:g} s")

    def _path(self, target: str) -> str:
        return self.target.prefix + target

    def _head(self, method: str, headers: Mapping[str, str], body: bytes) -> list[tuple[str, str]]:
        length = [] if method == "GET" else [("content-length", str(len(body)))]
        return [("host", self.target.authority), *headers.items(), *length]

    async def _connect(self) -> Connection:
        target = self.target
        try:
            with anyio.fail_after(CONNECT_TIMEOUT):
                return Connection(await self._dial())
        except FileNotFoundError:
            raise DaemonUnreachable(f"there is no socket at {target}") from None
        except PermissionError:
            raise NotAllowed(
                f"no permission to open {target}", hint="Join the group that owns the socket, or become its user."
            ) from None
        except ConnectionRefusedError:
            raise DaemonUnreachable(f"nobody listens at {target}") from None
        except TimeoutError:
            raise DaemonUnreachable(f"{target} did not take the connection within {CONNECT_TIMEOUT:g} s") from None
        except OSError as error:
            raise DaemonUnreachable(f"cannot reach {target}: {error.__cause__ or error.strerror or error}") from error

    async def _dial(self) -> anyio.abc.ByteStream:
        target = self.target
        if target.path is not None:
            return await anyio.connect_unix(target.path)
        if not target.tls:
            return await anyio.connect_tcp(target.host, target.port)
        self._tls = self._tls or ssl.create_default_context()
        return await anyio.connect_tcp(
            target.host, target.port, tls=True, ssl_context=self._tls, tls_standard_compatible=False
        )


def _unknown_outcome(target: Target, error: Broken) -> DaemonUnreachable:
    return DaemonUnreachable(
        f"the connection to {target} broke: {error}",
        hint="What was asked may have happened; ask again with the same id or idempotency key.",
    )
