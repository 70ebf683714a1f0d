"""Reading a list that is newest first, down to where it was read before, so that a crash in the middle loses nothing.

Theory of operation
-------------------
`floor` is the instant up to which everything has been read. A sweep begins at the newest and goes down to the floor:

    newest ── page ── page ── page ── ... ── floor ── (read before)
              top         after, low

While it is under way the span notes `top`, the newest instant that it has seen and that is closed (see `cursors.py`),
and the object `after` which it goes on, created at `low`. Both are committed with each page, so that a long first sync
goes on where it was; if that object is gone by then, it goes on from `low`, inclusively. When the sweep meets the floor
or the list's end, `top` becomes the floor. What is created meanwhile is newer than `top` or shares its second, and is
met by the next sweep.

A list may ignore the filter; so the sweep also ends with a page on which nothing reaches the floor.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping
from typing import Any

import msgspec

from actors.errors import SourceGarbled
from runtimed.connectors.cursors import closed_s
from runtimed.connectors.http_faults import SourceLacks

PAGES_MAX = 1_000
"""Pages of one sweep in one poll; the next poll goes on at once."""


class Span(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """How far a list has been read; instants are whole seconds since the epoch."""

    floor: int | None = None
    top: int | None = None
    after: str | None = None
    low: int | None = None


class Listed(msgspec.Struct, frozen=True):
    """One page as the source gave it. `date_s` is the source's clock."""

    place: str
    objects: list[Any]
    more: bool
    date_s: float | None = None


class Swept(msgspec.Struct, frozen=True):
    """One page of a sweep, and the span once it is taken. `more` says that the sweep is not at its end, `closed_s` up
    to when nothing new is expected."""

    objects: list[Any]
    span: Span
    more: bool
    closed_s: float


Ask = Callable[[Mapping[str, Any]], Awaitable[Listed]]
"""Gets one page of the list with these parameters."""


async def sweep(
    ask: Ask, span: Span, now_s: Callable[[], float], settle_s: float, pages_max: int = PAGES_MAX
) -> AsyncGenerator[Swept, None]:
    """The pages from the newest, or from where the span stood, down to its floor; at most `pages_max` of them.

    Raises SourceError: whatever `ask` raises, and SourceGarbled for a page that repeats.
    """
    params: dict[str, Any] = {} if span.floor is None else {"created[gte]": span.floor}
    seen = {span.after}
    for _ in range(pages_max):
        page = await _page(ask, params, span, seen)
        known = [created for one in page.objects if (created := created_of(one)) is not None]
        closed = closed_s(now_s(), page.date_s, settle_s)
        top = _largest([*(one for one in known if one <= closed), span.top])
        if not page.more or (span.floor is not None and known and max(known) < span.floor):
            yield Swept(page.objects, Span(floor=_largest([span.floor, top])), False, closed)
            return
        last = page.objects[-1].get("id") if page.objects and isinstance(page.objects[-1], dict) else None
        if not isinstance(last, str):
            raise SourceGarbled(f"{page.place}: there is to be more, but no object to go on after")
        if last in seen:
            raise SourceGarbled(f"{page.place}: a page repeats: it ends with {last!r} once more")
        seen.add(last)
        span = Span(floor=span.floor, top=top, after=last, low=min(known, default=span.low))
        yield Swept(page.objects, span, True, closed)


async def _page(ask: Ask, params: dict[str, Any], span: Span, seen: set[str | None]) -> Listed:
    """The next page of a sweep. If the object to go on after is gone, `params` learns where the sweep goes on, and
    `seen` forgets: objects of that second come once more."""
    if span.after is None:
        return await ask(params)
    try:
        return await ask({**params, "starting_after": span.after})
    except SourceLacks:
        if span.low is None:
            raise
        params["created[lte]"] = span.low
        seen.clear()
        return await ask(params)


def _largest(values: list[int | None]) -> int | None:
    return max((value for value in values if value is not None), default=None)


def created_of(one: Any) -> int | None:
    """When an object was created, seconds since the epoch."""
    created = one.get("created") if isinstance(one, dict) else None
    return created if isinstance(created, int) and not isinstance(created, bool) else None
