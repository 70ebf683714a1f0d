"""Who changed what, out of the records: each mutating request is one, with who, why and from where. Pure."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from typing import NamedTuple

from tui.fold import data_of
from wal.views import EventView

HELD_MAX = 1_000
_TWICE = frozenset({"approval_decided", "request_answered"})
"""These follow from a record that says the same of its person."""


class AuditEntry(NamedTuple):
    """One change by somebody: to which run, session or scope, and which name in it; `via` says from where."""

    seq: int
    at: str
    who: str
    deed: str
    what: str
    name: str
    reason: str
    via: str


class AuditTrail:
    """The last changes, the newest first; fed with the events as they are held, each looked at once."""

    def __init__(self) -> None:
        self.entries: deque[AuditEntry] = deque(maxlen=HELD_MAX)
        self._seen = 0

    def feed(self, events: Iterable[EventView]) -> bool:
        """Take what is new out of these; whether there was anything. `events` is in order of seq."""
        fresh = [event for event in events if event.seq > self._seen]
        if not fresh:
            return False
        self._seen = fresh[-1].seq
        for event in fresh:
            entry = entry_of(event)
            if entry is not None:
                self.entries.appendleft(entry)
        return True


def entry_of(event: EventView) -> AuditEntry | None:
    """What a record says of somebody's deed; None for one that nobody asked for."""
    if event.kind in _TWICE:
        return None
    data = data_of(event.data)
    who = data.get("by")
    if not isinstance(who, str) or not who:
        return None
    noun, _, verb = event.kind.partition("_")
    what = event.run_id or data.get("id") or data.get("scope") or ""
    if event.kind == "approval_voted":
        verb = "APPROVE" if data.get("approve") else "DENY"
    name = event.name or data.get("name") or ""
    reason, via = data.get("reason"), data.get("via")
    return AuditEntry(
        event.seq,
        event.at,
        who,
        f"{noun}.{verb}",
        str(what),
        name if isinstance(name, str) else "",
        reason if isinstance(reason, str) else "",
        via if isinstance(via, str) else "",
    )
