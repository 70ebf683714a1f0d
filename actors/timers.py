"""Durable timers: tells the saga coordinator what is due. It holds only what is due next; the journal holds the rest.

What is due is told once, whether it can go on now or not. Whoever holds a run back, for want of room, for its turn in a
queue, or because it is paused or blocked, answers for it from then on: it has the run in hand, or sets its timers anew
when the run goes on. After a crash all is told again. (A window that shrinks may tell something twice.)

Wall-clock time decides, because only that survives a restart. The clock may jump either way at any moment, so it is
looked at again at least every `recheck_s` seconds while anything is set: a jump forward fires late by no more than
that, a jump back fires nothing twice, because a timer that fired is gone.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import msgspec
import trio

from actors.clock import Clock
from actors.due_window import Due, DueWindow
from actors.wal_writer import WalWriter
from wal.queries import Reader

PAGE_ROWS = 500
PAGE_PAUSE_S = 0.02


class TimersDue(msgspec.Struct, frozen=True):
    """These timers are due: (instant, run key, call key). Whoever takes this checks that they still stand."""

    due: list[Due]


class Timers:
    """The actor. `report` takes a `TimersDue`."""

    def __init__(
        self,
        reader: Reader,
        clock: Clock,
        writer: WalWriter,
        report: Callable[[TimersDue], None],
        recheck_s: float = 1.0,
    ) -> None:
        self._reader, self._clock, self._writer, self._report = reader, clock, writer, report
        self._recheck_s = recheck_s
        self._window = DueWindow(PAGE_ROWS)
        self._earlier = trio.Event()
        self._notes = 0

    def set(self, seq: int, due_at: int, run_key: int, call_key: str) -> None:
        """A timer was recorded as `seq` (or is known to be on disk already)."""
        if self._window.add(seq, (due_at, run_key, call_key)):
            self._earlier.set()
        self._notes += 1
        if self._notes >= PAGE_ROWS:
            self._notes = 0
            self._window.forget_durable(self._writer.durable_seq)

    def recheck(self) -> None:
        """Look at the clock now: it may have jumped."""
        self._earlier.set()

    async def run(self, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Serve until cancelled."""
        self._window = DueWindow(PAGE_ROWS)  # what was set before a crash of this actor is read again
        await self._flushed()
        self._load()
        task_status.started()
        while True:
            self._earlier = trio.Event()
            self.run_once()
            if self._window.exhausted:
                # A hundred thousand may be due at once: a pause lets the coordinator, and others, come in between.
                await trio.sleep(PAGE_PAUSE_S)
                self._load()
            else:
                with trio.move_on_after(self._until_next_s()):
                    await self._earlier.wait()

    def run_once(self) -> None:
        """Report what is due."""
        due = self._window.pop_due(self._clock.now_us())
        if due:
            self._report(TimersDue(due))

    async def _flushed(self) -> None:
        await self._writer.wait_durable(self._writer.seq)

    def _until_next_s(self) -> float:
        due = self._window.next_us
        if due is None:
            return math.inf
        return max(0.0, min((due - self._clock.now_us()) / 1e6, self._recheck_s))

    def _load(self) -> None:
        durable = self._writer.durable_seq
        rows = self._reader.due_timers(after=self._window.horizon, limit=PAGE_ROWS)
        page: list[Due] = [(row.due_at, row.run_key, row.key) for row in rows]
        self._window.load(page, more=len(page) == PAGE_ROWS, durable_seq=durable)

    def __len__(self) -> int:
        return len(self._window)
