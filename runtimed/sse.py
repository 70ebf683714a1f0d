"""Server-sent events, sans I/O: bytes in, events out (the client's half of the WHATWG format)."""

from __future__ import annotations

import re
from typing import NamedTuple

EVENT_MAX_BYTES = 64 * 1024**2
"""The most that one event may hold; a record with the largest payload stays below it."""

_LINE_END = re.compile(rb"\r\n|\n|\r(?!$)")  # a CR at the very end may be half of a CRLF: wait for more


class Event(NamedTuple):
    """One event: the last id told so far, its type and its data."""

    id: str
    type: str
    data: bytes


class TooLarge(Exception):
    """An event or a line has no end within the limit."""


class Parser:
    """Feed it what arrives, in any pieces; it gives the events that are whole."""

    def __init__(self) -> None:
        self._rest: list[bytes] = []  # pieces of a line that has no end yet: joined once, for one may have megabytes
        self._rest_size = 0
        self._data: list[bytes] = []
        self._size = 0
        self._type = "message"
        self._id = ""

    def feed(self, data: bytes) -> list[Event]:
        """The events that this data completes. Raises `TooLarge`."""
        after_cr = bool(self._rest) and self._rest[-1].endswith(b"\r")
        if data:
            self._rest.append(data)
            self._rest_size += len(data)
        lines: list[bytes] = []
        if after_cr or b"\n" in data or b"\r" in data:
            *lines, rest = _LINE_END.split(b"".join(self._rest))
            self._rest, self._rest_size = [rest] if rest else [], len(rest)
        if self._rest_size > EVENT_MAX_BYTES:
            raise TooLarge
        return [event for line in lines if (event := self._line(line)) is not None]

    def _line(self, line: bytes) -> Event | None:
        if not line:
            return self._dispatch()
        name, _, value = line.partition(b":")
        value = value.removeprefix(b" ")
        if name == b"data":
            self._data.append(value)
            self._size += len(value)
            if self._size > EVENT_MAX_BYTES:
                raise TooLarge
        elif name == b"event":
            self._type = value.decode("utf-8", "replace")
        elif name == b"id" and b"\0" not in value:
            self._id = value.decode("utf-8", "replace")
        return None

    def _dispatch(self) -> Event | None:
        data, type_ = self._data, self._type
        self._data, self._size, self._type = [], 0, "message"
        return Event(self._id, type_, b"\n".join(data)) if data else None
