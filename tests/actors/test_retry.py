"""The arithmetic of retries."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from actors.errors import DefinitionError
from actors.flow.definitions import Retry
from actors.retry import next_delay

EXACT = Retry(max_attempts=6, initial_interval=1.0, backoff_coefficient=3.0, max_interval=20.0, jitter=0.0)


def test_delays_grow_up_to_their_maximum() -> None:
    """Each delay is the one before times the coefficient, up to `max_interval`; after the last attempt none."""
    assert [next_delay(EXACT, attempt, 0.0, None, 0.5) for attempt in range(1, 7)] == [1.0, 3.0, 9.0, 20.0, 20.0, None]


def test_jitter_spreads_to_both_sides() -> None:
    """With jitter 0.2 a delay is 80 to 120 percent, as the dice fall."""
    policy = Retry(initial_interval=10.0, jitter=0.2)
    assert next_delay(policy, 1, 0.0, None, 0.0) == pytest.approx(8.0)
    assert next_delay(policy, 1, 0.0, None, 0.5) == pytest.approx(10.0)
    assert next_delay(policy, 1, 0.0, None, 1.0 - 1e-12) == pytest.approx(12.0)


def test_what_is_not_retryable_is_not_retried() -> None:
    """An exception of a listed class, or of one derived from it, ends the step; others do not."""
    policy = Retry(non_retryable=(LookupError,))
    assert next_delay(policy, 1, 0.0, KeyError("k"), 0.5) is None
    assert next_delay(policy, 1, 0.0, ValueError("v"), 0.5) is not None


def test_no_attempt_begins_after_max_duration() -> None:
    """What would begin later than `max_duration` after the first attempt is not tried."""
    policy = Retry(initial_interval=2.0, jitter=0.0, max_duration=10.0)
    assert next_delay(policy, 1, 8.0, None, 0.5) == 2.0
    assert next_delay(policy, 1, 8.1, None, 0.5) is None


def test_very_many_attempts_do_not_overflow() -> None:
    """A policy of a million attempts keeps to its maximum."""
    policy = Retry(max_attempts=1_000_000, backoff_coefficient=1e10, jitter=0.0)
    assert next_delay(policy, 999_999, 0.0, None, 0.5) == 30.0


@given(
    st.integers(1, 50), st.floats(0, 1e6), st.floats(0, 1, exclude_max=True), st.floats(0, 100), st.floats(1, 10),
    st.floats(0, 1_000), st.floats(0, 1),
)  # fmt: skip
def test_a_delay_is_never_negative_nor_beyond_its_bounds(
    attempt: int, elapsed: float, dice: float, initial: float, coefficient: float, largest: float, jitter: float
) -> None:
    """Whatever the policy, a delay lies between 0 and the largest interval with its jitter."""
    policy = Retry(
        max_attempts=51, initial_interval=initial, backoff_coefficient=coefficient, max_interval=largest, jitter=jitter
    )
    delay = next_delay(policy, attempt, elapsed, None, dice)
    assert delay is not None and 0 <= delay <= largest * (1 + jitter)


@pytest.mark.parametrize(
    "fields",
    [
        {"max_attempts": 0},
        {"initial_interval": -1.0},
        {"backoff_coefficient": 0.5},
        {"jitter": 1.5},
        {"max_duration": 0},
    ],
)
def test_a_policy_out_of_range_is_refused(fields: dict[str, float]) -> None:
    """Each number is checked where the policy is made, and named."""
    with pytest.raises(DefinitionError, match=next(iter(fields))):
        Retry(**fields)  # type: ignore[arg-type]
