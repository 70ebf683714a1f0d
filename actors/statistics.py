"""Counters and histograms that the loop adds to and the metrics page reads. One thread; no locks."""

from __future__ import annotations

from bisect import bisect_left
from collections import Counter

import msgspec

SECONDS = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0)
COUNTS = (1.0, 2.0, 5.0, 10.0, 25.0, 50.0, 100.0, 250.0, 500.0, 1_000.0, 2_500.0, 5_000.0)
SERIES_MAX = 500  # so many pairs of workflow and step get a histogram of their own; the rest share one


class HistogramValues(msgspec.Struct, frozen=True):
    """A histogram at one moment: upper bounds, counts per bucket (one more than bounds: the rest), sum and count."""

    bounds: tuple[float, ...]
    buckets: tuple[int, ...]
    total: float
    count: int


class Histogram:
    """Counts observations in fixed buckets."""

    __slots__ = ("_bounds", "_buckets", "_total")

    def __init__(self, bounds: tuple[float, ...] = SECONDS) -> None:
        self._bounds = bounds
        self._buckets = [0] * (len(bounds) + 1)
        self._total = 0.0

    def observe(self, value: float) -> None:
        self._buckets[bisect_left(self._bounds, value)] += 1
        self._total += value

    def values(self) -> HistogramValues:
        """The figures of this moment."""
        return HistogramValues(self._bounds, tuple(self._buckets), self._total, sum(self._buckets))


class StepStatistics:
    """What attempts of steps took and how they ended, by workflow and step; bounded in the number of series."""

    def __init__(self) -> None:
        self.outcomes: Counter[str] = Counter()
        self._seconds: dict[tuple[str, str], Histogram] = {}

    def observe(self, workflow: str, step: str, outcome: str, seconds: float) -> None:
        self.outcomes[outcome] += 1
        key = (workflow, step)
        histogram = self._seconds.get(key)
        if histogram is None:
            if len(self._seconds) >= SERIES_MAX:
                key = ("other", "other")
            histogram = self._seconds.setdefault(key, Histogram())
        histogram._buckets[bisect_left(histogram._bounds, seconds)] += 1  # `observe` itself, without its call
        histogram._total += seconds

    def seconds(self) -> dict[tuple[str, str], HistogramValues]:
        """Durations of attempts by (workflow, step)."""
        return {key: histogram.values() for key, histogram in self._seconds.items()}
