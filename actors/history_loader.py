"""Reads the histories of runs that are to go on, in a thread, once all of them is durable. For the saga coordinator."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Any

import msgspec
import trio

from actors.active_run import ActiveRun
from actors.errors import HistoryUnreadable, RunNotFound
from actors.wal_writer import WalWriter
from wal.errors import JournalCorrupt, JournalError
from wal.queries import Reader
from wal.records import Entry

log = logging.getLogger("runtimed.runs")

LOAD_BATCH = 64
LOAD_RECORDS = 5_000
"""So many runs are loaded at once, and no further one once their histories have so many records."""
LOAD_PATIENCE_S = 60.0
LOAD_PAUSE_S = 1.0
"""A history that cannot be read is tried again for so long, with such pauses, in turn with others."""


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
        """Read until cancelled. Raises JournalCorrupt at once, and HistoryUnreadable for a run whose history cannot be
        read for another reason that lasts."""
        failing: dict[int, float] = {}  # by run key: since when
        while True:
            if not self._runs:
                self._wake = trio.Event()
            await self._wake.wait()
            # While some cannot be read, one at a time: one bad place on the disk is not to keep others from going on.
            runs = self._runs[: 1 if failing else LOAD_BATCH]
            await self._writer.wait_durable(max(run.load_upto for run in runs))
            try:
                loaded = await self._load(runs)
            except (JournalError, RuntimeError, MemoryError) as error:  # RuntimeError where no thread can be started
                self._runs = self._runs[len(runs) :] + runs
                self._failed(failing, runs, error)
                await trio.sleep(LOAD_PAUSE_S)
            else:
                del self._runs[: len(loaded)]
                for run, _ in loaded:
                    failing.pop(run.run_key, None)
                self._report(HistoriesLoaded(loaded))

    async def _load(self, runs: list[ActiveRun]) -> list[tuple[ActiveRun, list[Entry]]]:
        """The histories of these, or of the first of them. One that ended meanwhile needs none."""
        wanted = [(run.run_key, 0 if run.ended else run.load_upto) for run in runs]
        histories: list[list[Entry]] = await self._read(partial(_first_of, wanted))
        loaded = list(zip(runs, histories, strict=False))
        for run, entries in loaded:
            if not (entries or run.ended):
                raise RunNotFound(f"run {run.id!r} has no records")  # a bug of ours: the coordinator restarts
        return loaded

    def _failed(self, failing: dict[int, float], runs: list[ActiveRun], error: Exception) -> None:
        """What may pass (no file descriptor, memory or thread left, a lock in the way) is tried again: a crash would
        end the attempts of all runs, and leave those in doubt that are not repeated."""
        if any(run.ended for run in runs):
            return  # it is not read again, and may have been forgotten
        if isinstance(error, (JournalCorrupt, RecursionError)):
            raise error
        now = trio.current_time()
        if not failing:
            log.warning("histories of runs cannot be read, and are tried again: %s", error)
        for run in runs:
            if now - failing.setdefault(run.run_key, now) >= LOAD_PATIENCE_S:
                raise HistoryUnreadable(f"the history of run {run.id!r} cannot be read: {error}") from error


def _first_of(wanted: list[tuple[int, int]], reader: Reader) -> list[list[Entry]]:
    """The histories of these, or of the first of them if those are long: all are in memory at once."""
    found: list[list[Entry]] = []
    records = 0
    for run_key, last_seq in wanted:
        found.append(reader.history(run_key, last_seq=last_seq) if last_seq else [])
        records += len(found[-1])
        if records >= LOAD_RECORDS:
            break
    return found
