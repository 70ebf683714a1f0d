"""What changed at Stripe since a given second, from its events; and what can still be told when events are lost.

An event carries its object as it was then. Events come newest first, so the first one about an object counts, and older
ones within the same window are passed over: an old state never overwrites a newer one. Windows are taken oldest first,
each whole, because only a whole one knows which event of an object is the newest.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import Any

import msgspec

from actors.errors import SourceGarbled
from runtimed.connectors.newest_first import Span, created_of, sweep
from runtimed.connectors.stripe_api import SINGULAR, Api

EVENTS_KEPT_S = 30 * 86_400
"""How long Stripe lists an event (docs.stripe.com/api/events)."""
EVENTS_MARGIN_S = 3_600
WINDOW_S = 86_400
PAGES_MAX = 10_000
"""Pages of one window: a million events in a day."""


class Changes(msgspec.Struct, frozen=True):
    """Some changed objects, and up to which second everything is told once they are taken; None: not further yet."""

    items: list[Any]
    told_up_to: int | None


def is_lost(floor: int, now_s: float) -> bool:
    """Whether events after this second may be gone by now."""
    return now_s - floor > EVENTS_KEPT_S - EVENTS_MARGIN_S


async def changes(api: Api, since: int) -> AsyncGenerator[Changes, None]:
    """Every object of the API's kind that changed since, as it is now; deleted ones as deleted. Raises SourceError."""
    kind = SINGULAR[api.object]
    while True:
        end = since + WINDOW_S if since + WINDOW_S < api.now_s() - api.settle_s else None
        bounds: dict[str, Any] = {"type": f"{kind}.*"} | ({} if end is None else {"created[lte]": end})
        seen: set[str] = set()
        whole, closed = False, float(since)
        span = Span(floor=since)
        async with aclosing(sweep(api.asking("events", **bounds), span, api.now_s, api.settle_s, PAGES_MAX)) as pages:
            async for page in pages:
                whole, closed = not page.more, page.closed_s
                found = [item for event in page.objects if (item := _newest(api, event, kind, seen)) is not None]
                yield Changes(found, None)
        if not whole:
            raise SourceGarbled(f"Stripe lists more than {PAGES_MAX} pages of events for one day")
        # Our clock may run ahead: what the source's own clock has not passed yet is still open.
        since = max(since, int(closed) if end is None else min(end, int(closed)))
        yield Changes([], since)
        if since != end:
            return


def _newest(api: Api, event: Any, kind: str, seen: set[str]) -> Any:
    """The object that an event is about, if it is of this kind and none newer was seen; else None."""
    data = event.get("data") if isinstance(event, dict) else None
    about = data.get("object") if isinstance(data, dict) else None
    if not isinstance(about, dict) or about.get("object") != kind or not isinstance(about.get("id"), str):
        return None
    if about["id"] in seen:
        return None
    seen.add(about["id"])
    return api.item(about, deleted=event.get("type") == f"{kind}.deleted")


# --- events that are lost -------------------------------------------------------------------------------------------


def gap_event(floor: int, now: int) -> dict[str, Any]:
    """An event of our own, which says that some are missing."""
    lost = {"object": "gap", "id": f"gap_{floor}", "from": floor, "to": now - EVENTS_KEPT_S}
    return {"object": "event", "id": f"gap_{floor}", "type": "runtimed.gap", "created": now, "data": {"object": lost}}


def snapshot_event(one: Any, kind: str, gap: int) -> Any:
    """An object as it is, told as an event in place of those that are lost: once for each gap."""
    if not isinstance(one, dict) or not isinstance(one.get("id"), str):
        return one
    made = {"object": "event", "id": f"snapshot_{gap}_{one['id']}", "type": f"{SINGULAR[kind]}.snapshot"}
    return {**made, "created": created_of(one) or gap, "data": {"object": one}}
