"""What one event does to the view of a connector, as far as a record tells it. Pure.

A view holds more than records tell (when it polls next, how far it lags, that a poll failed): that is asked for. What a
record does tell is shown at once.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import msgspec
from msgspec import Raw

from runtimed.connector_words import WEBHOOK
from tui.fold import data_of
from wal.views import ConnectorView, EventView

Data = dict[str, Any]
PREFIX = f"{WEBHOOK}:"
"""Before a webhook's name where a connector's may stand too."""


def is_about(event: EventView) -> bool:
    """Whether an event is about a connector or a webhook."""
    return event.kind in _EFFECTS


def advance(views: Sequence[ConnectorView], event: EventView) -> list[ConnectorView]:
    """The views after an event that is about one of them."""
    data = data_of(event.data)
    name, hook = data.get("connector"), False
    if event.kind == "webhook_received":
        name, hook = data.get("webhook"), True
    elif isinstance(name, str) and name.startswith(PREFIX):
        name, hook = name.removeprefix(PREFIX), True
    effect = _EFFECTS[event.kind]
    return [
        msgspec.structs.replace(view, **effect(view, event, data))
        if view.name == name and (view.kind == WEBHOOK) == hook
        else view
        for view in views
    ]


def _advanced(view: ConnectorView, event: EventView, data: Data) -> Data:
    failing = view.status in ("backoff", "open_breaker")
    return {
        "cursor": Raw(msgspec.json.encode(data.get("cursor"))),
        "records_total": view.records_total + _number(data, "records"),
        "repeated_total": view.repeated_total + _number(data, "repeated"),
        "refused_total": view.refused_total + _number(data, "refused"),
        "last_poll_at": event.at,
        "status": "ok" if failing else view.status,
        "failures": 0,
    }


def _received(view: ConnectorView, event: EventView, data: Data) -> Data:
    return {"records_total": view.records_total + 1, "last_poll_at": event.at}


def _quarantined(view: ConnectorView, event: EventView, data: Data) -> Data:
    error = data.get("error")
    said = f"{error.get('type', '')}: {error.get('message', '')}" if isinstance(error, dict) else view.last_error
    return {"status": "quarantined", "next_poll_at": None, "last_error": said}


def _number(data: Data, name: str) -> int:
    value = data.get(name)
    return value if isinstance(value, int) else 0


_EFFECTS: Mapping[str, Callable[[ConnectorView, EventView, Data], Data]] = {
    "cursor_advanced": _advanced,
    "webhook_received": _received,
    "delivery_refused": lambda view, event, data: {"last_error": f"{data.get('code')}: {data.get('message', '')}"},
    "connector_paused": lambda view, event, data: {"status": "paused", "next_poll_at": None},
    "connector_resumed": lambda view, event, data: {"status": "ok", "failures": 0},
    "connector_reset": lambda view, event, data: {
        "cursor": Raw(msgspec.json.encode(data.get("cursor"))),
        "generation": view.generation + 1,
    },
    "connector_quarantined": _quarantined,
}
KINDS = frozenset(_EFFECTS)
"""The kinds of event that are about a connector."""
