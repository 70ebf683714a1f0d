"""Readers: read-only connections for queries off the loop, a few of them, each used by one thread at a time."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

import trio

from actors.gil_gate import GilGate
from wal.journal import Journal
from wal.queries import Reader

T = TypeVar("T")


class Readers:
    """Opens connections as they are wanted, at most `readers_max`, and keeps them."""

    def __init__(self, source: Path | Journal, readers_max: int, gate: GilGate) -> None:
        self._source, self._gate = source, gate
        self._limiter = trio.CapacityLimiter(readers_max)
        self._idle: list[Reader] = []
        self.on_loop = source.reader() if isinstance(source, Journal) else Reader.open(source)

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
        assert isinstance(self._source, Path)
        reader = self._idle.pop() if self._idle else Reader.open(self._source)
        try:
            return query(reader)
        finally:
            self._idle.append(reader)

    def close(self) -> None:
        """Close all connections; nothing may be reading any more."""
        for reader in [*self._idle, self.on_loop]:
            reader.close()
        self._idle.clear()
