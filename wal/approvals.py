"""Approvals: what their records do to the table, and how they are read back.

An approval's id is the seq of the record that asked. It is `open` until one record closes it: a decision, its timer,
its withdrawal, or the end of its run.
"""

from __future__ import annotations

from typing import Any

import apsw
import msgspec
from msgspec import Raw

from wal.connections import all_rows, one_row, scalar
from wal.pages import read_int_cursor, write_cursor
from wal.records import (
    ApprovalDecided,
    ApprovalRequested,
    ApprovalVoted,
    ApprovalWithdrawn,
    Entry,
    Fact,
    TimerFired,
)
from wal.views import ApprovalView, Page, Vote, rfc3339

STATUSES = ("open", "approved", "refused", "expired", "withdrawn")

_COLUMNS = """a.id, r.id, r.workflow, a.key, a.title, a.detail, a.form, a.roles, a.quorum, a.risk, a.four_eyes,
    a.status, a.requested_at, a.expires_at, a.payload_hash, a.votes, a.decided_at, a.run_key"""
_FROM = "from approvals a join runs r on r.run_key = a.run_key"
_OPEN = "select id, votes from approvals where run_key = ? and key = ? and status = 'open'"
_LAST = (1 << 63) - 1

_encode = msgspec.json.encode
_votes = msgspec.json.Decoder(list[Vote])
_roles = msgspec.json.Decoder(list[str])


class ApprovalRow(msgspec.Struct, frozen=True, gc=False):
    """An approval with the key of its run, for the runtime."""

    run_key: int
    view: ApprovalView


def requested(db: apsw.Connection, entry: Entry, record: ApprovalRequested) -> None:
    """A workflow asked people."""
    db.execute(
        "insert into approvals values (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, 'open', ?, ?, ?, '[]', null)",
        (
            entry.seq,
            entry.run_key,
            record.key,
            record.title,
            bytes(record.detail).decode(),
            bytes(record.form).decode(),
            _encode(record.roles).decode(),
            record.quorum,
            record.risk,
            int(record.four_eyes),
            entry.at,
            record.expires_at,
            record.payload_hash,
        ),
    )


def voted(db: apsw.Connection, entry: Entry, record: ApprovalVoted) -> bool:
    """A person said yes or no; False if there is nothing open to vote on."""
    row = one_row(db, _OPEN, (entry.run_key, record.key))
    if row is None:
        return False
    vote = Vote(record.by, record.approve, record.reason, rfc3339(entry.at) or "", record.via)
    votes = _encode([*_votes.decode(row[1]), vote]).decode()
    db.execute("update approvals set votes = ? where id = ?", (votes, row[0]))
    return True


def closed(db: apsw.Connection, entry: Entry, record: Fact) -> bool:
    """A decision, a deadline or a withdrawal; False if there was nothing open under this key."""
    if isinstance(record, ApprovalDecided):
        status = "approved" if record.approved else "refused"
    else:
        status = "expired" if isinstance(record, TimerFired) else "withdrawn"
    assert isinstance(record, (ApprovalDecided, ApprovalWithdrawn, TimerFired))
    db.execute(
        "update approvals set status = ?, decided_at = ? where run_key = ? and key = ? and status = 'open'",
        (status, entry.at, entry.run_key, record.key),
    )
    return bool(db.changes())


def run_ended(db: apsw.Connection, entry: Entry) -> None:
    """What a run that is over still asked, nobody needs to answer."""
    sql = "update approvals set status = 'withdrawn', decided_at = ? where run_key = ? and status = 'open'"
    db.execute(sql, (entry.at, entry.run_key))


# --- reading ----------------------------------------------------------------------------------------------------------


def find(db: apsw.Connection, approval_id: str) -> ApprovalRow | None:
    """The approval with this id."""
    if not approval_id.isascii() or not approval_id.isdigit() or len(approval_id) > 18:
        return None
    row = one_row(db, f"select {_COLUMNS} {_FROM} where a.id = ?", (int(approval_id),))
    return None if row is None else _row(row)


def page(db: apsw.Connection, *, status: str | None, run_key: int | None, limit: int, cursor: str | None) -> Page:
    """A page of approvals, newest first."""
    where, values = "", []
    # Of one run there are few, however many are open: `+` keeps SQLite from looking through all that are.
    by_status = "a.status" if run_key is None else "+a.status"
    for column, value in ((by_status, status), ("a.run_key", run_key)):
        if value is not None:
            where += f" and {column} = ?"
            values.append(value)
    before = read_int_cursor("approvals", cursor)
    sql = f"select {_COLUMNS} {_FROM} where a.id < ?{where} order by a.id desc limit ?"
    rows = all_rows(db, sql, (_LAST if before is None else before, *values, limit + 1))
    total = one_row(db, f"select count(*) from approvals a where true{where}", tuple(values))
    return Page(
        items=[_row(row).view for row in rows[:limit]],
        next=write_cursor("approvals", rows[limit - 1][0]) if len(rows) > limit else None,
        total=total[0] if total else 0,
        seq=int(scalar(db, "select coalesce(max(seq), 0) from records")),
    )


def count_open(db: apsw.Connection) -> int:
    """How many wait for people."""
    return int(scalar(db, "select count(*) from approvals where status = 'open'"))


def _row(row: tuple[Any, ...]) -> ApprovalRow:
    (
        id_,
        run_id,
        workflow,
        key,
        title,
        detail,
        form,
        roles,
        quorum,
        risk,
        four_eyes,
        status,
        requested_at,
        expires_at,
        payload_hash,
        votes,
        decided_at,
        run_key,
    ) = row
    view = ApprovalView(
        id=str(id_),
        run_id=run_id,
        workflow=workflow,
        call=key,
        title=title,
        detail=Raw(detail.encode()),
        form=Raw(form.encode()),
        roles=_roles.decode(roles),
        quorum=quorum,
        risk=risk,
        four_eyes=bool(four_eyes),
        status=status,
        requested_at=rfc3339(requested_at),
        expires_at=rfc3339(expires_at),
        payload_hash=payload_hash,
        votes=_votes.decode(votes),
        decided_at=rfc3339(decided_at),
    )
    return ApprovalRow(run_key, view)
