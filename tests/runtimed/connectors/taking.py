"""Polls of a connector without a runtime: pages taken into a table by key, the cursor through JSON and back."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import aclosing, asynccontextmanager
from typing import Any

import msgspec

from actors.clock import Clock
from actors.connector_spec import ConnectorSpec, Page, Poll
from runtimed.connectors.cursors import at_path
from runtimed.connectors.http import Budget, SourceHttp
from runtimed.settings import Connector
from wal.records import StoredItem

DAY_S = 86_400
PATIENCE_S = 60.0
NOW_S = 1_790_000_000


class FixedClock:
    """A clock that says what it is told to."""

    def __init__(self, now_s: float = NOW_S) -> None:
        self.now_s = now_s

    def now_us(self) -> int:
        return round(self.now_s * 1_000_000)


class Taken:
    """What has been taken from one connector so far."""

    def __init__(self, spec: ConnectorSpec, secrets: dict[str, str], clock: Clock, budget: Budget | None) -> None:
        self.spec, self.secrets = spec, secrets
        self.http = SourceHttp(spec.name, clock=clock, budget=budget, timeout_s=PATIENCE_S)
        self.cursor: Any = None
        self.rows: dict[str, Any] = {}
        self.deleted: set[str] = set()
        self.pages: list[Page] = []

    def secret(self, name: str) -> str:
        return self.secrets[name.removeprefix("secret:")]

    async def poll(self, pages_max: int | None = None) -> int:
        """One poll, broken off after so many pages as by a crash; how many records it brought."""
        count = taken = 0
        poll: Poll[Any] = Poll(name=self.spec.name, cursor=self.cursor, http=self.http, secret=self.secret)
        async with aclosing(self.spec.source(poll)) as pages:  # type: ignore[type-var]
            async for page in pages:
                self.take(page)
                taken, count = taken + len(page.records), count + 1
                if count == pages_max:
                    break
        return taken

    async def read_all(self) -> None:
        """Polls until one says that there is no more."""
        await self.poll()
        while self.pages and self.pages[-1].more:
            await self.poll()

    def take(self, page: Page) -> None:
        self.pages.append(page)
        for record in page.records:
            if isinstance(record, StoredItem):
                key, data = record.key, msgspec.json.decode(record.data)
                (self.deleted.add if record.deleted else self.deleted.discard)(key)
            else:
                assert self.spec.key is not None
                key, data = str(at_path(record, self.spec.key)), record
            self.rows[key] = data
        if page.cursor is not None:
            self.cursor = msgspec.json.decode(msgspec.json.encode(page.cursor))


@asynccontextmanager
async def taking(
    spec: ConnectorSpec, *, clock: Clock | None = None, budget: Budget | None = None, **secrets: str
) -> AsyncIterator[Taken]:
    """A connector to poll by hand."""
    taken = Taken(spec, secrets, clock or FixedClock(), budget)
    try:
        yield taken
    finally:
        await taken.http.aclose()


def settings(kind: str, deliver: str = "records", key: str | None = None, **options: Any) -> Connector:
    """The table of a connector."""
    return msgspec.convert({"kind": kind, "deliver": deliver, "key": key, "options": options}, Connector)
