from __future__ import annotations

import random
import uuid

from actors.clock import VIRTUAL_START_US
from actors.ids import Ids


class Stopped:
    """A clock that stands."""

    def __init__(self, at_us: int) -> None:
        self.at_us = at_us

    def now_us(self) -> int:
        return self.at_us


def test_ids_are_uuids_of_version_7() -> None:
    """An id reads as a UUID of version 7 of the usual variant, and tells its millisecond."""
    made = uuid.UUID(Ids(Stopped(VIRTUAL_START_US), random.Random(1))())
    assert (made.version, made.variant) == (7, uuid.RFC_4122)
    assert made.int >> 80 == VIRTUAL_START_US // 1_000


def test_ids_are_ordered_by_time_and_never_the_same() -> None:
    """A later millisecond gives a later id; within one they differ."""
    clock, dice = Stopped(VIRTUAL_START_US), random.Random(1)
    ids = Ids(clock, dice)
    first = [ids() for _ in range(1_000)]
    clock.at_us += 1_000
    assert len(set(first)) == 1_000
    assert max(first) < ids()


def test_the_same_seed_gives_the_same_ids() -> None:
    """Nothing but the clock and the dice goes into an id."""
    one, other = (Ids(Stopped(5), random.Random(7)) for _ in range(2))
    assert [one() for _ in range(10)] == [other() for _ in range(10)]
