"""The client's verbs for connectors and the record store: list, look, hold, let go, poll now, set the cursor, read."""

from __future__ import annotations

from typing import Any

from runtimed.client_link import Link, decode, given, part
from runtimed.wire import AcceptedView, ConnectorPage, ResetPreview, StoredPage, StreamPage, StreamView
from wal.views import ConnectorView


class ConnectorVerbs:
    """Mixed into `Client`; each may raise what that names, and `ConnectorNotFound`."""

    link: Link

    async def connectors(self) -> list[ConnectorView]:
        """All connectors and webhooks, by name."""
        return decode(await self.link.get("/v1/connectors"), ConnectorPage).items

    async def connector(self, name: str) -> ConnectorView:
        """A connector: where it stands, when it polls, what went wrong last."""
        return decode(await self.link.get(f"/v1/connectors/{part(name)}"), ConnectorView)

    async def pause_connector(
        self, name: str, *, reason: str | None = None, idempotency_key: str | None = None
    ) -> AcceptedView:
        """Hold a connector: it polls no more until it is resumed; where it stands is kept."""
        return await self._connector_asked(name, "pause", reason, idempotency_key)

    async def resume_connector(
        self, name: str, *, reason: str | None = None, idempotency_key: str | None = None
    ) -> AcceptedView:
        """Let a paused or quarantined connector go on from where it stands."""
        return await self._connector_asked(name, "resume", reason, idempotency_key)

    async def poll_connector(
        self, name: str, *, reason: str | None = None, idempotency_key: str | None = None
    ) -> ConnectorView:
        """Let a connector poll now instead of when it would; the connector as it is then. Raises `ConnectorHeld`."""
        path = f"/v1/connectors/{part(name)}/poll"
        return decode(await self.link.post(path, dict(given(reason=reason)), idempotency_key), ConnectorView)

    async def reset_connector(
        self, name: str, cursor: Any = None, *, reason: str | None = None, idempotency_key: str | None = None
    ) -> AcceptedView:
        """Set a connector's cursor; None reads everything again. What was delivered is known by its keys. Raises
        `InvalidInput` for a cursor of another type than its own."""
        path, body = f"/v1/connectors/{part(name)}/reset", {"cursor": cursor, **dict(given(reason=reason))}
        return decode(await self.link.post(path, body, idempotency_key), AcceptedView)

    async def preview_reset(self, name: str, cursor: Any = None) -> ResetPreview:
        """What `reset_connector` with this cursor would do; nothing is changed."""
        path, body = f"/v1/connectors/{part(name)}/reset", {"cursor": cursor, "dry_run": True}
        return decode(await self.link.post(path, body), ResetPreview)

    async def streams(self) -> list[StreamView]:
        """The streams of the record store, by name."""
        return decode(await self.link.get("/v1/records"), StreamPage).items

    async def records(self, stream: str, after: int = 0, limit: int = 50) -> StoredPage:
        """A page of a stream's records, in the order of their changes: reading on with `after=` the last seq misses
        nothing. Raises `StreamNotFound`."""
        path = f"/v1/records/{part(stream)}"
        return decode(await self.link.get(path, given(after=after, limit=limit)), StoredPage)

    async def _connector_asked(self, name: str, verb: str, reason: str | None, key: str | None) -> AcceptedView:
        path = f"/v1/connectors/{part(name)}/{verb}"
        return decode(await self.link.post(path, dict(given(reason=reason)), key), AcceptedView)
