"""Verify a journal: its structure, the digest chain, and that all derived tables are what the records say."""

from __future__ import annotations

import itertools
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import apsw
import msgspec

from wal import retention, upkeep
from wal.chain import GENESIS, link
from wal.codec import decode_entry
from wal.connections import harden, one_row, open_reader, read_errors, scalar
from wal.errors import JournalError
from wal.migrations import migrate
from wal.pages import PAGE_ROWS_MAX, snapshot, within_bytes
from wal.projections import ProjectionError, Projector
from wal.records import AnswersForgotten, Entry, RunsForgotten, StateWritten

PROBLEMS_MAX = 50
"""A report names no more than this; a damaged file could fill memory with them."""

_HEAD = """select max(coalesce((select value from meta where key = 'head_seq'), 0),
    coalesce((select max(last_seq) from runs), 0))"""
"""The last record that there must be, as far as it is told beside the log (a record of no run, or a run's last)."""

_ROWS = "select seq, run_key, prev_seq, at, digest, body from records where seq > ? order by seq"

DERIVED: dict[str, str] = {
    "runs": "select * from runs order by run_key",
    "run_attributes": "select * from run_attributes order by key, value, run_key",
    "run_counts": "select * from run_counts where n <> 0 order by workflow, status",
    "timers": "select * from timers order by run_key, key",
    "signals": "select * from signals order by run_key, signal_id",
    "approvals": "select * from approvals order by id",
    "sessions": "select * from sessions order by opened_seq",
    "state": "select * from state order by scope, key",
    "answers": "select * from answers order by principal, idempotency_key",
    "connectors": "select * from connectors order by name",
    "deliveries": "select * from deliveries order by source, key",
    "streams": "select * from streams order by stream_key",
    "shapes": "select * from shapes order by connector, stream",
    "stored": "select * from stored order by position",
    "tokens": "select * from tokens order by id",
}
"""The tables that follow from the records, each with the order in which two are compared."""


class Report(msgspec.Struct, frozen=True):
    """What a verification found: up to which seq, how many records, what is wrong (nothing, if `ok`)."""

    path: str
    ok: bool
    seq: int
    records: int
    problems: list[str]
    seconds: float


def verify(path: str | Path) -> Report:
    """Check the journal at `path`, beside a live daemon or without one. Changes nothing; needs room for the derived
    tables in SQLite's temporary folder. Raises `JournalRefused` if it is no journal; damage is in the report."""
    began = time.perf_counter()
    path = Path(path).absolute()
    check = _Verification()
    try:
        with read_errors(path):
            connection = open_reader(path)
            try:
                check.run(connection)
            finally:
                connection.close()
    except JournalError as error:
        if error.code != "journal_corrupt":
            raise
        check.problem(str(error))
    seconds = time.perf_counter() - began
    return Report(str(path), not check.problems, check.seq, check.records, check.problems, seconds)


def compare_tables(left: apsw.Connection, right: apsw.Connection) -> Iterator[str]:
    """Each difference between the derived tables of two journals, as a sentence."""
    tables = {row[0] for row in left.execute("select name from sqlite_schema where type = 'table'")}
    for table, sql in DERIVED.items():
        # A file of an older schema lacks tables of which its records say nothing either.
        rows = left.execute(sql) if table in tables else iter(())
        for one, other in itertools.zip_longest(rows, right.execute(sql)):
            if one != other:
                yield f"table {table}: there is {_brief(one)}, the records say {_brief(other)}"


class _Verification:
    def __init__(self) -> None:
        self.problems: list[str] = []
        self.seq = 0
        self.records = 0
        self._digest = GENESIS
        self._foldable = True
        self._emptied: dict[int, int] = {}  # runs whose bodies are gone, to be forgotten later: the last record of each
        self._emptied_answers: set[int] = set()  # records of no run whose bodies are gone, the same
        self._replayed = apsw.Connection("")  # a temporary file of SQLite's, gone when closed
        harden(self._replayed)
        migrate(self._replayed)
        self._projector = Projector(self._replayed)

    def problem(self, sentence: str) -> None:
        if len(self.problems) < PROBLEMS_MAX:
            self.problems.append(sentence)

    def run(self, connection: apsw.Connection) -> None:
        """The log in short reads until it is caught up with, then the rest and the comparison in one snapshot."""
        try:
            upkeep.check_structure(connection)
        except JournalError as error:
            self.problem(str(error))
        while self._read_some(connection):
            pass
        with snapshot(connection):
            while self._read_some(connection):
                pass
            head = scalar(connection, _HEAD)
            if head > self.seq:
                self.problem(f"the last record is {self.seq}, and {head} was written last")
            for run_key, seq in self._emptied.items():
                self.problem(f"the body of record {seq} of run {run_key} is gone, and no record says that it may be")
            for seq in sorted(self._emptied_answers):
                self.problem(f"the body of record {seq}, of no run, is gone, and no record says that it may be")
            if self._foldable and not (self._emptied or self._emptied_answers):
                for sentence in itertools.islice(compare_tables(connection, self._replayed), PROBLEMS_MAX):
                    self.problem(sentence)
        self._replayed.close()

    def _read_some(self, connection: apsw.Connection) -> bool:
        """Check the next records; whether there were as many as a page holds."""
        rows, more = within_bytes(connection.execute(_ROWS, (self.seq,)), PAGE_ROWS_MAX)
        self._check_links(rows)
        if self._foldable:
            self._fold(connection, rows)
        return more

    def _check_links(self, rows: list[tuple[Any, ...]]) -> None:
        before, last = self._digest, self.seq  # plain names: this is done a hundred thousand times a second
        for seq, run_key, prev_seq, at, digest, body in rows:
            if seq != last + 1:
                self.problem(f"records {last + 1} to {seq - 1} are missing")
            elif body and digest != link(before, seq, run_key, prev_seq, at, body.encode()):
                self.problem(f"record {seq} is not what was written")
            before, last = digest, seq
        self._digest, self.seq = before, last
        self.records += len(rows)

    # --- folding ----------------------------------------------------------------------------------------------------

    def _fold(self, connection: apsw.Connection, rows: list[tuple[Any, ...]]) -> None:
        try:
            self._replayed.execute("begin")
            batch: list[Entry] = []
            for seq, run_key, prev_seq, at, _, body in rows:
                if not body or run_key in self._emptied:
                    self._apply(batch)
                    batch = self._forgotten(seq, run_key, prev_seq, at, body)
                    continue
                entry = decode_entry(seq, run_key, prev_seq, at, body)
                if isinstance(entry.record, RunsForgotten | AnswersForgotten):
                    self._apply(batch)
                    batch = []
                    self._check_forgotten(connection, entry)
                batch.append(entry)
            self._apply(batch)
            self._replayed.execute("commit")
        except (ProjectionError, JournalError, apsw.Error) as error:
            self._foldable = False
            self.problem(f"the records contradict each other: {error}")

    def _apply(self, batch: list[Entry]) -> None:
        if batch:
            self._projector.apply(batch)

    def _forgotten(self, seq: int, run_key: int, prev_seq: int, at: int, body: str) -> list[Entry]:
        """A record of a run that is to be forgotten: without its body, or a value that outlives the run, which is given
        back as a record of no run. Its digest cannot be computed any more, so its place is checked instead."""
        if not run_key:
            self._emptied_answers.add(seq)
            return []
        before = self._emptied.get(run_key)
        if before is None:  # the run may have been read whole until it was forgotten, just now
            row = one_row(self._replayed, "select last_seq from runs where run_key = ?", (run_key,))
            before = 0 if row is None else int(row[0])
        if prev_seq != before:
            self.problem(f"record {seq} without a body follows {prev_seq} in its run, not {before}")
        self._emptied[run_key] = seq
        if not body:
            return []
        entry = decode_entry(seq, 0, 0, at, body)
        if not isinstance(entry.record, StateWritten) or entry.record.scope.startswith(retention.RUN_SCOPE):
            self.problem(f"record {seq} has a body, and others of run {run_key} are gone")
            return []
        return [entry]

    def _check_forgotten(self, connection: apsw.Connection, entry: Entry) -> None:
        record = entry.record
        if isinstance(record, AnswersForgotten):
            self._check_answers(connection, entry, record)
        elif isinstance(record, RunsForgotten):
            self._check_runs(connection, entry, record)

    def _check_answers(self, connection: apsw.Connection, entry: Entry, record: AnswersForgotten) -> None:
        read_whole = set(record.seqs) - self._emptied_answers  # before they were forgotten, just now
        self._emptied_answers.difference_update(record.seqs)
        for seq in read_whole:
            if scalar(connection, "select body from records where seq = ?", (seq,)):
                self.problem(f"record {entry.seq} forgets the answer of record {seq}, which still has its body")

    def _check_runs(self, connection: apsw.Connection, entry: Entry, record: RunsForgotten) -> None:
        for run_key in record.run_keys:
            last_seq = self._emptied.pop(run_key, None)
            if last_seq is None:  # it was read before it was forgotten, or the bodies are still there
                row = one_row(self._replayed, "select last_seq from runs where run_key = ?", (run_key,))
                last_seq = None if row is None else int(row[0])
            if last_seq is not None and retention.has_bodies(connection, last_seq):
                self.problem(f"record {entry.seq} forgets run {run_key}, and its records still have bodies")


def _brief(row: tuple[Any, ...] | None) -> str:
    return "nothing" if row is None else repr(row)[:300]
