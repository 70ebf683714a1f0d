"""A poll of a child process that speaks in lines of JSON: what Singer taps and Airbyte connectors have in common.

The dialect says what a line means; this reads, waits, hands pages on, and judges how the child ended. What came before
a fault is handed on before the fault is raised, so that the next poll begins behind it.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple, Protocol

import trio
from msgspec import Raw

from actors.connector_spec import Page, Poll
from actors.errors import SourceError, SourceGarbled
from runtimed.connectors.batch import Batch
from runtimed.connectors.child import Child, environment
from runtimed.connectors.line_splitter import LineSplitter, LineTooLong
from runtimed.connectors.scratch import Scratch

HAND_ON_S = 1.0
"""What a slow child has said is handed on after so long, however little it is."""
QUIET_S = 0.25
"""Once nothing has come for so long, what there is is handed on."""


class Announcement(NamedTuple):
    """A stream's shape, to be settled before anything in it is taken."""

    stream: str
    shape: Raw


class Dialect(Protocol):
    """What the lines of a child mean."""

    batch: Batch

    def take(self, block: bytes) -> Iterator[Announcement]:
        """Put what these whole lines say into the batch, stopping at each announcement. Raises SourceError."""

    def complaint(self) -> SourceError | None:
        """What the child itself has said is wrong, or why its word is not whole; asked at its end."""


class Launch(NamedTuple):
    """How a child is started: its command, more environment, seconds from SIGTERM to SIGKILL, seconds of silence after
    which it counts as hanging; and what takes secrets out of what it says."""

    command: Sequence[str]
    environ: Mapping[str, str]
    grace_s: float
    idle_s: float
    hide: Callable[[str], str]


async def read_child(poll: Poll[Any], launch: Launch, dialect: Dialect, scratch: Scratch) -> AsyncIterator[Page]:
    """The pages of one run of the child. Raises SourceError, with the end of its stderr, for every way in which it can
    go wrong."""
    environ = environment(launch.command[0], scratch.path, launch.environ)
    # In the daemon's own folder, so that a path in `command` or `config` means what it means elsewhere in the settings.
    child = Child.start(launch.command, environ=environ, grace_s=launch.grace_s)
    async with child:
        reading = _Reading(poll, child, dialect, scratch, launch.idle_s)
        while (pages := await _hiding(reading, launch.hide)) is not None:
            for page in pages:
                yield page


async def _hiding(reading: _Reading, hide: Callable[[str], str]) -> list[Page] | None:
    """One step; what it raises shows no secret that the child was given, because a child may say what it likes."""
    try:
        return await reading.step()
    except SourceError as error:
        text = str(error)
        if (safe := hide(text)) == text:
            raise
        raise type(error)(safe, hint=error.hint, retry_after_s=error.retry_after_s) from None


class _Reading:
    """One run of a child, step by step: each gives the pages that go now, and what it found wrong is raised by the next
    one, when they have been taken."""

    def __init__(self, poll: Poll[Any], child: Child, dialect: Dialect, scratch: Scratch, idle_s: float) -> None:
        self._poll, self._child, self._dialect, self._scratch = poll, child, dialect, scratch
        self._idle_s = idle_s
        self._splitter = LineSplitter()
        self._messages: Iterator[Announcement] = iter(())  # of the block at hand
        self._announced: Announcement | None = None  # what it stands at
        self._fault: SourceError | None = None
        self._ended = False
        self._heard = self._since = self._told = trio.current_time()  # the last word; since when something waits

    async def step(self) -> list[Page] | None:
        """The pages that go now, perhaps none; None at the end. Raises SourceError."""
        if self._fault is not None:
            raise self._fault
        try:
            if self._ended:
                if (complaint := self._dialect.complaint()) is not None:
                    raise complaint  # it knows better than its exit code
                await self._child.check_end(self._splitter.rest())
                return None
            return await self._advance()
        except LineTooLong as error:
            self._fault = SourceGarbled(str(error))
        except SourceError as error:
            self._fault = error
        return self._dialect.batch.pages(everything=True)

    async def _advance(self) -> list[Page]:
        batch, chunk = self._dialect.batch, None
        if self._announced is not None:
            if self._poll.shapes is not None:
                await self._poll.shapes.settle(*self._announced)
        else:
            chunk = await self._child.read(QUIET_S)
            self._take(chunk)
        self._announced = next(self._messages, None)
        if self._announced is not None or self._ended:
            return batch.pages(everything=True)  # a narrower shape stops the connector: what came before it goes first
        overdue = trio.current_time() - self._since >= HAND_ON_S
        if overdue or chunk is None or batch.is_full:
            self._since = trio.current_time() if overdue else self._since
            return batch.pages(everything=overdue) or self._sign_of_life()
        return self._sign_of_life()

    def _sign_of_life(self) -> list[Page]:
        """A child that talks of other things than records is not silent: whoever waits for a page is told by an empty
        one."""
        if self._heard - self._told < self._idle_s / 2:
            return []
        self._told = self._heard
        return [Page()]

    def _take(self, chunk: bytes | None) -> None:
        now = trio.current_time()
        self._since = self._since if self._dialect.batch.waits else now
        if chunk is None:
            if now - self._heard >= self._idle_s:
                raise SourceError(self._child.said(f"it has said nothing for {self._idle_s:g} s"))
        elif not chunk:
            self._ended = True
        else:
            self._heard = now
            self._scratch.forget_files()  # it has read them: it does so before it says anything
            if block := self._splitter.feed(chunk):
                self._messages = self._dialect.take(block)
