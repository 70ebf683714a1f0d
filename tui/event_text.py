"""One record in a few words, for the lists of events, the journal and the logs. Pure."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from tui.fold import data_of
from tui.states import STATES, State
from wal.views import EventView

_STATE_OF_KIND = {
    "run_started": "RUN",
    "run_completed": "DONE",
    "run_failed": "FAIL",
    "run_cancelled": "CANC",
    "run_blocked": "STUCK",
    "run_paused": "PAUS",
    "run_compensating": "COMP",
    "approval_requested": "APPR",
}
NOTABLE = frozenset(
    {
        *_STATE_OF_KIND, "run_forked", "run_resumed", "run_retried", "run_cancel_requested", "step_failed",
        "step_interrupted", "step_unknown", "step_resolved", "compensation_failed", "approval_voted",
        "approval_decided", "approval_withdrawn", "session_opened", "session_closed", "session_expired",
        "daemon_started", "daemon_stopped",
        "connector_paused", "connector_resumed", "connector_reset", "connector_quarantined", "delivery_refused",
    }
)  # fmt: skip
"""What a person wants to read of; the rest is in the journal."""
_LEVELS = {
    "run_failed": "ERROR",
    "run_blocked": "ERROR",
    "compensation_failed": "ERROR",
    "step_unknown": "ERROR",
    "step_failed": "WARN",
    "step_interrupted": "WARN",
    "run_compensating": "WARN",
    "connector_quarantined": "ERROR",
    "delivery_refused": "WARN",
    "records_stored": "DEBUG",
    "run_cancel_requested": "WARN",
    "step_scheduled": "DEBUG",
    "timer_set": "DEBUG",
    "timer_cancelled": "DEBUG",
    "request_answered": "DEBUG",
    "run_waiting": "DEBUG",
}
LEVELS = ("DEBUG", "INFO", "WARN", "ERROR")


def state_of_event(event: EventView) -> State | None:
    """The state that an event put its run into, if it says one."""
    word = _STATE_OF_KIND.get(event.kind)
    if event.kind == "run_blocked" and data_of(event.data).get("code") == "outcome_unknown":
        word = "DOUBT"
    return None if word is None else STATES[word]


def level_of(event: EventView) -> str:
    """How much an event matters, as a log level."""
    return _LEVELS.get(event.kind, "INFO")


def source_of(event: EventView) -> str:
    """What an event is about, in a word: the noun that its kind begins with."""
    return event.kind.partition("_")[0]


def says(event: EventView) -> str:
    """What an event tells beyond its kind and its run, in one line; not escaped."""
    data = data_of(event.data)
    parts = [
        event.name or "",
        f"try {event.attempt}" if event.attempt and event.attempt > 1 else "",
        _core(event, data),
    ]
    return " ".join(part for part in parts if part)


def _core(event: EventView, data: dict[str, Any]) -> str:
    error = data.get("error")
    if event.kind in _CONNECTORS:
        return _CONNECTORS[event.kind](data)
    if isinstance(error, dict):
        again = f", again at {str(data['retry_at'])[11:19]}Z" if data.get("retry_at") else ""
        return f"{error.get('type', '')}: {error.get('message', '')}{again}"
    if event.kind == "run_forked":
        return forked(data)
    if event.kind == "run_waiting":
        return f"on {data.get('on')}" + (f" until {data['until']}" if data.get("until") else "")
    if event.kind == "run_blocked":
        return f"{data.get('code')}: {data.get('message', '')}"
    if event.kind == "approval_requested":
        return str(data.get("title", ""))
    if event.kind in ("approval_voted", "approval_decided"):
        yes = data.get("approve", data.get("approved"))
        return f"{'APPROVE' if yes else 'DENY'} by {data.get('by')} {data.get('reason') or ''}"
    shown = {
        key: value for key, value in data.items() if key not in ("input", "result", "args") and value not in (None, "")
    }
    return " ".join(f"{key}={value}" for key, value in shown.items())


def forked(data: dict[str, Any]) -> str:
    """What the record of a fork says: from where, and how much it took over."""
    past = data.get("past") or []  # of a large one only its size was kept
    many = f"{len(past)} record{'s' * (len(past) != 1)}" if isinstance(past, list) else past
    by = f" by {data['by']}" if data.get("by") else ""
    why = f' "{data["reason"]}"' if data.get("reason") else ""
    return f"from {data.get('from_id')} at record {data.get('from_seq')}, {many}{by}{why}"


def _advanced(data: dict[str, Any]) -> str:
    counts = [f"{data[name]} {name}" for name in ("records", "repeated", "refused") if data.get(name)]
    return f"{data.get('connector')} {', '.join(counts) or 'no records'}, cursor {data.get('cursor')}"


def _stored(data: dict[str, Any]) -> str:
    items = data.get("items")  # of a large page only its size was kept
    return f"{data.get('stream')} {f'{len(items)} records' if isinstance(items, list) else items}"


def _held(data: dict[str, Any]) -> str:
    cursor = f" to cursor {data['cursor']}" if "cursor" in data else ""
    why = f' "{data["reason"]}"' if data.get("reason") else ""
    return f"{data.get('connector')}{cursor} by {data.get('by')}{why}"


def _refused(data: dict[str, Any]) -> str:
    return f"{data.get('connector')} {data.get('key')} {data.get('code')}: {data.get('message', '')}"


def _quarantined(data: dict[str, Any]) -> str:
    error = data.get("error")
    said = f"{error.get('type')}: {error.get('message', '')}" if isinstance(error, dict) else ""
    return f"{data.get('connector')} after {data.get('crashes', 1)} crashes: {said}"


_CONNECTORS: Mapping[str, Callable[[dict[str, Any]], str]] = {
    "cursor_advanced": _advanced,
    "records_stored": _stored,
    "connector_paused": _held,
    "connector_resumed": _held,
    "connector_reset": _held,
    "connector_quarantined": _quarantined,
    "delivery_refused": _refused,
}
"""Records of connectors, whose data would be long otherwise."""
