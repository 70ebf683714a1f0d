"""What a source may use in a poll, put together: its cursor, secrets, an HTTP client, its shapes, a folder, a log."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path
from typing import Any

from msgspec import Raw

from actors.clock import Clock
from actors.connector_spec import Ask, ConnectorSpec, Poll, SecretSource
from actors.rate_budget import RateBudgets
from actors.shape_desk import ShapeDesk
from runtimed.connectors.http import SourceHttp, open_http
from wal.queries import Reader

FOLDER = "connectors"
"""Where connectors have folders of their own, below the data folder."""

Read = Callable[[Callable[[Reader], Any]], Awaitable[Any]]


class PollMaker:
    """Makes polls for the connectors of one runtime. What it opens for them lasts from poll to poll, until `aclose`.

    `ask` takes commands for the coordinator, `read` runs a query, `data_dir` is None for a runtime in memory.
    """

    def __init__(
        self,
        specs: Mapping[str, ConnectorSpec],
        clock: Clock,
        secret: SecretSource,
        ask: Ask,
        read: Read,
        data_dir: Path | None,
    ) -> None:
        self._clock, self._secret, self._ask, self._read, self._data_dir = clock, secret, ask, read, data_dir
        self._budgets = RateBudgets(specs.values())
        self._clients: dict[str, SourceHttp] = {}
        self._logs = {name: logging.getLogger(f"runtimed.connectors.{name}") for name in specs}

    def __call__(self, spec: ConnectorSpec, cursor: Any) -> Poll[Any]:
        """A poll of this connector, from this cursor."""
        return Poll(
            name=spec.name,
            cursor=cursor,
            log=self._logs[spec.name],
            secret=self._secret,
            options=spec.options,
            shapes=ShapeDesk(spec.name, self._ask, self._shape),
            folder=None if self._data_dir is None else self._data_dir / FOLDER / spec.name,
            open_http=lambda: self._open_http(spec),
        )

    async def _shape(self, connector: str, stream: str) -> Raw | None:
        found: Raw | None = await self._read(lambda reader: reader.shape(connector, stream))
        return found

    def _open_http(self, spec: ConnectorSpec) -> SourceHttp:
        client = self._clients.get(spec.name)
        if client is None:
            client = self._clients[spec.name] = open_http(spec, self._budgets.of(spec), self._clock)
        return client

    async def aclose(self) -> None:
        """Close what was opened. No poll is under way any more."""
        clients, self._clients = list(self._clients.values()), {}
        for client in clients:
            await client.aclose()
