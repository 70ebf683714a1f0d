"""Retention: what forgetting ended runs and first answers does to the file, and which of them are old enough.

The rows of forgotten records stay, with their digests, so that the chain goes on; their bodies become empty.
Rows are deleted and put back rather than updated: only so does SQLite merge the pages that became nearly empty, and
give the others back for new records.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import apsw

from wal.connections import all_rows, one_row, scalar
from wal.pages import PAGE_ROWS_MAX
from wal.rows import AnswersPlan, Candidate, Plan

EMPTY = ""
"""The body of a forgotten record; no record is encoded so."""

RUN_SCOPE = "run:"
"""How the scope of a run's own state begins; the values of other scopes outlive the run that wrote them."""

RUNS_FORGOTTEN_MAX = 200
RECORDS_FORGOTTEN_MAX = 5_000
"""What one commit forgets: so many runs, and no further run once they have so many records, which takes some 50 ms
(`bench/care.py`: 2,000 records in 20 ms)."""

ANSWERS_FORGOTTEN_MAX = 500
ANSWER_BYTES_FORGOTTEN_MAX = 4 << 20
"""The same for first answers; that to a batch of 1,000 runs has some 400 KB, and is in the file twice."""

ENDED = ("completed", "failed", "cancelled")

_WALK = """with recursive walk (seq, prev_seq) as (
        select seq, prev_seq from records where seq = :last
        union all
        select r.seq, r.prev_seq from walk join records r on r.seq = walk.prev_seq
        where r.seq < walk.seq
    )"""
"""The seqs of a run; a damaged `prev_seq` that points ahead ends the walk instead of going in a circle."""

# A value of another scope than the run's own is kept: the state table goes on holding it.
_GOING = """body <> '' and not (substr(body, 1, 23) = '{"kind":"state_written"'
    and json_extract(body, '$.scope') not like 'run:%')"""

_BODIES = f"{_WALK} select seq, run_key, prev_seq, at, digest from records where seq in (select seq from walk) and "

_DERIVED = ("signals", "approvals", "timers")


def forget(db: apsw.Connection, run_key: int, last_seq: int) -> None:
    """Empty the bodies of a run's records and delete its rows, those of its attributes apart (their index is not
    ordered by run). Call within a transaction."""
    _empty(db, all_rows(db, _BODIES + _GOING, {"last": last_seq}))
    for table in _DERIVED:
        db.execute(f"delete from {table} where run_key = ?", (run_key,))
    db.execute("delete from runs where run_key = ?", (run_key,))


def forget_state(db: apsw.Connection, scopes: Sequence[str]) -> None:
    """Delete the state of forgotten runs."""
    db.executemany("delete from state where scope = ?", [(scope,) for scope in scopes])


def forget_answers(db: apsw.Connection, seqs: Sequence[int]) -> None:
    """Empty the bodies of these records and delete the answers, as far as they are there: a verification replays into
    tables without those that were forgotten later. They were chosen from one page of the table, so few others lie
    between the first and the last. Call within a transaction."""
    sql = "select seq, run_key, prev_seq, at, digest from records where seq = ? and body <> ''"
    _empty(db, [row for seq in seqs if (row := one_row(db, sql, (seq,))) is not None])
    if not seqs:
        return
    gone, bounds = set(seqs), (_answer_row(db, min(seqs)), _answer_row(db, max(seqs) + 1))
    rows = all_rows(db, "select rowid, seq from answers where rowid >= ? and rowid < ?", bounds)
    db.executemany("delete from answers where rowid = ?", [(rowid,) for rowid, seq in rows if seq in gone])


def _answer_row(db: apsw.Connection, seq: int) -> int:
    """Where the answers begin that were given with this record or later: their rows are in the order of their records,
    and there is no index by those."""
    low, high = 0, scalar(db, "select coalesce(max(rowid), 0) from answers") + 1
    while low < high:
        middle = (low + high) // 2
        row = one_row(db, "select rowid, seq from answers where rowid >= ? order by rowid limit 1", (middle,))
        if row is None or row[1] >= seq:
            high = middle
        else:
            low = row[0] + 1
    return low


def _empty(db: apsw.Connection, rows: Sequence[tuple[Any, ...]]) -> None:
    db.executemany("delete from records where seq = ?", [(each[0],) for each in rows])
    db.executemany("insert into records values (?, ?, ?, ?, ?, '')", rows)


def has_bodies(db: apsw.Connection, last_seq: int) -> bool:
    """Whether a run that ends with this record still has a body that should be gone."""
    return one_row(db, f"{_BODIES}{_GOING} limit 1", {"last": last_seq}) is not None


def plan(db: apsw.Connection, older_than: int, after_run_key: int, now: int) -> Plan:
    """The next runs to forget: those that ended before an instant (microseconds), in the order in which they began.
    Looks at no more than a page of runs. Call within a snapshot.

    The newest run of all is never among them, because the next run key follows the largest there is. The search ends
    at a run that began after the instant: those behind it can hardly have ended before. One that began after `now` was
    dated by a clock that was ahead, and says nothing of those behind it."""
    newest = scalar(db, "select max(run_key) from runs") or 0
    sql = """select run_key, id, status, created_at, ended_at, last_seq, parent_id from runs
             where run_key > ? and run_key < ? order by run_key limit ?"""
    found: list[Candidate] = []
    records, looked_at = 0, all_rows(db, sql, (after_run_key, newest, PAGE_ROWS_MAX))
    for run_key, id, status, created_at, ended_at, last_seq, parent_id in looked_at:
        if older_than <= created_at <= now:
            return Plan(found, None)
        if status not in ENDED or ended_at is None or ended_at >= older_than or _is_open(db, parent_id):
            continue
        size = _records(db, last_seq)
        if found and (records + size > RECORDS_FORGOTTEN_MAX or len(found) == RUNS_FORGOTTEN_MAX):
            return Plan(found, found[-1].run_key)
        records += size
        found.append(Candidate(run_key, id, ended_at, size))
    return Plan(found, looked_at[-1][0] if len(looked_at) == PAGE_ROWS_MAX else None)


def plan_answers(db: apsw.Connection, older_than: int, after: int, now: int) -> AnswersPlan:
    """The next answers to forget, in the order in which they were given, up to the first that was given after an
    instant (microseconds), those dated after `now` by a clock that was ahead left out: a page of the table, by the
    order of its rows. Call within a snapshot."""
    sql = "select rowid, seq, at, octet_length(body) from answers where rowid > ? order by rowid limit ?"
    seqs: list[int] = []
    size, looked_at = 0, all_rows(db, sql, (after, ANSWERS_FORGOTTEN_MAX))
    for rowid, seq, at, length in looked_at:
        if older_than <= at <= now:
            return AnswersPlan(seqs, None)
        if at < older_than:
            if seqs and size + length > ANSWER_BYTES_FORGOTTEN_MAX:
                return AnswersPlan(seqs, after)
            size += length
            seqs.append(seq)
        after = rowid
    return AnswersPlan(seqs, after if len(looked_at) == ANSWERS_FORGOTTEN_MAX else None)


def _is_open(db: apsw.Connection, run_id: str | None) -> bool:
    if run_id is None:
        return False
    row: tuple[Any, ...] | None = one_row(db, "select ended_at from runs where id = ?", (run_id,))
    return row is not None and row[0] is None


def _records(db: apsw.Connection, last_seq: int) -> int:
    return int(scalar(db, f"{_WALK} select count(*) from walk", {"last": last_seq}))
