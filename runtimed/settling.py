"""Who waits for a run to settle, that is to end or to be blocked."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager

import trio


class Settling:
    """Told of every run that has settled durably; wakes those who wait for it."""

    def __init__(self) -> None:
        self._waiting: defaultdict[str, set[trio.Event]] = defaultdict(set)

    def settled(self, run_id: str) -> None:
        """This run has settled, and that is on disk."""
        for event in self._waiting.pop(run_id, ()):
            event.set()

    @contextmanager
    def watch(self, run_id: str) -> Iterator[trio.Event]:
        """An event that is set when the run settles from now on: enter before looking at how the run stands."""
        event = trio.Event()
        self._waiting[run_id].add(event)
        try:
            yield event
        finally:
            if (events := self._waiting.get(run_id)) is not None:
                events.discard(event)
                if not events:
                    del self._waiting[run_id]

    def close(self) -> None:
        """Nothing will settle any more: wake everyone, to look once more."""
        for run_id in list(self._waiting):
            self.settled(run_id)
