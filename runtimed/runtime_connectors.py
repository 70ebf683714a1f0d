"""The verbs about connectors: how they stand, a poll now, what a reset would do."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import msgspec
from msgspec import Raw

from actors.checks import check_cursor
from actors.errors import Draining, InvalidInput
from actors.schedules import KIND
from runtimed.http.surface import ResetForeseen
from wal.intake import WEBHOOK, ConnectorRow
from wal.views import ConnectorView

if TYPE_CHECKING:
    from actors.connector_spec import WebhookSpec
    from runtimed.assembly import Actors
    from runtimed.readers import Readers


class ConnectorVerbs:
    """What `Runtime` has about connectors."""

    actors: Actors
    webhooks: Mapping[str, WebhookSpec]
    _readers: Readers
    _closed: bool

    def connectors(self) -> list[ConnectorView]:
        """The connectors and webhooks by name; also those that are not declared any more and left something in the
        journal."""
        rows = {row.name: row.view() for row in self._readers.on_loop.connectors()}
        views = rows | {view.name: view for view in self.actors.connectors.views()}
        for name, spec in self.webhooks.items():
            view = rows.get(WEBHOOK + name) or ConnectorRow(WEBHOOK + name, "webhook").view()
            views[WEBHOOK + name] = msgspec.structs.replace(view, deliver=str(spec.deliver))
        shown = [view for view in views.values() if view.kind != KIND]
        return sorted(shown, key=lambda view: (view.name, view.kind))

    async def poll_connector(self, name: str) -> ConnectorView:
        """Let a connector poll at once; the connector as it is when that has begun. Raises ConnectorNotFound,
        ConnectorHeld, Draining."""
        if self._closed:
            raise Draining("the runtime is stopping")
        return await self.actors.connectors.poll_now(name)

    async def preview_reset(self, name: str, cursor: Any = None) -> ResetForeseen:
        """What setting a connector's cursor would do; nothing is changed. Raises ConnectorNotFound, InvalidInput."""
        try:
            raw = cursor if isinstance(cursor, Raw) else Raw(msgspec.json.encode(cursor))
        except (TypeError, ValueError, msgspec.MsgspecError) as error:
            raise InvalidInput(f"the cursor cannot be carried as JSON: {error}") from None
        view = self.actors.connectors.view(name)
        check_cursor(self.actors.connectors.specs[name], raw)
        known = await self._readers.read(lambda reader: reader.deliveries(name))
        return ResetForeseen(name, view.cursor, raw, view.records_total, known)
