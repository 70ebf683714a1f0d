"""A connector in words: why it does not poll now, and what would wake it. Pure; whoever prints it escapes it."""

from __future__ import annotations

import re

from wal.views import ConnectorView

WEBHOOK, SCHEDULE = "webhook", "schedule"
"""Kinds that do not poll a source: what is sent to us; and schedules, which have a list of their own."""
_NARROWS = re.compile(r"stream .{1,200} narrows: ")
"""How the error of a source begins that announces less than before (`actors/shape_desk.py`)."""


def standing(view: ConnectorView, *, offline: bool = False) -> str:
    """One sentence: how a connector stands, why it does not poll now, and what would wake it. `offline` says that the
    daemon is down and this is what its file tells."""
    if view.status == "paused" and _NARROWS.match(view.last_error or ""):
        return f"It is paused ({view.last_error}): an approval asks whether that is meant, and the decision wakes it."
    if view.status == "paused":
        return f"It is paused: a person held it, and only `runtimed connectors resume {view.name}` wakes it."
    if view.status == "quarantined":
        return (
            f"It is quarantined: its code crashed again and again ({_said(view)}); mend it, then"
            f" `runtimed connectors resume {view.name}` wakes it."
        )
    if offline:
        return "It does not poll because the daemon is down; starting the daemon wakes it."
    if view.kind == WEBHOOK:
        return "It does not poll: its source sends to it, and each delivery wakes it."
    if view.status == "polling":
        return "It polls now."
    when = f" at {_second(view.next_poll_at)}" if view.next_poll_at else ""
    if view.status == "backoff":
        return f"It waits after {_failures(view)} ({_said(view)}): it tries again by itself{when}, {_sooner(view)}."
    if view.status == "open_breaker":
        return (
            f"Its breaker is open after {_failures(view)} ({_said(view)}): one trial poll{when} decides whether it"
            f" closes, {_sooner(view)}."
        )
    return f"It waits for its time: it polls by itself{when}, {_sooner(view)}."


def handoff(view: ConnectorView) -> str:
    """When its cursor moves, and what that promises."""
    if view.kind == WEBHOOK:
        return "a delivery is acknowledged only after its record is on disk; a repeated one has no second effect"
    return "cursor advances only after journal seq, in its records' commit"


def _sooner(view: ConnectorView) -> str:
    return f"sooner with `runtimed connectors poll {view.name}`"


def _failures(view: ConnectorView) -> str:
    count = max(1, view.failures)
    return "a failure" if count == 1 else f"{count} failures in a row"


def _said(view: ConnectorView) -> str:
    return view.last_error or "it did not say why"


def _second(instant: str | None) -> str:
    """An instant to the second."""
    text = instant or ""
    return text.partition(".")[0] + ("Z" if "." in text else "")
