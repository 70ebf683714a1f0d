"""Lists as pages of views: runs, sessions, state values."""

from __future__ import annotations

import heapq
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import apsw
import msgspec
from msgspec import Raw

from wal.connections import all_rows, scalar
from wal.pages import TOTAL_MAX, read_int_cursor, read_text_cursor, write_cursor
from wal.records import ErrorData
from wal.rows import RunRow
from wal.views import ErrorView, Page, RunView, SessionView, StateView, rfc3339

_RUN_COLUMNS = ", ".join(RunRow.__struct_fields__)
_SESSION_COLUMNS = """opened_seq, id, status, tenant, subject, classification, ttl, expires_at, on_close, attributes,
    trace_id, created_at, closed_at"""
_LAST = 2**63 - 1

_error_decoder = msgspec.json.Decoder(ErrorData)
_attributes_decoder = msgspec.json.Decoder(dict[str, Any])


# --- rows to values -------------------------------------------------------------------------------------------------


def run_row(row: tuple[Any, ...]) -> RunRow:
    """A row of `runs`, its columns in the order of `RunRow`, as a value."""
    values = list(row)
    values[5] = bool(values[5])
    values[16] = _attributes_decoder.decode(values[16]) if values[16] != "{}" else {}
    values[20] = None if values[20] is None else _error_decoder.decode(values[20])
    return RunRow(*values)


def run_view(row: RunRow) -> RunView:
    """A run as lists show it."""
    error = None if row.error is None else ErrorView(row.error.type, row.error.message, row.error.step)
    return RunView(
        id=row.id,
        workflow=row.workflow,
        status=row.status,
        version=row.version,
        waiting_on=row.waiting_on,
        waiting_until=rfc3339(row.waiting_until),
        session_id=row.session_id,
        tenant=row.tenant,
        classification=row.classification,
        queue=row.queue,
        priority=row.priority,
        parent_id=row.parent_id,
        trace_id=row.trace_id,
        attributes=row.attributes,
        created_at=rfc3339(row.created_at),
        updated_at=rfc3339(row.updated_at),
        ended_at=rfc3339(row.ended_at),
        error=error,
        seq=row.last_seq,
    )


def session_view(row: tuple[Any, ...]) -> SessionView:
    """A row of `sessions`, in the table's order, as a view."""
    (
        _,
        id_,
        status,
        tenant,
        subject,
        classification,
        ttl,
        expires_at,
        on_close,
        attributes,
        trace_id,
        created,
        closed,
    ) = row
    return SessionView(
        id=id_,
        status=status,
        tenant=tenant,
        subject=subject,
        classification=classification,
        ttl=ttl,
        expires_at=rfc3339(expires_at),
        on_close=on_close,
        attributes=_attributes_decoder.decode(attributes),
        trace_id=trace_id,
        created_at=rfc3339(created),
        closed_at=rfc3339(closed),
    )


# --- lists ----------------------------------------------------------------------------------------------------------


def list_runs(
    db: apsw.Connection,
    *,
    statuses: Sequence[str] | None,
    equal: Mapping[str, str],
    attributes: Mapping[str, str],
    limit: int,
    cursor: str | None,
) -> Page:
    """A page of runs, newest first: of these statuses (None for all), with these columns and attributes.

    One statement a status, merged here: SQLite walks each status's index backwards, whereas an `in` over statuses would
    make it sort all that match.
    """
    before = read_int_cursor("runs", cursor)
    where, values = _conditions(equal, attributes)
    rows: Iterable[tuple[Any, ...]]
    if statuses is None:
        rows = _runs(db, where, values, before, limit)
    else:
        lists = [
            _runs(db, f"{_steered(db, where, equal, status)} and status = ?", [*values, status], before, limit)
            for status in statuses
        ]
        rows = heapq.merge(*lists, key=lambda row: -int(row[0]))
    found = [run_row(row) for row in rows][: limit + 1]
    items = [run_view(row) for row in found[:limit]]
    return Page(
        items=items,
        next=write_cursor("runs", found[limit - 1].run_key) if len(found) > limit else None,
        total=_total_runs(db, statuses, equal, attributes),
        seq=_head(db),
    )


def list_sessions(db: apsw.Connection, *, equal: Mapping[str, str], limit: int, cursor: str | None) -> Page:
    """A page of sessions, newest first."""
    before = read_int_cursor("sessions", cursor)
    where = "".join(f" and {column} = ?" for column in equal)
    sql = f"select {_SESSION_COLUMNS} from sessions where opened_seq < ?{where} order by opened_seq desc limit ?"
    rows = all_rows(db, sql, (_LAST if before is None else before, *equal.values(), limit + 1))
    return Page(
        items=[session_view(row) for row in rows[:limit]],
        next=write_cursor("sessions", rows[limit - 1][0]) if len(rows) > limit else None,
        total=_count(db, f"sessions where true{where}", list(equal.values())),
        seq=_head(db),
    )


def list_states(db: apsw.Connection, scope: str, *, limit: int, cursor: str | None) -> Page:
    """A page of the values of one scope that are not deleted, by key."""
    after = read_text_cursor("state", cursor)
    sql = """select key, value, version, tenant, classification, updated_at from state
             where scope = ? and key > ? and not deleted order by key limit ?"""
    if after is None:
        sql = sql.replace("key > ?", "key >= ?")  # the empty key is a key too
    rows = all_rows(db, sql, (scope, after or "", limit + 1))
    items = [
        StateView(scope, key, Raw(value.encode()), version, tenant, classification, rfc3339(at))
        for key, value, version, tenant, classification, at in rows[:limit]
    ]
    return Page(
        items=items,
        next=write_cursor("state", rows[limit - 1][0]) if len(rows) > limit else None,
        total=_count(db, "state where scope = ? and not deleted", [scope]),
        seq=_head(db),
    )


# --- parts ----------------------------------------------------------------------------------------------------------


def _conditions(equal: Mapping[str, str], attributes: Mapping[str, str]) -> tuple[str, list[Any]]:
    where = "".join(f" and {column} = ?" for column in equal)
    values: list[Any] = list(equal.values())
    for key, value in attributes.items():
        where += " and run_key in (select run_key from run_attributes where key = ? and value = ?)"
        values += [key, value]
    return where, values


def _steered(db: apsw.Connection, where: str, equal: Mapping[str, str], status: str) -> str:
    """The condition with a hint to walk the status's index (a unary plus hides a column from the planner) where fewer
    runs have the status than are of the workflow: the few failed ones of a workflow with a million runs."""
    if equal.keys() != {"workflow"}:
        return where
    sql = "select coalesce(sum(n) filter (where status = ?), 0) < coalesce(sum(n) filter (where workflow = ?), 0)"
    fewer = scalar(db, f"{sql} from run_counts", (status, equal["workflow"]))
    return where.replace("workflow = ?", "+workflow = ?") if fewer else where


def _runs(
    db: apsw.Connection, where: str, values: Sequence[Any], before: int | None, limit: int
) -> list[tuple[Any, ...]]:
    sql = f"select {_RUN_COLUMNS} from runs where run_key < ?{where} order by run_key desc limit ?"
    return all_rows(db, sql, (_LAST if before is None else before, *values, limit + 1))


def _total_runs(
    db: apsw.Connection, statuses: Sequence[str] | None, equal: Mapping[str, str], attributes: Mapping[str, str]
) -> int | None:
    """How many match: from the counts where they can tell, else counted up to `TOTAL_MAX`."""
    marks = "" if statuses is None else f" and status in ({', '.join('?' * len(statuses))})"
    chosen = list(statuses or ())
    if not attributes and equal.keys() <= {"workflow"}:
        where = "".join(f" and {column} = ?" for column in equal)
        sql = f"select coalesce(sum(n), 0) from run_counts where true{where}{marks}"
        return int(scalar(db, sql, (*equal.values(), *chosen)))
    where, values = _conditions(equal, attributes)
    return _count(db, f"runs where true{where}{marks}", [*values, *chosen])


def _count(db: apsw.Connection, rest: str, values: Sequence[Any]) -> int | None:
    n = int(scalar(db, f"select count(*) from (select 1 from {rest} limit {TOTAL_MAX + 1})", tuple(values)))
    return n if n <= TOTAL_MAX else None


def _head(db: apsw.Connection) -> int:
    return int(scalar(db, "select coalesce(max(seq), 0) from records"))
