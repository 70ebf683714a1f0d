"""Readers: read-only connections for queries off the loop, a few of them, each used by one thread at a time."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

import trio

from actors.gil_gate import GilGate
from wal.journal import Journal
from wal.queries import Reader

T = TypeVar("T")


class Readers:
    """One connection for the loop and `readers_max` for threads. All are open from the start, which costs a third of a
    millisecond each: a run that wakes must not find that idle connections took the last file descriptor."""

    def __init__(self, source: Path | Journal, readers_max: int, gate: GilGate) -> None:
        self._source, self._gate = source, gate
        self._limiter = trio.CapacityLimiter(readers_max)
        self._idle: list[Reader] = []
        with contextlib.ExitStack() as undo:
            undo.callback(self._close_idle)
            if isinstance(source, Path):
                for _ in range(readers_max):
                    self._idle.append(Reader.open(source))
            self.on_loop = source.reader() if isinstance(source, Journal) else Reader.open(source)
            undo.pop_all()

    @property
    def path(self) -> Path | None:
        """The journal's file; None for one in memory."""
        return self._source if isinstance(self._source, Path) else None

    async def read(self, query: Callable[[Reader], T]) -> T:
        """Run a query in a thread. Cancellation takes effect once it has ended; queries are short."""
        if isinstance(self._source, Journal):  # in this process, and perhaps on virtual time: a thread would spoil that
            await trio.lowlevel.checkpoint()
            return query(self.on_loop)
        with self._gate:
            return await trio.to_thread.run_sync(self._run, query, limiter=self._limiter)

    def _run(self, query: Callable[[Reader], T]) -> T:
        reader = self._idle.pop()  # there is one: the limiter lets no more threads in than there are
        try:
            return query(reader)
        finally:
            self._idle.append(reader)

    def close(self) -> None:
        """Close all connections; nothing may be reading any more."""
        self._close_idle()
        self.on_loop.close()

    def _close_idle(self) -> None:
        while self._idle:
            self._idle.pop().close()
