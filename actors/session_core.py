"""What a session may do: a pure table of its life.

A session is `open` until it is closed by somebody or its time runs out; both are final. To touch it moves its expiry.
"""

from __future__ import annotations

import msgspec

from actors.errors import InvalidInput, SessionEnded

ON_CLOSE = ("cancel", "leave")
TTL_MAX_S = 10 * 366 * 86_400.0

# status -> what may happen to it -> status afterwards
TRANSITIONS: dict[str, dict[str, str]] = {
    "open": {"touch": "open", "expire": "expired", "close": "closed"},
    "expired": {},
    "closed": {},
}


class Session(msgspec.Struct, frozen=True):
    """A session as its manager knows it; instants in microseconds, `ttl` in seconds."""

    id: str
    status: str = "open"
    tenant: str | None = None
    subject: str | None = None
    classification: str = "platform"
    ttl: float | None = None
    expires_at: int | None = None
    on_close: str = "leave"
    attributes: dict[str, object] = {}
    trace_id: str | None = None
    created_at: int = 0
    closed_at: int | None = None


def move(session: Session, event: str, now_us: int) -> Session:
    """The session after an event. Raises SessionEnded where its status does not allow that; nothing is changed then."""
    status = TRANSITIONS[session.status].get(event)
    if status is None:
        raise SessionEnded(f"session {session.id!r} is {session.status}")
    if event == "touch":
        return msgspec.structs.replace(session, expires_at=expiry(session.ttl, now_us))
    return msgspec.structs.replace(session, status=status, closed_at=now_us)


def expiry(ttl: float | None, now_us: int) -> int | None:
    """When a session of this time to live expires, counted from now."""
    return None if ttl is None else now_us + round(ttl * 1e6)


def check(ttl: float | None, on_close: str, classification: str) -> None:
    """Raises InvalidInput naming what is out of range."""
    if ttl is not None and not 0 < ttl <= TTL_MAX_S:
        raise InvalidInput(f"$.ttl: {ttl!r}; expected more than 0 and at most {TTL_MAX_S:.0f} seconds, or null")
    if on_close not in ON_CLOSE:
        raise InvalidInput(f"$.on_close: {on_close!r}; expected cancel or leave")
    if classification not in ("platform", "client"):
        raise InvalidInput(f"$.classification: {classification!r}; expected platform or client")
