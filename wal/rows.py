"""What readers hand to the runtime: rows as frozen values with integer instants (microseconds since the epoch)."""

from __future__ import annotations

from typing import Any, NamedTuple

import msgspec
from msgspec import Raw

from wal.records import ErrorData
from wal.run_status import BLOCKED_PHASES, COMPENSATING_PHASES


class RunRow(msgspec.Struct, frozen=True, gc=False):
    """A run as its row says it. `phase` is finer than `status`, see `wal.run_status`."""

    run_key: int
    id: str
    workflow: str
    version: str | None
    phase: str
    paused: bool
    status: str
    waiting_on: str | None
    waiting_until: int | None
    session_id: str | None
    tenant: str | None
    classification: str
    queue: str | None
    priority: int
    parent_id: str | None
    trace_id: str | None
    attributes: dict[str, Any]
    created_at: int
    updated_at: int
    ended_at: int | None
    error: ErrorData | None
    first_seq: int
    last_seq: int
    end_seq: int | None

    @property
    def blocked(self) -> bool:
        """Whether the run stands still until a person acts, going forward or compensating, paused or not."""
        return self.phase in BLOCKED_PHASES

    @property
    def compensating(self) -> bool:
        """Whether the run is undoing its steps, also while that is blocked."""
        return self.phase in COMPENSATING_PHASES


class TimerRow(NamedTuple):
    """A timer that is set: when, of which run, for which call (empty: the run's own start)."""

    due_at: int
    run_key: int
    key: str


class QueuedRun(NamedTuple):
    """An open run of a queue; in the phase `queued` it waits for its turn."""

    run_key: int
    queue: str
    priority: int
    phase: str


class AnswerRow(msgspec.Struct, frozen=True, gc=False):
    """The first answer to an idempotency key, with the digest of the request that it answered."""

    digest: str
    status: int
    body: Raw
    seq: int
    at: int


class StateRow(msgspec.Struct, frozen=True, gc=False):
    """A value of the state surface. A deleted one is still there, with the version that the next write exceeds."""

    scope: str
    key: str
    version: int
    deleted: bool
    tenant: str | None
    classification: str
    updated_at: int
    value: Raw


class ExpiringSession(NamedTuple):
    """An open session and the instant at which it expires."""

    id: str
    expires_at: int


class JournalStatistics(msgspec.Struct, frozen=True, gc=False):
    """Sizes in bytes and counts. `free_pages` are inside the file, kept for later."""

    seq: int
    first_seq: int
    created_at: int
    schema: int
    page_bytes: int
    pages: int
    free_pages: int
    db_bytes: int
    wal_bytes: int
    checksums: bool
    runs: int
    runs_open: int
    timers: int
    sessions: int
    state_values: int
    disk_free_bytes: int


class Candidate(msgspec.Struct, frozen=True, gc=False):
    """A run that may be forgotten: it has ended before the instant asked for, and no open run is its parent."""

    run_key: int
    id: str
    ended_at: int
    records: int


class Plan(msgspec.Struct, frozen=True, gc=False):
    """Runs to forget in one commit, and the run key after which to look on; None if there is nothing further."""

    runs: list[Candidate]
    next: int | None


class AnswersPlan(msgspec.Struct, frozen=True, gc=False):
    """First answers to forget in one commit, by their records, and the mark after which to look on; None if there is
    nothing further."""

    seqs: list[int]
    next: int | None
