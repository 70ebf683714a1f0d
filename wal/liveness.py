"""The liveness check: which open runs nothing will ever wake, as far as the journal tells.

An open run is runnable, or waits for a timer, a signal, an approval, a child, a place in a queue, or a person (paused,
blocked). One that has none of these is a defect of ours. Runs that are going on (`running`, `compensating`) are moved
by whoever has them in memory; the caller is given them and asks there.
"""

from __future__ import annotations

from collections.abc import Iterator

import apsw
import msgspec

from wal.codec import decode_record
from wal.connections import all_rows, one_row
from wal.records import RunWaiting

DOUBTS_MAX = 1_000
"""No more are looked at one by one; more than a few is a defect whatever their number."""

# By the indexes of status: what is left after the usual sources of each phase. All of it in one statement.
_SUSPECTS = f"""
    select r.run_key, r.id, r.phase, r.last_seq, r.waiting_on from runs r
    where r.status in ('queued', 'running', 'waiting', 'compensating') and not r.paused
    and (r.waiting_on is null or r.waiting_on not in ('signal', 'queue'))
    and not exists (select 1 from timers t where t.run_key = r.run_key)
    and not (r.waiting_on is 'approval'
             and exists (select 1 from approvals a where a.run_key = r.run_key and a.status = 'open'))
    and not (r.waiting_on is 'child'
             and exists (select 1 from runs c where c.parent_id = r.id and c.ended_at is null))
    limit {DOUBTS_MAX}"""

_WALK = """with recursive walk (seq, prev_seq, body) as (
        select seq, prev_seq, body from records where seq = ?
        union all
        select r.seq, r.prev_seq, r.body from walk join records r on r.seq = walk.prev_seq where r.seq < walk.seq
    ) select body from walk where substr(body, 1, 22) = '{"kind":"run_waiting",' limit 1"""


class Doubt(msgspec.Struct, frozen=True, gc=False):
    """An open run without a wake source in the journal. `going_on`: it is to be in memory, where its source is."""

    run_key: int
    run_id: str
    why: str
    going_on: bool


def doubts(db: apsw.Connection) -> list[Doubt]:
    """The open runs that the journal shows no wake source for. Call within a snapshot."""
    return list(_doubts(db))


def _doubts(db: apsw.Connection) -> Iterator[Doubt]:
    for run_key, run_id, phase, last_seq, waiting_on in all_rows(db, _SUSPECTS):
        if phase in ("running", "compensating"):
            yield Doubt(run_key, run_id, f"it is {phase}, and nothing of it is under way", True)
        elif phase == "queued":
            yield Doubt(run_key, run_id, "it is queued, and no timer begins it", False)
        elif not _waits_otherwise(db, run_id, last_seq):
            yield Doubt(run_key, run_id, f"it waits for a {waiting_on}, and there is none", False)


def _waits_otherwise(db: apsw.Connection, run_id: str, last_seq: int) -> bool:
    """Whether one of the open calls of a waiting run can still be answered from outside: its row names only one."""
    row = one_row(db, _WALK, (last_seq,))
    record = None if row is None else decode_record(row[0])
    if not isinstance(record, RunWaiting):
        return False
    kinds = {call.kind for call in record.calls}
    if "signal" in kinds or "queue" in kinds:
        return True
    if "child" in kinds:
        return one_row(db, "select 1 from runs where parent_id = ? and ended_at is null", (run_id,)) is not None
    return "approval" in kinds and _has_open_approval(db, run_id)


def _has_open_approval(db: apsw.Connection, run_id: str) -> bool:
    sql = """select 1 from approvals a join runs r on r.run_key = a.run_key where r.id = ? and a.status = 'open'"""
    return one_row(db, sql, (run_id,)) is not None
