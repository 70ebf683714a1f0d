"""A whole runtime, its clients and its bad luck, all by one seed and on virtual time: what happens is told as a trace.

`python -P -m tests.actors.simulation SEED` prints a digest of the trace, to be compared between processes.
"""

from __future__ import annotations

import hashlib
import logging
import random
import sys
from collections.abc import Awaitable, Callable, Iterable
from functools import partial
from typing import Any

import msgspec
import trio
import trio.testing
from trio._core import _run

from actors.errors import Conflict, NotFound
from runtimed.settings import Limits, Settings
from runtimed.virtual import VirtualDisk, VirtualRuntime
from tests.actors import fault_world
from tests.actors.fault_world import Client, Outside, app, insist
from wal import records as r
from wal.codec import encode_record
from wal.errors import CommitFailed, RuntimedError
from wal.records import Entry

ROOMS = (3, 10_000)  # runs that have room in memory: now and then hardly any
ACTORS = ("root/engine/coordinator", "root/engine/steps", "root/engine/timers", "root/sessions")
LATENCIES_SECONDS = (0.0, 0.001, 0.02, 0.3)
CLIENTS, REQUESTS, FAULTS_MAX = 3, 20, 6
PATIENCE_SECONDS = 864_000.0  # a clock that was set back an hour makes timers late by that much
Trace = list[tuple[Any, ...]]


class Mortal:
    """Wraps the `run` of an actor, so that it crashes, wherever it waits, when it is struck."""

    def __init__(self, run: Callable[..., Awaitable[object]]) -> None:
        self._run = run
        self._struck = trio.Event()

    def strike(self) -> None:
        self._struck.set()

    async def run(self, task_status: trio.TaskStatus[None]) -> None:
        self._struck = trio.Event()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._die)
            await self._run(task_status)

    async def _die(self) -> None:
        await self._struck.wait()
        raise ConnectionError("struck by bad luck")


class SlowDisk(VirtualDisk):
    """A disk that takes its time before it commits and before it says so: then a kill falls in between."""

    def __init__(self, kept: Iterable[Entry], chance: random.Random) -> None:
        super().__init__(kept)
        self._chance = chance

    async def commit(self, entries: list[Entry]) -> None:
        await trio.sleep(self._chance.choice(LATENCIES_SECONDS))
        await super().commit(entries)
        await trio.sleep(self._chance.choice(LATENCIES_SECONDS))
        if self.killed:
            raise CommitFailed("killed with the batch on disk and its receipt on the way")


class FragileRuntime(VirtualRuntime):
    """A runtime on a slow disk whose actors can be struck, in each of its lives."""

    mortals: dict[str, Mortal]

    def _wire(self, disk: VirtualDisk) -> None:
        disk.journal.close()
        super()._wire(SlowDisk(disk.entries, self._dice))
        self.mortals = {}
        self.actors.coordinator._read = partial(self._read_slowly, self.actors.coordinator._read)
        for path in ACTORS:
            supervisor, (index,) = self.root._find(path)
            child = supervisor._children[index]
            mortal = self.mortals[path] = Mortal(child.spec.run)
            child.spec = msgspec.structs.replace(child.spec, run=mortal.run)

    async def _read_slowly(self, read: Callable[[Any], Awaitable[Any]], query: Any) -> Any:
        await trio.sleep(self._dice.choice(LATENCIES_SECONDS))
        return await read(query)


class Simulation:
    """One world. After `play`, `trace` is all that was recorded and done, and `problems` what should not have been."""

    def __init__(self, seed: int) -> None:
        self.seed = seed
        self.trace: Trace = []
        self.problems: list[str] = []
        self.faults: list[str] = []
        self._chance = random.Random(seed)
        room = self._chance.choice(ROOMS)
        self._settings = Settings(limits=Limits(park_after=0.5, crashed_attempts_max=1_000, runs_active_max=room))
        self._runs: list[str] = []
        self._signalled: set[str] = set()
        self._sessions: list[str] = []
        self._bad_moment = trio.Event()
        self._numbers = iter(range(1, 1_000_000))

    async def play(self) -> None:
        """Let clients and bad luck have their way; then let all runs end."""
        fault_world.outside = Outside(self.seed)
        async with trio.open_nursery() as nursery:
            runtime = FragileRuntime(nursery, [app], settings=self._settings, seed=self.seed)
            await runtime.open()
            client = Client(runtime)
            with trio.fail_after(PATIENCE_SECONDS):
                async with trio.open_nursery() as parts:
                    for _ in range(CLIENTS):
                        parts.start_soon(self._ask, client, random.Random(self._chance.random()))
                    parts.start_soon(self._bring_bad_luck, runtime, random.Random(self._chance.random()))
                await self._finish(client)
            self.problems = fault_world.problems(runtime, client)
            await runtime.stop()
        self.trace = [_line(entry) for entry in runtime.disk.entries]
        self.trace += fault_world.outside.effects

    # --- clients

    async def _ask(self, client: Client, chance: random.Random) -> None:
        often = (self._start, self._start, self._start, self._signal, self._signal)
        asks = (*often, self._cancel, self._put, self._session, self._pause, self._fork)
        for _ in range(REQUESTS):
            await chance.choice(asks)(client, chance)
            if chance.random() < 0.1:
                self._bad_moment.set()  # bad luck likes the moment in which something was just acknowledged
            await trio.sleep(chance.choice((0.0, 0.001, 0.05, 1.0, 3.0)) * chance.random())

    async def _start(self, client: Client, chance: random.Random) -> None:
        run_id = f"run-{next(self._numbers)}"
        options: dict[str, Any] = {}
        if chance.random() < 0.2:
            options["start_at"] = client.runtime.clock.now_us() + chance.randrange(8_000_000)
        if self._sessions and chance.random() < 0.3:
            options["session_id"] = chance.choice(self._sessions)
        workflow = chance.choice(("trip", "trip", "doomed"))
        try:
            if chance.random() < 0.2:  # nobody gives it an id, so nobody can ask for it twice
                handle = await client.runtime.start(workflow, chance.randrange(4), **options)
                run_id = handle.id
            else:
                await client.start(workflow, chance.randrange(4), run_id, **options)
        except RuntimedError:
            return  # its session is over, or the runtime is away: nothing is claimed
        self._runs.append(run_id)

    async def _signal(self, client: Client, chance: random.Random) -> None:
        waiting = [run_id for run_id in self._runs if run_id not in self._signalled]
        if waiting:
            run_id = chance.choice(waiting)
            self._signalled.add(run_id)
            await self._on_run(client.signal, run_id, "now")

    async def _cancel(self, client: Client, chance: random.Random) -> None:
        if self._runs and chance.random() < 0.4:
            await self._on_run(client.cancel, chance.choice(self._runs))

    async def _on_run(self, ask: Callable[..., Awaitable[Any]], *arguments: Any) -> None:
        try:
            await ask(*arguments)
        except (Conflict, NotFound):
            pass  # it has ended, or there is no such thing any more: an answer too

    async def _pause(self, client: Client, chance: random.Random) -> None:
        if self._runs:
            run_id = chance.choice(self._runs)
            await self._on_run(lambda: insist(lambda: client.runtime.pause(run_id)))
            await trio.sleep(2.0 * chance.random())
            await self._on_run(lambda: insist(lambda: client.runtime.resume(run_id)))

    async def _fork(self, client: Client, chance: random.Random) -> None:
        if not self._runs:
            return
        run_id, entries = chance.choice(self._runs), client.runtime.disk.entries
        key = next((entry.run_key for entry in entries if getattr(entry.record, "id", "") == run_id), 0)
        places = [entry.seq for entry in entries if key and entry.run_key == key]
        if not places:
            return  # what was acknowledged is there; but it may be the journal of a life that is just over
        fork_id = f"fork-{next(self._numbers)}"
        try:
            await client.fork(run_id, chance.choice(places), fork_id)
        except (Conflict, NotFound):
            return  # it was being undone there, or its session is over
        self._runs.append(fork_id)

    async def _put(self, client: Client, chance: random.Random) -> None:
        value = b"%d" % next(self._numbers)
        if self._runs and chance.random() < 0.7:
            run_id = chance.choice(self._runs[-8:])  # of which some are open
            await self._on_run(client.put, f"note-{run_id}", value, f"run:{run_id}")
        else:
            await client.put(chance.choice("abc"), value)

    async def _session(self, client: Client, chance: random.Random) -> None:
        if self._sessions and chance.random() < 0.4:
            await self._on_run(client.close_session, self._sessions.pop(chance.randrange(len(self._sessions))))
        else:
            session_id = f"session-{next(self._numbers)}"
            await client.open_session(session_id, ttl=chance.choice((2.0, 60.0)))
            self._sessions.append(session_id)

    # --- bad luck

    async def _bring_bad_luck(self, runtime: FragileRuntime, chance: random.Random) -> None:
        for _ in range(chance.randrange(FAULTS_MAX + 1)):
            self._bad_moment = trio.Event()
            with trio.move_on_after(12.0 * chance.random()):
                await self._bad_moment.wait()
            fault = chance.choice(("kill", "kill", "jump", *ACTORS))
            self.faults.append(fault)
            if fault == "kill":
                await runtime.crash(downtime=chance.choice((0.0, 0.5, 20.0)))
            elif fault == "jump":
                await runtime.jump(chance.choice((-3_600.0, -1.0, 1.0, 30.0)))
            else:
                runtime.mortals[fault].strike()

    async def _finish(self, client: Client) -> None:
        """No more faults: answer for people, and wait until every run has ended."""
        for run_id in [record.id for record in _records(client.runtime, r.RunStarted)]:
            await self._on_run(lambda: insist(lambda: client.runtime.resume(run_id)))  # noqa: B023 - awaited here
            await self._on_run(client.signal, run_id, "at last")
            detail = await insist(lambda: client.runtime.settled(run_id, PATIENCE_SECONDS / 10))  # noqa: B023 - the same
            if detail.status not in ("completed", "failed", "cancelled"):
                raise AssertionError(f"{run_id} is {detail.status} ({detail.waiting_on}, {detail.error})")


def _line(entry: Entry) -> tuple[Any, ...]:
    record = entry.record
    if isinstance(record, r.DaemonStarted):
        record = msgspec.structs.replace(record, pid=0)  # the one thing that is the machine's
    return entry.seq, entry.run_key, entry.prev_seq, entry.at, encode_record(record)


def _records(runtime: VirtualRuntime, kind: type[r.Fact]) -> list[Any]:
    return [entry.record for entry in runtime.disk.entries if type(entry.record) is kind]


def simulate(seed: int) -> Simulation:
    """Play one world. Everything by chance comes from the seed, trio's own dice included."""
    simulation = Simulation(seed)
    before, _run._ALLOW_DETERMINISTIC_SCHEDULING = _run._ALLOW_DETERMINISTIC_SCHEDULING, True
    logging.disable(logging.CRITICAL)  # crashes are meant here
    try:
        _run._r.seed(seed)
        trio.run(simulation.play, clock=trio.testing.MockClock(autojump_threshold=0))
    except BaseException as error:
        error.add_note(f"seed {seed}; faults so far: {simulation.faults}")
        raise
    finally:
        logging.disable(logging.NOTSET)
        _run._ALLOW_DETERMINISTIC_SCHEDULING = before
    return simulation


def digest(trace: Trace) -> str:
    """A trace in a few characters."""
    return hashlib.sha256(repr(trace).encode()).hexdigest()


if __name__ == "__main__":
    sys.stdout.write(digest(simulate(int(sys.argv[1])).trace))
