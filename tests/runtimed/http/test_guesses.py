"""What wrong tokens may cost: a budget an address, in bounded memory."""

from __future__ import annotations

from runtimed.http.guesses import ADDRESSES_MAX, FAILURES_MAX, REFILL_S, Guesses


def test_beyond_its_budget_an_address_is_refused_until_time_has_passed() -> None:
    """So many failures are answered plainly; then one in each interval, and after a pause all of them again."""
    guesses = Guesses()
    assert [guesses.failed("a", 0.0) for _ in range(FAILURES_MAX)] == [None] * FAILURES_MAX
    assert [guesses.failed("a", 0.0) for _ in range(1_000)] == [REFILL_S] * 1_000
    assert guesses.refused_total == 1_000
    assert guesses.failed("b", 0.0) is None
    assert guesses.failed("a", 2.5 * REFILL_S) is None
    assert guesses.failed("a", 2.5 * REFILL_S) == REFILL_S
    assert [guesses.failed("a", 1_000.0) for _ in range(FAILURES_MAX)] == [None] * FAILURES_MAX


def test_who_guesses_is_shown_while_it_does() -> None:
    """People see a sentence on each address beyond its budget, a few of them, until it has calmed down."""
    guesses = Guesses()
    for number in range(8):
        for _ in range(FAILURES_MAX + 1):
            guesses.failed(f"10.0.0.{number}", 0.0)
    guesses.failed("10.0.1.1", 0.0)
    told = guesses.remarks(0.0)
    assert len(told) == 6
    assert told[-1] == "so do 3 more addresses"
    assert told[-2].startswith("10.0.0.7 ")
    assert guesses.remarks(100.0) == []


def test_memory_is_bounded() -> None:
    """Addresses by the million cost no more than the most that are kept; the oldest are forgotten."""
    guesses = Guesses()
    for number in range(ADDRESSES_MAX * 3):
        guesses.failed(str(number), float(number))
    assert len(guesses) == ADDRESSES_MAX
