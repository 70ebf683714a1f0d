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
    """What is recorded (a timer's seq is its place, from 1), what of it is durable, and what has fired."""

    def __init__(self) -> None:
        self.entries: list[Due] = []
        self.fired: set[Due] = set()
        self.durable = 0

    def load(self, window: DueWindow) -> None:
        listed = sorted(set(self.entries[: self.durable]) - self.fired)
        window.load(listed[:SIZE], more=len(listed) >= SIZE, durable_seq=self.durable)


instants = st.integers(0, 6)


@given(st.lists(st.one_of(instants, st.just("commit"), st.just("take")), max_size=60))
def test_nothing_is_lost_and_all_comes_in_time(actions: list[int | str]) -> None:
    """Whatever is set, committed and taken in whichever order: each timer comes out, and none before its instant."""
    journal, window, now = Journal(), DueWindow(SIZE), 0
    journal.load(window)

    def take() -> None:
        if window.exhausted:
            journal.load(window)
        due = window.pop_due(now)
        assert all(entry[0] <= now for entry in due)
        journal.fired |= set(due)

    for action in actions:
        if isinstance(action, int):
            journal.entries.append((now + action, len(journal.entries), ""))
            window.add(len(journal.entries), journal.entries[-1])
        elif action == "commit":
            journal.durable = len(journal.entries)
            window.forget_durable(journal.durable)
        else:
            now += 1
            take()
    journal.durable, now = len(journal.entries), now + 10
    for _ in range(len(journal.entries) + 2):
        take()
    assert journal.fired == set(journal.entries)
