"""Named queues: which runs may begin, by concurrency, rate and priority. Pure: time is handed in.

Theory of operation
-------------------
A run that is started into a queue is recorded as `queued` and waits here by its key alone. It is admitted when its
queue has a place (`concurrency` runs go on at once, from their beginning to their end) and its rate allows one more;
higher priority first, then in the order of their starts. Being admitted is a `TimerFired` with the empty key, as for a
run that was to start later: so the journal knows who has begun, and a restart fills the queues from it.

A run keeps its place until it is over, also while it waits for a person, is paused or blocked: a queue of one place is
a promise that nobody overtakes. A queue that is configured no more limits nothing: its runs begin at once.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from heapq import heappop, heappush
from itertools import islice

import msgspec

from actors.rate_budget import RateBudget


class QueueSpec(msgspec.Struct, frozen=True, kw_only=True):
    """A queue: how many of its runs go on at once, and how many may begin in each `rate_period` (seconds)."""

    concurrency: int | None = None
    rate: int | None = None
    rate_period: float = 1.0


UNLIMITED = QueueSpec()


class RunQueue:
    """One queue: the runs that wait in it, best first, and those that go on."""

    __slots__ = ("_budget", "_heap", "_spec", "active", "waiting")

    def __init__(self, spec: QueueSpec) -> None:
        self._spec = spec
        self._budget = RateBudget(spec.rate, spec.rate_period)
        self._heap: list[tuple[int, int]] = []  # (priority, highest first; run key)
        self.waiting: set[int] = set()  # what of the heap counts: a run may leave it from the middle
        self.active: set[int] = set()

    def put(self, run_key: int, priority: int) -> None:
        """A run waits; one that does or goes on already changes nothing."""
        if run_key not in self.waiting and run_key not in self.active:
            self.waiting.add(run_key)
            heappush(self._heap, (-priority, run_key))

    def admit(self, now: float) -> Iterator[int]:
        """The runs that may begin now; each has its place from here on."""
        while self.waiting and self._has_place and not self._budget.take(now):
            while (best := heappop(self._heap)[1]) not in self.waiting:
                pass
            self.waiting.discard(best)
            self.active.add(best)
            yield best
        if not self.waiting:
            self._heap.clear()

    def wait_s(self, now: float) -> float:
        """Seconds after which the rate alone lets another one in; infinite if that is not what is waited for."""
        if not self.waiting or not self._has_place:
            return float("inf")
        return self._budget.wait(now)

    @property
    def _has_place(self) -> bool:
        return self._spec.concurrency is None or len(self.active) < self._spec.concurrency


class Queues:
    """All queues of a runtime, by name. Instants are those of one monotonic clock, in seconds."""

    def __init__(self, specs: Mapping[str, QueueSpec] | None = None) -> None:
        self._specs = dict(specs or {})
        self._queues = {name: RunQueue(spec) for name, spec in self._specs.items()}
        self._queue_of: dict[int, RunQueue] = {}

    def __contains__(self, name: str) -> bool:
        return name in self._specs

    def wait(self, queue: str, run_key: int, priority: int) -> None:
        """A run waits in a queue for its turn."""
        self._at(queue, run_key).put(run_key, priority)

    def goes_on(self, queue: str, run_key: int) -> None:
        """A run of a queue was found to have begun before a restart."""
        self._at(queue, run_key).active.add(run_key)

    def is_known(self, run_key: int) -> bool:
        """Whether this run waits for its turn, or goes on."""
        return run_key in self._queue_of

    def left(self, run_key: int) -> None:
        """A run is over, or waits no more; its place is free."""
        queue = self._queue_of.pop(run_key, None)
        if queue is not None:
            queue.active.discard(run_key)
            queue.waiting.discard(run_key)

    def admit(self, now: float, at_most: int | None = None) -> list[int]:
        """The runs, by key, that may begin now, or so many of them."""
        admitted = (run_key for queue in self._queues.values() if queue.waiting for run_key in queue.admit(now))
        return list(islice(admitted, at_most))

    def wait_s(self, now: float) -> float:
        """Seconds after which another run may begin: 0.0 if one may now, infinite if only the end of one lets it."""
        return min((queue.wait_s(now) for queue in self._queues.values() if queue.waiting), default=float("inf"))

    def counts(self) -> dict[tuple[str, str], int]:
        """How many runs wait and go on, by queue and state."""
        return {
            (name, state): len(runs)
            for name, queue in self._queues.items()
            for state, runs in (("waiting", queue.waiting), ("active", queue.active))
        }

    def _at(self, name: str, run_key: int) -> RunQueue:
        queue = self._queues.get(name)
        if queue is None:
            queue = self._queues[name] = RunQueue(UNLIMITED)
        self._queue_of[run_key] = queue
        return queue
