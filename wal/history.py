"""The records of a run, and of all runs, in order: for replay, for people, for the event stream.

The log has no index by run. A run's history is a walk from its last record along `prev_seq`, one point read a record;
that is what makes the log twice to three times as fast to write.
"""

from __future__ import annotations

from collections.abc import Sequence

import apsw
import msgspec

from wal.codec import decode_entry, decode_record
from wal.connections import all_rows, one_row, scalar
from wal.listing import run_view
from wal.pages import PAGE_ROWS_MAX, within_bytes
from wal.records import CallAudited, Entry, Fact, RunCompleted, RunStarted
from wal.rows import RunRow
from wal.telling import heading, record_data
from wal.views import NULL, AuditView, EventView, HistoryRecord, Page, RunDetail, RunView, rfc3339

_ENTRY_COLUMNS = "seq, run_key, prev_seq, at, body"

_CONTINUED = '{"kind":"run_continued",'
"""Where a run began anew: what lies before it is no part of what its code is replayed from."""

_WALK = f"""with recursive walk (seq, run_key, prev_seq, at, body) as (
        select {_ENTRY_COLUMNS} from records where seq = :last and seq > :after
        union all
        select r.seq, r.run_key, r.prev_seq, r.at, r.body from walk join records r on r.seq = walk.prev_seq
        where walk.prev_seq > :after and substr(walk.body, 1, {len(_CONTINUED)}) <> '{_CONTINUED}'
    ) select {_ENTRY_COLUMNS} from walk limit :limit"""

_PAGE = """with recursive walk (seq, prev_seq) as (
        select seq, prev_seq from records where seq = :last and seq > :after
        union all
        select r.seq, r.prev_seq from walk join records r on r.seq = walk.prev_seq where walk.prev_seq > :after
    ) select r.seq, r.at, r.body from records r where r.seq in (select seq from walk) and r.body <> ''"""

# The kind is the first member of each body (docs/journal.md), so that it is found without parsing the rest.
_OF_KINDS = """ and substr(r.body, 10, instr(substr(r.body, 10, 64), '"') - 1)
    in (select value from json_each(:kinds))"""

_EVENTS = """select r.seq, r.at, u.id, u.workflow, u.trace_id, r.body
    from records r left join runs u on u.run_key = r.run_key where r.seq > ? and r.body <> ''
    order by r.seq"""

_EVENTS_OF = f"""select r.seq, r.at, u.id, u.workflow, u.trace_id, r.body
    from records r left join runs u on u.run_key = r.run_key where r.seq > :after and r.seq <= :upto and r.body <> ''
    {_OF_KINDS} order by r.seq"""

_AUDITED = """select seq, at, body from records where seq > ? and seq <= ?
    and substr(body, 1, 23) = '{"kind":"call_audited",' order by seq"""
AUDIT_LOOK_ROWS = 20_000
"""Records that one page of the audit looks at: it is read in order, without an index that each commit would pay for."""

_encoder = msgspec.json.Encoder()


def entries(db: apsw.Connection, run_key: int, *, last_seq: int | None, after: int) -> list[Entry]:
    """All entries of a run with a seq beyond `after`, in order, up to `last_seq` or else the run's last; of a run that
    began anew, those since then. Read in pieces, each a statement of its own: what is recorded meanwhile lies beyond
    `last_seq` and is not seen."""
    if last_seq is None:
        last_seq = scalar(db, "select last_seq from runs where run_key = ?", (run_key,))
    found: list[Entry] = []
    while last_seq is not None and last_seq > after:
        rows = all_rows(db, _WALK, {"last": last_seq, "after": after, "limit": PAGE_ROWS_MAX})
        found += (decode_entry(*row) for row in rows)
        last_seq = rows[-1][2] if rows and not rows[-1][4].startswith(_CONTINUED) else None
    found.reverse()
    return found


def facts(db: apsw.Connection, last_seq: int, kinds: Sequence[str]) -> list[Fact]:
    """The records of these kinds of the run that a record belongs to, up to that record, in order: all the way from its
    start, also where it began anew in between."""
    values = {"last": last_seq, "after": 0, "kinds": _encoder.encode(list(kinds)).decode()}
    return [decode_record(body) for _, _, body in db.execute(_PAGE + _OF_KINDS + " order by r.seq", values)]


def page(db: apsw.Connection, id: str, *, after: int, limit: int, kinds: Sequence[str] | None) -> Page | None:
    """A page of a run's records, oldest first. Call within a snapshot."""
    run = one_row(db, "select run_key, last_seq from runs where id = ?", (id,))
    if run is None:
        return None
    values: dict[str, int | str] = {"last": run[1], "after": after}
    sql = _PAGE
    if kinds is not None:
        sql += _OF_KINDS
        values["kinds"] = _encoder.encode(list(kinds)).decode()
    rows, more = within_bytes(db.execute(sql + " order by r.seq", values), limit)
    items = [_history_record(*row) for row in rows]
    return Page(items=items, next=str(items[-1].seq) if more else None, seq=run[1])


def events(db: apsw.Connection, after_seq: int, limit: int) -> list[EventView]:
    """The records after a seq with the run that each belongs to, in order."""
    rows, _ = within_bytes(db.execute(_EVENTS, (after_seq,)), limit)
    return [_event(*row) for row in rows]


def events_of(
    db: apsw.Connection, kinds: Sequence[str], *, after: int, upto: int, limit: int
) -> tuple[int, list[EventView]]:
    """The records of these kinds after a seq and up to another, and how far that has looked: `upto`, or the last of the
    events where there may be more."""
    values = {"after": after, "upto": upto, "kinds": _encoder.encode(list(kinds)).decode()}
    rows, more = within_bytes(db.execute(_EVENTS_OF, values), limit)
    found = [_event(*row) for row in rows]
    return (found[-1].seq if more else upto), found


def audit_page(db: apsw.Connection, *, after: int, limit: int) -> Page:
    """A page of `AuditView` after a seq, oldest first; `next` is where to go on, also from a page that is short or
    empty because it came to the end of what it looks at. Call within a snapshot."""
    head = int(scalar(db, "select coalesce(max(seq), 0) from records"))
    last = min(after + AUDIT_LOOK_ROWS, head)
    rows, more = within_bytes(db.execute(_AUDITED, (after, last)), limit)
    items = [_audit_view(*row) for row in rows]
    place = items[-1].seq if more else last
    return Page(items=items, next=str(place) if place < head else None, seq=head)


def _audit_view(seq: int, at: int, body: str) -> AuditView:
    record = decode_record(body)
    assert isinstance(record, CallAudited), record
    said = (record.action, record.target, record.by, record.via, record.reason, record.trace_id)
    return AuditView(seq, rfc3339(at) or "", *said)


def detail(db: apsw.Connection, row: RunRow) -> RunDetail:
    """A run's view with its input and, if it completed, its result. Call within a snapshot."""
    started = _record(db, row.first_seq)
    ended = None if row.end_seq is None else _record(db, row.end_seq)
    view = run_view(row)
    fields = {name: getattr(view, name) for name in RunView.__struct_fields__}
    return RunDetail(
        **fields,
        input=started.input if isinstance(started, RunStarted) else NULL,
        result=ended.result if isinstance(ended, RunCompleted) else NULL,
    )


def _history_record(seq: int, at: int, body: str) -> HistoryRecord:
    kind, call, name, attempt = heading(decode_record(body))
    return HistoryRecord(seq, rfc3339(at) or "", kind, call, name, attempt, record_data(body))


def _event(seq: int, at: int, run_id: str | None, workflow: str | None, trace_id: str | None, body: str) -> EventView:
    kind, call, name, attempt = heading(decode_record(body))
    return EventView(seq, rfc3339(at) or "", kind, run_id, workflow, trace_id, call, name, attempt, record_data(body))


def _record(db: apsw.Connection, seq: int) -> Fact | None:
    body = scalar(db, "select body from records where seq = ?", (seq,))
    return None if body is None else decode_record(body)
