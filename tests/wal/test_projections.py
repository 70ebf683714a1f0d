"""The derived tables: a function of the records, however batches are cut."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wal import records as r
from wal.journal import Journal
from wal.projections import ATTRIBUTE_CHARS_MAX, EFFECTS, RUN_ONLY, Projector, attribute_text
from wal.records import RECORD_TYPES, Entry
from wal.run_status import fold
from wal.verify import compare_tables

ONE = r.Raw(b"1")


@pytest.mark.slow
@given(seed=st.integers(0, 2**32), n=st.integers(1, 60))
def test_the_tables_are_a_function_of_the_records(random_program: Any, seed: int, n: int) -> None:
    """Any random history, committed in any batches, gives the tables that one replay gives; each run's status is the
    fold of its own records; the counts are those of the runs."""
    batches = list(random_program(seed).batches(n))
    entries = [entry for batch in batches for entry in batch]
    with Journal.open(None) as piecewise, Journal.open(None) as at_once:
        for n, batch in enumerate(batches):
            if n % 3 == seed % 3:  # as after a restart: what was remembered of the rows is read again
                piecewise._projector = Projector(piecewise._db)
            piecewise.commit(batch)
        at_once.commit(entries)

        assert list(compare_tables(piecewise._db, at_once._db)) == []
        reader = piecewise.reader()
        counted: dict[tuple[str, str], int] = {}
        for run_key in {entry.run_key for entry in entries if entry.run_key}:
            run = reader.run_by_key(run_key)
            assert run is not None
            history = reader.history(run_key)
            own = [entry for entry in entries if entry.run_key == run_key]
            state = fold([entry.record for entry in own])
            assert [entry.seq for entry in history] == [entry.seq for entry in own]
            assert (run.status, run.waiting_on, run.error) == (state.status, state.waiting_on, state.error)
            assert (run.first_seq, run.last_seq, run.updated_at) == (own[0].seq, own[-1].seq, own[-1].at)
            assert (run.ended_at is not None) == state.ended
            counted[run.workflow, run.status] = counted.get((run.workflow, run.status), 0) + 1
        assert reader.counts() == counted


def test_every_effect_is_of_a_record() -> None:
    """The tables of effects name records only, and those that need a run are among them."""
    assert EFFECTS.keys() <= set(RECORD_TYPES)
    assert EFFECTS.keys() >= RUN_ONLY


class TestTimers:
    """Which timers are set."""

    @pytest.fixture
    def due(self, memory: Journal, log: Any) -> Any:
        def commit_and_look(*records: r.Record, batches: bool = False) -> list[tuple[int, str]]:
            entries = [log.start(1), *(log.add(1, record) for record in records)]
            for batch in [[entry] for entry in entries] if batches else [entries]:
                memory.commit(batch)
            return [(timer.due_at, timer.key) for timer in memory.reader().due_timers()]

        return commit_and_look

    @pytest.mark.parametrize("batches", [False, True])
    @pytest.mark.parametrize(
        ("records", "expected"),
        [
            ([r.TimerSet("0", 5)], [(5, "0")]),
            ([r.TimerSet("0", 5), r.TimerSet("0", 7)], [(7, "0")]),
            ([r.TimerSet("0", 5), r.TimerFired("0")], []),
            ([r.TimerSet("0", 5), r.TimerCancelled("0")], []),
            ([r.TimerSet("0", 5), r.TimerFired("0"), r.TimerSet("0", 9)], [(9, "0")]),
            ([r.StepFailed("0", "a", r.ErrorData("X"), retry_at=5)], [(5, "0")]),
            ([r.StepFailed("0", "a", r.ErrorData("X"))], []),
            ([r.CompensationFailed("0!", "a", r.ErrorData("X"), retry_at=5)], [(5, "0!")]),
            ([r.TimerSet("0", 5), r.TimerSet("1", 3)], [(3, "1"), (5, "0")]),
            ([r.TimerSet("0", 5), r.RunCompleted(ONE)], []),
            ([r.RunCompleted(ONE), r.StepFailed("0", "a", r.ErrorData("X"), retry_at=5)], []),
        ],
    )
    def test_timers(self, due: Any, records: list[r.Record], expected: list[Any], batches: bool) -> None:
        """A timer is there from its setting to its firing, its cancelling or the end of its run, and no longer."""
        assert due(*records, batches=batches) == expected

    def test_a_later_start_is_a_timer_of_the_run(self, memory: Journal, log: Any) -> None:
        """A run that starts later has a timer with the empty key, gone once it fired."""
        memory.commit([log.start(1, start_at=9)])
        assert memory.reader().due_timers() == [(9, 1, "")]
        memory.commit([log.add(1, r.TimerFired(""))])
        assert memory.reader().due_timers() == []


class TestAttributes:
    """Searchable attributes."""

    def test_attributes_are_merged_and_found(self, memory: Journal, log: Any) -> None:
        """What a workflow sets replaces what was there under the same name, for the eye and for the search."""
        memory.commit([log.start(1, attributes={"city": "Rome", "n": 5})])
        memory.commit(
            [log.add(1, r.AttributesSet("0", {"city": "Oslo"})), log.add(1, r.AttributesSet("1", {"ok": True}))]
        )
        reader = memory.reader()
        run = reader.run("run-1")

        assert run is not None
        assert run.attributes == {"city": "Oslo", "n": 5, "ok": True}
        for wanted, n in [
            ({"city": "Oslo"}, 1), ({"city": "Rome"}, 0), ({"n": "5"}, 1), ({"ok": "true", "city": "Oslo"}, 1),
            ({"ok": "true", "city": "Rome"}, 0),
        ]:  # fmt: skip
            page = reader.runs(attributes=wanted)
            assert (len(page.items), page.total) == (n, n)

    def test_a_new_run_may_set_them_in_its_first_batch(self, memory: Journal, log: Any) -> None:
        """A start and a setting in one commit leave what was set last."""
        memory.commit([log.start(1, attributes={"a": 1, "b": 2}), log.add(1, r.AttributesSet("0", {"a": 3}))])
        run = memory.reader().run("run-1")
        assert run is not None
        assert run.attributes == {"a": 3, "b": 2}
        assert [len(memory.reader().runs(attributes={"a": text}).items) for text in ("1", "3")] == [0, 1]

    @pytest.mark.parametrize(
        ("value", "text"),
        [
            ("a", "a"), (5, "5"), (1.5, "1.5"), (True, "true"), (None, "null"), ([1], None), ({}, None),
            ("x" * ATTRIBUTE_CHARS_MAX, "x" * ATTRIBUTE_CHARS_MAX), ("x" * (ATTRIBUTE_CHARS_MAX + 1), None),
        ],
    )  # fmt: skip
    def test_scalars_of_bearable_length_are_searchable(self, value: Any, text: str | None) -> None:
        """An attribute is searched by its text; lists, objects and long texts are kept but not searched."""
        assert attribute_text(value) == text


def test_a_late_record_does_not_move_the_end(memory: Journal, log: Any) -> None:
    """An outcome that arrives after the end is kept, and the run ended when it ended."""
    memory.commit([log.start(1), log.add(1, r.RunCompleted(ONE))])
    memory.commit([log.add(1, r.StepCompleted("0", "charge", ONE)), log.add(1, r.RunFailed(r.ErrorData("X")))])
    run = memory.reader().run("run-1")

    assert run is not None
    assert (run.status, run.end_seq, run.last_seq, run.error) == ("completed", 2, 4, None)


@pytest.mark.parametrize("paused", [False, True])
def test_a_row_says_whether_its_run_is_blocked(memory: Journal, log: Any, paused: bool) -> None:
    """A run that is blocked while it undoes its steps is blocked and compensating, whatever its status shows."""
    told = []
    records: list[r.Record] = [r.RunPaused()] if paused else []
    records += [r.RunBlocked("code_error"), r.RunCompensating(), r.RunBlocked("code_error"), r.RunRetried()]
    memory.commit([log.start(1)])
    for record in records:
        memory.commit([log.add(1, record)])
        run = memory.reader().run_by_key(1)
        assert run is not None
        told.append((run.blocked, run.compensating))
    assert told[-4:] == [(True, False), (False, True), (True, True), (False, True)]


def test_a_deleted_value_counts_on(memory: Journal, log: Any) -> None:
    """Deleting keeps the version, so that a conditional write cannot mistake a new value for the old one."""
    memory.commit([log.add(0, r.StateWritten("", "global", "a", 1, ONE))])
    memory.commit([log.add(0, r.StateWritten("", "global", "a", 2, deleted=True))])
    reader = memory.reader()
    state = reader.state("global", "a")

    assert state is not None
    assert (state.version, state.deleted, bytes(state.value)) == (2, True, b"null")
    assert reader.states("global").items == []


def test_a_session_lives_and_ends(memory: Journal, log: Any) -> None:
    """Open, touched, closed or expired: the row says what the records say."""
    for n, end in enumerate([r.SessionClosed, r.SessionExpired]):
        memory.commit([log.add(0, r.SessionOpened(f"s{n}", expires_at=5, ttl=1.0))])
        memory.commit([log.add(0, r.SessionTouched(f"s{n}", 9))])
        (expiring,) = memory.reader().expiring_sessions()
        memory.commit([log.add(0, end(f"s{n}"), at=77)])
        view = memory.reader().session(f"s{n}")

        assert expiring == (f"s{n}", 9)
        assert view is not None
        assert (view.status, view.closed_at) == (["closed", "expired"][n], "1970-01-01T00:00:00.000077Z")
        assert memory.reader().expiring_sessions() == []


def test_one_update_a_run_and_commit(memory: Journal, log: Any) -> None:
    """A hundred records of one run in a batch write its row once: that is where the speed comes from."""
    memory.commit([log.start(1)])
    statements: list[str] = []
    memory._db.exec_trace = lambda cursor, sql, bindings: bool(statements.append(sql)) or True
    batch: list[Entry] = [entry for n in range(50) for entry in log.step(1, str(n))]
    memory.commit(batch)
    memory._db.exec_trace = None

    assert sum("update runs" in sql for sql in statements) == 1
