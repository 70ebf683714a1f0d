"""A runtime on virtual time: the journal in memory, the clock moved by whoever waits, a crash at any moment.

It is the real runtime with other ends: an in-memory journal behind the real WAL writer, and a wall clock that follows
trio's. Under `trio.testing.MockClock(autojump_threshold=0)` a month of sleep passes as soon as nobody has anything to
do. A crash keeps what was on disk at that moment, and nothing else.
"""

from __future__ import annotations

import contextlib
import logging
import math
import random
from collections.abc import Iterable, Iterator
from types import TracebackType
from typing import Any, NamedTuple

import msgspec
import trio
import trio.testing

from actors.clock import VIRTUAL_START_US, VirtualClock
from actors.errors import RunEnded
from actors.flow.definitions import App, Registry, Workflow
from actors.gil_gate import GilGate
from actors.journal_link import InlineLink
from actors.step_runner import Attempt
from runtimed import builtin
from runtimed.assembly import Actors
from runtimed.opening import running
from runtimed.readers import Readers
from runtimed.runtime import Handle, Runtime
from runtimed.settings import Settings
from wal.errors import CommitFailed
from wal.journal import Journal
from wal.records import DaemonStopped, Entry
from wal.views import ApprovalView


class VirtualDisk(InlineLink):
    """A journal in memory that remembers every entry it committed, and can stop like a killed writer."""

    def __init__(self, kept: Iterable[Entry] = ()) -> None:
        journal = Journal.open(None)
        self.entries: list[Entry] = list(kept)
        journal.commit(self.entries)
        super().__init__(journal)
        clean = not self.entries or isinstance(self.entries[-1].record, DaemonStopped)
        self.head = msgspec.structs.replace(journal.head, clean=clean)
        self.killed = False

    async def commit(self, entries: list[Entry]) -> None:
        if self.killed:
            raise CommitFailed("the process was killed")
        await super().commit(entries)
        self.entries.extend(entries)


class HoldingGate(GilGate):
    """Keeps a clock that jumps by itself from jumping while a thread works: a `def` step takes no virtual time."""

    def __init__(self) -> None:
        super().__init__()
        self._threshold = math.inf

    def __enter__(self) -> None:
        clock = trio.lowlevel.current_clock()
        if not self._outstanding and isinstance(clock, trio.testing.MockClock):
            self._threshold, clock.autojump_threshold = clock.autojump_threshold, math.inf
        super().__enter__()

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        super().__exit__(kind, error, tb)
        clock = trio.lowlevel.current_clock()
        if not self._outstanding and isinstance(clock, trio.testing.MockClock):
            clock.autojump_threshold = self._threshold


class Executed(NamedTuple):
    """An attempt that was let go: of which run, for which call, of which step, which one of them (from 1), and in
    which generation of a run that continues as new."""

    run_key: int
    call: str
    step: str
    attempt: int
    generation: int = 0


class VirtualRuntime(Runtime):
    """A `Runtime` for tests: all its verbs, and `asked`, `advance`, `jump` and `crash`. Made by `runtimed.testing`.

    `apps` may be left out: a workflow that is started brings its app along. `executed` lists what attempts were let
    go, over all crashes.
    """

    clock: VirtualClock

    def __init__(
        self, nursery: trio.Nursery, apps: Iterable[App] = (), *, settings: Settings | None = None, seed: int = 0,
        kept: Iterable[Entry] = (), start_us: int = VIRTUAL_START_US,
    ) -> None:  # fmt: skip
        self._nursery, self._apps = nursery, [*apps]
        self._dice = random.Random(seed)  # one for all lives, because ids made after a crash must be others
        self._virtual_settings = _without_drain(settings or Settings())
        self._virtual_clock = VirtualClock(start_us)
        self.executed: list[Executed] = []
        self._scope = trio.CancelScope()
        self._stopped = trio.Event()
        self._wire(VirtualDisk(kept))

    def _wire(self, disk: VirtualDisk) -> None:
        self.disk = disk
        gate = HoldingGate()
        readers = Readers(disk.journal, 1, gate)
        registry, settings, clock = Registry(builtin.app, *self._apps), self._virtual_settings, self._virtual_clock
        actors = Actors(
            registry=registry, settings=settings, link=disk, readers=readers, clock=clock, gate=gate, marker_path=None,
            dice=self._dice, recheck_s=math.inf,
        )  # fmt: skip
        super().__init__(actors, readers, registry, settings, clock)
        start, transact = actors.runner.start, actors.runner.transact

        def note(attempt: Attempt) -> None:
            which = (attempt.run_key, attempt.call_key, attempt.step.name, attempt.attempt)
            self.executed.append(Executed(*which, attempt.current.generation))

        def start_noted(attempt: Attempt) -> None:
            note(attempt)
            start(attempt)

        def transact_noted(attempt: Attempt, transaction: Any) -> None:
            note(attempt)
            transact(attempt, transaction)

        actors.runner.start = start_noted  # type: ignore[method-assign]
        actors.runner.transact = transact_noted  # type: ignore[method-assign]

    # --- life

    async def open(self) -> None:
        """Start the actors in the nursery."""
        await self._nursery.start(self._live)

    async def _live(self, task_status: trio.TaskStatus[None]) -> None:
        self._scope, self._stopped = trio.CancelScope(), trio.Event()
        try:
            with self._scope:
                async with running(self, None, self.disk):
                    task_status.started()
                    await trio.sleep_forever()
        except CommitFailed:
            if not self.disk.killed:
                raise
        finally:
            self.disk.journal.close()
            self._stopped.set()

    async def stop(self) -> None:
        """Stop in good order. Attempts in flight are cancelled at once."""
        self._scope.cancel()
        await self._stopped.wait()

    async def crash(self, *, downtime: float = 0.0, apps: Iterable[App] | None = None) -> None:
        """End as by `kill -9`, stay down for so many seconds, and start again from what was on disk.

        `apps` is the code that runs afterwards, if it is other code. Who waits for an answer meanwhile gets an error.
        """
        self.disk.killed = True
        with _unheard(logging.getLogger("actors.supervisor")):  # a killed process would not complain of its end either
            await self.stop()
        await trio.sleep(downtime)
        await self._start_again(apps)

    async def restart(self, *, apps: Iterable[App] | None = None) -> None:
        """Stop in good order and start again, with other code if `apps` are given."""
        await self.stop()
        await self._start_again(apps)

    async def _start_again(self, apps: Iterable[App] | None) -> None:
        if apps is not None:
            self._apps = [*apps]
        self._wire(VirtualDisk(self.disk.entries))
        await self.open()

    async def watch(self, folder: object) -> None:
        """Nothing to measure: no disk, and a loop whose time is not real."""

    # --- verbs

    async def start(self, workflow: Workflow | str, input: Any = None, **options: Any) -> Handle:
        """Start a run, as `Runtime.start`; the workflow's app is loaded if it was not."""
        if isinstance(workflow, Workflow) and workflow.app not in self.registry.apps:
            await self.restart(apps=[*self._apps, workflow.app])
        return await super().start(workflow, input, **options)

    async def asked(self, run_id: str, nth: int = 0) -> ApprovalView:
        """The approval that this run asks for: the `nth` one that it ever asked for, counted from 0, as it is now.
        Waits until it is asked for; raises RunEnded if the run ends without."""
        while True:
            seq = self.feed.seq
            page = await self.approvals(run_id=run_id, limit=500)
            if len(page.items) > nth:
                found: ApprovalView = page.items[-1 - nth]
                return found
            if (await self.run(run_id)).ended_at is not None:
                raise RunEnded(f"run {run_id!r} has ended and asked for {len(page.items)} approvals")
            await self.feed.wait_beyond(seq)

    async def advance(self, seconds: float) -> None:
        """Let so many seconds of virtual time pass, with all that falls due in them."""
        await trio.sleep(seconds)

    async def jump(self, seconds: float) -> None:
        """Set the wall clock forward, or back if negative, as an operator or a time server may at any moment."""
        self._virtual_clock.jump(seconds)
        self.actors.timers.recheck()
        self.actors.sessions.recheck()
        await trio.lowlevel.checkpoint()


def _without_drain(settings: Settings) -> Settings:
    daemon = msgspec.structs.replace(settings.daemon, drain_timeout=0.0)
    return msgspec.structs.replace(settings, daemon=daemon)


@contextlib.contextmanager
def _unheard(logger: logging.Logger) -> Iterator[None]:
    def nothing(record: logging.LogRecord) -> bool:
        return False

    logger.addFilter(nothing)
    try:
        yield
    finally:
        logger.removeFilter(nothing)
