"""What one client may cost: the limits of the edge, and reading a body within them."""

from __future__ import annotations

import math
from collections.abc import Awaitable, Callable
from typing import Any

import msgspec
import trio

from runtimed.http.errors import BodiesFull, BodyTooLarge, BodyTooSlow, ClientGone, TooManyStreams, UnsupportedMediaType
from runtimed.settings import KIB, MIB, Http

Receive = Callable[[], Awaitable[Any]]


class EdgeLimits(msgspec.Struct, frozen=True, kw_only=True):
    """All limits of the edge; the first six are settings, the others have no reason to vary.

    `connections_max` counts for each kind of listener alone, so that a flood on TCP leaves the unix socket to the
    operator. `linger_s` and `linger_max_bytes` bound how long a closing connection still swallows what its client
    sends: closing at once would reset the connection and take the answer with it.
    """

    connections_max: int = 512
    body_max_bytes: int = 8 * MIB
    header_timeout_s: float = 10.0
    body_timeout_s: float = 30.0
    send_timeout_s: float = 30.0
    batch_items_max: int = 1_000

    bodies_max_bytes: int = 128 * MIB
    head_max_bytes: int = 16 * KIB
    keep_alive_timeout_s: float = 75.0
    keep_alive_requests_max: int = 10_000_000
    pipe_max_bytes: int = 256 * KIB
    linger_s: float = 1.0
    linger_max_bytes: int = 64 * MIB
    drain_grace_s: float = 1.0
    heartbeat_s: float = 15.0
    streams_max: int = 256
    streams_per_client_max: int = 64

    @classmethod
    def from_settings(cls, http: Http, *, batch_items_max: int = 1_000) -> EdgeLimits:
        """The limits that `[http]` asks for."""
        return cls(
            connections_max=http.max_connections,
            body_max_bytes=http.body_max_bytes,
            header_timeout_s=http.header_timeout,
            body_timeout_s=http.body_timeout,
            send_timeout_s=http.send_timeout,
            batch_items_max=batch_items_max,
        )


class Streams:
    """Counts the event streams that are open, of each client and in all: each is a reader of the journal."""

    def __init__(self, limits: EdgeLimits) -> None:
        self._limits = limits
        self._open: dict[str, int] = {}
        self.total = 0

    def begin(self, client: str) -> None:
        """One more for a client. Raises `TooManyStreams`."""
        mine, limits = self._open.get(client, 0), self._limits
        if mine >= limits.streams_per_client_max:
            raise TooManyStreams(f"{client} has {mine} event streams open already")
        if self.total >= limits.streams_max:
            raise TooManyStreams(f"{self.total} event streams are open already")
        self._open[client] = mine + 1
        self.total += 1

    def end(self, client: str) -> None:
        """One less."""
        self.total -= 1
        self._open[client] -= 1
        if not self._open[client]:
            del self._open[client]


class Bodies:
    """Reads request bodies, each within its size and time, all together within one bound on memory."""

    def __init__(self, limits: EdgeLimits) -> None:
        self.limits = limits
        self._held_bytes = 0

    @property
    def held_bytes(self) -> int:
        """Bytes of the bodies that are being received now."""
        return self._held_bytes

    async def read(self, receive: Receive, content_length: int | None) -> bytes:
        """The whole body. Raises `BodyTooLarge`, `BodyTooSlow`, `BodiesFull`, or `ClientGone`."""
        if content_length is not None and content_length > self.limits.body_max_bytes:
            raise self._too_large()
        with trio.move_on_after(self.limits.body_timeout_s):
            message = await receive()
            if message["type"] == "http.disconnect":
                raise ClientGone
            body: bytes = message.get("body", b"")
            return await self._rest(receive, body) if message.get("more_body", False) else body
        raise BodyTooSlow(f"the body did not arrive within {self.limits.body_timeout_s:g} s")

    async def _rest(self, receive: Receive, first: bytes) -> bytes:
        chunks = [first]
        size = len(first)
        try:
            self._hold(size, size)
            while True:
                message = await receive()
                if message["type"] == "http.disconnect":
                    raise ClientGone
                chunk: bytes = message.get("body", b"")
                if chunk:
                    chunks.append(chunk)
                    size += len(chunk)
                    self._hold(len(chunk), size)
                if not message.get("more_body", False):
                    return chunks[0] if len(chunks) == 1 else b"".join(chunks)
        finally:
            self._held_bytes -= size

    def _hold(self, added: int, size: int) -> None:
        self._held_bytes += added
        if size > self.limits.body_max_bytes:
            raise self._too_large()
        if self._held_bytes > self.limits.bodies_max_bytes:
            raise BodiesFull

    def _too_large(self) -> BodyTooLarge:
        return BodyTooLarge(f"the body is larger than {self.limits.body_max_bytes} bytes")


def check_json(content_type: bytes | None) -> None:
    """Raise `UnsupportedMediaType` unless a body of this type is JSON; without a type it is taken to be."""
    if content_type is None or content_type == b"application/json":
        return
    media, _, parameters = content_type.lower().partition(b";")
    media = media.strip()
    charset = parameters.replace(b" ", b"").replace(b'"', b"")
    is_json = media == b"application/json" or (media.startswith(b"application/") and media.endswith(b"+json"))
    if not is_json or charset not in (b"", b"charset=utf-8", b"charset=utf8"):
        raise UnsupportedMediaType(f"a body of {content_type.decode('latin-1')!r} is not taken; JSON in UTF-8 is")


def retry_after_s(seconds: float) -> bytes:
    """The value of a `Retry-After` header: whole seconds, at least one."""
    return str(max(1, math.ceil(seconds))).encode()
