"""When to try again: pure arithmetic on a policy, with the randomness handed in."""

from __future__ import annotations

from actors.flow.definitions import Retry


def next_delay(policy: Retry, attempt: int, elapsed: float, error: BaseException | None, dice: float) -> float | None:
    """Seconds until the attempt after `attempt` (which counts from 1), or None where that was the last one.

    `elapsed` is the time since the first attempt began, in seconds; `error` what the attempt raised; `dice` a number in
    [0, 1) that spreads the delay by `policy.jitter` to both sides. Exponential backoff as in Temporal's retry policy.
    """
    if attempt >= policy.max_attempts:
        return None
    if error is not None and isinstance(error, policy.non_retryable):
        return None
    exponent = min(attempt - 1, 1_000)
    try:
        delay = min(policy.initial_interval * policy.backoff_coefficient**exponent, policy.max_interval)
    except OverflowError:
        delay = policy.max_interval
    delay *= 1 + policy.jitter * (2 * dice - 1)
    if policy.max_duration is not None and elapsed + delay > policy.max_duration:
        return None
    return delay
