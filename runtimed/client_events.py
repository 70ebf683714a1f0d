"""The feed of committed records as an async iterator that connects again and goes on where it was."""

from __future__ import annotations

import random
from collections import deque
from types import TracebackType
from typing import Self

import anyio
import msgspec

from runtimed.client_errors import BadAnswer, DaemonUnreachable, TimedOut, from_problem
from runtimed.client_link import Link
from runtimed.client_wire import Broken, Stream
from runtimed.sse import Event, Parser, TooLarge
from wal.views import EventView

SILENCE_MAX = 60.0
"""Seconds without a byte, heartbeats included, after which the connection is taken for dead."""
BACKOFF_FIRST, BACKOFF_MAX = 0.1, 5.0
PROBLEM_MAX_BYTES = 1024**2

_decode = msgspec.json.Decoder(EventView).decode


class EventStream:
    """Iterate it; each event is one committed record, in order, none twice and none left out.

    A connection that breaks is made again, for as long as it takes, and goes on after the last event seen
    (`Last-Event-ID`). The first connection is not waited for: it raises `DaemonUnreachable`. Close it with `aclose`
    or by `async with`; closing the client closes it too.
    """

    def __init__(self, link: Link, after: int) -> None:
        self._link = link
        self.seq = after
        self._ready: deque[Event] = deque()
        self._stream: Stream | None = None
        self._parser = Parser()
        self._connected_once = False
        self._closed = False

    def __aiter__(self) -> Self:
        return self

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.aclose()

    @property
    def closed(self) -> bool:
        """Whether the iteration is over."""
        return self._closed

    async def aclose(self) -> None:
        """Stop; the iteration ends. Harmless twice."""
        self._closed = True
        await self._drop()

    async def __anext__(self) -> EventView:
        while not self._closed:
            while self._ready:
                event = _read(self._ready.popleft())
                if event.seq > self.seq:
                    self.seq = event.seq
                    return event
            try:
                await self._more()
            except Broken:
                await self._drop()
        raise StopAsyncIteration

    async def _more(self) -> None:
        """Wait for bytes; raises `Broken` when the connection has to be made again."""
        stream = self._stream or await self._connect()
        data = b""
        with anyio.move_on_after(SILENCE_MAX):
            data = await stream.read()
        if not data:
            raise Broken("the stream ended or fell silent")
        try:
            self._ready.extend(self._parser.feed(data))
        except TooLarge:
            raise BadAnswer("an event without an end") from None

    async def _connect(self) -> Stream:
        wait = BACKOFF_FIRST
        while True:
            try:
                stream = await self._open()
            except (DaemonUnreachable, TimedOut, Broken) as error:
                if not self._connected_once:
                    raise error if not isinstance(error, Broken) else DaemonUnreachable(str(error)) from error
            else:
                self._connected_once = True
                return stream
            await anyio.sleep(wait * random.uniform(0.5, 1.0))  # spread, so that clients do not all come back at once
            wait = min(wait * 2, BACKOFF_MAX)

    async def _open(self) -> Stream:
        stream = await self._link.open_events(self.seq)
        self._stream, self._parser = stream, Parser()
        if stream.status == 200:
            if not stream.headers.get("content-type", "").startswith("text/event-stream"):
                raise BadAnswer(f"{self._link.wire.target} does not answer with events")
            return stream
        body = b""
        try:
            while len(body) < PROBLEM_MAX_BYTES and (part := await stream.read()):
                body += part
        finally:  # also when it breaks off, for the next try has a stream of its own
            await self._drop()
        problem = from_problem(stream.status, stream.headers, body)
        if stream.status in (429, 503):
            raise DaemonUnreachable(str(problem), hint=problem.hint) from problem
        raise problem

    async def _drop(self) -> None:
        stream, self._stream = self._stream, None
        if stream is not None:
            await stream.aclose()


def _read(event: Event) -> EventView:
    """An event as a record (its type is the record's kind)."""
    try:
        return _decode(event.data)
    except msgspec.DecodeError as error:
        raise BadAnswer(f"an event that is no record: {error}") from None
