"""Reads the histories of runs that are to go on, in a thread, once all of them is durable. For the saga coordinator."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Any

import msgspec
import trio

from actors.active_run import ActiveRun
from actors.errors import RunNotFound
from actors.wal_writer import WalWriter
from wal.errors import JournalCorrupt, JournalError
from wal.queries import Reader
from wal.records import Entry

log = logging.getLogger("runtimed.runs")

LOAD_BATCH = 64
LOAD_RECORDS = 5_000
"""So many runs are loaded at once, and no further one once their histories have so many records."""
LOAD_TRIES = 60
LOAD_PAUSE_S = 1.0
"""A history that cannot be read is tried so often, with such pauses: for a minute others go on beside it."""


class HistoriesLoaded(msgspec.Struct, frozen=True):
    """The histories of these runs were read."""

    runs: list[tuple[ActiveRun, list[Entry]]]


class HistoryLoader:
    """Part of one life of the coordinator. `report` takes a `HistoriesLoaded`, in the order of `put`."""

    def __init__(
        self,
        writer: WalWriter,
        read: Callable[[Callable[[Reader], Any]], Awaitable[Any]],
        report: Callable[[HistoriesLoaded], None],
    ) -> None:
        self._writer, self._read, self._report = writer, read, report
        self._runs: list[ActiveRun] = []
        self._wake = trio.Event()

    def put(self, run: ActiveRun) -> None:
        """Have the history of this run read up to its `load_upto`."""
        self._runs.append(run)
        self._wake.set()

    async def run(self) -> None:
        """Read until cancelled. Raises JournalCorrupt at once, and what else keeps a history from being read only once
        it has done so for a minute."""
        while True:
            await self._wake.wait()
            runs = self._runs[:LOAD_BATCH]
            await self._writer.wait_durable(max(run.load_upto for run in runs))
            histories = await self._histories([(run.run_key, run.load_upto) for run in runs])
            loaded = list(zip(runs, histories, strict=False))  # perhaps not all of them: what was read is long
            del self._runs[: len(loaded)]
            if not self._runs:
                self._wake = trio.Event()
            for run, entries in loaded:
                if not entries:
                    raise RunNotFound(f"run {run.id!r} has no records")  # a bug of ours: the coordinator restarts
            self._report(HistoriesLoaded(loaded))

    async def _histories(self, wanted: list[tuple[int, int]]) -> list[list[Entry]]:
        """Read, and where that fails for what may pass (no file descriptor, memory or thread left, a lock in the way),
        try again: a crash here would end the attempts of all runs, and leave those in doubt that are not repeated."""
        tried = 0
        while True:
            try:
                found: list[list[Entry]] = await self._read(partial(_first_of, wanted))
                return found
            except JournalCorrupt:
                raise
            except (JournalError, RuntimeError) as error:  # the latter where no thread can be started
                tried += 1
                if tried == LOAD_TRIES:
                    raise
                if tried == 1:
                    log.warning("histories of runs cannot be read, and are tried again: %s", error)
            await trio.sleep(LOAD_PAUSE_S)


def _first_of(wanted: list[tuple[int, int]], reader: Reader) -> list[list[Entry]]:
    """The histories of these, or of the first of them if those are long: all are in memory at once."""
    found: list[list[Entry]] = []
    records = 0
    for run_key, last_seq in wanted:
        found.append(reader.history(run_key, last_seq=last_seq))
        records += len(found[-1])
        if records >= LOAD_RECORDS:
            break
    return found
