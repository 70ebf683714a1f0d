"""Verify a journal: its structure, the digest chain, and that all derived tables are what the records say."""

from __future__ import annotations

import itertools
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import apsw
import msgspec

from wal import upkeep
from wal.chain import GENESIS, link
from wal.codec import decode_entry
from wal.connections import harden, open_reader, read_errors
from wal.errors import JournalError
from wal.migrations import migrate
from wal.pages import PAGE_ROWS_MAX, snapshot, within_bytes
from wal.projections import ProjectionError, Projector

PROBLEMS_MAX = 50
"""A report names no more than this; a damaged file could fill memory with them."""

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
    for table, sql in DERIVED.items():
        for one, other in itertools.zip_longest(left.execute(sql), right.execute(sql)):
            if one != other:
                yield f"table {table}: there is {_brief(one)}, the records say {_brief(other)}"


class _Verification:
    def __init__(self) -> None:
        self.problems: list[str] = []
        self.seq = 0
        self.records = 0
        self._digest = GENESIS
        self._foldable = True
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
            if self._foldable:
                for sentence in itertools.islice(compare_tables(connection, self._replayed), PROBLEMS_MAX):
                    self.problem(sentence)
        self._replayed.close()

    def _read_some(self, connection: apsw.Connection) -> bool:
        """Check the next records; whether there were as many as a page holds."""
        rows, more = within_bytes(connection.execute(_ROWS, (self.seq,)), PAGE_ROWS_MAX)
        for row in rows:
            self._check_link(row)
        if self._foldable:
            self._fold(rows)
        return more

    def _check_link(self, row: tuple[Any, ...]) -> None:
        seq, run_key, prev_seq, at, digest, body = row
        if seq != self.seq + 1:
            self.problem(f"records {self.seq + 1} to {seq - 1} are missing")
        elif digest != link(self._digest, seq, run_key, prev_seq, at, body.encode()):
            self.problem(f"record {seq} is not what was written")
        self.seq, self._digest = seq, digest
        self.records += 1

    def _fold(self, rows: list[tuple[Any, ...]]) -> None:
        try:
            self._replayed.execute("begin")
            self._projector.apply([decode_entry(row[0], row[1], row[2], row[3], row[5]) for row in rows])
            self._replayed.execute("commit")
        except (ProjectionError, JournalError, apsw.Error) as error:
            self._foldable = False
            self.problem(f"the records contradict each other: {error}")


def _brief(row: tuple[Any, ...] | None) -> str:
    return "nothing" if row is None else repr(row)[:300]
