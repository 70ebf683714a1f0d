"""The saga coordinator: the actor that drives all runs. One mailbox, one engine, no waiting in between.

It takes what waits in its mailbox in batches: commands, ended attempts, due timers, loaded histories. Runs that are to
begin or to be recovered come in turn, in slices, so that a thousand of them do not keep a signal waiting.
"""

from __future__ import annotations

import logging
import math
from collections import deque
from collections.abc import Awaitable, Callable
from itertools import groupby
from operator import itemgetter
from typing import Any

import msgspec
import trio

from actors import messages as m
from actors.active_run import ActiveRun
from actors.history_loader import HistoriesLoaded, HistoryLoader
from actors.mailbox import Letter, Mailbox
from actors.saga_commands import SagaCommands
from actors.saga_engine import SagaEngine
from actors.step_runner import Attempt
from actors.timers import TimersDue
from actors.transaction import TransactionDue
from actors.transaction_desk import TransactionDesk
from wal import records as r
from wal.queries import Reader
from wal.rows import RunRow

log = logging.getLogger("runtimed.runs")

READY_SLICE = 64
SLICE_RECORDS = 500
"""Once so many records have come about in one turn, the disk is to begin with them, and others to have their turn,
before another command is taken in: with 16 clients that send batches this is worth a tenth."""
PARK_CHECK_S = 5.0
RECOVERED = ("running", "compensating")


class GoOn(msgspec.Struct, frozen=True):
    """There are runs to begin, or to park."""


class CoordinatorStatistics(msgspec.Struct, frozen=True):
    """Runs in memory, idle in memory, waiting to begin; started and parked since the start of the daemon."""

    active: int
    idle: int
    ready: int
    started_total: int
    parked_total: int


class ReadyRuns:
    """Runs that are to begin or to be recovered in turn: by key, so that a hundred thousand cost little. Those in
    memory come first: they take up the room that the others, which are only in the journal, wait for."""

    def __init__(self) -> None:
        self._in_memory: deque[int] = deque()
        self._in_journal: deque[int] = deque()
        self._known: set[int] = set()  # what is in the second of them

    def put(self, run: ActiveRun) -> None:
        self._in_memory.append(run.run_key)

    def put_key(self, run_key: int) -> None:
        if run_key not in self._known:
            self._known.add(run_key)
            self._in_journal.append(run_key)

    def put_back(self, run_key: int) -> None:
        if run_key not in self._known:
            self._known.add(run_key)
            self._in_journal.appendleft(run_key)

    def take(self) -> int:
        if self._in_memory:
            return self._in_memory.popleft()
        run_key = self._in_journal.popleft()
        self._known.discard(run_key)
        return run_key

    def holds(self, run_key: int) -> bool:
        """Whether this run's turn will come. For those in memory a look through all of them: not for every day."""
        return run_key in self._known or run_key in self._in_memory

    def __len__(self) -> int:
        return len(self._in_memory) + len(self._in_journal)


class SagaCoordinator:
    """The actor. `make` builds the engine and its commands afresh for each life of it."""

    def __init__(
        self, mailbox: Mailbox, reader: Reader, read: Callable[[Callable[[Reader], Any]], Awaitable[Any]],
        make: Callable[[ReadyRuns], tuple[SagaEngine, SagaCommands]],
    ) -> None:  # fmt: skip
        self.mailbox, self._reader, self._read, self._make = mailbox, reader, read, make
        self._ready = ReadyRuns()
        self._engine: SagaEngine
        self._commands: SagaCommands
        self._transactions: TransactionDesk
        self._loader: HistoryLoader
        self._idle_wake, self._queue_wake = trio.Event(), trio.Event()
        self._going_on = False
        self._lives = 0

    async def run(self, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Drive runs until cancelled. What a life before this one recorded is waited for, then read again."""
        self._ready = ReadyRuns()
        self._going_on = False
        self._idle_wake, self._queue_wake = trio.Event(), trio.Event()
        self._engine, self._commands = self._make(self._ready)
        engine = self._engine
        loader = self._loader = HistoryLoader(engine.writer, self._read, self.mailbox.report)
        engine.load_later, self._commands.sessions.report = loader.put, self.mailbox.report
        engine.runner.ended = engine.transact_later = self.mailbox.report
        self._transactions = TransactionDesk(engine)
        await engine.writer.wait_durable(engine.writer.seq)
        self.mailbox.drop_facts(Attempt, TransactionDue, HistoriesLoaded, GoOn, m.CancelRuns)  # of a life before this
        self._recover()
        if self._lives:
            self._end_sessions()
        self._lives += 1
        async with trio.open_nursery() as nursery:
            nursery.start_soon(loader.run)
            nursery.start_soon(self._look_for_idle)
            nursery.start_soon(self._turn_queues)
            task_status.started()
            try:
                while True:
                    letters = await self.mailbox.take()
                    with engine.stage:
                        self._handle_all(letters)
                        self._advance_ready()
                        self._admit()  # what ended in this turn has left its place
                        engine.say_waits()
                    engine.writer.kick()
                    if engine.active.idle or len(self._ready):
                        self._idle_wake.set()
            finally:
                engine.close()

    def _handle_all(self, letters: list[Letter]) -> None:
        waiting = iter(letters)
        engine = self._engine
        began_at = engine.writer.seq
        try:
            for letter in waiting:
                if type(letter.message) is Attempt:  # by far the most
                    engine.attempt_ended(letter.message)
                    engine.close_group()
                else:
                    self._handle(letter)
                    if engine.writer.seq - began_at >= SLICE_RECORDS:
                        self.mailbox.put_back(waiting)
                        return
        except BaseException:
            self.mailbox.put_back(letter for letter in waiting if not letter.fact)  # facts are of this life
            raise

    def _handle(self, letter: Letter) -> None:
        message = letter.message
        kind = type(message)
        if kind is TransactionDue:
            self._transactions.run(message)
        elif self._engine.draining and kind in (TimersDue, HistoriesLoaded, GoOn):
            return  # the next life finds all of it in the journal
        elif kind is TimersDue:
            self._timers_due(message)
        elif kind is HistoriesLoaded:
            for run, entries in message.runs:
                self._engine.loaded(run, entries)
        elif kind is GoOn:
            self._going_on = False
        else:
            self._commands.handle(letter)
            return
        self._engine.close_group()

    # --- runs in turn

    def _recover(self) -> None:
        """Queue what was going on when the process ended; what waits is woken by what it waits for."""
        for status in RECOVERED:
            after = 0
            while rows := self._reader.open_runs(statuses=[status], after_run_key=after):
                after = rows[-1].run_key
                for row in rows:
                    self._ready.put_key(row.run_key)
        after = 0
        while rows := self._reader.open_runs(statuses=["blocked"], after_run_key=after):
            after = rows[-1].run_key
            for row in rows:
                self._unblock_if_known(row)
        for run_key, queue, priority, phase in self._reader.queued_runs(self._engine.clock.now_us()):
            if phase == "queued":
                self._engine.queues.wait(queue, run_key, priority)
            else:
                self._engine.queues.goes_on(queue, run_key)
        if self._engine.queues.counts():
            self._go_on()
        if len(self._ready):
            log.info("%d runs go on after the restart", len(self._ready))
            self._go_on()

    def _end_sessions(self) -> None:
        """The session manager tells of an ended session once; the life before this one may have ended over it."""
        for session_id in self._reader.ended_sessions_with_open_runs():
            reason = f"session {session_id} ended"
            self.mailbox.report(m.SessionEnded(id=session_id, cancel_runs=True, reason=reason))

    def _unblock_if_known(self, row: RunRow) -> None:
        if (
            row.error is None
            or row.error.type != "unknown_workflow"
            or row.workflow not in self._engine.registry.workflows
        ):
            return
        run = self._engine.active.add(ActiveRun.from_row(row))
        run.blocked = False
        self._engine.reload_with(run, r.RunRetried("runtimed", f"workflow {row.workflow!r} is registered again"))

    def _advance_ready(self) -> None:
        engine, ready = self._engine, self._ready
        if engine.draining:
            return
        room = engine.limits.runs_active_max
        if len(engine.active) > room:  # runs that are started one by one begin at once
            engine.park(trio.current_time(), at_least=len(engine.active) - room)
        for _ in range(min(READY_SLICE, len(ready))):
            run_key = ready.take()
            run = engine.active.by_key.get(run_key)
            if run is None:
                if len(engine.active) >= room and not self._make_room(room):
                    ready.put_back(run_key)
                    return
                self._bring_in(run_key)
            elif run.flow is None and not (run.loading or run.ended):
                if run.paused or run.blocked:
                    engine.sleep(run)
                elif len(engine.active) > room and run.last_seq <= engine.writer.durable_seq:
                    engine.active.remove(run)  # it comes back from the journal, after those that are in memory
                    ready.put_key(run_key)
                elif run.begun:  # it was loaded and put away before its turn came
                    engine.load(run)
                else:
                    engine.begin(run)
                    engine.close_group()
        if len(ready):
            self._go_on()

    def _make_room(self, room: int) -> bool:
        """Park the runs that idled longest, some at a time. One whose last records are not durable yet goes when they
        are, and then we go on; if none idles, the end of an attempt brings us here again."""
        engine, writer = self._engine, self._engine.writer
        parked_before = engine.parked_total
        engine.park(trio.current_time(), at_least=READY_SLICE)
        if len(engine.active) < room:
            return True
        if engine.parked_total > parked_before or writer.seq > writer.durable_seq:
            writer.when_durable(writer.seq, self._go_on)
        return False

    def _bring_in(self, run_key: int) -> None:
        row = self._reader.run_by_key(run_key)
        if row is not None and row.ended_at is None and not row.paused and not row.blocked:
            self._engine.load(self._engine.active.add(ActiveRun.from_row(row)))

    def _go_on(self) -> None:
        if not self._going_on:
            self._going_on = True
            self.mailbox.report(GoOn())

    async def _look_for_idle(self) -> None:
        """Park what has idled for long. With nothing idle this waits: a month of virtual time must cost nothing."""
        while True:
            await self._idle_wake.wait()
            await trio.sleep(min(PARK_CHECK_S, max(self._engine.limits.park_after_s, 0.05)))
            with self._engine.stage:
                self._engine.park(trio.current_time())
            if len(self._ready):
                self._go_on()
            elif not self._engine.active.idle:
                self._idle_wake = trio.Event()

    # --- queues

    def _admit(self) -> None:
        """Let those runs begin for which their queues have a place: a slice of them, if there is room in memory."""
        engine, now, room = self._engine, trio.current_time(), self._engine.limits.runs_active_max
        if engine.draining:
            return
        left = READY_SLICE
        while engine.queues.wait_s(now) <= 0:  # one that is held by a person leaves its place to the next
            if left <= 0:
                self._go_on()
                return
            if len(engine.active) >= room and not self._make_room(room):
                return
            for run_key in engine.queues.admit(now, min(left, max(1, room - len(engine.active)))):
                left -= 1
                self._admit_one(run_key)
        if engine.queues.wait_s(now) < math.inf:
            self._queue_wake.set()

    def _admit_one(self, run_key: int) -> None:
        engine = self._engine
        run = engine.active.by_key.get(run_key)
        if run is None:
            row = self._reader.run_by_key(run_key)
            run = engine.active.add(ActiveRun.from_row(row)) if row is not None else None
        if run is None or run.ended or run.paused or run.start_at is None:
            engine.queues.left(run_key)  # resumed, it waits again
            if run is not None and run.flow is None and not run.ended:
                engine.sleep(run)
        else:
            engine.begin_waiting(run)
            engine.close_group()

    async def _turn_queues(self) -> None:
        """Look again when a rate lets another run begin, or rather when the next one has come to wait for a rate that
        lets it begin sooner. Where only the end of a run does, this waits."""
        while True:
            await self._queue_wake.wait()
            self._queue_wake = trio.Event()
            with trio.move_on_after(self._engine.queues.wait_s(trio.current_time())) as waited:
                await self._queue_wake.wait()
                self._queue_wake.set()  # and look how long it is now
            if waited.cancelled_caught:
                self._go_on()

    # --- timers

    def _timers_due(self, message: TimersDue) -> None:
        engine = self._engine
        for run_key, entries in groupby(message.due, key=itemgetter(1)):
            due = [(call_key, due_at) for due_at, _, call_key in entries]
            run = engine.active.by_key.get(run_key)
            if run is None:
                self._wake(run_key, due)
            else:
                engine.timers_due(run, due)

    def _wake(self, run_key: int, due: list[tuple[str, int]]) -> None:
        """Timers of a run that is not in memory. If the journal says that one stands, the run is loaded and sets it
        anew: its code may have been answered otherwise by a record that it has not seen yet."""
        engine = self._engine
        begins = not due[0][0]
        if begins and engine.queues.is_known(run_key):
            return  # it waits for its turn already: found at the start, or told before
        there = {(row.key, row.due_at) for row in self._reader.timers_of(run_key)}
        stand = [one for one in due if one in there]
        row = self._reader.run_by_key(run_key)
        if not stand or row is None or row.ended_at is not None or row.paused or row.blocked:
            return
        if begins and row.queue is not None:
            engine.queues.wait(row.queue, run_key, row.priority)  # that takes no room
        elif len(engine.active) >= engine.limits.runs_active_max:
            self._ready.put_key(run_key)  # its turn comes with those that are to begin: what is due by then fires then
        else:
            engine.timers_due(engine.active.add(ActiveRun.from_row(row)), stand)

    def is_going_on(self, run_id: str) -> bool:
        """Whether this run is in memory and has not settled: whoever waits for it will be told."""
        run = self._engine.active.by_id.get(run_id)
        return run is not None and not (run.ended or run.blocked)

    def moves(self, run_key: int) -> bool:
        """Whether this run is under way here: an attempt in flight, its history on its way, its turn to come, or
        something of it that is not durable yet."""
        run, engine = self._engine.active.by_key.get(run_key), self._engine
        if run is None:
            return self._ready.holds(run_key)
        return bool(
            run.attempts or run.loading or run.deferred or run.ended or run.blocked
            or run.last_seq > engine.writer.durable_seq or self._ready.holds(run_key)
        )  # fmt: skip

    @property
    def engine(self) -> SagaEngine:
        """The engine of this life."""
        return self._engine

    def statistics(self) -> CoordinatorStatistics:
        """The figures of this moment."""
        engine = self._engine
        return CoordinatorStatistics(
            len(engine.active), len(engine.active.idle), len(self._ready), engine.started_total, engine.parked_total
        )
