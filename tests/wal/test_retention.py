"""Forgetting runs: what goes, what stays, and that nobody else may take a body away."""

from __future__ import annotations

import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import apsw
import pytest

from tests.wal.conftest import NOW, RandomProgram
from wal import connections, retention
from wal import records as r
from wal.errors import CommitFailed
from wal.journal import Journal
from wal.queries import Reader
from wal.records import Entry
from wal.verify import _Verification, verify

LONG = r.Raw(b'"' + b"x" * 3_000 + b'"')


def whole_run(log: Any, run_key: int, steps: int = 3) -> list[Entry]:
    """A run from its start to its end, with something in every derived table."""
    entries = [log.start(run_key, attributes={"city": "Rome"}), log.add(run_key, r.SignalReceived("go", LONG, "s1"))]
    entries.append(log.add(run_key, r.StateWritten("1", f"run:run-{run_key}", "a", 1, LONG)))
    entries.append(log.add(run_key, r.StateWritten("2", "global", f"g{run_key}", 1, LONG)))
    entries.append(log.add(run_key, r.ApprovalRequested("3", "Ship?", "hash")))
    entries.append(log.add(run_key, r.ApprovalDecided("3", True)))
    entries.append(log.add(run_key, r.TimerSet("4", NOW)))
    for _ in range(steps):
        entries += log.step(run_key, payload=bytes(LONG))
    return [*entries, log.add(run_key, r.RunCompleted(LONG))]


def forget(log: Any, *run_keys: int) -> Entry:
    return log.add(0, r.RunsForgotten(list(run_keys), NOW, [f"run:run-{key}" for key in run_keys]))  # type: ignore[no-any-return]


@pytest.fixture
def forgotten(journal_path: Path, log: Any) -> Path:
    """Three runs, of which the first two are forgotten."""
    with Journal.open(journal_path) as journal:
        for run_key in (1, 2, 3):
            journal.commit(whole_run(log, run_key))
        journal.commit([forget(log, 1, 2)])
    return journal_path


def test_a_forgotten_run_is_gone_and_the_journal_still_verifies(forgotten: Path) -> None:
    """Its row, its bodies and all that is derived from it are gone; the chain and the tables of the others hold."""
    with Reader.open(forgotten) as reader:
        assert (reader.run("run-1"), reader.run_view("run-2"), reader.history_page("run-1")) == (None, None, None)
        assert reader.state("run:run-1", "a") is None
        assert reader.signal_seen(1, "s1") is None
        assert [run.id for run in reader.runs(attributes={"city": "Rome"}).items] == ["run-3"]
        assert [view.run_id for view in reader.approval_page().items] == ["run-3"]
        assert reader.counts() == {("shop", "completed"): 1}
    assert verify(forgotten).problems == []


def test_what_outlives_a_run_is_kept(forgotten: Path) -> None:
    """A value that it put into another scope than its own stays, with its record."""
    with Reader.open(forgotten) as reader:
        kept = reader.state("global", "g1")
        assert kept is not None and kept.value == LONG
        events = reader.events(0)
    assert [event.kind for event in events if event.seq <= 28] == ["state_written", "state_written"]
    assert [event.run_id for event in events if event.seq > 28] == ["run-3"] * 14 + [None]


def test_its_id_can_be_used_again(forgotten: Path, log: Any) -> None:
    """A run that is started under a forgotten id is a new one, with a state of its own that begins anew."""
    with Journal.open(forgotten) as journal:
        journal.commit([log.start(4, id="run-1"), log.add(4, r.StateWritten("0", "run:run-1", "a", 1, r.Raw(b"5")))])
        with journal.reader() as reader:
            again = reader.run("run-1")
            assert again is not None and (again.run_key, again.status) == (4, "running")
    assert verify(forgotten).problems == []


def test_the_room_is_used_again(journal_path: Path, log: Any) -> None:
    """The pages of forgotten bodies take new records, long bodies and short ones: the file does not grow for ever."""
    with Journal.open(journal_path) as journal:
        for first in range(1, 400, 40):
            journal.commit([entry for key in range(first, first + 40) for entry in (log.start(key), *log.step(key))])
            journal.commit([log.add(key, r.RunCompleted(r.Raw(b"1"))) for key in range(first, first + 40)])
        pages = int(journal._db.pragma("page_count"))
        journal.commit([forget(log, *range(1, 400))])
        assert int(journal._db.pragma("freelist_count")) > pages / 4


class OwnState(RandomProgram):
    """A random program whose runs write values that outlive them, and to a state of their own."""

    def entry(self) -> Entry:
        entry = super().entry()
        if isinstance(entry.record, r.StateWritten) and entry.run_key and self.rng.random() < 0.5:
            scope = f"run:run-{entry.run_key}"
            version = self.versions[scope] = self.versions.get(scope, 0) + 1
            return Entry(*entry_place(entry), r.StateWritten("", scope, "a", version, r.Raw(b"[1]")))
        return entry

    def _state(self, scope: str) -> r.StateWritten:
        return super()._state("global")  # type: ignore[return-value]


def entry_place(entry: Entry) -> tuple[int, int, int, int]:
    return entry.seq, entry.run_key, entry.prev_seq, entry.at


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(12))
def test_forgetting_is_a_function_of_the_records(seed: int) -> None:
    """Whichever ended runs are forgotten, at whichever points: what is derived of the journal with the bodies gone is
    what a verification finds that it should be, with batches cut as the writer cut them or otherwise."""
    program, rng = OwnState(seed), random.Random(seed)
    gone: set[int] = set()
    with Journal.open(None) as journal:
        for batch in program.batches(120):
            ended = [key for key in range(1, program.runs) if key not in program.open and key not in gone]
            if ended and rng.random() < 0.4:
                chosen = rng.sample(ended, rng.randint(1, min(4, len(ended))))
                batch.append(forget(program.log, *chosen))
                gone.update(chosen)
            journal.commit(batch)
        check = _Verification()
        check.run(journal._db)
    assert check.problems == []
    assert len(gone) > 10


def verified_while(journal: Journal, path: Path, seq: int, forgets: Callable[[], Entry]) -> tuple[list[str], int]:
    """A verification of the open journal in which, once it has read up to `seq`, something is forgotten: what it finds,
    and up to where."""
    check, connection = _Verification(), connections.open_reader(path)
    original = check._read_some

    def read_some(source: apsw.Connection) -> bool:
        more = original(source)
        if check.seq == seq:
            journal.commit([forgets()])
            return True
        return more

    check._read_some = read_some  # type: ignore[method-assign]
    check.run(connection)
    connection.close()
    return check.problems, check.seq


def test_a_live_verification_sees_runs_forgotten_meanwhile(journal_path: Path, log: Any) -> None:
    """What was read whole and is forgotten before the verification comes to the end is no problem."""
    with Journal.open(journal_path) as journal:
        for run_key in (1, 2, 3):
            journal.commit(whole_run(log, run_key))
        assert verified_while(journal, journal_path, 42, lambda: forget(log, 1, 2)) == ([], 43)


def tamper(path: Path, sql: str) -> list[str]:
    connection = apsw.Connection(str(path), vfs=connections.checksum_vfs())
    connection.execute(sql)
    connection.close()
    return verify(path).problems


TAMPERED = [
    ("update records set body = '' where seq = 35", "the body of record 42 of run 3 is gone"),
    ("update records set body = '' where seq >= 29 and seq <= 42", "of run 3 is gone, and no record says that it may"),
    ("update records set body = '' where seq = 43", "the body of record 43, of no run, is gone, and no record says"),
    ("update records set body = body || ' ' where seq = 4", "record 4 is not what was written"),
    ("update records set prev_seq = 3 where seq = 2", "record 2 without a body follows 3 in its run, not 1"),
    ("update records set run_key = 3 where seq = 2", "record 2 without a body follows 1 in its run, not 0"),
    ("delete from records where seq = 2", "records 2 to 2 are missing"),
    ("update records set digest = randomblob(16) where seq = 28", "record 29 is not what was written"),
    ("update records set body = '' where seq = 4", "table state"),
    ("insert into runs select 1, 'run-1', workflow, version, phase, paused, status, waiting_on, waiting_until,"
     " session_id, tenant, classification, queue, priority, parent_id, trace_id, attributes, created_at, updated_at,"
     " ended_at, error, first_seq, last_seq, end_seq from runs where run_key = 3", "table runs"),
]  # fmt: skip


@pytest.mark.parametrize(("sql", "problem"), TAMPERED, ids=[sql[:50] for sql, _ in TAMPERED])
def test_a_body_taken_away_by_others_is_seen(forgotten: Path, sql: str, problem: str) -> None:
    """P17: a body may be gone only from a run that a later record forgets; anything else is named."""
    problems = tamper(forgotten, sql)
    assert any(problem in one for one in problems), problems


def test_bodies_that_came_back_are_seen(journal_path: Path, log: Any) -> None:
    """A record that forgets a run whose bodies are all still there is named: the file was put together from two."""
    with Journal.open(journal_path) as journal:
        journal.commit(whole_run(log, 1))
        journal._projector.apply = lambda entries: None  # type: ignore[method-assign]
        journal.commit([forget(log, 1)])
    assert any("forgets run 1, and its records still have bodies" in one for one in verify(journal_path).problems)


def test_an_open_run_is_never_forgotten(journal_path: Path, log: Any) -> None:
    """A record that forgets an open run is refused whole: a defect of its sender, like any contradiction."""
    with Journal.open(journal_path) as journal:
        journal.commit([log.start(1)])
        with pytest.raises(CommitFailed, match="which has not ended"):
            journal.commit([forget(log, 1)])


class TestPlan:
    """Which runs may be forgotten."""

    @pytest.fixture
    def plan(self, memory: Journal, log: Any) -> Any:
        memory.commit([*whole_run(log, 1), *whole_run(log, 2)])
        memory.commit([log.start(3), *whole_run(log, 4), log.start(5, id="p"), log.start(6, id="c", parent_id="p")])
        memory.commit([log.add(6, r.RunCompleted(LONG)), *whole_run(log, 7)])
        return lambda older_than, after=0: retention.plan(memory._db, older_than, after, NOW + 1_000)

    def test_ended_runs_of_some_age_but_not_the_newest(self, plan: Any) -> None:
        """Ended before the instant; not a child whose parent goes on; not the newest, which holds the run key."""
        found = plan(NOW + 1_000)
        assert ([run.run_key for run in found.runs], found.next) == ([1, 2, 4], None)
        assert [run.records for run in found.runs] == [14] * 3

    def test_younger_runs_stay(self, plan: Any) -> None:
        """What ended at the instant or later stays."""
        assert [run.run_key for run in plan(NOW + 28).runs] == [1]
        assert [run.run_key for run in plan(NOW + 29).runs] == [1, 2]

    def test_one_commit_forgets_a_bounded_number(self, plan: Any, monkeypatch: pytest.MonkeyPatch) -> None:
        """Runs and records of one commit are bounded, and the search goes on behind them."""
        monkeypatch.setattr(retention, "RECORDS_FORGOTTEN_MAX", 20)
        assert ([run.run_key for run in plan(NOW + 1_000).runs], plan(NOW + 1_000).next) == ([1], 1)
        monkeypatch.setattr(retention, "RECORDS_FORGOTTEN_MAX", 5)
        assert [run.run_key for run in plan(NOW + 1_000, 1).runs] == [2]
        monkeypatch.setattr(retention, "RUNS_FORGOTTEN_MAX", 2)
        monkeypatch.setattr(retention, "RECORDS_FORGOTTEN_MAX", 5_000)
        assert ([run.run_key for run in plan(NOW + 1_000).runs], plan(NOW + 1_000).next) == ([1, 2], 2)


DAY = 86_400_000_000
YEARS = 3_660 * DAY


def test_runs_behind_one_of_the_future_are_found(memory: Journal, log: Any) -> None:
    """A run that a clock dated ten years ahead does not end the search; it stays itself until then."""
    ahead = log.add(1, r.RunStarted("run-1", "shop", LONG), at=NOW + YEARS)
    memory.commit([ahead, log.add(1, r.RunCompleted(LONG), at=NOW + YEARS)])
    memory.commit([*whole_run(log, 2), *whole_run(log, 3), *whole_run(log, 4)])
    found = retention.plan(memory._db, NOW + DAY, 0, NOW + 91 * DAY)
    assert ([run.run_key for run in found.runs], found.next) == ([2, 3], None)
    later = retention.plan(memory._db, NOW + YEARS + DAY, 0, NOW + YEARS + 91 * DAY)
    assert [run.run_key for run in later.runs] == [1, 2, 3]


def answer(log: Any, number: int, *, at: int | None = None, body: r.Raw = LONG) -> Entry:
    return log.add(0, r.RequestAnswered("uid:1", f"key-{number}", "d", 201, body), at=at)  # type: ignore[no-any-return]


class TestAnswers:
    """First answers to idempotency keys are forgotten by age, and nothing else goes with them."""

    @pytest.fixture
    def five(self, journal_path: Path, log: Any) -> Path:
        """Five answers, records 2 to 6, of which the first three are forgotten."""
        with Journal.open(journal_path) as journal:
            journal.commit([log.start(1), *[answer(log, number) for number in range(5)]])
            journal.commit([log.add(0, r.AnswersForgotten([2, 3, 4], NOW))])
        return journal_path

    def test_the_old_ones_are_gone_and_the_journal_still_verifies(self, five: Path) -> None:
        """Their rows and bodies go; the others are still found; the keys can be used again."""
        with Reader.open(five) as reader:
            found = [reader.answer("uid:1", f"key-{number}") for number in range(5)]
            assert [row is None for row in found] == [True, True, True, False, False]
        assert verify(five).problems == []
        with Journal.open(five) as journal:
            again = r.RequestAnswered("uid:1", "key-0", "other", 201, LONG)
            journal.commit([Entry(8, 0, 0, NOW, again), Entry(9, 0, 0, NOW, r.AnswersForgotten([5], NOW))])
            assert journal.reader().answer("uid:1", "key-0").digest == "other"  # type: ignore[union-attr]
            assert journal.reader().answer("uid:1", "key-3") is None
        assert verify(five).problems == []

    @pytest.mark.parametrize(
        ("sql", "problem"),
        [
            (
                "update records set body = '' where seq = 5",
                "the body of record 5, of no run, is gone, and no record says",
            ),
            ("delete from answers where seq = 5", "table answers"),
            ("update records set body = '' where seq = 7", "the body of record 4, of no run, is gone"),
        ],
    )
    def test_what_goes_otherwise_is_seen(self, five: Path, sql: str, problem: str) -> None:
        """P17: an answer may be gone only by a later record that names it."""
        problems = tamper(five, sql)
        assert any(problem in one for one in problems), problems

    def test_bodies_that_came_back_are_seen(self, journal_path: Path, log: Any) -> None:
        """A record that forgets an answer whose body is still there is named."""
        with Journal.open(journal_path) as journal:
            journal.commit([log.start(1), answer(log, 0)])
            journal._projector.apply = lambda entries: None  # type: ignore[method-assign]
            journal.commit([log.add(0, r.AnswersForgotten([2], NOW))])
        assert any("record 3 forgets the answer of record 2" in one for one in verify(journal_path).problems)

    def test_a_live_verification_sees_answers_forgotten_meanwhile(self, journal_path: Path, log: Any) -> None:
        """What was read whole and is forgotten before the verification comes to the end is no problem, behind one of
        the future too."""
        with Journal.open(journal_path) as journal:
            journal.commit([log.start(1), answer(log, 0, at=NOW + YEARS), answer(log, 1), answer(log, 2)])
            found = verified_while(journal, journal_path, 4, lambda: log.add(0, r.AnswersForgotten([3], NOW)))
        assert found == ([], 5)

    def test_which_are_old_and_how_many_go_at_once(
        self, memory: Journal, log: Any, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """In the order in which they were given, up to the first younger one; a commit's worth, then on behind it."""
        memory.commit([log.start(1), *[answer(log, number) for number in range(6)], answer(log, 6, at=NOW - 5)])

        def plan(older_than: int, after: int = 0) -> tuple[list[int], int | None]:
            found = retention.plan_answers(memory._db, older_than, after, NOW + 1_000)
            return found.seqs, found.next

        assert plan(NOW + 4) == ([2, 3], None)
        assert plan(NOW) == ([], None)
        monkeypatch.setattr(retention, "ANSWERS_FORGOTTEN_MAX", 3)
        assert plan(NOW + 100) == ([2, 3, 4], 3)
        assert plan(NOW + 100, 3) == ([5, 6, 7], 6)
        assert plan(NOW + 100, 6) == ([8], None)
        assert plan(NOW + 100, 7) == ([], None)
        monkeypatch.setattr(retention, "ANSWER_BYTES_FORGOTTEN_MAX", 2 * len(LONG))
        assert plan(NOW + 100) == ([2, 3], 2)
        monkeypatch.setattr(retention, "ANSWER_BYTES_FORGOTTEN_MAX", 10)
        assert plan(NOW + 100, 2) == ([4], 3)

    def test_those_behind_one_of_the_future_are_found_and_go(
        self, journal_path: Path, log: Any, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Answers that a clock dated ten years ahead, before them and among them, end no search and stay; what lies
        behind is forgotten, some a commit, and the journal verifies."""
        monkeypatch.setattr(retention, "ANSWERS_FORGOTTEN_MAX", 3)
        ahead, gone, after = {0, 1, 2, 3, 5, 9}, [], 0
        with Journal.open(journal_path) as journal:
            journal.commit([log.start(1)])
            journal.commit([answer(log, n, at=NOW + YEARS if n in ahead else NOW) for n in range(12)])
            while True:
                plan = retention.plan_answers(journal._db, NOW + DAY, after, NOW + 91 * DAY)
                gone += plan.seqs
                if plan.seqs:
                    journal.commit([log.add(0, r.AnswersForgotten(plan.seqs, NOW + DAY))])
                if plan.next is None:
                    break
                after = plan.next
            left = [number for number in range(12) if journal.reader().answer("uid:1", f"key-{number}") is not None]
        assert gone == [2 + number for number in range(12) if number not in ahead]
        assert left == sorted(ahead)
        assert verify(journal_path).problems == []
