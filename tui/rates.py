"""Steps, failures and commits over the last quarter of an hour, in buckets of half a minute, out of the events."""

from __future__ import annotations

from tui.format import micros
from wal.views import EventView

BUCKET_SECONDS = 30
BUCKETS = 30
_HOUR = 3_600_000_000
FAILS_HELD_MAX = 10_000


class Rates:
    """Counts per bucket, told by the events' own instants, so that a burst read late lands where it belongs."""

    def __init__(self) -> None:
        self._steps: dict[int, int] = {}
        self._fails: dict[int, int] = {}
        self._records: dict[int, int] = {}
        self._failed_at: dict[str, int] = {}
        self._last_bucket = 0

    def note(self, event: EventView) -> None:
        """Count one event."""
        at = micros(event.at)
        if at is None:
            return
        bucket = at // (BUCKET_SECONDS * 1_000_000)
        self._records[bucket] = self._records.get(bucket, 0) + 1
        if event.kind == "step_completed":
            self._steps[bucket] = self._steps.get(bucket, 0) + 1
        elif event.kind == "run_failed":
            self._fails[bucket] = self._fails.get(bucket, 0) + 1
            self.note_failure(event.run_id or "", at)
        if bucket > self._last_bucket:
            self._last_bucket = bucket
            for table in (self._steps, self._fails, self._records):
                for old in [key for key in table if key <= bucket - 2 * BUCKETS]:
                    del table[old]

    def note_failure(self, run_id: str, at: int) -> None:
        """A run that failed at an instant (microseconds), told by its event or by its view."""
        self._failed_at[run_id] = at
        if len(self._failed_at) > FAILS_HELD_MAX:
            del self._failed_at[min(self._failed_at, key=lambda run_id: self._failed_at[run_id])]

    def failed_last_hour(self, now: int) -> int:
        """How many runs failed within the hour before `now`."""
        return sum(1 for at in self._failed_at.values() if at > now - _HOUR)

    def steps(self, now: int) -> list[float]:
        """Steps per second, a value a bucket, oldest first; the last bucket is not over yet."""
        return [count / BUCKET_SECONDS for count in self._window(self._steps, now)]

    def fails(self, now: int) -> list[float]:
        """Failed runs per minute, as `steps`."""
        return [count * 60 / BUCKET_SECONDS for count in self._window(self._fails, now)]

    def records(self, now: int) -> list[float]:
        """Records per second, as `steps`."""
        return [count / BUCKET_SECONDS for count in self._window(self._records, now)]

    @staticmethod
    def _window(table: dict[int, int], now: int) -> list[int]:
        last = now // (BUCKET_SECONDS * 1_000_000)
        return [table.get(bucket, 0) for bucket in range(last - BUCKETS + 1, last + 1)]


def current(values: list[float]) -> float:
    """The rate to show as a number: over the last whole bucket and the one that is not over yet."""
    return max(values[-2:], default=0.0)
