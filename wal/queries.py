"""Read the journal: `Reader` answers with frozen values, in short transactions on a read-only connection.

A reader is not for several threads at once: one per thread, or one behind a lock. Each answer is complete when it is
returned; no statement stays open, because an unfinished one would keep SQLite's WAL from being checkpointed.
"""

from __future__ import annotations

import contextlib
import heapq
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import apsw
import msgspec
from msgspec import Raw

from wal import approvals, backup, history, intake, liveness, retention, tokens, upkeep
from wal.connections import all_rows, one_row, open_reader, read_errors, scalar
from wal.listing import list_runs, list_sessions, list_states, run_row, session_view
from wal.migrations import user_version
from wal.pages import page_limit, snapshot
from wal.records import Entry, Fact, StoredItem
from wal.rows import (
    AnswerRow,
    AnswersPlan,
    ExpiringSession,
    JournalStatistics,
    Plan,
    QueuedRun,
    RunRow,
    StateRow,
    TimerRow,
)
from wal.run_status import COMPENSATING_PHASES, OPEN_STATUSES
from wal.views import ApprovalView, EventView, Page, RunDetail, SessionView

_RUN_COLUMNS = ", ".join(RunRow.__struct_fields__)
_CANCELLABLE = f"""r.status in ({", ".join(f"'{status}'" for status in OPEN_STATUSES)})
    and r.phase not in ({", ".join(f"'{phase}'" for phase in sorted(COMPENSATING_PHASES))})"""
_STATE_COLUMNS = ", ".join(StateRow.__struct_fields__)


class Reader:
    """One read-only connection to a journal. Every method may raise `JournalCorrupt` or another `JournalError`."""

    def __init__(self, connection: apsw.Connection, path: Path | None, *, owned: bool) -> None:
        self._db = connection
        self._path = path
        self._owned = owned

    @classmethod
    def open(cls, path: str | Path) -> Self:
        """A reader of the file, beside a live daemon or without one. Raises `JournalRefused` if it is no journal."""
        path = Path(path).absolute()
        with read_errors(path):
            return cls(open_reader(path), path, owned=True)

    @classmethod
    def on(cls, connection: apsw.Connection) -> Self:
        """A reader that shares the connection of a journal in memory."""
        return cls(connection, None, owned=False)

    def close(self) -> None:
        """Close the connection, if it is this reader's own. A second call does nothing."""
        if self._owned:
            self._db.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def _rows(self, sql: str, *values: Any) -> list[tuple[Any, ...]]:
        with read_errors(self._path):
            return all_rows(self._db, sql, values)

    def _row(self, sql: str, *values: Any) -> tuple[Any, ...] | None:
        rows = self._rows(sql, *values)
        return rows[0] if rows else None

    # --- runs -----------------------------------------------------------------------------------------------------

    def head_seq(self) -> int:
        """The seq of the last record; 0 for none."""
        row = self._row("select coalesce(max(seq), 0) from records")
        return int(row[0]) if row else 0

    def instant(self, seq: int) -> int | None:
        """When this record was submitted, in microseconds; None if it is not there."""
        row = self._row("select at from records where seq = ?", seq)
        return int(row[0]) if row else None

    def run(self, id: str) -> RunRow | None:
        """The run with this id."""
        row = self._row(f"select {_RUN_COLUMNS} from runs where id = ?", id)
        return None if row is None else run_row(row)

    def run_by_key(self, run_key: int) -> RunRow | None:
        """The run with this key."""
        row = self._row(f"select {_RUN_COLUMNS} from runs where run_key = ?", run_key)
        return None if row is None else run_row(row)

    def run_view(self, id: str) -> RunDetail | None:
        """The run with its input, and its result if it has completed."""
        with read_errors(self._path), snapshot(self._db):
            found = one_row(self._db, f"select {_RUN_COLUMNS} from runs where id = ?", (id,))
            return None if found is None else history.detail(self._db, run_row(found))

    def run_ids_among(self, ids: Sequence[str]) -> set[str]:
        """Those of these ids that there are runs of: one statement for a whole batch."""
        if not ids:
            return set()
        if len(ids) == 1:
            return {row[0] for row in self._rows("select id from runs where id = ?", ids[0])}
        sql = "select id from runs where id in (select value from json_each(?))"
        return {row[0] for row in self._rows(sql, msgspec.json.encode(ids).decode())}

    def runs(
        self,
        *,
        status: str | Sequence[str] | None = None,
        workflow: str | None = None,
        session_id: str | None = None,
        tenant: str | None = None,
        attributes: dict[str, str] | None = None,
        limit: int = 50,
        cursor: str | None = None,
    ) -> Page:
        """A page of `RunView`, newest first; `attributes` match as text. Raises `BadCursor`."""
        statuses = [status] if isinstance(status, str) else list(dict.fromkeys(status)) if status else None
        equal = {"workflow": workflow, "session_id": session_id, "tenant": tenant}
        with read_errors(self._path), snapshot(self._db):
            return list_runs(
                self._db,
                statuses=statuses,
                equal={column: value for column, value in equal.items() if value is not None},
                attributes=attributes or {},
                limit=page_limit(limit),
                cursor=cursor,
            )

    def open_runs(
        self, *, statuses: Sequence[str] = OPEN_STATUSES, after_run_key: int = 0, limit: int = 500
    ) -> list[RunRow]:
        """The runs in these statuses, oldest first, after a run key: what a start must look at. Beside a live daemon
        too: one that goes from status to status meanwhile is there, once."""
        limit = page_limit(limit)
        sql = f"select {_RUN_COLUMNS} from runs where status = ? and run_key > ? order by run_key limit ?"
        with read_errors(self._path), snapshot(self._db):
            lists = [all_rows(self._db, sql, (status, after_run_key, limit)) for status in dict.fromkeys(statuses)]
        return [run_row(row) for row in list(heapq.merge(*lists))[:limit]]

    def queued_runs(self, now_us: int) -> list[QueuedRun]:
        """The open runs of queues, oldest first: those that have begun, and those whose turn may come by the instant
        `now_us`. One that is to start later is not among them; nor is one that was paused before it began."""
        statuses = ", ".join(f"'{status}'" for status in OPEN_STATUSES)
        sql = f"""select run_key, queue, priority, phase from runs r
            where status in ({statuses}) and queue is not null and not (phase = 'queued' and (paused or exists
            (select 1 from timers t where t.run_key = r.run_key and t.key = '' and t.due_at > ?))) order by run_key"""
        return [QueuedRun(*row) for row in self._rows(sql, now_us)]

    def counts(self) -> dict[tuple[str, str], int]:
        """How many runs there are, by workflow and status."""
        return {(row[0], row[1]): row[2] for row in self._rows("select workflow, status, n from run_counts where n")}

    def newest_run_key(self) -> int:
        """The largest run key in use; 0 for none."""
        row = self._row("select coalesce(max(run_key), 0) from runs")
        return int(row[0]) if row else 0

    def forgettable(self, older_than: int, after_run_key: int, now: int) -> Plan:
        """The next runs that ended before an instant; see `wal.retention.plan`."""
        with read_errors(self._path), snapshot(self._db):
            return retention.plan(self._db, older_than, after_run_key, now)

    def forgettable_answers(self, older_than: int, after: int, now: int) -> AnswersPlan:
        """The next first answers that were given before an instant; see `wal.retention.plan_answers`."""
        with read_errors(self._path), snapshot(self._db):
            return retention.plan_answers(self._db, older_than, after, now)

    def doubts(self) -> list[liveness.Doubt]:
        """Open runs that the journal shows no wake source for; see `wal.liveness`."""
        with read_errors(self._path), snapshot(self._db):
            return liveness.doubts(self._db)

    def last_backup(self) -> backup.Backup | None:
        """The last backup that was recorded."""
        with read_errors(self._path):
            return backup.last_recorded(self._db)

    # --- records --------------------------------------------------------------------------------------------------

    @contextlib.contextmanager
    def one_instant(self) -> Iterator[None]:
        """What is asked inside for a run and its records is of one instant: nothing of it is forgotten in between."""
        with read_errors(self._path), snapshot(self._db):
            yield

    def history(self, run_key: int, *, last_seq: int | None = None, after: int = 0) -> list[Entry]:
        """All entries of a run in order, for replay: those after `after`, up to `last_seq` (default: the last)."""
        with read_errors(self._path):
            return history.entries(self._db, run_key, last_seq=last_seq, after=after)

    def facts(self, last_seq: int, kinds: Sequence[str]) -> list[Fact]:
        """The records of these kinds of the run that a record belongs to, up to that record, in order."""
        with read_errors(self._path):
            return history.facts(self._db, last_seq, kinds)

    def history_page(
        self, id: str, *, after: int = 0, limit: int = 200, kinds: Sequence[str] | None = None
    ) -> Page | None:
        """A page of `HistoryRecord` of a run, oldest first, after a seq; its `next` is the seq to go on after, as
        text. None if there is no such run."""
        with read_errors(self._path), snapshot(self._db):
            return history.page(self._db, id, after=after, limit=page_limit(limit), kinds=kinds)

    def events(self, after_seq: int, limit: int = 500) -> list[EventView]:
        """The records after a seq, of all runs, in order; fewer than there are if they are large."""
        with read_errors(self._path):
            return history.events(self._db, after_seq, page_limit(limit))

    def events_of(
        self, kinds: Sequence[str], *, after: int, upto: int, limit: int = 500
    ) -> tuple[int, list[EventView]]:
        """The records of these kinds after a seq and up to another, and how far that has looked."""
        with read_errors(self._path):
            return history.events_of(self._db, kinds, after=after, upto=upto, limit=page_limit(limit))

    def audit_page(self, *, after: int = 0, limit: int = 50) -> Page:
        """A page of `AuditView`, oldest first, after a seq; its `next` is the seq to go on after, as text, and a page
        may be short, even empty, before the end."""
        with read_errors(self._path), snapshot(self._db):
            return history.audit_page(self._db, after=after, limit=page_limit(limit))

    # --- timers, signals, answers ---------------------------------------------------------------------------------

    def due_timers(
        self, *, after: tuple[int, int, str] | None = None, until: int | None = None, limit: int = 1000
    ) -> list[TimerRow]:
        """The timers that are set, earliest first, if given only those that follow `after` in this order, and those
        due by `until` (microseconds)."""
        after = (-(2**63), 0, "") if after is None else after
        until = 2**63 - 1 if until is None else until
        sql = """select due_at, run_key, key from timers where (due_at, run_key, key) > (?, ?, ?) and due_at <= ?
            order by due_at, run_key, key limit ?"""
        return [TimerRow(*row) for row in self._rows(sql, *after, until, max(1, min(limit, 10_000)))]

    def timers_of(self, run_key: int) -> list[TimerRow]:
        """The timers of one run."""
        sql = "select due_at, run_key, key from timers where run_key = ? order by due_at, key"
        return [TimerRow(*row) for row in self._rows(sql, run_key)]

    def signal_seen(self, run_key: int, signal_id: str) -> int | None:
        """The seq of the signal that this run already has under this id."""
        row = self._row("select seq from signals where run_key = ? and signal_id = ?", run_key, signal_id)
        return None if row is None else int(row[0])

    def answer(self, principal: str, key: str) -> AnswerRow | None:
        """The first answer under an idempotency key of a principal."""
        sql = "select digest, status, body, seq, at from answers where principal = ? and idempotency_key = ?"
        row = self._row(sql, principal, key)
        return None if row is None else AnswerRow(row[0], row[1], Raw(row[2].encode()), row[3], row[4])

    # --- approvals ------------------------------------------------------------------------------------------------

    def approval(self, id: str) -> ApprovalView | None:
        """The approval with this id."""
        row = self.approval_row(id)
        return None if row is None else row.view

    def approval_row(self, id: str) -> approvals.ApprovalRow | None:
        """The same with the key of its run."""
        with read_errors(self._path):
            return approvals.find(self._db, id)

    def approval_page(
        self, *, status: str | None = None, run_id: str | None = None, limit: int = 50, cursor: str | None = None
    ) -> Page:
        """A page of `ApprovalView`, newest first. Raises `BadCursor`."""
        with read_errors(self._path), snapshot(self._db):
            run_key = None
            if run_id is not None:
                row = self.run(run_id)
                run_key = -1 if row is None else row.run_key
            return approvals.page(self._db, status=status, run_key=run_key, limit=page_limit(limit), cursor=cursor)

    def approvals_open(self) -> int:
        """How many approvals wait for people."""
        with read_errors(self._path):
            return approvals.count_open(self._db)

    # --- sessions and state ---------------------------------------------------------------------------------------

    def session(self, id: str) -> SessionView | None:
        """The session with this id."""
        row = self._row("select * from sessions where id = ?", id)
        return None if row is None else session_view(row)

    def sessions(
        self, *, status: str | None = None, tenant: str | None = None, limit: int = 50, cursor: str | None = None
    ) -> Page:
        """A page of `SessionView`, newest first. Raises `BadCursor`."""
        equal = {"status": status, "tenant": tenant}
        wanted = {column: value for column, value in equal.items() if value is not None}
        with read_errors(self._path), snapshot(self._db):
            return list_sessions(self._db, equal=wanted, limit=page_limit(limit), cursor=cursor)

    def expiring_sessions(self, limit: int = 500) -> list[ExpiringSession]:
        """The open sessions that expire at all, earliest first."""
        sql = """select id, expires_at from sessions where status = 'open' and expires_at is not null
                 order by expires_at, id limit ?"""
        return [ExpiringSession(*row) for row in self._rows(sql, page_limit(limit))]

    def open_run_keys(self, session_id: str, *, after: int = 0, limit: int = 500) -> list[tuple[int, str]]:
        """The keys and ids of a session's runs that are neither over nor being undone, by key, behind `after`."""
        sql = f"""select run_key, id from runs r where session_id = ? and run_key > ? and {_CANCELLABLE}
                  order by run_key limit ?"""
        return [(row[0], row[1]) for row in self._rows(sql, session_id, after, limit)]

    def ended_sessions_with_open_runs(self) -> list[str]:
        """Ended sessions with `on_close = cancel` whose runs are neither all over nor being undone: a crash came in
        between. All of them: whoever asks does so once, as it starts."""
        sql = f"""select distinct s.id from runs r cross join sessions s on s.id = r.session_id
                  where {_CANCELLABLE} and s.status <> 'open' and s.on_close = 'cancel'"""
        return [row[0] for row in self._rows(sql)]

    def state(self, scope: str, key: str) -> StateRow | None:
        """A value of the state surface, also a deleted one (its version counts on)."""
        row = self._row(f"select {_STATE_COLUMNS} from state where scope = ? and key = ?", scope, key)
        if row is None:
            return None
        *_, version, deleted, tenant, classification, updated_at, value = row
        return StateRow(scope, key, version, bool(deleted), tenant, classification, updated_at, Raw(value.encode()))

    def has_state(self, scope: str) -> bool:
        """Whether there is a row of this scope, be it of a deleted value."""
        return self._row("select 1 from state where scope = ? limit 1", scope) is not None

    def states(self, scope: str, *, limit: int = 50, cursor: str | None = None) -> Page:
        """A page of `StateView` of one scope, by key. Raises `BadCursor`."""
        with read_errors(self._path), snapshot(self._db):
            return list_states(self._db, scope, limit=page_limit(limit), cursor=cursor)

    # --- what comes in, and who may (since schema 2: a reader of an older file finds nothing of it) -----------------

    @property
    def _is_old(self) -> bool:
        return user_version(self._db) < 2

    def connector(self, name: str) -> intake.ConnectorRow:
        """What the journal knows of a connector; one that has recorded nothing yet begins at the beginning."""
        with read_errors(self._path):
            found = None if self._is_old else intake.connector(self._db, name)
            return found or intake.ConnectorRow(name)

    def connectors(self) -> list[intake.ConnectorRow]:
        """All connectors that have recorded anything, by name."""
        with read_errors(self._path):
            return [] if self._is_old else intake.connectors(self._db)

    def delivered(self, source: str, keys: Sequence[str]) -> set[str]:
        """Those of these keys that this source (a connector, or `webhook:NAME`) has delivered before."""
        with read_errors(self._path):
            return set() if self._is_old else intake.delivered(self._db, source, keys)

    def deliveries(self, source: str) -> int:
        """How many keys this source has delivered."""
        with read_errors(self._path):
            return 0 if self._is_old else intake.deliveries(self._db, source)

    def delivery_seq(self, source: str, key: str) -> int | None:
        """The record by which this source delivered this key."""
        with read_errors(self._path):
            return None if self._is_old else intake.delivery_seq(self._db, source, key)

    def shape(self, connector: str, stream: str) -> Raw | None:
        """The shape (JSON Schema) that a stream of a connector was last taken over with."""
        with read_errors(self._path):
            return None if self._is_old else intake.shape(self._db, connector, stream)

    def streams(self) -> list[intake.StreamRow]:
        """The streams of the record store, by name."""
        with read_errors(self._path):
            return [] if self._is_old else intake.streams(self._db)

    def stored(self, stream: str, *, after: int = 0, limit: int = 50) -> Page | None:
        """A page of `StoredView` of a stream, after a position. None if there is no such stream."""
        with read_errors(self._path), snapshot(self._db):
            return None if self._is_old else intake.stored_page(self._db, stream, after=after, limit=page_limit(limit))

    def unchanged(self, stream: str, items: Sequence[StoredItem]) -> set[str]:
        """The keys of those items that the record store holds just so."""
        with read_errors(self._path):
            return set() if self._is_old or not items else intake.unchanged(self._db, stream, items)

    def tokens(self) -> list[tokens.TokenRow]:
        """All bearer tokens that were ever made, oldest first."""
        with read_errors(self._path):
            return [] if self._is_old else tokens.all_tokens(self._db)

    # --- the file -------------------------------------------------------------------------------------------------

    def statistics(self) -> JournalStatistics:
        """Sizes and counts of the journal."""
        with read_errors(self._path), snapshot(self._db):
            return _statistics(self._db, self._path)


def _statistics(db: apsw.Connection, path: Path | None) -> JournalStatistics:
    def one(sql: str) -> int:
        return int(scalar(db, sql))

    open_list = ", ".join(f"'{status}'" for status in OPEN_STATUSES)
    wal = None if path is None else path.with_name(path.name + "-wal")
    return JournalStatistics(
        seq=one("select coalesce(max(seq), 0) from records"),
        first_seq=one("select coalesce(min(seq), 0) from records"),
        created_at=one("select value from meta where key = 'created_at'"),
        schema=user_version(db),
        page_bytes=int(db.pragma("page_size")),
        pages=int(db.pragma("page_count")),
        free_pages=int(db.pragma("freelist_count")),
        db_bytes=path.stat().st_size if path else 0,
        wal_bytes=wal.stat().st_size if wal and wal.exists() else 0,
        checksums=db.reserve_bytes() >= 8,
        runs=one("select coalesce(sum(n), 0) from run_counts"),
        runs_open=one(f"select coalesce(sum(n), 0) from run_counts where status in ({open_list})"),
        timers=one("select count(*) from timers"),
        sessions=one("select count(*) from sessions"),
        state_values=one("select count(*) from state where not deleted"),
        disk_free_bytes=upkeep.free_bytes(path.parent) if path else 0,
    )


__all__ = ["Reader"]
