"""The core under random programs in a random world: replay equals live, effects stay what they are, undoing is exact.

Each seed makes a program and a world (see `programs` and `world`): answers in any order, retries, late completions,
cancellations, pauses, parking, defects that get mended, careless deployments, and crashes that keep any prefix of what
was submitted. `simulate(seed)` runs one; what must hold of it is checked all along and at its end.
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.actors.flow.world import Forked, Gone, simulate
from wal import records as r
from wal.records import PastRecord

CHUNKS = 12


@pytest.mark.slow
@pytest.mark.chaos
@pytest.mark.parametrize("chunk", range(CHUNKS))
def test_any_program_in_any_world(chunk: int, scale: Callable[[int, int], int]) -> None:
    """Replay equals live at any point, no prefix contradicts its code, an effect stays the call it was, and at the end
    each completed step is kept, or undone exactly once in reverse order."""
    count = scale(250, 5_000)
    ends: Counter[str] = Counter()
    for seed in range(chunk * count, (chunk + 1) * count):
        try:
            ends[simulate(seed).kinds[-1]] += 1
        except BaseException as error:
            error.add_note(f"simulate({seed}) shows it again")
            raise
    assert ends.keys() == {"run_completed", "run_failed", "run_cancelled"}
    assert ends.total() == count


@pytest.mark.slow
@pytest.mark.chaos
@pytest.mark.parametrize("chunk", range(2))
def test_any_program_whose_code_is_taken_away(chunk: int, scale: Callable[[int, int], int]) -> None:
    """Cancelled then, it is undone from its records: over crashes and parking, each attempt of an undo is made once,
    replay equals live in what is tried again and when, and at the end everything is undone exactly once."""
    count = scale(400, 5_000)
    undone = 0
    for seed in range(chunk * count, (chunk + 1) * count):
        try:
            undone += simulate(seed, kind=Gone).was_codeless
        except BaseException as error:
            error.add_note(f"simulate({seed}, kind=Gone) shows it again")
            raise
    assert undone > count / 10


@pytest.mark.slow
@pytest.mark.chaos
@pytest.mark.parametrize("chunk", range(2))
def test_any_program_that_is_forked(chunk: int, scale: Callable[[int, int], int]) -> None:
    """A fork at any record, and a fork of that, goes on from where its past ends: no step of it runs again, replay
    equals live over crashes and parking, and at the end past and own are kept, or undone exactly once."""
    count = scale(400, 5_000)
    forked = 0
    for seed in range(chunk * count, (chunk + 1) * count):
        try:
            world = simulate(seed, kind=Forked)
            assert not done_steps(world.past or []) & {fact.key for fact in world.facts(r.StepScheduled)}
        except BaseException as error:
            error.add_note(f"simulate({seed}, kind=Forked) shows it again")
            raise
        forked += bool(world.past)
    assert forked > count / 3


def test_a_doubt_that_one_code_gave_up_and_another_waited_for_is_undone() -> None:
    """What a person says of it counts, once, also where no code is left (seeds that long runs found)."""
    assert simulate(101_160, kind=Forked).was_codeless
    simulate(305_278, kind=Forked)


def done_steps(past: list[PastRecord]) -> set[str]:
    return {one.record.key for one in past if isinstance(one.record, r.StepCompleted)}


@pytest.mark.slow
@given(st.randoms(use_true_random=False))
def test_the_smallest_program_that_breaks(rng: random.Random) -> None:
    """The same, drawn by Hypothesis, which looks for the smallest example of what fails."""
    assert simulate(0, rng).flow.ended


def test_the_same_seed_is_the_same_world() -> None:
    """A seed gives the same program, the same faults and the same records each time."""
    for seed in range(20):
        one, two = simulate(seed), simulate(seed)
        assert one.journal == two.journal
        assert one.counts == two.counts
