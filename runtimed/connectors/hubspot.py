"""HubSpot: contacts, companies and deals, as canonical models, through its search, in the order of their changes.

Theory of operation
-------------------
A search is sorted by the time of the last change, and asks from the cursor on, inclusively. `after` leads from page to
page, and is a count of results: a record that changes meanwhile moves to the end, everything behind it moves up, and
the next page would skip one. So pages overlap by one record. If that is not the one which the page before ended with,
something moved, and a new search begins from the last value: what is behind it has been read. The same happens before
the 10,000th result, beyond which a search does not go.

The index lags behind the records, by seconds: the cursor stays `settle` seconds behind the clock.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta, Raw

from actors.connector_spec import ConnectorSpec, Page, Poll, deliver_to
from actors.errors import SourceError, SourceGarbled
from runtimed.connectors import canonical
from runtimed.connectors.cursors import at_path, closed_s, fall, instant_s
from runtimed.connectors.http import Answer, Auth
from runtimed.connectors.options import Text, Url, key_of, read_options, revealed, wrong
from runtimed.settings import Connector
from wal.records import StoredItem

RESULTS_MAX = 10_000
"""Results of one search (developers.hubspot.com/docs/api-reference/search/guide)."""
SEARCHES_MAX = 100
"""Searches of one poll; the next poll goes on at once."""
IN_VAIN_MAX = 20
"""Searches in a row that get no further, because what they look at moves all the time."""
RATE, RATE_PERIOD_S = 4, 1.0
"""Searches a second; an account may make 5, by the same page, and others want some."""
SETTLE_S = 60.0
MS_PER_S = 1_000

CHANGED = {"contacts": "lastmodifieddate", "companies": "hs_lastmodifieddate", "deals": "hs_lastmodifieddate"}
PROPERTIES: dict[str, tuple[str, ...]] = {
    "contacts": ("email", "firstname", "lastname", "phone", "company", "country", "lifecyclestage"),
    "companies": ("name", "domain", "phone", "country", "industry"),
    "deals": (
        "dealname", "amount", "deal_currency_code", "dealstage", "pipeline", "closedate", "hs_is_closed",
        "hs_is_closed_won",
    ),
}  # fmt: skip


class HubSpot(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The options. `token` is that of a private app (`api_key` means the same); `properties` are read beside those that
    the models need; `since` is from when on changes are wanted; `settle` is in seconds."""

    object: Literal["contacts", "companies", "deals"]
    token: Text | None = None
    api_key: Text | None = None
    base_url: Url = "https://api.hubapi.com"
    page_size: Annotated[int, Meta(ge=2, le=200)] = 100
    properties: tuple[Text, ...] = ()
    since: str | None = None
    canonical: bool = True
    settle: Annotated[float, Meta(ge=0.0, le=86_400.0)] = SETTLE_S


def make(name: str, settings: Connector) -> ConnectorSpec:
    """The connector `name`. Raises ConfigError."""
    options = read_options(name, settings.options, HubSpot)
    token = options.token or options.api_key
    if token is None or (options.token and options.api_key):
        raise wrong(
            name, "token", "it is needed, once: the access token of a private app", hint='token = "secret:NAME"'
        )
    since = instant_s(options.since)
    if options.since is not None and since is None:
        raise wrong(name, "since", 'expected a date such as "2026-01-31"')
    key = key_of(name, settings.key, "id")
    since_ms = None if since is None else int(since * MS_PER_S)

    def source(poll: Poll[Any]) -> AsyncGenerator[Page, None]:
        return _Reading(options, token, key, since_ms, poll).pages()

    return ConnectorSpec(
        name=name,
        kind="hubspot",
        source=source,
        deliver=deliver_to(settings.deliver, settings.run_id_from),
        every=settings.every,
        key=key,
        timeout=settings.timeout,
        credential=settings.credential or (token if token.startswith("secret:") else None),
        rate=settings.rate or RATE,
        rate_period=settings.rate_period if settings.rate else RATE_PERIOD_S,
    )


class _Reading:
    """One poll. Instants of changes are milliseconds since the epoch."""

    def __init__(self, options: HubSpot, token: str, key: str, since: int | None, poll: Poll[Any]) -> None:
        self._options, self._key, self._poll = options, key, poll
        self._auth = Auth(headers={"Authorization": f"Bearer {revealed(token, poll.secret)}"})
        self._changed_by = CHANGED[options.object]
        self._mapper = canonical.HUBSPOT[options.object] if options.canonical else None
        cursor = poll.cursor
        if cursor is not None and (isinstance(cursor, bool) or not isinstance(cursor, int)):
            raise SourceGarbled("the cursor is none of this kind: expected milliseconds", hint="Reset it to null.")
        self._cursor: int | None = cursor
        self._from = since if cursor is None else cursor
        self._ended = False

    async def pages(self) -> AsyncGenerator[Page, None]:
        """The pages of the poll: searches, each from where the one before has come to."""
        in_vain = 0
        for _ in range(SEARCHES_MAX):
            start = self._from
            async with aclosing(self._search()) as found:
                async for page in found:
                    yield page
            if self._ended:
                return
            in_vain = in_vain + 1 if self._from == start else 0
            if in_vain >= IN_VAIN_MAX:
                raise SourceError(f"HubSpot's {self._options.object} move faster than they can be read")

    async def _search(self) -> AsyncGenerator[Page, None]:
        """The pages of one search, up to its end or to where another one has to go on."""
        start, read, newest = self._from, 0, self._from
        last: str | None = None
        after: str | None = None
        while after is None or read - 1 + self._options.page_size <= RESULTS_MAX:
            answer, results, following = await self._ask(start, after)
            if last is not None:
                if not results or _id(results[0]) != last:
                    return  # something moved
                results = results[1:]
            newest = self._check_order(answer, results, newest if read else None)
            read += len(results)
            self._ended = following is None
            if self._ended and start is not None and newest is not None and newest < start:
                raise SourceGarbled(f"{answer.place}: the cursor goes back: asked from {start}, the newest is {newest}")
            yield self._page(answer, results)
            if following is None:
                return
            if not results:
                raise SourceGarbled(f"{answer.place}: a page repeats: there is to be more, and it brings nothing")
            overlaps = following == str(read)
            last = _id(results[-1]) if overlaps else None
            after = str(read - 1) if overlaps else following
        if self._from == start:
            raise SourceGarbled(f"{RESULTS_MAX} {self._options.object} of HubSpot have one and the same time of change")

    async def _ask(self, start: int | None, after: str | None) -> tuple[Answer, list[Any], str | None]:
        """One page of a search: its results, and what leads to the next."""
        options = self._options
        body: dict[str, Any] = {
            "limit": options.page_size,
            "sorts": [{"propertyName": self._changed_by, "direction": "ASCENDING"}],
            "properties": list(dict.fromkeys((self._changed_by, *PROPERTIES[options.object], *options.properties))),
            "filterGroups": [],
        }
        if start is not None:
            since = {"propertyName": self._changed_by, "operator": "GTE", "value": str(start)}
            body["filterGroups"] = [{"filters": [since]}]
        if after is not None:
            body["after"] = after
        url = f"{options.base_url.rstrip('/')}/crm/v3/objects/{options.object}/search"
        answer: Answer = await self._poll.http.request("POST", url, json=body, auth=self._auth)
        told = answer.json()
        results = at_path(told, "results")
        if not isinstance(results, list):
            raise SourceGarbled(f"{answer.place}: the answer has no results")
        following = at_path(told, "paging.next.after")
        if following is not None and str(following) == after:
            raise SourceGarbled(f"{answer.place}: a page repeats: the next one is the one that was asked for")
        return answer, results, None if following is None else str(following)

    def _changed_ms(self, one: Any) -> int | None:
        """When a record changed last."""
        said = at_path(one, f"properties.{self._changed_by}") or at_path(one, "updatedAt")
        if isinstance(said, str) and said.isascii() and said.isdecimal():
            return int(said)
        seconds = instant_s(said)
        return None if seconds is None else round(seconds * MS_PER_S)

    def _check_order(self, answer: Answer, results: Sequence[Any], newest: int | None) -> int | None:
        """The newest change so far; what comes after it must not be older. Raises SourceGarbled."""
        values = [newest, *(self._changed_ms(one) for one in results)]
        if fallen := fall(values):
            raise SourceGarbled(f"{answer.place}: the cursor goes back, from {fallen[0]} to {fallen[1]}")
        return next((value for value in reversed(values) if value is not None), None)

    def _page(self, answer: Answer, results: Sequence[Any]) -> Page:
        """A page with these records; the cursor moves with it, because what follows is not older."""
        closed_ms = closed_s(self._poll.http.now_s(), answer.date_s, self._options.settle) * MS_PER_S
        known = [value for one in results if (value := self._changed_ms(one)) is not None]
        self._from = max((self._from, *known), key=lambda value: -1 if value is None else value)
        before = self._cursor
        for value in known:
            if value <= closed_ms and (self._cursor is None or value > self._cursor):
                self._cursor = value
        records = [self._item(one) for one in results]
        return Page(records=records, cursor=self._cursor if self._cursor != before else None, more=not self._ended)

    def _item(self, one: Any) -> Any:
        """A record as it is delivered; one without its key as it came, which is refused with a sentence."""
        key = at_path(one, self._key)
        if not isinstance(one, dict) or not isinstance(key, str | int) or one.get("id") is None:
            return one
        return StoredItem(str(key), Raw(msgspec.json.encode(one if self._mapper is None else self._mapper(one))))


def _id(one: Any) -> str | None:
    return str(one["id"]) if isinstance(one, dict) and one.get("id") is not None else None
