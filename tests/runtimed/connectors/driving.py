"""Drives the source of a connector by hand, as the poller does: page by page, each taken before the next."""

from __future__ import annotations

from contextlib import aclosing
from pathlib import Path
from typing import Any

import msgspec
import trio
from msgspec import Raw

from actors.connector_spec import ConnectorSpec, Page, Poll
from actors.errors import SchemaNarrowed
from actors.shapes import narrowings
from runtimed.settings import Connector
from wal.records import DeliveryRefused, StoredItem

PATIENCE_S = 60.0


class FakeShapes:
    """Shapes in memory, by the rules of the real desk."""

    def __init__(self) -> None:
        self.known: dict[str, Any] = {}

    async def settle(self, stream: str, shape: Raw) -> None:
        after = msgspec.json.decode(shape)
        if stream in self.known and (lost := narrowings(self.known[stream], after)):
            raise SchemaNarrowed(f"stream {stream} narrows: {'; '.join(lost)}")
        self.known[stream] = after


class World:
    """A connector and all that was taken from it, over several polls and crashes."""

    def __init__(self, spec: ConnectorSpec, folder: Path | None, secrets: dict[str, str] | None = None) -> None:
        self.spec, self.folder, self.secrets = spec, folder, secrets or {}
        self.cursor: Any = None
        self.stored: dict[str, dict[str, Any]] = {}
        self.deleted: set[tuple[str, str]] = set()
        self.taken: list[tuple[str, str]] = []  # every item, repeats included
        self.keyless: list[Any] = []
        self.refused: list[DeliveryRefused] = []
        self.pages = 0
        self.shapes = FakeShapes()
        self.page_max = 100_000 if spec.kind == "files" else 1_000  # a chunk of a file is taken whole

    async def poll(self, pages_max: int | None = None) -> None:
        """One poll to its end; with `pages_max`, killed once so many pages were taken."""
        poll = Poll[Any](
            name=self.spec.name, cursor=self.cursor, shapes=self.shapes, folder=self.folder, secret=self.secret
        )
        self.pages = 0
        with trio.fail_after(PATIENCE_S):
            async with aclosing(self.spec.source(poll)) as source:  # type: ignore[type-var]
                async for page in source:
                    self.take(page)
                    self.pages += 1
                    if self.pages == pages_max:
                        return

    def secret(self, name: str) -> str:
        return self.secrets[name.removeprefix("secret:")]

    def take(self, page: Page) -> None:
        stream = page.stream or self.spec.name
        assert len(page.records) <= self.page_max
        for item in page.records:
            if isinstance(item, DeliveryRefused):
                self.refused.append(item)
            elif not isinstance(item, StoredItem):
                self.keyless.append(msgspec.json.decode(item))
            else:
                self.stored.setdefault(stream, {})[item.key] = msgspec.json.decode(item.data)
                self.taken.append((stream, item.key))
                if item.deleted:
                    self.deleted.add((stream, item.key))
        if page.cursor is not None:
            self.cursor = msgspec.json.decode(msgspec.json.encode(page.cursor))

    def keys(self, stream: str) -> list[str]:
        return sorted(self.stored.get(stream, {}), key=lambda key: (len(key), key))


def settings(kind: Any, **values: Any) -> Connector:
    return msgspec.convert({"kind": kind, **values}, Connector)
