"""The verbs about connectors: how they stand, a poll now, what a reset would do."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec
from msgspec import Raw

from actors.errors import Draining, InvalidInput
from actors.intake_desk import check_cursor
from wal.views import ConnectorView

if TYPE_CHECKING:
    from runtimed.assembly import Actors
    from runtimed.readers import Readers


class ResetForeseen(msgspec.Struct, frozen=True):
    """What a reset would do: the cursor now and then, the records taken so far, and how many keys will be recognised,
    so that they start or signal nothing again (what is in the store is recognised by its own key in any case)."""

    name: str
    cursor: Raw
    new_cursor: Raw
    records_total: int
    keys_known: int


class ConnectorVerbs:
    """What `Runtime` has about connectors."""

    actors: Actors
    _readers: Readers
    _closed: bool

    def connectors(self) -> list[ConnectorView]:
        """The connectors by name; also those that are not declared any more and left something in the journal."""
        views = {row.name: row.view() for row in self._readers.on_loop.connectors()}
        views |= {view.name: view for view in self.actors.connectors.views()}
        return [views[name] for name in sorted(views)]

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
