"""When the disk will be full, as a line through a day of samples."""

from __future__ import annotations

from runtimed.disk_trend import DAY_S, OLD_ENOUGH_S, SAMPLE_S, WINDOW_S, DiskTrend

GIB = 1 << 30


def trend(samples: int, used_each: int, free: int = 100 * GIB) -> tuple[DiskTrend, float, int]:
    """A trend with so many samples, and the instant and the free bytes at its end."""
    made, at = DiskTrend(), 0.0
    for _ in range(samples):
        made.note(at, free)
        at, free = at + SAMPLE_S, free - used_each
    return made, at, free


def test_a_disk_that_shrinks_evenly_is_full_when_arithmetic_says_so() -> None:
    """A gibibyte every five minutes and a hundred of them free: a bit under eight hours."""
    made, at, free = trend(20, GIB)
    days = made.full_in_days(at, free)
    assert days is not None
    assert abs(days * DAY_S - free / GIB * SAMPLE_S) < 1.0


def test_there_is_no_estimate_without_a_reason() -> None:
    """Nothing is told before half an hour has been seen, nor of a disk that does not shrink, nor of none."""
    assert DiskTrend().full_in_days(0.0, GIB) is None
    young, at, free = trend(2, GIB)
    assert at < OLD_ENOUGH_S
    assert young.full_in_days(at, free) is None
    still, at, free = trend(20, 0)
    assert still.full_in_days(at, free) is None
    growing, at, free = trend(20, -GIB)
    assert growing.full_in_days(at, free) is None


def test_what_was_more_than_a_day_ago_does_not_count() -> None:
    """After a week of a still disk and a day of a shrinking one the estimate is of the day."""
    made, at, free = trend(2_000, 0)
    for _ in range(int(WINDOW_S / SAMPLE_S) + 1):
        made.note(at, free)
        at, free = at + SAMPLE_S, free - GIB // 100
    days = made.full_in_days(at, free)
    assert days is not None
    assert abs(days * DAY_S - free / (GIB // 100) * SAMPLE_S) / (days * DAY_S) < 0.01


def test_looking_every_second_costs_a_sample_in_five_minutes() -> None:
    """The memory is bounded whoever calls how often."""
    made = DiskTrend()
    for second in range(200_000):
        made.note(float(second), GIB)
    assert len(made._samples) <= WINDOW_S / SAMPLE_S + 1
