"""What a commit updates beside the log, in the same transaction: runs, counts, timers, signals, sessions, state.

Everything here is a function of the records, so it can be thrown away and computed anew (`wal.verify` does). A batch
is folded in Python first and then written: the row of a run is updated once a commit, however many records it got.
A contradiction (a record for no run, a broken `prev_seq`) is a defect of whoever submitted it and raises
`ProjectionError`; the caller rolls the transaction back.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

import apsw
import msgspec

from wal import approvals, backup, intake, retention, tokens
from wal.connections import one_row, scalar
from wal.records import (
    AnswersForgotten,
    ApprovalDecided,
    ApprovalRequested,
    ApprovalVoted,
    ApprovalWithdrawn,
    AttributesSet,
    BackupTaken,
    CompensationFailed,
    ConnectorPaused,
    ConnectorQuarantined,
    ConnectorReset,
    ConnectorResumed,
    CursorAdvanced,
    DeliveryRefused,
    Entry,
    ErrorData,
    Fact,
    RecordsStored,
    RequestAnswered,
    RunCancelled,
    RunFailed,
    RunsForgotten,
    RunStarted,
    SchemaSeen,
    SessionClosed,
    SessionExpired,
    SessionOpened,
    SessionTouched,
    SignalReceived,
    StateWritten,
    StepFailed,
    TimerCancelled,
    TimerFired,
    TimerSet,
    TokenCreated,
    TokenRevoked,
    TokensUsed,
    WebhookReceived,
)
from wal.run_status import MOVERS, RunState, advance, begin

KNOWN_RUNS_MAX = 20_000
"""How many open runs' rows are kept in memory between commits (some 300 bytes each)."""

ATTRIBUTE_CHARS_MAX = 512
"""A longer attribute is kept in the run but cannot be searched for."""

_LOAD = """select workflow, last_seq, phase, paused, waiting_on, waiting_until, error from runs where run_key = ?"""
_INSERT = """insert into runs (run_key, id, workflow, version, phase, paused, status, waiting_on, waiting_until,
    session_id, tenant, classification, queue, priority, parent_id, trace_id, attributes, created_at, updated_at,
    ended_at, error, first_seq, last_seq, end_seq)
    values (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"""
_FORGET = "select workflow, status, ended_at, last_seq, attributes from runs where run_key = ?"
_TOUCH = "update runs set last_seq = ?, updated_at = ? where run_key = ?"
_MOVE = """update runs set phase = ?, paused = ?, status = ?, waiting_on = ?, waiting_until = ?, error = ?,
    ended_at = coalesce(ended_at, ?), end_seq = coalesce(end_seq, ?), last_seq = ?, updated_at = ? where run_key = ?"""
_COUNT = "insert into run_counts values (?, ?, ?) on conflict do update set n = n + excluded.n"
_STATE = """insert into state (scope, key, version, deleted, tenant, classification, updated_at, value)
    values (?, ?, ?, ?, ?, ?, ?, ?) on conflict (scope, key) do update set version = excluded.version,
    deleted = excluded.deleted, tenant = excluded.tenant, classification = excluded.classification,
    updated_at = excluded.updated_at, value = excluded.value where excluded.version > state.version"""
_SESSION = "insert into sessions values (?, ?, 'open', ?, ?, ?, ?, ?, ?, ?, ?, ?, null)"

_encoder = msgspec.json.Encoder()
_error_decoder = msgspec.json.Decoder(ErrorData)


class ProjectionError(Exception):
    """A batch contradicts what is recorded; a defect of its sender."""


class RunChange:
    """A run that the batch at hand touches: what its row says, folded on."""

    __slots__ = ("attributes", "before", "ended", "last_seq", "run_key", "started", "state", "updated_at", "workflow")

    def __init__(self, run_key: int, workflow: str, state: RunState, last_seq: int) -> None:
        self.run_key = run_key
        self.workflow = workflow
        self.before = state
        self.state = state
        self.last_seq = last_seq
        self.updated_at = 0
        self.started: Entry | None = None  # the batch began the run with this
        self.ended: Entry | None = None  # the batch ended the run with this
        self.attributes: dict[str, Any] | None = None  # all of them, once the batch has changed any


class Projector:
    """Applies batches to the derived tables of one connection. Call `apply` within a transaction."""

    def __init__(self, connection: apsw.Connection) -> None:
        self._db = connection
        self._runs: dict[int, RunChange] = {}
        self._known: dict[int, tuple[str, RunState, int]] = {}  # open runs as their rows are: saves a read a commit
        self._timers: dict[tuple[int, str], int | None] = {}  # the last word on each: due, or None for gone

    def apply(self, entries: Iterable[Entry]) -> None:
        """Fold a batch into the tables. Raises `ProjectionError`, or an `apsw.Error` of SQLite's."""
        self._runs, self._timers = {}, {}
        for entry in entries:
            record = entry.record
            if entry.run_key:
                change = self._advance(entry, record)
            else:
                change = None
                _expect_outside(entry)
            effect = EFFECTS.get(type(record))
            if effect is not None:
                effect(self, entry, record, change)
        self._write()

    def _write(self) -> None:
        """Write what was folded so far."""
        self._write_runs()
        if self._timers:
            self._write_timers()
        self._remember()
        self._runs, self._timers = {}, {}

    # --- runs -----------------------------------------------------------------------------------------------------

    def _advance(self, entry: Entry, record: Fact) -> RunChange:
        run_key, seq = entry.run_key, entry.seq
        change = self._runs.get(run_key)
        if change is None:
            change = _started(entry, record) if type(record) is RunStarted else self._load(entry)
            self._runs[run_key] = change
        if entry.prev_seq != change.last_seq:
            raise ProjectionError(f"record {seq} of a run follows {entry.prev_seq}, not {change.last_seq}")
        change.last_seq = seq
        change.updated_at = entry.at
        if type(record) in MOVERS:
            was_ended = change.state.ended
            change.state = advance(change.state, record)
            if change.state.ended and not was_ended:
                change.ended = entry
        return change

    def _remember(self) -> None:
        # The transaction is not committed yet. If that fails, the journal is dead and this object with it.
        known = self._known
        if len(known) > KNOWN_RUNS_MAX:
            known.clear()
        for run_key, change in self._runs.items():
            if change.ended is None:
                known[run_key] = (change.workflow, change.state, change.last_seq)
            else:
                known.pop(run_key, None)

    def _load(self, entry: Entry) -> RunChange:
        known = self._known.get(entry.run_key)
        if known is not None:
            return RunChange(entry.run_key, *known)
        row = one_row(self._db, _LOAD, (entry.run_key,))
        if row is None:
            raise ProjectionError(f"record {entry.seq} ({entry.record.kind}) is of run {entry.run_key}: there is none")
        workflow, last_seq, phase, paused, waiting_on, waiting_until, error = row
        decoded = None if error is None else _error_decoder.decode(error)
        state = RunState(phase, bool(paused), waiting_on, waiting_until, decoded)
        return RunChange(entry.run_key, workflow, state, last_seq)

    def _write_runs(self) -> None:
        inserts: list[tuple[Any, ...]] = []
        moves: list[tuple[Any, ...]] = []
        touches: list[tuple[int, int, int]] = []
        counts: dict[tuple[str, str], int] = {}
        for change in self._runs.values():
            if change.started is not None:
                inserts.append(_insert_row(change, change.started))
                counted = change.workflow, change.state.status
                counts[counted] = counts.get(counted, 0) + 1
            elif change.state is change.before:
                touches.append((change.last_seq, change.updated_at, change.run_key))
            else:
                moves.append(_move_row(change))
                counted = change.workflow, change.before.status
                counts[counted] = counts.get(counted, 0) - 1
                counted = change.workflow, change.state.status
                counts[counted] = counts.get(counted, 0) + 1
            if change.ended is not None:
                self._db.execute("delete from timers where run_key = ?", (change.run_key,))
        for sql, rows in (_INSERT, inserts), (_MOVE, moves), (_TOUCH, touches):
            if rows:
                self._db.executemany(sql, rows)
        for (workflow, status), n in counts.items():
            if n:
                self._db.execute(_COUNT, (workflow, status, n))

    # --- timers: only what is left of them at the end of the batch is written -------------------------------------

    def _write_timers(self) -> None:
        runs = self._runs
        due = [
            (run, key, at) for (run, key), at in self._timers.items() if at is not None and not runs[run].state.ended
        ]
        gone = [timer for timer, at in self._timers.items() if at is None]
        if due:
            self._db.executemany("insert or replace into timers values (?, ?, ?)", due)
        if gone:
            self._db.executemany("delete from timers where run_key = ? and key = ?", gone)

    # --- the effects of single records ----------------------------------------------------------------------------

    def _run_started(self, entry: Entry, record: RunStarted, change: RunChange) -> None:
        if record.attributes:
            self._index_attributes(entry.run_key, record.attributes)
        if record.start_at is not None:
            self._timers[entry.run_key, ""] = record.start_at

    def _timer_set(self, entry: Entry, record: TimerSet, change: RunChange) -> None:
        self._timers[entry.run_key, record.key] = record.due_at

    def _timer_gone(self, entry: Entry, record: TimerFired | TimerCancelled, change: RunChange) -> None:
        self._timers[entry.run_key, record.key] = None
        if isinstance(record, TimerFired) and record.key:
            approvals.closed(self._db, entry, record)

    def _approval_requested(self, entry: Entry, record: ApprovalRequested, change: RunChange) -> None:
        approvals.requested(self._db, entry, record)
        if record.expires_at is not None:
            self._timers[entry.run_key, record.key] = record.expires_at

    def _approval_voted(self, entry: Entry, record: ApprovalVoted, change: RunChange) -> None:
        if not approvals.voted(self._db, entry, record):
            raise ProjectionError(f"record {entry.seq} votes on call {record.key}, which is not an open approval")

    def _approval_closed(self, entry: Entry, record: ApprovalDecided | ApprovalWithdrawn, change: RunChange) -> None:
        self._timers[entry.run_key, record.key] = None
        if not approvals.closed(self._db, entry, record):
            raise ProjectionError(f"record {entry.seq} closes call {record.key}, which is not an open approval")

    def _run_ended(self, entry: Entry, record: Fact, change: RunChange) -> None:
        approvals.run_ended(self._db, entry)

    def _attempt_failed(self, entry: Entry, record: StepFailed | CompensationFailed, change: RunChange) -> None:
        if record.retry_at is not None:
            self._timers[entry.run_key, record.key] = record.retry_at

    def _attributes_set(self, entry: Entry, record: AttributesSet, change: RunChange) -> None:
        before = change.attributes
        if before is None:
            text = scalar(self._db, "select attributes from runs where run_key = ?", (entry.run_key,))
            before = msgspec.json.decode(text, type=dict[str, Any])
        shared = before.keys() & record.attributes.keys()
        self._unindex_attributes(entry.run_key, {key: before[key] for key in shared})
        change.attributes = before | record.attributes
        self._index_attributes(entry.run_key, record.attributes)
        if change.started is None:
            text = _encoder.encode(change.attributes).decode()
            self._db.execute("update runs set attributes = ? where run_key = ?", (text, entry.run_key))

    def _index_attributes(self, run_key: int, attributes: dict[str, Any]) -> None:
        for key, value in attributes.items():
            text = attribute_text(value)
            if text is not None:
                self._db.execute("insert into run_attributes values (?, ?, ?)", (key, text, run_key))

    def _unindex_attributes(self, run_key: int, attributes: dict[str, Any]) -> None:
        rows = [(key, attribute_text(value), run_key) for key, value in attributes.items()]
        self._db.executemany("delete from run_attributes where key = ? and value = ? and run_key = ?", rows)

    def _signal_received(self, entry: Entry, record: SignalReceived, change: RunChange) -> None:
        if record.signal_id is not None:
            self._db.execute("insert into signals values (?, ?, ?)", (entry.run_key, record.signal_id, entry.seq))

    def _state_written(self, entry: Entry, record: StateWritten, change: RunChange | None) -> None:
        value = "null" if record.deleted else bytes(record.value).decode()
        row = (record.scope, record.name, record.version, int(record.deleted), record.tenant, record.classification)
        self._db.execute(_STATE, (*row, entry.at, value))
        if not self._db.changes():
            raise ProjectionError(f"record {entry.seq} writes an old version of {record.scope}/{record.name}")

    def _session_opened(self, entry: Entry, record: SessionOpened, change: RunChange | None) -> None:
        attributes = _encoder.encode(record.attributes).decode()
        row = (entry.seq, record.id, record.tenant, record.subject, record.classification, record.ttl)
        rest = (record.expires_at, record.on_close, attributes, record.trace_id, entry.at)
        self._db.execute(_SESSION, (*row, *rest))

    def _session_touched(self, entry: Entry, record: SessionTouched, change: RunChange | None) -> None:
        self._db.execute("update sessions set expires_at = ? where id = ?", (record.expires_at, record.id))
        self._expect_session(entry, record.id)

    def _session_ended(self, entry: Entry, record: SessionExpired | SessionClosed, change: RunChange | None) -> None:
        status = "expired" if isinstance(record, SessionExpired) else "closed"
        self._db.execute("update sessions set status = ?, closed_at = ? where id = ?", (status, entry.at, record.id))
        self._expect_session(entry, record.id)

    def _expect_session(self, entry: Entry, session_id: str) -> None:
        if not self._db.changes():
            raise ProjectionError(f"record {entry.seq} ({entry.record.kind}) is of session {session_id}: there is none")

    def _request_answered(self, entry: Entry, record: RequestAnswered, change: RunChange | None) -> None:
        row = (record.principal, record.idempotency_key, record.digest, record.status)
        body = bytes(record.body).decode()
        self._db.execute("insert into answers values (?, ?, ?, ?, ?, ?, ?)", (*row, body, entry.seq, entry.at))

    def _runs_forgotten(self, entry: Entry, record: RunsForgotten, change: RunChange | None) -> None:
        self._write()  # the runs may be of this batch, if it is a large one
        for run_key in record.run_keys:
            row = one_row(self._db, _FORGET, (run_key,))
            if row is None:
                continue  # it was forgotten before
            workflow, status, ended_at, last_seq, text = row
            if ended_at is None:
                raise ProjectionError(f"record {entry.seq} forgets run {run_key}, which has not ended")
            attributes = msgspec.json.decode(text, type=dict[str, Any])
            self._unindex_attributes(run_key, attributes)
            retention.forget(self._db, run_key, last_seq)
            self._db.execute(_COUNT, (workflow, status, -1))
            self._known.pop(run_key, None)
        retention.forget_state(self._db, record.scopes)

    def _answers_forgotten(self, entry: Entry, record: AnswersForgotten, change: RunChange | None) -> None:
        retention.forget_answers(self._db, record.seqs)

    def _outside(self, entry: Entry, record: Fact, change: RunChange | None) -> None:
        OUTSIDE[type(record)](self._db, entry, record)


OUTSIDE: Mapping[type[Fact], Callable[[apsw.Connection, Entry, Any], None]] = {
    RecordsStored: intake.records_stored,
    CursorAdvanced: intake.cursor_advanced,
    DeliveryRefused: intake.delivery_refused,
    SchemaSeen: intake.schema_seen,
    ConnectorPaused: intake.connector_moved,
    ConnectorResumed: intake.connector_moved,
    ConnectorQuarantined: intake.connector_moved,
    ConnectorReset: intake.connector_reset,
    WebhookReceived: intake.webhook_received,
    TokenCreated: tokens.created,
    TokenRevoked: tokens.revoked,
    TokensUsed: tokens.used,
    BackupTaken: backup.taken,
}
"""Records that belong to no run, and what each does to tables of its own."""

EFFECTS: Mapping[type[Fact], Callable[[Projector, Entry, Any, Any], None]] = {
    RunStarted: Projector._run_started,
    TimerSet: Projector._timer_set,
    TimerFired: Projector._timer_gone,
    TimerCancelled: Projector._timer_gone,
    StepFailed: Projector._attempt_failed,
    CompensationFailed: Projector._attempt_failed,
    ApprovalRequested: Projector._approval_requested,
    ApprovalVoted: Projector._approval_voted,
    ApprovalDecided: Projector._approval_closed,
    ApprovalWithdrawn: Projector._approval_closed,
    RunFailed: Projector._run_ended,
    RunCancelled: Projector._run_ended,
    AttributesSet: Projector._attributes_set,
    SignalReceived: Projector._signal_received,
    StateWritten: Projector._state_written,
    SessionOpened: Projector._session_opened,
    SessionTouched: Projector._session_touched,
    SessionExpired: Projector._session_ended,
    SessionClosed: Projector._session_ended,
    RequestAnswered: Projector._request_answered,
    RunsForgotten: Projector._runs_forgotten,
    AnswersForgotten: Projector._answers_forgotten,
    **dict.fromkeys(OUTSIDE, Projector._outside),
}
"""Type of record -> what it does beside moving its run; the hot records (steps) are not here."""

RUN_ONLY: frozenset[type[Fact]] = frozenset(
    {
        RunStarted,
        TimerSet,
        TimerFired,
        TimerCancelled,
        StepFailed,
        CompensationFailed,
        AttributesSet,
        SignalReceived,
        ApprovalRequested,
        ApprovalVoted,
        ApprovalDecided,
        ApprovalWithdrawn,
        RunFailed,
        RunCancelled,
    }
)
"""Records whose effect needs a run; one that belongs to none is a contradiction."""


def attribute_text(value: Any) -> str | None:
    """A scalar attribute as the text that it is searched by; None for what cannot be searched."""
    if isinstance(value, str):
        text = value
    elif value is None or isinstance(value, bool | int | float):
        text = _encoder.encode(value).decode()
    else:
        return None
    return text if len(text) <= ATTRIBUTE_CHARS_MAX else None


def _expect_outside(entry: Entry) -> None:
    """Raise unless the record may belong to no run."""
    if entry.prev_seq or type(entry.record) in RUN_ONLY:
        raise ProjectionError(f"record {entry.seq} ({entry.record.kind}) belongs to no run")


def _started(entry: Entry, record: RunStarted) -> RunChange:
    change = RunChange(entry.run_key, record.workflow, begin(record), last_seq=0)
    change.started, change.attributes = entry, record.attributes
    return change


def _insert_row(change: RunChange, entry: Entry) -> tuple[Any, ...]:
    record, state, end = entry.record, change.state, change.ended
    assert isinstance(record, RunStarted)
    attributes = _encoder.encode(change.attributes).decode() if change.attributes else "{}"
    return (
        change.run_key, record.id, record.workflow, record.version, state.phase, int(state.paused), state.status,
        state.waiting_on, state.waiting_until, record.session_id, record.tenant, record.classification, record.queue,
        record.priority, record.parent_id, record.trace_id, attributes, entry.at, change.updated_at,
        end and end.at, _error_text(state), entry.seq, change.last_seq, end and end.seq,
    )  # fmt: skip


def _move_row(change: RunChange) -> tuple[Any, ...]:
    state, end = change.state, change.ended
    return (
        state.phase, int(state.paused), state.status, state.waiting_on, state.waiting_until, _error_text(state),
        end and end.at, end and end.seq, change.last_seq, change.updated_at, change.run_key,
    )  # fmt: skip


def _error_text(state: RunState) -> str | None:
    return None if state.error is None else _encoder.encode(state.error).decode()
