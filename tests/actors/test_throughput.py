"""How much came lately."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from actors.throughput import BUCKET_US, BUCKETS, Throughput

MINUTE = BUCKET_US


def test_what_is_older_than_a_quarter_of_an_hour_is_forgotten() -> None:
    """Counts add up within the window and leave it minute by minute."""
    lately = Throughput()
    assert lately.total(0) == 0
    lately.add(5, 0)
    lately.add(2, MINUTE - 1)
    lately.add(3, 10 * MINUTE)
    assert lately.total(10 * MINUTE) == 10
    assert lately.total(14 * MINUTE) == 10
    assert lately.total(15 * MINUTE) == 3
    assert lately.total(25 * MINUTE) == 0


def test_a_clock_that_goes_back_loses_no_count() -> None:
    """What comes then counts into the last minute that was seen."""
    lately = Throughput()
    lately.add(5, 10 * MINUTE)
    lately.add(1, 2 * MINUTE)
    assert lately.total(10 * MINUTE) == 6


@given(st.lists(st.tuples(st.integers(0, 40 * MINUTE), st.integers(0, 100)), max_size=60))
def test_it_is_the_sum_over_the_window_and_bounded(events: list[tuple[int, int]]) -> None:
    """However many come, fifteen numbers are held, and their sum is that of the last fifteen minutes."""
    lately = Throughput()
    events.sort()
    for at, count in events:
        lately.add(count, at)
    now = events[-1][0] if events else 0
    wanted = sum(count for at, count in events if at // MINUTE > now // MINUTE - BUCKETS)
    assert lately.total(now) == wanted
    assert len(lately._buckets) <= BUCKETS
