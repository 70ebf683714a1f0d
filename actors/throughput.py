"""How much came in the last quarter of an hour, in buckets of a minute. Pure: the time is handed in."""

from __future__ import annotations

from typing import Final

BUCKET_US: Final = 60_000_000
BUCKETS: Final = 15
"""A quarter of an hour, the one of the present minute included: at least fourteen minutes, at most fifteen."""


class Throughput:
    """Counts by minute; holds at most fifteen numbers. A clock that goes back counts into the last minute it saw."""

    __slots__ = ("_buckets",)

    def __init__(self) -> None:
        self._buckets: list[tuple[int, int]] = []

    def add(self, count: int, now_us: int) -> None:
        """So many came at this instant."""
        if not count:
            return
        minute = now_us // BUCKET_US
        if self._buckets and minute <= self._buckets[-1][0]:
            last, before = self._buckets.pop()
            minute, count = last, count + before
        self._buckets.append((minute, count))
        del self._buckets[:-BUCKETS]

    def total(self, now_us: int) -> int:
        """How many came in the last quarter of an hour."""
        oldest = now_us // BUCKET_US - BUCKETS
        return sum(count for minute, count in self._buckets if minute > oldest)
