"""The outside world of the behaviour tests: what steps did, and how they are to end; and a look for lost runs.

Steps must be module-level functions, so each test module declares its own, and they ask the one `WORLD`, which is made
anew for each test.
"""

from __future__ import annotations

from collections import defaultdict, deque
from typing import Any

import trio

from actors.current_step import current_step
from runtimed.runtime import Runtime
from wal import records as r

HANG = object()
"""Scripted in place of a result: the step never ends by itself."""


class World:
    """What happened outside. `script[name]` holds the outcomes of the next calls: a value, an exception, or HANG."""

    def __init__(self) -> None:
        self.script: defaultdict[str, deque[Any]] = defaultdict(deque)
        self.calls: list[tuple[str, tuple[Any, ...]]] = []
        self.attempts: list[tuple[str, int, str]] = []
        self.begun: defaultdict[str, trio.Event] = defaultdict(trio.Event)

    async def act(self, name: str, *args: Any, result: Any = None) -> Any:
        """An effect: noted, then ended as the script says, or with `result`."""
        outcome = self._note(name, args, result)
        if outcome is HANG:
            await trio.sleep_forever()
        return self._end(outcome)

    def act_now(self, name: str, *args: Any, result: Any = None) -> Any:
        """The same for a `def` step, without HANG."""
        return self._end(self._note(name, args, result))

    def _note(self, name: str, args: tuple[Any, ...], result: Any) -> Any:
        step = current_step()
        self.calls.append((name, args))
        self.attempts.append((name, step.attempt, step.idempotency_key))
        self.begun[name].set()
        return self.script[name].popleft() if self.script[name] else result

    def _end(self, outcome: Any) -> Any:
        if isinstance(outcome, BaseException):
            raise outcome
        return outcome

    @property
    def names(self) -> list[str]:
        """The names of what was done, in order."""
        return [name for name, _ in self.calls]


WORLD = World()


def new_world() -> World:
    """Forget what happened."""
    WORLD.__init__()  # type: ignore[misc]
    return WORLD


async def records(runtime: Runtime, run_id: str) -> list[Any]:
    """A run's records, in order."""

    def read(reader: Any) -> list[Any]:
        row = reader.run(run_id)
        return [entry.record for entry in reader.history(row.run_key)]

    found: list[Any] = await runtime.read(read)
    return found


async def kinds(runtime: Runtime, run_id: str) -> list[str]:
    """The kinds of a run's records, in order."""
    return [record.kind for record in await records(runtime, run_id)]


async def without_wake_source(runtime: Runtime) -> list[str]:
    """The open runs that nothing will ever move again: of these there must be none, once all is quiet."""
    await trio.testing.wait_all_tasks_blocked()
    rows = await runtime.read(lambda reader: reader.open_runs())
    return [f"{row.id}: {row.status}, {why}" for row in rows if (why := await _asleep(runtime, row)) is not None]


async def _asleep(runtime: Runtime, row: Any) -> str | None:
    """Why nothing wakes this run, or None."""
    if row.paused or "blocked" in row.phase:
        return None  # a person does
    run = runtime.actors.coordinator.engine.active.by_key.get(row.run_key)
    if run is not None and run.attempts:
        return None  # a step in flight does
    timers = await runtime.read(lambda reader: reader.timers_of(row.run_key))
    if row.phase == "queued" and row.queue is not None and not timers:
        there = runtime.actors.coordinator.engine.queues.is_known(row.run_key)
        return None if there else f"its queue {row.queue} does not know it"
    if row.phase == "queued":
        return None if [timer.key for timer in timers] == [""] else "no timer to begin with"
    last = (await records(runtime, row.id))[-1]
    waits = [one for one in await records(runtime, row.id) if isinstance(one, r.RunWaiting)]
    if row.phase not in ("waiting", "compensating_waiting") or not waits:
        return f"nothing in flight, and its last record is {last.kind}"
    armed = {timer.key for timer in timers}
    for call in waits[-1].calls:
        if call.kind in ("signal", "approval", "child") or call.key in armed:
            return None
    return f"it waits for {waits[-1].calls}, and its timers are {sorted(armed)}"
