"""Answers: bytes with a status and headers, sent as ASGI wants them."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any, Final

import msgspec

Send = Callable[[Any], Awaitable[None]]
Header = tuple[bytes, bytes]

JSON: Final = b"application/json"
_ENCODER: Final = msgspec.json.Encoder()
encode = _ENCODER.encode


class Reply:
    """A whole answer. The body is bytes already: nothing here encodes."""

    __slots__ = ("body", "content_type", "headers", "status")

    def __init__(self, status: int, body: bytes, content_type: bytes = JSON, headers: tuple[Header, ...] = ()) -> None:
        self.status = status
        self.body = body
        self.content_type = content_type
        self.headers = headers

    async def send(self, send: Send, traceparent: bytes) -> None:
        """Send it, with the trace it belongs to."""
        headers = [
            (b"content-type", self.content_type),
            (b"content-length", b"%d" % len(self.body)),
            (b"traceparent", traceparent),
            *FIXED_HEADERS,
            *self.headers,
        ]
        await send({"type": "http.response.start", "status": self.status, "headers": headers})
        await send({"type": "http.response.body", "body": self.body})


FIXED_HEADERS: Final[tuple[Header, ...]] = (
    (b"cache-control", b"no-store"),
    (b"x-content-type-options", b"nosniff"),
)
"""Every answer is of this moment and is exactly of the type it says."""


def json_reply(value: Any, status: int = 200, headers: tuple[Header, ...] = ()) -> Reply:
    """A value as JSON, by the names of its fields."""
    return Reply(status, encode(value), JSON, headers)
