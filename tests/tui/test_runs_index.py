"""The list of runs as pages."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from tests.tui.fake_daemon import run
from tui.runs_index import HELD_RUNS_MAX, RunFilter, RunsIndex
from tui.states import word_of
from wal.views import RunView

ALL = [run(f"r{n:05}", ago=float(100_000 - n)) for n in reversed(range(10_000))]


def page(cursor: str | None, limit: int = 200) -> tuple[list[RunView], str | None]:
    start = int(cursor or 0)
    return ALL[start : start + limit], str(start + limit) if start + limit < len(ALL) else None


def load(index: RunsIndex, first: int, last: int) -> None:
    for cursor in index.wanted(first, last):
        runs, following = page(cursor)
        index.put(cursor, runs, following, len(ALL), 10)
    index.trim(first, last)


def test_a_long_list_is_walked_in_bounded_memory() -> None:
    """All rows can be reached, down and up again, and never are more than two thousand held."""
    index = RunsIndex()
    row = 0
    while index.more or row < len(index):
        load(index, row, row + 20)
        assert index.row(row) == ALL[row]
        assert index.held <= HELD_RUNS_MAX
        row += 150
    for row in range(len(ALL) - 20, -1, -170):
        load(index, row, row + 20)
        assert index.row(row) == ALL[row]
        assert index.held <= HELD_RUNS_MAX
    assert len(index) == len(ALL)
    assert not index.more


def test_a_page_that_nobody_wants_any_more_is_left_out() -> None:
    """An answer that comes after the filter was changed does not mix in."""
    index = RunsIndex()
    index.put("200", *page("200"), 10_000, 10)
    assert len(index) == 0
    load(index, 0, 20)
    index.put("800", *page("800"), 10_000, 10)
    assert len(index) == 200


def test_new_runs_come_first_and_ended_ones_leave() -> None:
    """A list of live runs gains what starts and loses what ends; its total follows."""
    index = RunsIndex(RunFilter(statuses=("running",)))
    load(index, 0, 20)
    new = run("new", ago=0.0)
    assert index.update(new, word_of(new))
    assert index.row(0) == new
    assert index.total == len(ALL) + 1
    ended = run("new", ago=0.0, status="completed")
    assert index.update(ended, word_of(ended))
    assert index.get("new") is None
    assert index.row(0) == ALL[0]
    assert index.total == len(ALL)


def test_a_change_elsewhere_is_no_change() -> None:
    """A run that matches but belongs to a page that is not held does not appear in the wrong place."""
    index = RunsIndex()
    load(index, 0, 20)
    old = run("old", ago=999_999.0)
    assert not index.update(old, word_of(old))
    assert index.number_of("old") is None


def test_a_run_whose_page_was_dropped_is_not_listed_twice() -> None:
    """What changes in a page that is not held comes with that page, and enters no other."""
    index = RunsIndex()
    for row in range(0, 4_000, 150):
        load(index, row, row + 20)
    assert index.get(ALL[100].id) is None
    rows = len(index)
    assert not index.update(ALL[100], word_of(ALL[100]))
    assert (len(index), index.total) == (rows, len(ALL))


def test_a_page_that_begins_elsewhere_now_is_asked_for_anew() -> None:
    """Pages that are read again lie one after the other also where the list has changed meanwhile: each run once."""
    index = RunsIndex()
    for row in (0, 190, 390):
        load(index, row, row + 20)
    now = [run("new", ago=0.0), *ALL[:450], *ALL[460:]]
    cursors = index.keep(0, 220)
    assert cursors == [None, "200"]
    while cursors:
        for cursor in cursors:
            start = 0 if cursor is None else int(cursor.removeprefix("b"))
            index.put(cursor, now[start : start + 200], f"b{start + 200}", len(now), 11)
        cursors = index.wanted(0, 599)
    assert [index.row(number) for number in range(600)] == now[:600]


def test_what_is_on_screen_is_read_anew_and_the_rest_dropped() -> None:
    """After a time out of sight the pages on screen are asked for, their rows standing until they come."""
    index = RunsIndex()
    for row in (0, 190, 390):
        load(index, row, row + 20)
    assert index.keep(210, 230) == ["200"]
    assert index.row(210) == ALL[210]
    assert index.row(10) is None and index.row(410) is None
    assert len(index) == 600


@given(st.lists(st.tuples(st.integers(0, 30), st.sampled_from(["running", "completed"])), max_size=60))
def test_the_list_is_what_the_filter_says(changes: list[tuple[int, str]]) -> None:
    """After any changes the rows are the matching runs, newest first, each once."""
    state = {f"n{n}": run(f"n{n}", ago=float(100 - n)) for n in range(5)}
    index = RunsIndex(RunFilter(statuses=("running",)))
    index.put(None, sorted(state.values(), key=lambda one: one.created_at or "", reverse=True), None, len(state), 1)
    for n, status in changes:
        one = run(f"n{n}", ago=float(100 - n), status=status)
        state[one.id] = one
        index.update(one, word_of(one))
    rows = [index.row(number) for number in range(len(index))]
    wanted = [one for one in state.values() if one.status == "running"]
    assert rows == sorted(wanted, key=lambda one: one.created_at or "", reverse=True)
    assert index.total == len(wanted)
