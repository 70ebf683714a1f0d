"""Stripe: customers, invoices, charges and events, as canonical models.

Lists are newest first and know when an object was created, not when it changed (`newest_first.py`). So for the record
store changes are taken from Stripe's events (`stripe_changes.py`), if the key may read them. Stripe keeps events for 30
days: after a longer pause, what they would have said is lost; that is said, and everything is listed anew.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import aclosing
from datetime import UTC, datetime
from typing import Any

import msgspec

from actors.connector_spec import ConnectorSpec, Page, Poll, deliver_to
from actors.errors import SourceError, SourceGarbled, SourceRefused
from runtimed.connectors.cursors import closed_s, instant_s
from runtimed.connectors.newest_first import Span, sweep
from runtimed.connectors.options import key_of, read_options, wrong
from runtimed.connectors.stripe_api import SINGULAR, Api, Stripe
from runtimed.connectors.stripe_changes import EVENTS_KEPT_S, changes, gap_event, is_lost, snapshot_event
from runtimed.settings import Connector

RATE, RATE_PERIOD_S = 20, 1.0
"""Requests; Stripe allows 25 a second in test mode and 100 live (docs.stripe.com/rate-limits)."""
ASK_AGAIN_S = 3_600.0
"""A key that may not read events is tried again after so long."""
NOTED_S = 86_400
"""How often a source at rest notes how far it has been read: each time is a record."""


class Cursor(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """How far it was read. `seen` is up to when a list of events is known to be whole, `updates` up to when changes are
    taken over; `gap`, `snapshot` and `listing`: from when on events are lost, which objects are still to be listed in
    their place, and how far the first of these has been."""

    list: Span = Span()
    seen: int | None = None
    updates: int | None = None
    gap: int | None = None
    snapshot: tuple[str, ...] = ()
    listing: Span = Span()


class Memory:
    """What a connector remembers from poll to poll in this process: not to ask for events again before an instant."""

    ask_again_s = 0.0


def make(name: str, settings: Connector) -> ConnectorSpec:
    """The connector `name`. Raises ConfigError."""
    options = read_options(name, settings.options, Stripe)
    since = options.since if isinstance(options.since, int | None) else instant_s(options.since)
    if options.since is not None and since is None:
        raise wrong(name, "since", 'expected a date such as "2026-01-31", or seconds since the epoch')
    if options.updates and options.object == "events":
        raise wrong(name, "updates", "an event does not change")
    updates = options.updates
    if updates is None:
        updates = settings.deliver == "records" and options.object != "events"
    key, memory = key_of(name, settings.key, "id"), Memory()
    follow, since_s = updates, None if since is None else int(since)

    def source(poll: Poll[Any]) -> AsyncGenerator[Page, None]:
        return _Reading(poll, Api(options, poll, key), since_s, follow, memory).pages()

    return ConnectorSpec(
        name=name,
        kind="stripe",
        source=source,
        deliver=deliver_to(settings.deliver, settings.run_id_from),
        every=settings.every,
        key=key,
        timeout=settings.timeout,
        credential=settings.credential or (options.api_key if options.api_key.startswith("secret:") else None),
        rate=settings.rate or RATE,
        rate_period=settings.rate_period if settings.rate else RATE_PERIOD_S,
    )


def cursor_of(value: Any, since: int | None) -> Cursor:
    """A cursor as it was left, or as a person has set it: a second since the epoch. Raises SourceGarbled."""
    if value is None:
        return Cursor(list=Span(floor=since))
    if isinstance(value, int) and not isinstance(value, bool):
        return Cursor(list=Span(floor=value))
    try:
        return msgspec.convert(value, Cursor)
    except msgspec.ValidationError as error:
        raise SourceGarbled(f"the cursor is none of this kind: {error}", hint="Reset it to null.") from None


class _Reading:
    """One poll."""

    def __init__(self, poll: Poll[Any], api: Api, since: int | None, updates: bool, memory: Memory) -> None:
        self._poll, self._api, self._since, self._updates, self._memory = poll, api, since, updates, memory
        self._cursor = cursor_of(poll.cursor, since)

    async def pages(self) -> AsyncGenerator[Page, None]:
        """The pages of the poll: what lost events demand, what is new, what has changed."""
        for step in (self._begin, self._snapshots, self._new, self._changed):
            async with aclosing(step()) as pages:
                async for page in pages:
                    yield page

    def _page(self, records: list[Any], more: bool = False, **changed: Any) -> Page:
        """A page with these records and these changes of the cursor, which stands there from now on."""
        before, self._cursor = self._cursor, msgspec.structs.replace(self._cursor, **changed)
        moved = self._cursor != before
        return Page(records=records, cursor=msgspec.to_builtins(self._cursor) if moved else None, more=more)

    # --- events that are lost ---------------------------------------------------------------------------------------

    async def _begin(self) -> AsyncGenerator[Page, None]:
        """Whether events were lost since the last poll, and from when on they count."""
        is_events = self._api.object == "events"
        told = self._cursor.seen if is_events else self._cursor.updates
        if told is not None and (self._updates or is_events) and self._cursor.gap is None:
            if not is_lost(told, self._api.now_s()):
                return
            now = await self._events_from()  # by the source's clock, ours may be wrong
            if now is None or is_lost(told, now):
                yield self._gap(told, int(self._api.now_s()) if now is None else now)
                raise self._lost(told)
        elif self._updates and told is None and self._api.now_s() >= self._memory.ask_again_s:
            start = await self._events_from()
            if start is not None:  # how what was read before has changed is not known: it is read anew
                was_read = self._cursor.list.floor is not None and self._cursor.list.after is None
                yield self._page([], updates=start, list=Span(floor=self._since) if was_read else self._cursor.list)

    def _gap(self, told: int, now: int) -> Page:
        """What a loss makes of the cursor: everything is to be listed anew. A stream of events is told, too."""
        if self._api.object != "events":
            return self._page([], updates=now, list=Span(floor=self._since))
        event = self._api.item(gap_event(told, now))
        kept = Span(floor=now - EVENTS_KEPT_S)
        return self._page([event], list=kept, gap=told, snapshot=tuple(SINGULAR), listing=Span())

    def _lost(self, floor: int) -> SourceError:
        day = datetime.fromtimestamp(floor, UTC).strftime("%Y-%m-%d %H:%M")
        text = f"Stripe keeps events for 30 days, and those since {day} UTC were not read: all objects are listed anew"
        self._warn(text)
        return SourceError(text, hint="Objects that were deleted meanwhile are not noticed.")

    def _warn(self, text: str) -> None:
        if self._poll.log is not None:
            self._poll.log.warning("connector %s: %s", self._poll.name, text)

    async def _events_from(self) -> int | None:
        """From when on events count, by the earlier of both clocks; None if the key may not read them."""
        try:
            page = await self._api.asking("events", limit=1)({})
        except SourceRefused as error:
            self._memory.ask_again_s = self._api.now_s() + ASK_AGAIN_S
            self._warn(f"changes are not followed, new objects are: {error}")
            return None
        return int(closed_s(self._api.now_s(), page.date_s, self._api.settle_s))

    async def _snapshots(self) -> AsyncGenerator[Page, None]:
        """In place of the events that are lost: each object as it is now, as an event `<object>.snapshot`."""
        while self._cursor.gap is not None and self._cursor.snapshot:
            kind, gap, rest = self._cursor.snapshot[0], self._cursor.gap, self._cursor.snapshot[1:]
            pages = sweep(self._api.asking(kind), self._cursor.listing, self._api.now_s, self._api.settle_s)
            whole = False
            async with aclosing(pages):
                async for page in pages:
                    items = [self._api.item(snapshot_event(one, kind, gap)) for one in page.objects]
                    whole = not page.more
                    left = {"listing": Span(), "snapshot": rest} if whole else {"listing": page.span}
                    yield self._page(items, True, **left)
            if not whole:
                return
        if self._cursor.gap is not None:
            yield self._page([], True, gap=None, seen=int(self._api.now_s()))

    # --- what is new, what has changed ------------------------------------------------------------------------------

    async def _new(self) -> AsyncGenerator[Page, None]:
        """Objects that were created since."""
        if self._cursor.gap is not None:
            return  # the snapshots are not whole yet: the next poll goes on with them
        pages = sweep(self._api.asking(self._api.object), self._cursor.list, self._api.now_s, self._api.settle_s)
        async with aclosing(pages):
            async for page in pages:
                changed: dict[str, Any] = {"list": page.span}
                if self._api.object == "events" and not page.more:
                    changed["seen"] = self._noted(self._cursor.seen, page.closed_s, page.span != self._cursor.list)
                yield self._page([self._api.item(one) for one in page.objects], page.more, **changed)

    async def _changed(self) -> AsyncGenerator[Page, None]:
        """Objects that changed since."""
        if not self._updates or self._cursor.updates is None or self._cursor.list.after is not None:
            return
        any_changed = False
        async with aclosing(changes(self._api, self._cursor.updates)) as found:
            async for part in found:
                any_changed = any_changed or bool(part.items)
                if part.told_up_to is None:
                    yield self._page(part.items)
                else:
                    yield self._page([], updates=self._noted(self._cursor.updates, part.told_up_to, any_changed))

    def _noted(self, before: int | None, now_s: float, anything: bool) -> int:
        """How far it has been read: noted when there was something, else once a day."""
        now = int(now_s)
        return before if before is not None and not anything and now - before < NOTED_S else max(now, before or 0)
