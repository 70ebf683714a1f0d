from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from actors.due_window import Due, DueWindow

SIZE = 5


def test_many_due_at_one_instant_stay_few_in_memory() -> None:
    """A hundred thousand runs due at the same midnight cost no more memory, nor time each, than if they were spread."""
    window = DueWindow(SIZE)
    window.load([], more=False, durable_seq=0)
    for number in range(100_000):
        window.add(number + 1, (1_000, number, ""))
        if number % 100 == 99:
            window.forget_durable(number + 1)
        assert len(window) <= 2 * SIZE
    assert window.pop_due(1_000)[0] == (1_000, 0, "")


def test_an_earlier_one_is_said_to_be_the_next() -> None:
    """`add` says True exactly when whoever sleeps until the next one has to be woken."""
    window = DueWindow(SIZE)
    window.load([], more=False, durable_seq=0)
    assert window.add(1, (50, 1, "a"))
    assert not window.add(2, (60, 1, "b"))
    assert window.add(3, (40, 1, "c"))
    assert window.next_us == 40


class Journal:
    """What is recorded (a timer's seq is its place, from 1) and what of it is durable. What fires leaves it."""

    def __init__(self) -> None:
        self.entries: list[Due] = []
        self.fired: set[Due] = set()
        self.durable = self.loads = 0

    def load(self, window: DueWindow) -> None:
        self.loads += 1
        durable = set(self.entries[: self.durable]) - self.fired
        page = sorted(entry for entry in durable if entry > window.horizon)[:SIZE]
        window.load(page, more=len(page) == SIZE, durable_seq=self.durable)


instants = st.integers(0, 6)


@given(st.lists(st.one_of(instants, st.sampled_from(["commit", "take", "set back"])), max_size=60), st.booleans())
def test_nothing_is_lost_and_all_comes_in_time(actions: list[int | str], fires: bool) -> None:
    """Whatever is set, committed and taken in whichever order, and though the clock is set back: each timer comes out,
    and none before its instant, also when none of those that came out can fire."""
    journal, window, now, told = Journal(), DueWindow(SIZE), 100, set()
    journal.load(window)

    def take() -> None:
        if window.exhausted:
            journal.load(window)
        due = window.pop_due(now)
        assert all(entry[0] <= now for entry in due)
        told.update(due)
        if fires:
            journal.fired |= set(due)

    for action in actions:
        if isinstance(action, int):
            journal.entries.append((now + action, len(journal.entries), ""))
            window.add(len(journal.entries), journal.entries[-1])
        elif action == "commit":
            journal.durable = len(journal.entries)
            window.forget_durable(journal.durable)
        elif action == "set back":
            now -= 4
        else:
            now += 1
            take()
    journal.durable, now = len(journal.entries), 1_000
    for _ in range(len(journal.entries) + 2):
        take()
    assert told == set(journal.entries)
    assert not window.exhausted


def test_what_was_told_is_not_read_again() -> None:
    """Entries that stay in the journal after they were told are read once: a backlog costs one pass, then nothing."""
    journal, window = Journal(), DueWindow(SIZE)
    journal.entries = [(number // 20, number, "") for number in range(100)]
    journal.durable = 100
    journal.load(window)
    told = window.pop_due(50)
    while window.exhausted:
        journal.load(window)
        told += window.pop_due(50)
    assert told == journal.entries
    assert journal.loads == 100 // SIZE + 1
    window.add(101, (20, 7, "late"))
    assert window.pop_due(50) == [(20, 7, "late")]
    assert not window.exhausted
