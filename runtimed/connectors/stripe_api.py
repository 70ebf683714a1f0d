"""Stripe's lists over HTTP, and its objects as items: what `stripe.py` and `stripe_changes.py` both need."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta, Raw

from actors.connector_spec import Poll
from actors.errors import SourceGarbled
from runtimed.connectors import canonical
from runtimed.connectors.cursors import at_path
from runtimed.connectors.http import Auth
from runtimed.connectors.newest_first import Ask, Listed
from runtimed.connectors.options import Text, Url, revealed
from wal.records import StoredItem

SETTLE_S = 30.0
"""How long a second stays open: objects of it may still appear in lists."""
SINGULAR = {"customers": "customer", "invoices": "invoice", "charges": "charge"}


class Stripe(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The options. `since` is from when on objects are wanted; `updates` follows their changes (default: if they go to
    the record store); `canonical` makes models of them (default: of all but charges); durations in seconds."""

    object: Literal["charges", "customers", "invoices", "events"]
    api_key: Text
    base_url: Url = "https://api.stripe.com"
    page_size: Annotated[int, Meta(ge=1, le=100)] = 100
    since: str | int | None = None
    updates: bool | None = None
    canonical: bool | None = None
    settle: Annotated[float, Meta(ge=0.0, le=86_400.0)] = SETTLE_S
    version: Text | None = None
    account: Text | None = None


class Api:
    """Stripe for one poll."""

    def __init__(self, options: Stripe, poll: Poll[Any], key: str) -> None:
        self.object, self.settle_s = options.object, options.settle
        self._http, self._key = poll.http, key
        self._base, self._size = options.base_url.rstrip("/"), options.page_size
        extra = {"Stripe-Version": options.version, "Stripe-Account": options.account}
        self._headers = {name: value for name, value in extra.items() if value}
        self._auth = Auth(headers={"Authorization": f"Bearer {revealed(options.api_key, poll.secret)}"})
        wants = options.object != "charges" if options.canonical is None else options.canonical
        self._mapper = canonical.STRIPE[options.object] if wants else None

    def now_s(self) -> float:
        """Our wall clock, seconds since the epoch."""
        return float(self._http.now_s())

    def asking(self, kind: str, **bounds: Any) -> Ask:
        """What gets a page of the list `kind`, always with these parameters."""
        return partial(self._ask, kind, bounds)

    async def _ask(self, kind: str, bounds: Mapping[str, Any], params: Mapping[str, Any]) -> Listed:
        answer = await self._http.request(
            "GET",
            f"{self._base}/v1/{kind}",
            params={"limit": self._size, **bounds, **params},
            headers=self._headers,
            auth=self._auth,
        )
        body = answer.json()
        objects = body.get("data") if isinstance(body, dict) else None
        if not isinstance(objects, list):
            raise SourceGarbled(f"{answer.place}: the answer is no list of objects")
        return Listed(answer.place, objects, body.get("has_more") is True, answer.date_s)

    def item(self, one: Any, *, deleted: bool = False) -> Any:
        """An object as it is delivered; one without its key as it came, which is refused with a sentence."""
        key = at_path(one, self._key)
        if not isinstance(one, dict) or not isinstance(key, str | int) or not isinstance(one.get("id"), str):
            return one
        data = one if self._mapper is None else self._mapper(one)
        return StoredItem(str(key), Raw(msgspec.json.encode(data)), deleted)
