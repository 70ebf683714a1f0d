"""What one event does to the view of a run: the journal's own fold, applied to what the dashboard knows.

`wal.run_status` is the one place that says what a record does to a run's status; this only brings an event of the feed
into the form it wants. A view does not tell everything that the fold keeps (a paused or blocked run may be going back
or forward): where that matters, `advance` gives None and the run has to be asked for anew.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec
from msgspec import Raw

from tui.format import micros
from wal import run_status
from wal.records import (
    ApprovalDecided,
    CompensationScheduled,
    ErrorData,
    Fact,
    RunBlocked,
    RunCancelled,
    RunCancelRequested,
    RunCompensating,
    RunCompleted,
    RunFailed,
    RunPaused,
    RunResumed,
    RunRetried,
    RunWaiting,
    SignalReceived,
    StepInterrupted,
    StepResolved,
    StepScheduled,
    TimerFired,
)
from wal.run_status import RunState
from wal.views import NULL, ErrorView, EventView, HistoryRecord, RunView, rfc3339

_PLAIN: Mapping[str, Fact] = {
    fact.kind: fact
    for fact in (
        RunPaused(), RunResumed(), RunCancelRequested(), RunRetried(), RunCompleted(NULL), RunCancelled(),
        StepScheduled("", "", NULL), CompensationScheduled("", "", NULL), StepInterrupted("", ""),
        StepResolved("", True), TimerFired(""), SignalReceived("", NULL), ApprovalDecided("", True),
    )
}  # fmt: skip
"""By kind, the records of which only the kind moves a run."""

_PHASE_OF = {
    "queued": run_status.QUEUED,
    "running": run_status.RUNNING,
    "waiting": run_status.WAITING,
    "compensating": run_status.COMPENSATING,
    "completed": run_status.COMPLETED,
    "failed": run_status.FAILED,
    "cancelled": run_status.CANCELLED,
}
DATA_KEPT_MAX, PART_KEPT_MAX, PARTS_KEPT_MAX = 4_096, 1_024, 30
"""Bytes of an event's data, and of one field of it, and fields, that are kept in lists of events."""


class Started(msgspec.Struct, frozen=True):
    """What the event `run_started` says beside its place."""

    id: str
    workflow: str
    version: str | None = None
    session_id: str | None = None
    tenant: str | None = None
    classification: str = "platform"
    queue: str | None = None
    priority: int = 0
    parent_id: str | None = None
    start_at: str | None = None
    trace_id: str | None = None
    attributes: dict[str, Any] = {}


class _Waiting(msgspec.Struct, frozen=True):
    on: str
    until: str | None = None


class _Blocked(msgspec.Struct, frozen=True):
    code: str
    message: str = ""


class _WithError(msgspec.Struct, frozen=True):
    error: ErrorData | None = None


class _Attributes(msgspec.Struct, frozen=True):
    attributes: dict[str, Any] = {}


def begin(event: EventView) -> RunView:
    """The view of a run out of its `run_started`."""
    data = msgspec.json.decode(event.data, type=Started)
    status, on = "running", None
    if data.start_at is not None:
        status, on = "queued", "timer"
    elif data.queue is not None:
        status, on = "queued", "queue"
    return RunView(
        id=data.id, workflow=data.workflow, status=status, version=data.version, waiting_on=on,
        waiting_until=data.start_at, session_id=data.session_id, tenant=data.tenant, classification=data.classification,
        queue=data.queue, priority=data.priority, parent_id=data.parent_id, trace_id=data.trace_id,
        attributes=data.attributes, created_at=event.at, updated_at=event.at, seq=event.seq,
    )  # fmt: skip


def advance(run: RunView, event: EventView) -> RunView | None:
    """The view after one more event of this run; None if it has to be asked for. An event that the view already holds
    changes nothing."""
    if event.seq <= run.seq:
        return run
    changes: dict[str, Any] = {"updated_at": event.at, "seq": event.seq}
    if event.kind == "attributes_set":
        changes["attributes"] = {**run.attributes, **msgspec.json.decode(event.data, type=_Attributes).attributes}
    fact = fact_of(event)
    if fact is not None:
        phase = _PHASE_OF.get(run.status)
        if phase is None:
            return None  # paused or blocked: the view does not say in which direction the run was going
        changes |= _moved(
            run, RunState(phase, False, run.waiting_on, micros(run.waiting_until), _error(run)), fact, event
        )
    return msgspec.structs.replace(run, **changes)


def _moved(run: RunView, before: RunState, fact: Fact, event: EventView) -> dict[str, Any]:
    after = run_status.advance(before, fact)
    error = after.error
    return {
        "status": after.status,
        "waiting_on": after.waiting_on,
        "waiting_until": rfc3339(after.waiting_until),
        "error": None if error is None else ErrorView(error.type, error.message, error.step),
        "ended_at": run.ended_at or (event.at if after.ended else None),
    }


def _error(run: RunView) -> ErrorData | None:
    return None if run.error is None else ErrorData(run.error.type, run.error.message, run.error.step)


def fact_of(event: EventView | HistoryRecord) -> Fact | None:
    """The record that an event is of, as far as the fold looks at it; None for one that moves nothing."""
    plain = _PLAIN.get(event.kind)
    if plain is not None:
        return plain
    match event.kind:
        case "run_waiting":
            waiting = msgspec.json.decode(event.data, type=_Waiting)
            return RunWaiting(waiting.on, micros(waiting.until))
        case "run_blocked":
            blocked = msgspec.json.decode(event.data, type=_Blocked)
            return RunBlocked(blocked.code, blocked.message, event.call or "")
        case "run_failed":
            return RunFailed(msgspec.json.decode(event.data, type=_WithError).error or ErrorData("Failure"))
        case "run_compensating":
            return RunCompensating(msgspec.json.decode(event.data, type=_WithError).error)
    return None


def slim(event: EventView) -> EventView:
    """The event as it may be kept by the thousand: of large data only the small parts, the others as their sizes."""
    if len(bytes(event.data)) <= DATA_KEPT_MAX:
        return event
    try:
        parts = msgspec.json.decode(event.data, type=dict[str, Raw])
    except msgspec.DecodeError:
        parts = {}
    kept: dict[str, Any] = {}
    for name, part in list(parts.items())[:PARTS_KEPT_MAX]:
        size = len(bytes(part))
        kept[name] = part if size <= PART_KEPT_MAX else f"({size} bytes)"
    return msgspec.structs.replace(event, data=Raw(msgspec.json.encode(kept)))


def data_of(event_data: Raw) -> dict[str, Any]:
    """What a record says, as a mapping; empty for what is none."""
    try:
        return msgspec.json.decode(event_data, type=dict[str, Any])
    except msgspec.DecodeError:
        return {}
