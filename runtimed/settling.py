"""Who waits for a run to settle, that is to end or to be blocked, and how it did."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager

import trio

from wal.records import Fact


class Watch:
    """One who waits. `how` is the record that settled the run (it completed, failed, was cancelled, or is blocked), and
    `workflow` its workflow's name."""

    __slots__ = ("event", "how", "workflow")

    def __init__(self) -> None:
        self.event = trio.Event()
        self.how: Fact | None = None
        self.workflow = ""


class Settling:
    """Told of every run that has settled durably; wakes those who wait for it."""

    def __init__(self) -> None:
        self._waiting: defaultdict[str, set[Watch]] = defaultdict(set)

    def settled(self, run_id: str, workflow: str, how: Fact | None) -> None:
        """This run has settled by this record, which is on disk."""
        for watch in self._waiting.pop(run_id, ()):
            watch.how, watch.workflow = how, workflow
            watch.event.set()

    @contextmanager
    def watch(self, run_id: str) -> Iterator[Watch]:
        """Be told when the run settles from now on: enter before looking at how the run stands."""
        watch = Watch()
        self._waiting[run_id].add(watch)
        try:
            yield watch
        finally:
            if (watches := self._waiting.get(run_id)) is not None:
                watches.discard(watch)
                if not watches:
                    del self._waiting[run_id]

    def close(self) -> None:
        """Nothing will settle any more: wake everyone, to look once more."""
        for run_id in list(self._waiting):
            self.settled(run_id, "", None)
