from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from actors import connector_core as core

CHANCE = st.floats(0.0, 1.0, exclude_max=True)
STATUSES = {"ok", "polling", "paused", "backoff", "open_breaker", "quarantined"}


@pytest.mark.parametrize(
    ("failures", "status", "wait"),
    [(1, "backoff", 1.0), (2, "backoff", 2.0), (3, "backoff", 4.0), (4, "backoff", 8.0), (5, "open_breaker", 60.0),
     (6, "open_breaker", 120.0), (8, "open_breaker", 480.0), (9, "open_breaker", 900.0),
     (5_000, "open_breaker", 900.0)],
)  # fmt: skip
def test_failures_in_a_row(failures: int, status: str, wait: float) -> None:
    """Each failure in a row waits twice as long; from the fifth on the breaker is open, for a quarter of an hour at
    most, however long it lasts."""
    standing = core.initial(30.0, 0.0, 0.5)
    for _ in range(failures):
        standing = core.failed(core.begin(standing), 100.0, 0.5)
    assert (standing.status, standing.due) == (status, 100.0 + wait)


@given(st.floats(0.0, 1e9), CHANCE, st.integers(0, 20))
def test_a_retry_after_is_a_lower_bound(retry_after_s: float, chance: float, failures: int) -> None:
    """What the source asks for is never undercut, and never exceeded by more than the jitter and its own backoff; a day
    is the most."""
    standing = core.begin(core.Standing(30.0, 30.0, 0.0, failures=failures))
    due = core.failed(standing, 0.0, chance, retry_after_s=retry_after_s).due
    alone = core.failed(standing, 0.0, chance).due
    asked = min(retry_after_s, core.RETRY_AFTER_S_MAX)
    assert max(asked, alone) <= due <= max(asked * 1.1, alone)


@pytest.mark.parametrize("odd", [0.0, -3.0, math.nan])
def test_an_odd_retry_after_counts_for_nothing(odd: float) -> None:
    """What is no time to come is not obeyed."""
    standing = core.begin(core.initial(30.0, 0.0, 0.5))
    assert core.failed(standing, 0.0, 0.5, retry_after_s=odd).due == 1.0


@given(st.floats(0.01, 86_400.0), CHANCE, st.floats(0.0, 1e9))
def test_the_jitter_is_a_tenth(every_s: float, chance: float, now: float) -> None:
    """An interval varies by a tenth either way, so that what began together does not stay together."""
    due = core.ended(core.begin(core.initial(every_s, now, chance)), now, chance, records=0, more=False).due
    assert now + every_s * 0.9 - 1e-6 <= due <= now + every_s * 1.1 + 1e-6


def test_a_poll_now_opens_no_hold() -> None:
    """Whoever wants a poll now does not let go what a person, or a quarantine, holds."""
    for held in ("paused", "quarantined"):
        standing = core.hold(core.initial(30.0, 0.0, 0.5), held)  # type: ignore[arg-type]
        assert core.poll_now(standing, 5.0) == standing
        assert core.release(standing, 7.0).due == 7.0
    assert core.release(core.initial(30.0, 0.0, 0.5), 7.0) == core.initial(30.0, 0.0, 0.5)


def test_what_was_held_meanwhile_stays_held() -> None:
    """However a poll ends that was held while it was under way, none is due after it."""
    standing = core.hold(core.begin(core.initial(30.0, 0.0, 0.5)), "paused")
    for after in (
        core.ended(standing, 1.0, 0.5, records=3, more=True), core.failed(standing, 1.0, 0.5),
        core.crashed(standing, 1.0, 0.5), core.interrupted(standing, 1.0),
    ):  # fmt: skip
        assert (after.status, after.due) == ("paused", math.inf)


class Connector(RuleBasedStateMachine):
    """Anything may happen to a connector, at any time; a plain model counts what came in a row."""

    def __init__(self) -> None:
        super().__init__()
        self.now, self.every_s = 0.0, 16.0
        self.standing = core.initial(self.every_s, self.now, 0.5)
        self.failures = self.crashes = 0

    @rule(seconds=st.floats(0.0, 5_000.0))
    def time_passes(self, seconds: float) -> None:
        self.now += seconds

    @precondition(lambda self: not self.standing.polling and self.standing.held is None)
    @rule()
    def a_poll_begins_when_due(self) -> None:
        self.now = max(self.now, self.standing.due)
        self.standing = core.begin(self.standing)
        assert self.standing.status == "polling"

    @precondition(lambda self: self.standing.polling)
    @rule(records=st.integers(0, 3), more=st.booleans(), chance=CHANCE)
    def it_ends(self, records: int, more: bool, chance: float) -> None:
        before = self.standing.interval_s
        self.standing = core.ended(self.standing, self.now, chance, records=records, more=more)
        self.failures = self.crashes = 0
        assert self.standing.status == "ok"
        expected = max(before / 2, self.every_s / 8) if records else self.every_s
        assert self.standing.interval_s == expected
        assert not more or self.standing.due == self.now

    @precondition(lambda self: self.standing.polling)
    @rule(chance=CHANCE, retry_after_s=st.none() | st.floats(0.0, 100.0))
    def the_source_fails(self, chance: float, retry_after_s: float | None) -> None:
        self.standing = core.failed(self.standing, self.now, chance, retry_after_s=retry_after_s)
        self.failures += 1
        assert self.standing.due >= self.now + (retry_after_s or 0.0)

    @precondition(lambda self: self.standing.polling)
    @rule(chance=CHANCE)
    def its_code_crashes(self, chance: float) -> None:
        self.standing = core.crashed(self.standing, self.now, chance)
        self.failures += 1
        self.crashes += 1
        if self.standing.broken:
            assert self.crashes >= 5
            self.standing = core.hold(self.standing, "quarantined")

    @precondition(lambda self: self.standing.polling)
    @rule()
    def it_is_broken_off(self) -> None:
        self.standing = core.interrupted(self.standing, self.now)
        assert self.standing.due <= self.now + 1.0

    @rule()
    def somebody_pauses_it(self) -> None:
        self.standing = core.hold(self.standing, "paused")

    @precondition(lambda self: self.standing.held is not None)
    @rule()
    def somebody_resumes_it(self) -> None:
        self.standing = core.release(self.standing, self.now)
        self.failures = self.crashes = 0
        assert self.standing.due == self.now

    @rule()
    def somebody_wants_a_poll(self) -> None:
        before = self.standing
        self.standing = core.poll_now(before, self.now)
        if before.held is not None or before.polling:
            assert self.standing == before
        else:
            assert self.standing.due <= max(self.now, before.due)

    @invariant()
    def it_stands_somehow(self) -> None:
        standing = self.standing
        assert standing.status in STATUSES
        assert (standing.failures, standing.crashes) == (self.failures, self.crashes)
        assert self.every_s / 8 <= standing.interval_s <= self.every_s
        if standing.held is not None or standing.polling:
            assert math.isinf(standing.due)
        else:
            assert standing.due <= self.now + 1_000.0  # it always comes again: no failure is for ever
            assert (standing.status == "ok") == (self.failures == 0)
            assert (standing.status == "open_breaker") == (self.failures >= 5)


TestConnector = Connector.TestCase
TestConnector.__doc__ = (
    "Whatever happens, a connector that nobody holds polls again, and its status says how it stands."
)
