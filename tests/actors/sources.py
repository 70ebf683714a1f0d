"""Sources whose polls a test scripts, and a look at what they left in the journal."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from typing import Any

import msgspec
import trio

from actors.connector_spec import ConnectorSpec, Page, Poll, deliver_to
from actors.flow.definitions import App
from runtimed.virtual import VirtualRuntime
from wal.views import ConnectorView


class Source:
    """Each poll takes the next script: pages, exceptions to raise, events to wait for, or callables; none: no page.

    `polls` lists the cursors that polls began from; `went_on` the pages behind whose `yield` the source came."""

    def __init__(self, *scripts: list[Any]) -> None:
        self.scripts = list(scripts)
        self.polls: list[Any] = []
        self.at: list[float] = []
        self.went_on: list[Page] = []
        self.ended: list[str] = []

    async def __call__(self, poll: Poll[Any]) -> AsyncIterator[Page]:
        self.polls.append(poll.cursor)
        self.at.append(trio.current_time())
        script = self.scripts.pop(0) if self.scripts else []
        how = "broken off"
        try:
            for part in script:
                if isinstance(part, BaseException):
                    how = "raised"
                    raise part
                if isinstance(part, trio.Event):
                    await part.wait()
                elif isinstance(part, Page):
                    yield part
                    self.went_on.append(part)
                else:
                    await part(poll)
            how = "done"
        finally:
            self.ended.append(how)


def declare(
    app: App, name: str, source: Callable[[Poll[Any]], AsyncIterator[Page]], deliver: Any = "records", **fields: Any
) -> ConnectorSpec:
    """A connector of this app, without the decorator's look at the function."""
    run_id_from = fields.pop("run_id_from", None)
    spec = ConnectorSpec(name=name, source=source, deliver=deliver_to(deliver, run_id_from), **{"key": "id", **fields})
    app.connectors[name] = spec
    return spec


def page(*ids: Any, cursor: Any = None, **fields: Any) -> Page:
    """A page of records with these ids."""
    return Page(records=[{"id": id} for id in ids], cursor=cursor, **fields)


async def stored(runtime: VirtualRuntime, stream: str) -> dict[str, Any]:
    """The records of a stream, by key."""

    def read(reader: Any) -> dict[str, Any]:
        found: dict[str, Any] = {}
        after = 0
        while (page := reader.stored(stream, after=after, limit=500)) is not None and page.items:
            after = page.items[-1].seq
            found |= {item.key: None if item.deleted else msgspec.json.decode(item.data) for item in page.items}
        return found

    result: dict[str, Any] = await runtime.read(read)
    return result


def of_kind(runtime: VirtualRuntime, kind: type) -> list[Any]:
    """The records of this kind in the journal, in order."""
    return [entry.record for entry in runtime.disk.entries if isinstance(entry.record, kind)]


def view(runtime: VirtualRuntime, name: str) -> ConnectorView:
    """How a connector stands."""
    return next(view for view in runtime.connectors() if view.name == name)


async def until(condition: Callable[[], bool], seconds: float = 3_600.0, step: float = 0.05) -> None:
    """Let virtual time pass until something holds."""
    with trio.fail_after(seconds):
        while not condition():  # noqa: ASYNC110 - virtual time: what is waited for has no event of its own
            await trio.sleep(step)
