"""The journal: one conformance suite for a file, memory and the writer process; then what only a file can show."""

from __future__ import annotations

import os
import sqlite3
import stat
import struct
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, Protocol

import apsw
import pytest

from wal import connections, records
from wal.connections import inspect_file, sqlite_is_safe
from wal.errors import CommitFailed, JournalCorrupt, JournalError, JournalLocked, JournalRefused, SqliteUnsafe
from wal.journal import Journal
from wal.migrations import APPLICATION_ID, SCHEMA_VERSION
from wal.protocol import Close, Commit, Failure, Head, Receipt
from wal.queries import Reader
from wal.records import Entry
from wal.verify import compare_tables, verify


class Kept(Protocol):
    """A journal, however it is kept."""

    def commit(self, entries: Sequence[Entry]) -> None: ...
    def head(self) -> Head: ...
    def reader(self) -> Reader: ...


class Inline:
    def __init__(self, path: Path | None) -> None:
        self.journal = Journal.open(path)

    def commit(self, entries: Sequence[Entry]) -> None:
        self.journal.commit(entries)

    def head(self) -> Head:
        return self.journal.head

    def reader(self) -> Reader:
        return self.journal.reader()

    def close(self) -> None:
        self.journal.close()


class Process:
    def __init__(self, path: Path, writer: Callable[..., Any]) -> None:
        self.path, self.client = path, writer(path)
        self._head: Head = self.client.hello()

    def commit(self, entries: Sequence[Entry]) -> None:
        reply = self.client.ask(Commit(list(entries)))
        if isinstance(reply, Failure):
            raise connections_error(reply)
        assert isinstance(reply, Receipt)

    def head(self) -> Head:
        with self.reader() as reader:
            return Head(**{**_fields(self._head), "seq": reader.head_seq()})

    def reader(self) -> Reader:
        return Reader.open(self.path)

    def close(self) -> None:
        self.client.send(Close())
        self.client.wait()


def connections_error(failure: Failure) -> JournalError:
    from wal.errors import error_of

    return error_of(failure.code, failure.message)


def _fields(head: Head) -> dict[str, Any]:
    return {name: getattr(head, name) for name in Head.__struct_fields__}


@pytest.fixture(params=["file", "memory", pytest.param("process", marks=pytest.mark.slow)])
def kept(request: pytest.FixtureRequest, journal_path: Path, writer: Callable[..., Any]) -> Iterator[Any]:
    if request.param == "process":
        journal: Any = Process(journal_path, writer)
    else:
        journal = Inline(journal_path if request.param == "file" else None)
    yield journal
    if not getattr(journal, "failed", False):
        journal.close()


class TestConformance:
    """What holds however a journal is kept."""

    def test_a_new_journal_is_empty_and_clean(self, kept: Kept) -> None:
        """A journal begins with nothing, and nothing to recover from."""
        head = kept.head()
        assert (head.seq, head.run_key, head.clean, head.schema) == (0, 0, True, SCHEMA_VERSION)

    def test_what_is_committed_is_read_back(self, kept: Kept, log: Any) -> None:
        """A commit's records and rows are there for any reader when it returns."""
        started = log.start(1, tenant="acme")
        kept.commit([started, *log.step(1)])
        with kept.reader() as reader:
            run = reader.run("run-1")
            history = reader.history(1)

        assert run is not None
        assert (run.status, run.last_seq, run.tenant) == ("running", 3, "acme")
        assert [entry.seq for entry in history] == [1, 2, 3]
        assert history[0].record.workflow == "shop"  # type: ignore[union-attr]
        assert bytes(history[2].record.result) == b"1"  # type: ignore[union-attr]

    def test_payloads_are_kept_letter_for_letter(self, kept: Kept, log: Any) -> None:
        """JSON that was encoded once is stored as it is: spaces, escapes and all."""
        payload = b'{ "a" : "\\u00e9\\u0000 \xc3\xa9", "n":1e2 }'
        kept.commit([log.start(1), *log.step(1, payload=payload)])
        with kept.reader() as reader:
            entry = reader.history(1)[-1]

        assert bytes(entry.record.result) == payload  # type: ignore[union-attr]

    def test_an_empty_batch_is_nothing(self, kept: Kept) -> None:
        """Committing nothing succeeds and changes nothing."""
        if not isinstance(kept, Process):
            kept.commit([])
            assert kept.head().seq == 0

    @pytest.mark.parametrize(
        "wrong",
        [
            lambda log: [log.start(1), Entry(3, 1, 1, 0, records.RunPaused())],
            lambda log: [log.start(1), Entry(2, 1, 0, 0, records.RunPaused())],
            lambda log: [log.start(1), Entry(2, 0, 1, 0, records.DaemonStopped())],
            lambda log: [Entry(1, 7, 0, 0, records.RunPaused())],
            lambda log: [Entry(1, 0, 0, 0, records.TimerSet("0", 5))],
            lambda log: [log.start(1), log.start(2, id="run-1")],
            lambda log: [log.start(1), Entry(2, 1, 0, 0, log.start(1).record)],
            lambda log: [log.add(0, records.SessionTouched("nobody"))],
            lambda log: [log.add(0, records.StateWritten("", "global", "a", n)) for n in (2, 2)],
            lambda log: [
                log.start(1),
                *(log.add(1, records.SignalReceived("go", records.Raw(b"1"), "same")) for _ in "ab"),
            ],
        ],
        ids=[
            "a gap", "a broken prev_seq", "a prev_seq without a run", "no such run", "a timer of no run", "a double id",
            "a run begun twice", "no such session", "an old version", "a double signal",
        ],
    )  # fmt: skip
    def test_a_contradiction_is_refused_whole(self, kept: Any, log: Any, wrong: Callable[[Any], list[Entry]]) -> None:
        """A batch that contradicts the log is a defect of its sender: nothing of it is kept, the journal is dead."""
        kept.failed = isinstance(kept, Process)
        with pytest.raises(CommitFailed):
            kept.commit(wrong(log))
        if isinstance(kept, Inline):
            with pytest.raises(CommitFailed):
                kept.commit([])
            kept.close()
        if not isinstance(kept, Inline) or kept.journal._path is not None:
            path = kept.path if isinstance(kept, Process) else kept.journal._path
            with Reader.open(path) as reader:
                assert reader.head_seq() == 0
                assert reader.counts() == {}

    def test_the_tables_follow_from_the_records(self, kept: Any, random_program: Callable[[int], Any]) -> None:
        """However batches were cut, the tables are those that one replay of all records gives."""
        batches = list(random_program(21).batches(60))
        for batch in batches:
            kept.commit(batch)
        with Journal.open(None) as other, kept.reader() as reader:
            other.commit([entry for batch in batches for entry in batch])
            assert list(compare_tables(reader._db, other._db)) == []


# --- open -----------------------------------------------------------------------------------------------------------


def snapshot(folder: Path) -> dict[str, tuple[int, bytes]]:
    return {path.name: (path.stat().st_mtime_ns, path.read_bytes()) for path in folder.iterdir()}


def foreign_sqlite(path: Path) -> None:
    with apsw.Connection(str(path)) as connection:
        connection.execute("create table t (a)")
    connection.close()


def newer_journal(path: Path) -> None:
    Journal.open(path).close()
    data = bytearray(path.read_bytes())
    data[60:64] = struct.pack(">I", SCHEMA_VERSION + 1)
    path.write_bytes(data)
    path.with_name(path.name + ".lock").unlink()


@pytest.mark.parametrize(
    ("make", "sentence"),
    [
        (foreign_sqlite, "another program"),
        (newer_journal, rf"schema {SCHEMA_VERSION + 1}; this runtimed knows up to {SCHEMA_VERSION}"),
        (lambda path: path.write_text("a letter to my aunt"), "not a SQLite file"),
        (lambda path: path.write_bytes(os.urandom(4096)), "not a SQLite file"),
    ],
    ids=["foreign", "newer", "text", "noise"],
)
@pytest.mark.parametrize("opener", [Journal.open, Reader.open], ids=["writer", "reader"])
def test_what_is_not_ours_is_refused_untouched(
    make: Callable[[Path], None], sentence: str, opener: Callable[[Path], Any], journal_path: Path
) -> None:
    """P13: a foreign or newer file is refused with a sentence; its bytes, its time and its folder stay as they are."""
    make(journal_path)
    before = snapshot(journal_path.parent)

    with pytest.raises(JournalRefused, match=sentence):
        opener(journal_path)
    assert snapshot(journal_path.parent) == before


def test_a_newer_schema_that_only_the_wal_holds_is_refused(journal_path: Path) -> None:
    """P13: a newer runtimed that was killed before its checkpoint left its schema version in SQLite's WAL alone."""
    script = f"""
import apsw, os, signal
from wal.connections import checksum_vfs
connection = apsw.Connection({str(journal_path)!r}, vfs=checksum_vfs())
connection.pragma("user_version", {SCHEMA_VERSION + 1})
os.kill(os.getpid(), signal.SIGKILL)
"""
    Journal.open(journal_path).close()
    root = str(Path(__file__).resolve().parent.parent.parent)
    subprocess.run([sys.executable, "-P", "-c", script], check=False, env={**os.environ, "PYTHONPATH": root})
    assert journal_path.with_name("journal.db-wal").stat().st_size > 0
    before = {name: data for name, (_, data) in snapshot(journal_path.parent).items() if not name.endswith("-shm")}

    with pytest.raises(JournalRefused, match=f"schema {SCHEMA_VERSION + 1}"):
        Journal.open(journal_path)
    after = {name: data for name, (_, data) in snapshot(journal_path.parent).items() if not name.endswith("-shm")}
    assert after == before


def test_a_journal_that_is_not_to_be_made_is_not_made(journal_path: Path) -> None:
    """`create=False` refuses a missing file and leaves the folder empty."""
    with pytest.raises(JournalRefused, match="no journal"):
        Journal.open(journal_path, create=False)
    assert list(journal_path.parent.iterdir()) == []


def test_an_empty_file_becomes_a_journal(journal_path: Path) -> None:
    """A file without a byte belongs to nobody (a container's mount may bring one)."""
    journal_path.touch()
    with Journal.open(journal_path) as journal:
        assert journal.head.seq == 0


def test_what_a_killed_creation_left_is_made_anew(journal_path: Path) -> None:
    """A journal is made under another name and renamed: a half-made one is thrown away."""
    journal_path.with_name("journal.db.new").write_bytes(b"half")
    journal_path.with_name("journal.db.new-wal").write_bytes(b"of a")
    Journal.open(journal_path).close()

    assert inspect_file(journal_path)
    assert sorted(path.name for path in journal_path.parent.iterdir()) == ["journal.db", "journal.db.lock"]


def test_only_the_owner_may_read_the_files(journal_path: Path, log: Any) -> None:
    """The journal and all that stands beside it are for the owner alone, whatever the umask says."""
    mask = os.umask(0)
    try:
        with Journal.open(journal_path, ballast_bytes=4096) as journal:
            journal.commit([log.start(1)])
            journal.backup(journal_path.with_name("copy.db"))
            modes = {path.name: stat.S_IMODE(path.stat().st_mode) for path in journal_path.parent.iterdir()}
    finally:
        os.umask(mask)
    assert set(modes) == {
        "journal.db", "journal.db-wal", "journal.db-shm", "journal.db.lock", "ballast", "copy.db",
    }  # fmt: skip
    assert set(modes.values()) == {0o600}


def test_the_pragmas_that_matter_hold(journal_path: Path) -> None:
    """FULL, WAL and the rest are read back on the very connection that commits."""
    with Journal.open(journal_path) as journal:
        found = {
            name: journal._db.pragma(name)
            for name in ("journal_mode", "synchronous", "foreign_keys", "trusted_schema", "wal_autocheckpoint")
        }
        ids = journal._db.pragma("application_id"), journal._db.pragma("user_version")
        reserved = journal._db.reserve_bytes()

    assert found == {
        "journal_mode": "wal", "synchronous": 2, "foreign_keys": 1, "trusted_schema": 0, "wal_autocheckpoint": 0,
    }  # fmt: skip
    assert ids == (APPLICATION_ID, SCHEMA_VERSION)
    assert reserved == connections.CHECKSUM_BYTES


def test_a_pragma_that_does_not_take_refuses_the_file(memory: Journal) -> None:
    """A setting that SQLite passes over in silence is an error here."""
    with pytest.raises(JournalError, match="did not take journal_mode = 'wal'"):
        connections.expect(memory._db, "journal_mode", "wal")


@pytest.mark.parametrize(
    ("version", "safe"),
    [
        (3_040_001, False), (3_044_005, False), (3_044_006, True), (3_045_000, False), (3_050_006, False),
        (3_050_007, True), (3_051_000, False), (3_051_002, False), (3_051_003, True), (3_052_000, False),
        (3_053_000, True), (3_054_001, True),
    ],
)  # fmt: skip
def test_a_sqlite_that_may_corrupt_is_refused(version: int, safe: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """The versions with the WAL-reset bug end the start with exit code 78."""
    assert sqlite_is_safe(version) is safe
    monkeypatch.setattr(apsw, "SQLITE_VERSION_NUMBER", version)
    if safe:
        Journal.open(None).close()
    else:
        with pytest.raises(SqliteUnsafe) as caught:
            Journal.open(None)
        assert caught.value.exit_code == 78


def test_a_file_with_checksums_is_not_written_without_them(journal_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An apsw without cksumvfs would leave pages that look damaged ever after: refused, exit code 78."""
    Journal.open(journal_path).close()
    monkeypatch.setattr(connections, "checksum_vfs", lambda: None)
    with pytest.raises(SqliteUnsafe, match="cksumvfs"):
        Journal.open(journal_path)


def test_two_writers_are_one_too_many(journal_path: Path) -> None:
    """The second is refused after its wait, with the pid of the first; when the first is gone, it may."""
    with Journal.open(journal_path):
        with pytest.raises(JournalLocked, match=str(os.getpid())) as caught:
            Journal.open(journal_path, lock_wait_seconds=0.05)
    assert caught.value.exit_code == 75
    Journal.open(journal_path, lock_wait_seconds=0).close()


def test_a_clean_stop_is_remembered(journal_path: Path, log: Any) -> None:
    """The head is clean after `DaemonStopped` and after nothing else."""
    for record, clean in [(records.DaemonStarted("1", 1), False), (records.DaemonStopped(), True)]:
        with Journal.open(journal_path) as journal:
            journal.commit([log.add(0, record)])
        with Journal.open(journal_path) as journal:
            assert journal.head.clean is clean


def test_the_head_goes_on_where_it_was(journal_path: Path, log: Any) -> None:
    """Seq, run key and digest of a reopened journal are those that the last commit left."""
    with Journal.open(journal_path) as journal:
        journal.commit([log.start(4), *log.step(4)])
        left = journal.head
    with Journal.open(journal_path) as journal:
        found = journal.head
    assert (found.seq, found.run_key, found.digest, found.created_at) == (3, 4, left.digest, left.created_at)


@pytest.mark.skipif(sqlite3.sqlite_version_info < (3, 37), reason="STRICT tables came with 3.37")
def test_any_sqlite_can_read_the_file(journal_path: Path, log: Any) -> None:
    """The journal is a plain SQLite file: no tool of ours is needed to read it, live or at rest."""
    with Journal.open(journal_path) as journal:
        journal.commit([log.start(1), *log.step(1)])
        for _ in range(2):
            connection = sqlite3.connect(f"file:{journal_path}?mode=ro", uri=True)
            assert connection.execute("select id, status from runs").fetchall() == [("run-1", "running")]
            assert connection.execute("pragma integrity_check").fetchall() == [("ok",)]
            connection.close()
            journal.checkpoint("truncate")


def test_closing_leaves_one_file(journal_path: Path, log: Any) -> None:
    """After a close everything is in the file: it can be copied as it is. Closing twice is once."""
    journal = Journal.open(journal_path)
    journal.commit([log.start(1)])
    journal.close()
    journal.close()

    assert sorted(path.name for path in journal_path.parent.iterdir()) == ["journal.db", "journal.db.lock"]
    with pytest.raises(CommitFailed):
        journal.commit([log.add(1, records.RunPaused())])


def test_damage_at_the_end_of_the_log_is_found_at_the_start(journal_path: Path, log: Any) -> None:
    """After an unclean stop the last digests are checked before anything is built on them."""
    with Journal.open(journal_path) as journal:
        journal.commit([log.start(1), *log.step(1)])
        journal._db.execute("update records set at = at + 1 where seq = 2")
    with pytest.raises(JournalCorrupt, match="record 2"):
        Journal.open(journal_path)


# --- backup ---------------------------------------------------------------------------------------------------------


def test_a_backup_is_whole_and_overwrites_nothing(journal_path: Path, log: Any) -> None:
    """A backup verifies, ends with the seq that it says, and never replaces a file."""
    target = journal_path.with_name("copy.db")
    with Journal.open(journal_path) as journal:
        journal.commit([log.start(1), *log.step(1)])
        assert journal.backup(target) == 3
        journal.commit(log.step(1, "1"))
        with pytest.raises(JournalError, match="exists"):
            journal.backup(target)

    report = verify(target)
    assert (report.ok, report.seq) == (True, 3)


def test_a_backup_that_cannot_be_written_leaves_nothing(journal_path: Path) -> None:
    """A failed backup is an error of its own; the journal lives on."""
    with Journal.open(journal_path) as journal:
        with pytest.raises(JournalError, match="cannot be written"):
            journal.backup(journal_path.parent / "nowhere" / "copy.db")
        journal.commit([Entry(1, 0, 0, 0, records.DaemonStopped())])
