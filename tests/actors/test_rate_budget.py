from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from actors.connector_spec import ConnectorSpec, Deliver
from actors.rate_budget import HOLD_S_MAX, RateBudget, RateBudgets


def asked(budget: RateBudget, now: float, until: float) -> list[float]:
    """The instants at which somebody goes who asks again exactly when told to."""
    went = []
    while now <= until:
        wait = budget.take(now)
        if wait == 0.0:
            went.append(now)
        else:
            now += wait
    return went


@given(st.integers(1, 50), st.floats(0.1, 120.0), st.lists(st.floats(0.0, 30.0), max_size=200))
def test_no_window_holds_more_than_a_burst_and_its_rate(rate: int, period_s: float, gaps: list[float]) -> None:
    """In any stretch of time at most `rate` requests go at once, plus `rate` for each period of it."""
    budget, now, went = RateBudget(rate, period_s), 0.0, []
    for gap in gaps:
        now += gap
        if budget.take(now) == 0.0:
            went.append(now)
    for first in range(len(went)):
        for last in range(first, len(went)):
            allowed = rate + (went[last] - went[first]) * rate / period_s
            assert last - first + 1 <= allowed + 1e-6


def test_who_waits_as_told_goes_at_the_rate() -> None:
    """A burst goes at once; after it one request goes each period / rate, no slower."""
    went = asked(RateBudget(5, 10.0), 0.0, 60.0)
    assert went[:5] == [0.0] * 5
    assert [round(later - before, 6) for before, later in pairwise(went[4:])] == [2.0] * 30
    assert len(went) == 35


def test_a_hold_holds_everybody_and_the_longest_counts() -> None:
    """What the source said holds until then, also those who wait already; a shorter word later ends no longer hold."""
    budget = RateBudget()
    assert budget.take(0.0) == 0.0
    budget.hold(0.0, 30.0)
    budget.hold(1.0, 5.0)
    assert budget.take(10.0) == 20.0
    assert budget.take(30.0) == 0.0
    budget.hold(30.0, 1e9)
    assert budget.take(30.0) == HOLD_S_MAX
    budget.hold(30.0, -5.0)
    assert budget.held_until == 30.0 + HOLD_S_MAX


def test_a_hold_comes_on_top_of_the_rate() -> None:
    """Tokens that grow during a hold are no more than a burst when it ends."""
    budget = RateBudget(2, 1.0)
    budget.hold(0.0, 100.0)
    assert asked(budget, 0.0, 100.0) == [100.0, 100.0]


@pytest.mark.parametrize(("rate", "period_s"), [(0, 1.0), (-1, 1.0), (1, 0.0), (1, float("nan"))])
def test_what_is_no_rate_is_refused(rate: float, period_s: float) -> None:
    """A rate of nothing would be a wait without end."""
    with pytest.raises(ValueError, match="rate"):
        RateBudget(rate, period_s)


async def _none(poll: object) -> None: ...


def spec(name: str, credential: str | None = None, rate: int | None = None, period_s: float = 1.0) -> ConnectorSpec:
    return ConnectorSpec(
        name=name, source=_none, deliver=Deliver(), credential=credential, rate=rate, rate_period=period_s  # type: ignore[arg-type]
    )  # fmt: skip


def test_a_credential_has_one_budget_and_the_strictest() -> None:
    """Connectors with one credential share a budget, the strictest that one of them names; others have their own, also
    one that is called as a credential is."""
    shared = [spec("a", "key", 100), spec("b", "key", 60, 60.0), spec("c", "key"), spec("key", None, 7)]
    budgets = RateBudgets(shared)
    assert budgets.of(shared[0]) is budgets.of(shared[1]) is budgets.of(shared[2])
    assert budgets.of(shared[0]).per_second == 1.0
    assert budgets.of(shared[3]) is not budgets.of(shared[0])
    assert len(budgets) == 2
    with pytest.raises(KeyError):
        budgets.of(spec("d"))
