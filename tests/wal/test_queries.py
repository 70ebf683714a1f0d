"""What readers get, page by page."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import apsw
import msgspec
import pytest
from msgspec import Raw

from wal import pages
from wal import records as r
from wal.codec import encode_record
from wal.connections import _try_reader
from wal.errors import BadCursor, JournalCorrupt, JournalRefused
from wal.journal import Journal
from wal.pages import PAGE_ROWS_MAX, page_limit, read_int_cursor, read_text_cursor, write_cursor
from wal.queries import Reader
from wal.records import RECORD_TYPES
from wal.run_status import STATUSES
from wal.telling import heading, past_of, record_data
from wal.views import rfc3339

ONE = Raw(b"1")


def ids(page: Any) -> list[str]:
    return [item.id for item in page.items]


@pytest.fixture
def shop(memory: Journal, log: Any) -> Reader:
    """Twelve runs: every third failed, every fourth of another workflow, the even ones of a session."""
    for n in range(1, 13):
        memory.commit(
            [
                log.start(
                    n,
                    workflow="ship" if n % 4 == 0 else "shop",
                    session_id="s" if n % 2 == 0 else None,
                    tenant="acme" if n > 6 else None,
                )
            ]
        )
        if n % 3 == 0:
            memory.commit([log.add(n, r.RunFailed(r.ErrorData("X", "m", "s")))])
    return memory.reader()


# --- lists of runs --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("wanted", "expected"),
    [
        ({}, [12, 11, 10, 9, 8, 7, 6, 5, 4, 3, 2, 1]),
        ({"status": "failed"}, [12, 9, 6, 3]),
        ({"status": ["failed", "running", "failed"]}, [12, 11, 10, 9, 8, 7, 6, 5, 4, 3, 2, 1]),
        ({"status": ["completed"]}, []),
        ({"workflow": "ship"}, [12, 8, 4]),
        ({"workflow": "ship", "status": "failed"}, [12]),
        ({"workflow": "shop", "status": ["failed"]}, [9, 6, 3]),
        ({"session_id": "s"}, [12, 10, 8, 6, 4, 2]),
        ({"tenant": "acme", "session_id": "s", "status": "running"}, [10, 8]),
        ({"workflow": "nothing of the kind"}, []),
    ],
)
@pytest.mark.parametrize("limit", [1, 2, 5, 50])
def test_runs_come_newest_first_in_pages(shop: Reader, wanted: dict[str, Any], expected: list[int], limit: int) -> None:
    """Whatever is asked for, following `next` gives each run once, newest first, with the total on every page."""
    found: list[str] = []
    cursor = None
    for _ in range(20):
        page = shop.runs(limit=limit, cursor=cursor, **wanted)
        assert len(page.items) <= limit
        assert (page.total, page.seq) == (len(expected), 16)
        found += ids(page)
        cursor = page.next
        if cursor is None:
            break
    assert found == [f"run-{n}" for n in expected]


def test_runs_that_start_meanwhile_do_not_shift_a_page(memory: Journal, log: Any) -> None:
    """A cursor is a place among the runs, not a number of rows."""
    memory.commit([log.start(n) for n in range(1, 5)])
    first = memory.reader().runs(limit=2)
    memory.commit([log.start(5)])
    assert ids(memory.reader().runs(limit=2, cursor=first.next)) == ["run-2", "run-1"]


def test_open_runs_come_oldest_first(shop: Reader) -> None:
    """A start looks at the open runs in pages by run key."""
    first = shop.open_runs(limit=3)
    assert [run.run_key for run in first] == [1, 2, 4]
    assert [run.run_key for run in shop.open_runs(after_run_key=4)] == [5, 7, 8, 10, 11]
    assert [run.run_key for run in shop.open_runs(statuses=["waiting", "blocked"])] == []


def test_a_run_is_seen_whole(memory: Journal, log: Any) -> None:
    """The detail of a run has its input and its result; instants are RFC 3339 with microseconds."""
    memory.commit([log.start(1, start_at=1_700_000_100_000_001)])
    queued = memory.reader().run_view("run-1")
    memory.commit(
        [log.add(1, r.TimerFired("")), log.add(1, r.RunCompleted(Raw(b'{"ok":1}')), at=1_700_000_000_000_000)]
    )
    done = memory.reader().run_view("run-1")

    assert queued is not None
    assert done is not None
    assert (queued.status, queued.waiting_until) == ("queued", "2023-11-14T22:15:00.000001Z")
    assert (bytes(queued.input), bytes(queued.result)) == (b'{"cents":5}', b"null")
    assert (done.status, bytes(done.result), done.ended_at) == (
        "completed", b'{"ok":1}', "2023-11-14T22:13:20.000000Z",
    )  # fmt: skip
    assert memory.reader().run_view("nobody") is None
    assert memory.reader().run("nobody") is None
    assert memory.reader().run_by_key(99) is None


def test_a_failed_run_says_why(shop: Reader) -> None:
    """The error of a run is in lists and details alike."""
    view = shop.run_view("run-3")
    assert view is not None
    assert view.error is not None
    assert (view.error.type, view.error.message, view.error.step) == ("X", "m", "s")
    assert shop.runs(status="failed", limit=1).items[0].error == view.error


def test_the_counts_are_those_of_the_runs(shop: Reader) -> None:
    """Runs are counted by workflow and status without looking at them."""
    assert shop.counts() == {
        ("ship", "failed"): 1, ("ship", "running"): 2, ("shop", "failed"): 3, ("shop", "running"): 6,
    }  # fmt: skip
    assert {status for _, status in shop.counts()} <= set(STATUSES)


# --- cursors --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "cursor",
    [
        "", "x", "%%%", "AAAA", "é", "A" * 5000, write_cursor("state", "a"), write_cursor("sessions", 1),
        write_cursor("runs", 2**63), write_cursor("runs", -(2**63) - 1), write_cursor("runs", "1"),
    ],
)  # fmt: skip
def test_a_bad_cursor_is_refused(shop: Reader, cursor: str) -> None:
    """Whatever is no cursor of this list is the caller's mistake, status 400."""
    with pytest.raises(BadCursor) as caught:
        shop.runs(cursor=cursor)
    assert (caught.value.status, caught.value.code, caught.value.exit_code) == (400, "bad_cursor", 2)


def test_cursors_make_the_round_trip() -> None:
    """A cursor holds its place, text with any letters too."""
    assert read_int_cursor("runs", write_cursor("runs", 77)) == 77
    assert read_text_cursor("state", write_cursor("state", 'ü/"%')) == 'ü/"%'
    assert read_int_cursor("runs", None) is None


def test_a_page_has_a_limit() -> None:
    """Pages hold between 1 and 500 rows, whatever is asked for."""
    assert [page_limit(n) for n in (-1, 0, 1, 500, 501)] == [1, 1, 1, PAGE_ROWS_MAX, PAGE_ROWS_MAX]


# --- records --------------------------------------------------------------------------------------------------------


@pytest.fixture
def told(memory: Journal, log: Any) -> Reader:
    """Two runs whose records alternate, more of them than one statement reads."""
    memory.commit([log.start(1), log.start(2, trace_id="t")])
    for n in range(400):
        memory.commit([*log.step(1, str(n)), *log.step(2, str(n))])
    return memory.reader()


def test_a_history_is_complete_and_in_order(told: Reader) -> None:
    """All records of a run, none of another, oldest first; from any seq to any seq."""
    history = told.history(2)
    assert len(history) == 801
    assert [entry.seq for entry in history] == sorted(entry.seq for entry in history)
    assert {entry.run_key for entry in history} == {2}

    middle = history[300].seq
    assert told.history(2, after=middle) == history[301:]
    assert told.history(2, last_seq=middle) == history[:301]
    assert told.history(2, last_seq=middle, after=middle) == []
    assert told.history(99) == []


@pytest.mark.parametrize("limit", [7, 200, 500])
@pytest.mark.parametrize("kinds", [None, ["step_completed"], ["run_started", "step_scheduled"], ["run_failed"]])
def test_a_history_comes_in_pages(told: Reader, limit: int, kinds: list[str] | None) -> None:
    """Following `next` gives each record of the kinds asked for once, oldest first."""
    found: list[Any] = []
    after = 0
    while True:
        page = told.history_page("run-1", after=after, limit=limit, kinds=kinds)
        assert page is not None
        assert len(page.items) <= limit
        found += page.items
        if page.next is None:
            break
        after = int(page.next)

    expected = [entry for entry in told.history(1) if kinds is None or entry.record.kind in kinds]
    assert [(item.seq, item.kind) for item in found] == [(entry.seq, entry.record.kind) for entry in expected]
    assert told.history_page("nobody") is None


def test_a_record_is_told_with_its_call(memory: Journal, log: Any) -> None:
    """A history record names call, name and attempt; the rest is its data, with instants as people write them."""
    error = r.ErrorData("X", "m")
    memory.commit([log.start(1), log.add(1, r.StepFailed("0", "charge", error, retry_at=1_700_000_000_000_000))])
    page = memory.reader().history_page("run-1", after=1)

    assert page is not None
    (item,) = page.items
    assert (item.kind, item.call, item.name, item.attempt) == ("step_failed", "0", "charge", 1)
    assert msgspec.json.decode(item.data) == {
        "error": {"type": "X", "message": "m"}, "retry_at": "2023-11-14T22:13:20.000000Z",
    }  # fmt: skip


def test_events_are_all_records_with_their_runs(told: Reader) -> None:
    """The feed tells every record once, in order, with the run that it belongs to."""
    events = told.events(0)
    rest = told.events(events[-1].seq, limit=5)

    assert [event.seq for event in events] == list(range(1, 501))
    assert (events[1].run_id, events[1].workflow, events[1].trace_id) == ("run-2", "shop", "t")
    assert [event.seq for event in rest] == [501, 502, 503, 504, 505]
    assert told.events(told.head_seq()) == []


def test_an_event_may_belong_to_no_run(memory: Journal, log: Any) -> None:
    """The daemon's own records are told too."""
    memory.commit([log.add(0, r.DaemonStarted("1", 5))])
    (event,) = memory.reader().events(0)
    assert (event.kind, event.run_id, bytes(event.data)) == ("daemon_started", None, b'{"version":"1","pid":5}')


def test_a_page_of_large_records_ends_early(memory: Journal, log: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Pages are bounded in bytes; a record over the bound is a page of its own, and none is left out."""
    monkeypatch.setattr(pages, "PAGE_BYTES_MAX", 10_000)
    sizes = [4_000, 4_000, 4_000, 20_000, 100]
    memory.commit(
        [log.start(1), *(log.add(1, r.OutputEmitted(str(n), Raw(b"1" * size))) for n, size in enumerate(sizes))]
    )
    reader = memory.reader()
    lengths, after = [], 1
    while events := reader.events(after):
        lengths.append(len(events))
        after = events[-1].seq
    assert lengths == [2, 1, 1, 1]

    page = reader.history_page("run-1", after=1)
    assert page is not None
    assert (len(page.items), page.next) == (2, "3")


def test_every_record_can_be_told(memory: Journal) -> None:
    """Each kind of record has a data object that is JSON."""
    for kind in RECORD_TYPES:
        names = kind.__struct_fields__
        fields = {"kind": "x", **dict.fromkeys(names, 5)}
        assert isinstance(msgspec.json.decode(record_data(msgspec.json.encode(fields).decode())), dict)
    assert bytes(record_data(encode_record(r.RunPaused()).decode())) == b"{}"


def test_what_a_token_is_recognised_by_is_told_to_nobody() -> None:
    """Whoever may see events sees that there is a token, and not its digest."""
    made = r.TokenCreated("ab12", "ci", "viewer", "00ff", by="uid:0")
    assert msgspec.json.decode(record_data(encode_record(made).decode())) == {
        "id": "ab12", "role": "viewer", "by": "uid:0",
    }  # fmt: skip


def test_the_past_of_a_fork_is_told_as_the_records_of_the_other_run_are() -> None:
    """Each record in it reads as in that run's own history, its place and instants too."""
    facts = [
        r.RunStarted("r", "w", Raw(b"1"), start_at=5_000_000),
        r.StepScheduled("0", "charge", Raw(b"[[],{}]"), at_most_once=True, undo="refund"),
        r.StepFailed("0", "charge", r.ErrorData("E", "m"), 2, 7_000_000),
        r.SignalReceived("go", Raw(b'{"a": 1}')),
    ]
    past = [r.PastRecord(seq, seq * 1_000_000, fact) for seq, fact in enumerate(facts, start=1)]
    told = past_of(record_data(encode_record(r.RunForked("r", 4, past)).decode()))
    for one, fact in zip(told, facts, strict=True):
        kind, call, name, attempt = heading(fact)
        assert (one.at, one.kind, one.call, one.name) == (rfc3339(one.seq * 1_000_000), kind, call, name)
        assert one.attempt in (attempt, None)
        assert bytes(one.data) == bytes(record_data(encode_record(fact).decode()))
    assert "1970-01-01T00:00:07" in bytes(told[2].data).decode()


# --- timers, signals, answers, sessions, state ----------------------------------------------------------------------


def test_due_timers_come_earliest_first(memory: Journal, log: Any) -> None:
    """The next due only, across runs, up to an instant."""
    memory.commit([log.start(1), log.start(2)])
    memory.commit([log.add(1, r.TimerSet("0", 30)), log.add(2, r.TimerSet("0", 10)), log.add(1, r.TimerSet("1", 20))])
    reader = memory.reader()

    assert reader.due_timers() == [(10, 2, "0"), (20, 1, "1"), (30, 1, "0")]
    assert reader.due_timers(until=20) == [(10, 2, "0"), (20, 1, "1")]
    assert reader.due_timers(limit=1) == [(10, 2, "0")]
    assert reader.due_timers(after=(10, 2, "0"), until=20) == [(20, 1, "1")]
    assert reader.timers_of(1) == [(20, 1, "1"), (30, 1, "0")]


def test_due_timers_are_walked_through_page_by_page(memory: Journal, log: Any) -> None:
    """Each page begins behind the one before, also among many of one instant and of one run, by the index alone."""
    memory.commit([log.start(1), log.start(2)])
    timers = [(due_at, run, f"{due_at}.{key}") for due_at in (5, 10) for run in (1, 2) for key in range(10)]
    memory.commit([log.add(run, r.TimerSet(key, due_at)) for due_at, run, key in reversed(timers)])
    reader = memory.reader()
    statements: list[str] = []
    reader._db.trace_v2(apsw.SQLITE_TRACE_STMT, lambda event: statements.append(event["sql"]))
    page = found = reader.due_timers(limit=7)
    while page:
        page = reader.due_timers(after=page[-1], limit=7)
        found = found + page
    reader._db.trace_v2(0, None)
    assert found == timers
    plan = reader._rows("explain query plan " + statements[-1], 0, 0, "", 2**63 - 1, 7)
    assert [row[3].partition(" ((")[0] for row in plan] == ["SEARCH timers USING COVERING INDEX timers_by_due"]
    assert "(due_at,run_key,key)>" in plan[0][3]


def test_queued_runs_are_those_whose_turn_may_come(memory: Journal, log: Any) -> None:
    """One that is to start later counts from its instant on; one that is paused before it began does not."""
    memory.commit([log.start(1, queue="q"), log.start(2, queue="q", start_at=20, priority=3), log.start(3)])
    memory.commit([log.start(4, queue="q"), log.add(4, r.RunPaused())])
    reader = memory.reader()
    assert reader.queued_runs(19) == [(1, "q", 0, "queued")]
    assert reader.queued_runs(20) == [(1, "q", 0, "queued"), (2, "q", 3, "queued")]
    memory.commit([log.add(2, r.TimerFired(""))])
    assert reader.queued_runs(0)[1] == (2, "q", 3, "running")


def test_repeats_are_known(memory: Journal, log: Any) -> None:
    """A signal's id and an idempotency key lead to the first answer, also after the run's end."""
    answer = r.RequestAnswered("uid:0", "key", "digest", 201, Raw(b'{"id":"a"}'))
    memory.commit([log.start(1), log.add(1, r.SignalReceived("go", ONE, "sig")), log.add(0, answer)])
    memory.commit([log.add(1, r.RunCompleted(ONE))])
    reader = memory.reader()
    row = reader.answer("uid:0", "key")

    assert reader.signal_seen(1, "sig") == 2
    assert reader.signal_seen(2, "sig") is None
    assert row is not None
    assert (row.digest, row.status, bytes(row.body), row.seq) == ("digest", 201, b'{"id":"a"}', 3)
    assert reader.answer("uid:1", "key") is None


def test_sessions_come_newest_first_in_pages(memory: Journal, log: Any) -> None:
    """Sessions by status and tenant, with a cursor."""
    memory.commit([log.add(0, r.SessionOpened(f"s{n}", tenant="acme" if n % 2 else None)) for n in range(5)])
    memory.commit([log.add(0, r.SessionClosed("s3"))])
    reader = memory.reader()
    first = reader.sessions(limit=3)

    assert ids(first) == ["s4", "s3", "s2"]
    assert ids(reader.sessions(limit=3, cursor=first.next)) == ["s1", "s0"]
    assert ids(reader.sessions(status="open", tenant="acme")) == ["s1"]
    assert (first.total, reader.sessions(status="closed").total) == (5, 1)
    assert reader.session("nobody") is None


def test_sessions_that_ended_before_their_runs_are_found(memory: Journal, log: Any) -> None:
    """A crash between a session's end and the cancelling of its runs leaves nobody behind."""
    for name, on_close in [("a", "cancel"), ("b", "leave"), ("c", "cancel"), ("d", "cancel")]:
        memory.commit([log.add(0, r.SessionOpened(name, on_close=on_close))])
    memory.commit([log.start(n, session_id=name) for n, name in enumerate("aabcd", 1)])
    memory.commit(
        [log.add(0, r.SessionClosed("a")), log.add(0, r.SessionExpired("b")), log.add(0, r.SessionExpired("d"))]
    )
    memory.commit([log.add(5, r.RunCancelled())])

    assert memory.reader().ended_sessions_with_open_runs() == ["a"]


def test_states_come_by_key_in_pages(memory: Journal, log: Any) -> None:
    """The values of one scope, the empty key among them, without the deleted ones."""
    for key in ["", "b", "a", "c"]:
        memory.commit([log.add(0, r.StateWritten("", "global", key, 1, ONE, tenant="acme"))])
    memory.commit([log.add(0, r.StateWritten("", "global", "b", 2, deleted=True))])
    memory.commit([log.add(0, r.StateWritten("", "run:1", "z", 1, ONE))])
    reader = memory.reader()
    first = reader.states("global", limit=2)

    assert [item.key for item in first.items] == ["", "a"]
    assert [item.key for item in reader.states("global", limit=2, cursor=first.next).items] == ["c"]
    assert (first.total, first.items[0].tenant, first.items[0].version) == (3, "acme", 1)
    assert reader.state("global", "nothing") is None


# --- the file -------------------------------------------------------------------------------------------------------


def test_a_reader_sees_each_commit_beside_the_writer(journal_path: Path, log: Any) -> None:
    """Readers stand beside a live journal, see what was committed, and cannot change anything."""
    with Journal.open(journal_path) as journal, journal.reader() as reader:
        assert reader.head_seq() == 0
        journal.commit([log.start(1)])
        assert reader.head_seq() == 1
        assert reader.statistics().wal_bytes > 0
        with pytest.raises(Exception, match="readonly"):
            reader._db.execute("delete from runs")


def test_an_open_run_is_seen_while_it_changes_its_status(journal_path: Path, log: Any) -> None:
    """The open runs are those of one instant, beside a daemon that goes on: none is missed between two statuses."""
    with Journal.open(journal_path) as journal, journal.reader() as reader:
        journal.commit([log.start(1), log.add(1, r.RunWaiting("timer", None))])

        asked = []

        def wake(event: dict[str, Any]) -> None:
            asked.append(event["sql"])
            if sum("status = ?" in sql for sql in asked) == 3:  # queued and running are read, waiting comes now
                reader._db.trace_v2(0, None)
                journal.commit([log.add(1, r.TimerFired("0"))])

        reader._db.trace_v2(apsw.SQLITE_TRACE_STMT, wake)
        assert [run.id for run in reader.open_runs()] == ["run-1"]


def test_a_run_is_not_forgotten_between_two_questions(journal_path: Path, log: Any) -> None:
    """What is asked for a run within one instant goes together, while it is forgotten by the daemon."""
    with Journal.open(journal_path) as journal, journal.reader() as reader:
        journal.commit([log.start(1), log.add(1, r.RunCompleted(Raw(b"1")))])
        with reader.one_instant():
            assert reader.run("run-1") is not None
            journal.commit([log.add(0, r.RunsForgotten([1]))])
            assert [entry.record.kind for entry in reader.history(1, last_seq=2)] == ["run_started", "run_completed"]
        assert reader.run("run-1") is None


def test_statistics_name_sizes(journal_path: Path, log: Any) -> None:
    """Sizes and counts of the file, for people and for metrics."""
    with Journal.open(journal_path) as journal:
        journal.commit([log.start(1), log.add(1, r.TimerSet("0", 5)), *log.step(1)])
    with Reader.open(journal_path) as reader:
        found = reader.statistics()

    assert (found.seq, found.first_seq, found.runs, found.runs_open, found.timers) == (4, 1, 1, 1, 1)
    assert found.db_bytes == found.pages * found.page_bytes
    assert found.disk_free_bytes > 0
    assert found.checksums


def test_a_journal_on_read_only_storage_can_be_read(journal_path: Path, log: Any) -> None:
    """A cleanly closed journal is readable where nothing can be written."""
    with Journal.open(journal_path) as journal:
        journal.commit([log.start(1)])
    folder = journal_path.parent
    folder.chmod(0o500)
    journal_path.chmod(0o400)
    try:
        with Reader.open(journal_path) as reader:
            assert reader.head_seq() == 1
    finally:
        folder.chmod(0o700)


def test_an_immutable_reader_never_hides_what_the_wal_holds(journal_path: Path, log: Any) -> None:
    """SQLite would pass over a WAL that it was told cannot be there: so nobody tells it that beside one."""
    with Journal.open(journal_path) as journal:
        journal.commit([log.start(1)])
        assert _try_reader(journal_path, "mode=ro&immutable=1") is None
    connection = _try_reader(journal_path, "mode=ro&immutable=1")
    assert connection is not None
    with Reader(connection, journal_path, owned=True) as reader:
        assert reader.head_seq() == 1


def test_no_reader_without_a_journal(tmp_path: Path) -> None:
    """A missing file is refused; reading makes nothing."""
    with pytest.raises(JournalRefused, match="no journal"):
        Reader.open(tmp_path / "journal.db")
    assert list(tmp_path.iterdir()) == []


def test_damage_is_told_not_passed_on(journal_path: Path, log: Any) -> None:
    """P6: a reader that meets a damaged page raises instead of answering."""
    with Journal.open(journal_path) as journal:
        journal.commit([log.start(1, input=Raw(b'"' + b"x" * 20_000 + b'"'))])
    data = bytearray(journal_path.read_bytes())
    data[data.find(b"x" * 3000) + 1000] ^= 1
    journal_path.write_bytes(data)

    with Reader.open(journal_path) as reader, pytest.raises(JournalCorrupt):
        reader.run_view("run-1")


def test_a_copy_without_its_wal_is_an_older_truth(journal_path: Path, log: Any, tmp_path: Path) -> None:
    """What a careless copy misses is missing whole: the copy is a consistent past, never a mixture."""
    with Journal.open(journal_path) as journal:
        journal.commit([log.start(1)])
        journal.checkpoint("truncate")
        journal.commit([log.start(2)])
        shutil.copy(journal_path, tmp_path / "copy.db")
    with Reader.open(tmp_path / "copy.db") as reader:
        assert reader.head_seq() == 1


def test_readers_leave_no_descriptor_behind(journal_path: Path, log: Any) -> None:
    """Opening and closing readers does not use up the process's files."""
    with Journal.open(journal_path) as journal:
        journal.commit([log.start(1)])
        count: Callable[[], int] = lambda: len(os.listdir("/proc/self/fd"))  # noqa: E731 - the test's one-liner
        journal.reader().close()
        before = count()
        for _ in range(20):
            with journal.reader() as reader:
                reader.head_seq()
        assert count() == before
