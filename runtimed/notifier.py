"""Telling people what needs them: one actor a `[notifications.NAME]` that follows the journal and starts a run for each
event, which sends it with durable retries.

It is a connector of the runtime's own, `notify:NAME`, whose source is the journal: what it found and how far it looked
are one commit, and an event's seq is its key. So a crash anywhere starts nothing twice and forgets nothing. Where
nothing happened nothing is recorded, or its own record would wake it.
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Any, Protocol, TypeVar

import msgspec
import trio
from msgspec import Raw

from actors import messages as m
from actors.connector_spec import Deliver
from actors.errors import ActorRestarted, ConnectorHeld, Draining, MailboxFull, Overloaded
from actors.feed import Feed
from actors.flow.definitions import NAME
from runtimed.secret_store import PREFIX
from runtimed.settings import ConfigError, Notification, Settings, in_file
from wal.queries import Reader
from wal.records import StoredItem
from wal.views import EventView

log = logging.getLogger("runtimed.notifications")
T = TypeVar("T")

NOTIFICATION = "runtimed.notification"
"""The workflow that sends one event. Of its own runs nobody is told: telling fails for a reason that would go on."""
LOOK_ROWS = 20_000
EVENTS_MAX = 200
PAUSE_S = 0.2
"""Between two looks at a journal that grows: at most five a second, however fast it does."""
RETRY_S = 1.0
_SAID: dict[str, tuple[str, ...]] = {
    "approval_requested": ("title", "roles", "quorum", "risk", "expires_at"),
    "run_failed": ("error",),
    "run_blocked": ("code", "message"),
    "connector_quarantined": ("connector", "error", "crashes"),
}
"""What is told of each kind of event, beside whose it is: never an input, a result or an approval's detail."""


class Notice(msgspec.Struct, frozen=True):
    """One event for one target: the input of a run of `runtimed.notification`."""

    target: str
    type: str
    at: str
    data: Any = None


class Ask(Protocol):
    """The coordinator's mailbox."""

    def __call__(self, command: m.Message, /) -> Awaitable[Any]: ...


def notifications_of(settings: Settings) -> dict[str, Notification]:
    """The configured targets. Raises ConfigError, naming file and key, for a name or a secret that cannot be one."""
    for name, spec in settings.notifications.items():
        said = ""
        if not NAME.match(name) or len(name) > 150:
            said = f"notifications.{name}: a name is 1 to 150 characters of A-Z a-z 0-9 . _ : -"
        elif not spec.secret.startswith(PREFIX) or not NAME.match(spec.secret.removeprefix(PREFIX)):
            said = f'notifications.{name}.secret: expected "secret:NAME", and no secret itself'
        if said:
            raise in_file(ConfigError(said), settings)
    return settings.notifications


class Notifier:
    """The actor of one target."""

    def __init__(
        self,
        name: str,
        spec: Notification,
        feed: Feed,
        read: Callable[[Callable[[Reader], Any]], Awaitable[Any]],
        ask: Ask,
    ) -> None:
        self._name, self._connector = name, f"notify:{name}"
        self._kinds = list(spec.events)
        self._feed, self._read, self._ask = feed, read, ask
        self._generation = 0
        self.seq = 0

    async def run(self, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Follow the journal until cancelled, from where the life before this one had told of everything."""
        await self._find_place()
        task_status.started()
        while True:
            head = await self._feed.wait_beyond(self.seq)
            if head <= self.seq:  # there will be no more
                await trio.sleep_forever()
            seen, events = await self._read(partial(self._look, head))
            items = [item for event in events if (item := self._item(event)) is not None]
            if items:
                await self._take(items, seen)
            self.seq = seen
            await trio.sleep(PAUSE_S)

    def _look(self, head: int, reader: Reader) -> tuple[int, list[EventView]]:
        return reader.events_of(self._kinds, after=self.seq, upto=min(head, self.seq + LOOK_ROWS), limit=EVENTS_MAX)

    async def _find_place(self) -> None:
        """Read the cursor. The first time ever there is none: what happens from now on is told, and that is recorded,
        because the next life must not begin at its own now."""
        row = await self._read(lambda reader: reader.connector(self._connector))
        self._generation = row.generation
        cursor = msgspec.json.decode(row.cursor)
        if isinstance(cursor, int):
            self.seq = cursor
        else:
            self.seq = self._feed.seq
            await self._take([], self.seq)

    async def _take(self, items: list[StoredItem], seen: int) -> None:
        """Have the runs started and the cursor moved, in one commit. The same page again has no second effect, so it is
        offered until it is taken."""
        page = m.TakePage(
            connector=self._connector, generation=self._generation, deliver=Deliver("workflow", NOTIFICATION),
            items=items, cursor=Raw(str(seen).encode()), source_kind="notifications",
        )  # fmt: skip
        while True:
            try:
                await self._ask(page)
                return
            except Draining:
                await trio.sleep_forever()
            except ConnectorHeld:
                row = await self._read(lambda reader: reader.connector(self._connector))
                page = msgspec.structs.replace(page, generation=row.generation)
            except (ActorRestarted, MailboxFull, Overloaded) as error:
                log.debug("notifications to %s wait: %s", self._name, error)
            await trio.sleep(RETRY_S)

    def _item(self, event: EventView) -> StoredItem | None:
        if event.workflow == NOTIFICATION:
            return None
        said = msgspec.json.decode(event.data)
        data: dict[str, Any] = {name: said[name] for name in _SAID[event.kind] if name in said}
        if event.run_id is not None:
            data |= {"run_id": event.run_id, "workflow": event.workflow}
        if event.kind == "approval_requested":
            data["approval_id"] = str(event.seq)
        data["seq"] = event.seq
        notice = Notice(self._name, event.kind, event.at, data)
        return StoredItem(str(event.seq), Raw(msgspec.json.encode(notice)))
