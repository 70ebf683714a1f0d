"""The journal's file read in the daemon's absence: read-only, never hiding a committed row, saying how fresh it is.

Tried in this order:
1. `mode=ro`: exact beside whatever is there; SQLite may leave its `-shm` file, which is harmless.
2. where that fails and no SQLite WAL holds rows: `immutable=1`, exact after a clean stop.
3. where rows are in the WAL and nobody has the daemon's lock: a copy of both files in a folder of our own.
4. else an error that names what is not allowed.
`immutable=1` beside a WAL with rows is never used: it would hide them without a word.
"""

from __future__ import annotations

import asyncio
import shutil
import sqlite3
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from urllib.parse import quote

import aiosqlite

from actors.errors import NotFound, RunNotFound
from runtimed.connector_words import SCHEDULE
from runtimed.wire import HealthDetail, HistoryPage, RunPage, SessionPage
from tui.journal_files import copy_files, examine, lock_is_held
from tui.runs_index import PAGE_RUNS, RunFilter
from tui.source import Metrics
from wal.errors import BadCursor, JournalCorrupt, JournalError, JournalRefused
from wal.views import NULL, ActorView, ApprovalView, ConnectorView, EventView, HistoryRecord, RunDetail, RunView

BUSY_SECONDS = 2.0
_LAST = 2**63 - 1
ROWS_MAX = 500


async def open_file(journal: Path) -> JournalFile:
    """The journal's file as a source of what screens show. Raises `JournalRefused` with the reason and what to do."""
    rows_in_wal = await asyncio.to_thread(examine, journal)
    held = lock_is_held(journal.parent)
    try:
        return JournalFile(await _connect(journal, "mode=ro"), journal)
    except sqlite3.Error as error:
        refused = error
    if not rows_in_wal:
        try:
            connection = await _connect(journal, "mode=ro&immutable=1")
        except sqlite3.Error as error:
            raise JournalRefused(f"{journal} cannot be read: {error}") from error
        return JournalFile(connection, journal)
    if held:
        raise JournalRefused(
            f"{journal} cannot be read in place ({refused}), and a daemon holds it",
            hint="Ask the daemon, or read the file as the service's user.",
        )
    return await _open_copy(journal)


async def _connect(path: Path, query: str) -> aiosqlite.Connection:
    connection = await aiosqlite.connect(f"file:{quote(str(path))}?{query}", uri=True, timeout=BUSY_SECONDS)
    try:
        await connection.execute("pragma query_only = 1")
        await connection.execute("pragma trusted_schema = 0")
        async with connection.execute("select count(*) from meta") as cursor:  # touches the file: errors show here
            await cursor.fetchone()
    except BaseException:
        await connection.close()
        raise
    return connection


async def _open_copy(journal: Path) -> JournalFile:
    copy = await asyncio.to_thread(copy_files, journal)
    try:
        connection = await _connect(copy, "mode=rw")  # a copy of ours: SQLite recovers its WAL there
    except sqlite3.Error as error:
        shutil.rmtree(copy.parent, ignore_errors=True)
        raise JournalRefused(f"{journal} cannot be read, nor its copy: {error}") from error
    taken = datetime.now(UTC).strftime("%H:%M:%SZ")
    return JournalFile(connection, journal, how=f"copy of {taken}", copy=copy.parent)


class JournalFile:
    """A source that reads the file, in short statements that are whole when they return; see `tui.source.Source`."""

    offline = True

    def __init__(
        self,
        connection: aiosqlite.Connection,
        path: Path,
        *,
        how: str = "read-only",
        copy: Path | None = None,
    ) -> None:
        self._db, self.path, self.how, self._copy = connection, path, how, copy

    @property
    def held(self) -> bool:
        """Whether a daemon has the journal's lock now: it is there and does not answer us."""
        return lock_is_held(self.path.parent)

    async def banner(self) -> str:
        """What is read, how, and whether the daemon had stopped cleanly, in a line whose end may be cut."""
        last = await self._one("select substr(body, 1, 40) from records order by seq desc limit 1")
        clean = "yes" if str(last).startswith('{"kind":"daemon_stopped"') else "no"
        word = "a daemon holds it and does not answer" if self.held else f"clean={clean}"
        return f"{self.how}, seq {await self.head_seq()}, {word}: {self.path}"

    async def close(self) -> None:
        """Close, and remove the copy if one was made."""
        await self._db.close()
        if self._copy is not None:
            shutil.rmtree(self._copy, ignore_errors=True)

    async def _rows(self, sql: str, values: Iterable[Any] = ()) -> list[tuple[Any, ...]]:
        try:
            return [tuple(row) for row in await self._db.execute_fetchall(sql, tuple(values))]
        except (sqlite3.DatabaseError, ValueError) as error:  # ValueError: closed meanwhile, for the daemon is back
            kind = JournalCorrupt if "malformed" in str(error) or "not a database" in str(error) else JournalError
            raise kind(f"{self.path}: {error}") from error

    async def _one(self, sql: str, *values: Any) -> Any:
        rows = await self._rows(sql, values)
        return rows[0][0] if rows else None

    async def head_seq(self) -> int:
        """The seq of the last record."""
        return int(await self._one("select coalesce(max(seq), 0) from records"))

    # --- runs

    async def runs(self, which: RunFilter, cursor: str | None = None, limit: int = PAGE_RUNS) -> RunPage:
        from wal.listing import run_row, run_view
        from wal.rows import RunRow

        limit = min(limit, ROWS_MAX)
        where, values = _conditions(which)
        columns = ", ".join(RunRow.__struct_fields__)
        sql = f"select {columns} from runs where run_key < ?{where} order by run_key desc limit ?"
        rows = await self._rows(sql, (_before(cursor), *values, limit + 1))
        found = [run_row(row) for row in rows]
        return RunPage(
            items=[run_view(row) for row in found[:limit]],
            next=str(found[limit - 1].run_key) if len(found) > limit else None,
            total=await self._total(which),
            seq=await self.head_seq(),
        )

    async def _total(self, which: RunFilter) -> int | None:
        if which.attributes or which.session_id is not None or which.tenant is not None:
            return None
        marks = ", ".join("?" * len(which.statuses))
        where = f" and status in ({marks})" if marks else ""
        values: list[Any] = list(which.statuses)
        if which.workflow is not None:
            where, values = where + " and workflow = ?", [*values, which.workflow]
        rows = await self._rows(f"select coalesce(sum(n), 0) from run_counts where true{where}", values)
        return int(rows[0][0])

    async def run(self, run_id: str) -> RunDetail:
        from wal.codec import decode_record
        from wal.listing import run_row, run_view
        from wal.records import RunCompleted, RunStarted
        from wal.rows import RunRow

        columns = ", ".join(RunRow.__struct_fields__)
        rows = await self._rows(f"select {columns} from runs where id = ?", (run_id,))
        if not rows:
            raise RunNotFound(f"there is no run {run_id!r}")
        row = run_row(rows[0])
        view = run_view(row)
        detail: dict[str, Any] = {name: getattr(view, name) for name in RunView.__struct_fields__}
        for seq in filter(None, (row.first_seq, row.end_seq)):
            record = decode_record(await self._one("select body from records where seq = ?", seq))
            if isinstance(record, RunStarted):
                detail["input"] = record.input
            elif isinstance(record, RunCompleted):
                detail["result"] = record.result
        return RunDetail(**detail)

    async def history(self, run_id: str, after: int = 0, limit: int = 200) -> HistoryPage:
        limit = min(limit, ROWS_MAX)
        last = await self._one("select last_seq from runs where id = ?", run_id)
        if last is None:
            raise RunNotFound(f"there is no run {run_id!r}")
        walk = """with recursive walk (seq, prev_seq) as (
                select seq, prev_seq from records where seq = ? and seq > ?
                union all
                select r.seq, r.prev_seq from walk join records r on r.seq = walk.prev_seq where walk.prev_seq > ?
            ) select r.seq, r.at, null, null, null, r.body from records r
              where r.seq in (select seq from walk) order by r.seq limit ?"""
        events = [_event(*row) for row in await self._rows(walk, (last, after, after, limit + 1))]
        items = [HistoryRecord(e.seq, e.at, e.kind, e.call, e.name, e.attempt, e.data) for e in events[:limit]]
        more = str(items[-1].seq) if len(events) > limit else None
        return HistoryPage(items=items, next=more, total=None, seq=int(last))

    async def events_before(self, seq: int, limit: int = 200) -> list[EventView]:
        sql = """select r.seq, r.at, u.id, u.workflow, u.trace_id, r.body
            from records r left join runs u on u.run_key = r.run_key where r.seq <= ? and r.body <> ''
            order by r.seq desc limit ?"""
        return [_event(*row) for row in reversed(await self._rows(sql, (seq, min(limit, ROWS_MAX))))]

    async def chain_of(self, seq: int) -> tuple[int, str, bool] | None:
        """A record's place in the digest chain: the record before it in its run (0 for none), its digest, and whether
        that is what the record and the digest before it give. None if the record is not there."""
        from wal.chain import GENESIS, link

        columns = "seq, run_key, prev_seq, at, digest, body"
        rows = await self._rows(f"select {columns} from records where seq in (?, ?) order by seq", (seq - 1, seq))
        if not rows or rows[-1][0] != seq:
            return None
        _, run_key, prev_seq, at, digest, body = rows[-1]
        if len(rows) == 1 and seq != 1:
            return prev_seq, digest.hex(), True  # the one before is gone: there is nothing to hold it against
        before = rows[0][4] if len(rows) == 2 else GENESIS
        if not body:  # of a run that was forgotten
            return prev_seq, digest.hex(), True
        return prev_seq, digest.hex(), digest == link(before, seq, run_key, prev_seq, at, body.encode())

    # --- people and sessions

    async def approvals(self, status: str | None = "open", limit: int = 200) -> list[ApprovalView]:
        where, values = _status(" where a.status = ?", status)
        sql = f"select {_APPROVAL} {_FROM}{where} order by a.id desc limit ?"
        return [_approval(row) for row in await self._rows(sql, (*values, min(limit, ROWS_MAX)))]

    async def approval(self, approval_id: str) -> ApprovalView:
        sql = f"select {_APPROVAL} {_FROM} where a.id = ?"
        rows = await self._rows(sql, (int(approval_id) if approval_id.isdecimal() else -1,))
        if not rows:
            raise NotFound(f"there is no approval {approval_id!r}")
        return _approval(rows[0])

    async def sessions(self, status: str | None = None, limit: int = 200, cursor: str | None = None) -> SessionPage:
        from wal.listing import session_view

        limit = min(limit, ROWS_MAX)
        where, values = _status(" and status = ?", status)
        sql = f"select {_SESSION} from sessions where opened_seq < ?{where} order by opened_seq desc limit ?"
        rows = await self._rows(sql, (_before(cursor), *values, limit + 1))
        return SessionPage(
            items=[session_view(row) for row in rows[:limit]],
            next=str(rows[limit - 1][0]) if len(rows) > limit else None,
            total=None,
            seq=await self.head_seq(),
        )

    async def connectors(self) -> list[ConnectorView]:
        from wal.intake import COLUMNS, connector_row

        if int(await self._one("pragma user_version")) < 2:  # a file from before there were connectors
            return []
        rows = await self._rows(f"select {COLUMNS} from connectors where kind <> ? order by name", (SCHEDULE,))
        return [connector_row(row).view() for row in rows]

    # --- what only a daemon knows

    async def actors(self) -> list[ActorView]:
        return []

    async def health(self) -> HealthDetail:
        return HealthDetail(status="fail", reasons=["the daemon is down"], checks={})

    async def metrics(self) -> Metrics:
        figures = Metrics("")
        for status, number in await self._rows("select status, sum(n) from run_counts where n group by status"):
            figures.counts[str(status)] = int(number)
        figures.figures["journal_seq"] = float(await self.head_seq())
        return figures


def _before(cursor: str | None) -> int:
    if cursor is None:
        return _LAST
    if not cursor.isdecimal():
        raise BadCursor("this cursor is not of the file")
    return int(cursor)


def _status(condition: str, status: str | None) -> tuple[str, list[Any]]:
    return ("", []) if status is None else (condition, [status])


def _conditions(which: RunFilter) -> tuple[str, list[Any]]:
    where = ""
    values: list[Any] = []
    if which.statuses:
        where += f" and status in ({', '.join('?' * len(which.statuses))})"
        values += which.statuses
    for column in ("workflow", "session_id", "tenant"):
        if (value := getattr(which, column)) is not None:
            where += f" and {column} = ?"
            values.append(value)
    for key, value in which.attributes.items():
        where += " and run_key in (select run_key from run_attributes where key = ? and value = ?)"
        values += [key, value]
    return where, values


def _event(seq: int, at: int, run_id: str | None, workflow: str | None, trace: str | None, body: str) -> EventView:
    from wal.codec import decode_record
    from wal.telling import record_data
    from wal.views import rfc3339

    record = decode_record(body)
    call, name, attempt = (getattr(record, field, None) for field in ("key", "name", "attempt"))
    data = record_data(body)
    return EventView(seq, rfc3339(at) or "", record.kind, run_id, workflow, trace, call or None, name, attempt, data)


_SESSION = """opened_seq, id, status, tenant, subject, classification, ttl, expires_at, on_close, attributes, trace_id,
    created_at, closed_at"""
_FROM = "from approvals a join runs r on r.run_key = a.run_key"
_APPROVAL = """a.id, r.id, r.workflow, a.key, a.title, a.detail, a.form, a.roles, a.quorum, a.risk, a.four_eyes,
    a.status, a.requested_at, a.expires_at, a.payload_hash, a.votes, a.decided_at"""


def _approval(row: Sequence[Any]) -> ApprovalView:
    import msgspec

    from wal.views import Vote, rfc3339

    (
        id_,
        run_id,
        workflow,
        call,
        title,
        detail,
        form,
        roles,
        quorum,
        risk,
        four,
        status,
        asked,
        expires,
        hash_,
        votes,
        done,
    ) = row
    return ApprovalView(
        id=str(id_), run_id=run_id, workflow=workflow, call=call, title=title, detail=msgspec.Raw(detail.encode()),
        form=NULL if form is None else msgspec.Raw(form.encode()), roles=msgspec.json.decode(roles, type=list[str]),
        quorum=quorum, risk=risk, four_eyes=bool(four), status=status, requested_at=rfc3339(asked),
        expires_at=rfc3339(expires), payload_hash=hash_, votes=msgspec.json.decode(votes, type=list[Vote]),
        decided_at=rfc3339(done),
    )  # fmt: skip
