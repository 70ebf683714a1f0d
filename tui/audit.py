"""Who changed what, out of the records: each mutating request is one, with who, why and from where. Pure."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from typing import NamedTuple

from tui.fold import data_of
from wal.views import EventView

HELD_MAX = 1_000
KIND = "call_audited"


class AuditEntry(NamedTuple):
    """One call by somebody that changed something: on which run, session or other thing; `via` says from where."""

    seq: int
    at: str
    who: str
    deed: str
    what: str
    reason: str
    via: str


class AuditTrail:
    """The last changes, the newest first; fed with the events as they are held, each looked at once."""

    def __init__(self) -> None:
        self.entries: deque[AuditEntry] = deque(maxlen=HELD_MAX)
        self._seen = 0

    def clear(self) -> None:
        """Forget all: the seqs to come are those of another journal."""
        self.entries.clear()
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
    """What a record says of somebody's call; None for any other record. What a call changed has records of its own,
    which may name the same person: they are left out, or each deed would be told twice."""
    if event.kind != KIND:
        return None
    data = data_of(event.data)
    who, deed, what, reason, via = (_text(data.get(name)) for name in ("by", "action", "target", "reason", "via"))
    return AuditEntry(event.seq, event.at, who, deed, what, reason, via)


def _text(value: object) -> str:
    return value if isinstance(value, str) else ""
