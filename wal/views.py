"""What readers of the journal get: frozen values with the field names of the public contract.

Instants are RFC 3339 text in UTC with microseconds; payloads are JSON as it was recorded (`msgspec.Raw`).
"""

from __future__ import annotations

from datetime import UTC, datetime
from functools import lru_cache
from typing import Any

import msgspec
from msgspec import Raw

NULL = Raw(b"null")


FIRST_US, LAST_US = -62_135_596_800_000_000, 253_402_300_799_999_999
"""The years 1 to 9999, which is what RFC 3339 can tell."""


def rfc3339(at: int | None) -> str | None:
    """An instant in microseconds since the epoch as RFC 3339 text, or None. One beyond the years that there are is told
    as the first or last of them: whoever lists it is to see the rest."""
    if at is None:
        return None
    seconds, micros = divmod(min(max(at, FIRST_US), LAST_US), 1_000_000)
    return f"{_to_the_second(seconds)}.{micros:06d}Z"


@lru_cache(maxsize=64)  # instants that are told together are of the same few seconds
def _to_the_second(seconds: int) -> str:
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="seconds").removesuffix("+00:00")


class ErrorView(msgspec.Struct, frozen=True, gc=False):
    """Why a run failed or is blocked. For a blocked run `type` is the block's code (`code_error`, ...)."""

    type: str
    message: str
    step: str | None = None


class RunView(msgspec.Struct, frozen=True, gc=False):
    """A run as lists show it."""

    id: str
    workflow: str
    status: str
    version: str | None = None
    waiting_on: str | None = None
    waiting_until: str | None = None
    session_id: str | None = None
    tenant: str | None = None
    classification: str = "platform"
    queue: str | None = None
    priority: int = 0
    parent_id: str | None = None
    trace_id: str | None = None
    attributes: dict[str, Any] = {}
    created_at: str | None = None
    updated_at: str | None = None
    ended_at: str | None = None
    error: ErrorView | None = None
    seq: int = 0


class RunDetail(RunView, frozen=True, gc=False):
    """A run whole: with its input, and its result once there is one."""

    input: Raw = NULL
    result: Raw = NULL


class HistoryRecord(msgspec.Struct, frozen=True, gc=False):
    """One record of a run's history, or one event of the feed (then with `run_id`)."""

    seq: int
    at: str
    kind: str
    call: str | None
    name: str | None
    attempt: int | None
    data: Raw


class EventView(msgspec.Struct, frozen=True, gc=False):
    """One committed record as the event stream tells it."""

    seq: int
    at: str
    kind: str
    run_id: str | None
    workflow: str | None
    trace_id: str | None
    call: str | None
    name: str | None
    attempt: int | None
    data: Raw


class AuditView(msgspec.Struct, frozen=True, gc=False):
    """One call that changed something: what, on what, by whom, from where, why."""

    seq: int
    at: str
    action: str
    target: str
    by: str | None
    via: str | None
    reason: str | None
    trace_id: str | None


class SessionView(msgspec.Struct, frozen=True, gc=False):
    """A session."""

    id: str
    status: str
    tenant: str | None = None
    subject: str | None = None
    classification: str = "platform"
    ttl: float | None = None
    expires_at: str | None = None
    on_close: str = "leave"
    attributes: dict[str, Any] = {}
    trace_id: str | None = None
    created_at: str | None = None
    closed_at: str | None = None


class Vote(msgspec.Struct, frozen=True, gc=False):
    """What one person said, when, and from where."""

    by: str | None
    approve: bool
    reason: str | None
    at: str
    via: str | None = None


class ApprovalView(msgspec.Struct, frozen=True, gc=False):
    """A request to people. `status` is `open | approved | refused | expired | withdrawn`; `call` the run's call."""

    id: str
    run_id: str
    workflow: str
    call: str
    title: str
    detail: Raw
    form: Raw
    roles: list[str]
    quorum: int
    risk: str
    four_eyes: bool
    status: str
    requested_at: str | None
    expires_at: str | None
    payload_hash: str
    votes: list[Vote]
    decided_at: str | None


class StateView(msgspec.Struct, frozen=True, gc=False):
    """One value of the state surface; `version` counts its writes, from 1."""

    scope: str
    key: str
    value: Raw
    version: int
    tenant: str | None = None
    classification: str = "platform"
    updated_at: str | None = None


class Page(msgspec.Struct, frozen=True, gc=False):
    """A page of a list: the items, the opaque cursor of the next page or None, how many match in all, and the seq
    that the page is true for."""

    items: list[Any]
    next: str | None = None
    total: int | None = None
    seq: int = 0


class ActorView(msgspec.Struct, frozen=True, gc=False):
    """One actor of the supervision tree; `status` is `up | restarting | stopped | failed`."""

    path: str
    status: str
    restarts: int
    strategy: str | None
    mailbox_size: int
    mailbox_limit: int
    last_error: str | None = None
    statistics: dict[str, Any] = {}


class StoredView(msgspec.Struct, frozen=True, gc=False):
    """One record of the record store. `seq` is its position: it rises with every change, so that reading on after the
    last one seen misses nothing."""

    seq: int
    key: str
    at: str
    deleted: bool
    data: Raw


class ConnectorView(msgspec.Struct, frozen=True, gc=False):
    """One connector or webhook. `status` is `ok | polling | paused | backoff | open_breaker | quarantined`; `cursor`
    is JSON, `lag` seconds since it last read everything there was, `records_15m` what was new in the last quarter of an
    hour; None where that is not known."""

    name: str
    kind: str
    status: str
    cursor: Raw = NULL
    lag: float | None = None
    last_poll_at: str | None = None
    next_poll_at: str | None = None
    last_error: str | None = None
    records_total: int = 0
    errors_total: int = 0
    deliver: str = ""
    generation: int = 0
    repeated_total: int = 0
    refused_total: int = 0
    polls_total: int = 0
    failures: int = 0
    records_15m: int | None = None


class ScheduleView(msgspec.Struct, frozen=True, gc=False):
    """One schedule: which workflow it starts, and when. `every` is seconds; `cron` an expression in `timezone`.
    `status` is `ok`, `paused`, or how its last look went wrong."""

    name: str
    workflow: str
    status: str
    every: float | None = None
    cron: str | None = None
    timezone: str | None = None
    catchup: str = "last"
    next_at: str | None = None
    runs_total: int = 0
    last_error: str | None = None
