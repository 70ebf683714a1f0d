"""Where reading commands read: the daemon over HTTP, or its file. Both answer with the same JSON."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import msgspec

from actors.errors import (
    ApprovalNotFound,
    ConnectorNotFound,
    NotFound,
    RunNotFound,
    SessionNotFound,
    StreamNotFound,
)
from runtimed.client_link import Link, given, part
from runtimed.connector_words import SCHEDULE, WEBHOOK
from runtimed.wire import OutputItem, StreamView
from wal.views import EventView, Page, StateView, rfc3339

if TYPE_CHECKING:
    from wal.queries import Reader

PAGE_MAX = 500
_encode = msgspec.json.encode


class Source(Protocol):
    """What can be read. Pages are JSON `{"items", "next", "total", "seq"}`, single things JSON objects."""

    offline: bool

    async def runs(self, **filters: Any) -> bytes: ...
    async def run(self, run_id: str) -> bytes: ...
    async def history(self, run_id: str, *, after: int, limit: int) -> bytes: ...
    async def outputs(self, run_id: str, *, after: int, limit: int) -> bytes: ...
    async def approvals(self, **filters: Any) -> bytes: ...
    async def approval(self, approval_id: str) -> bytes: ...
    async def sessions(self, **filters: Any) -> bytes: ...
    async def session(self, session_id: str) -> bytes: ...
    async def state(self, scope: str, key: str) -> bytes: ...
    async def states(self, scope: str, **filters: Any) -> bytes: ...
    async def why_asleep(self, run_id: str) -> str | None: ...
    async def connectors(self) -> bytes: ...
    async def connector(self, name: str) -> bytes: ...
    async def streams(self) -> bytes: ...
    async def records(self, stream: str, *, after: int, limit: int) -> bytes: ...
    async def audit(self, *, after: int, limit: int) -> bytes: ...
    async def tokens(self) -> bytes: ...


class Online:
    """The daemon. `runs` takes the filters of the contract; `attributes` is a mapping."""

    offline = False

    def __init__(self, link: Link) -> None:
        self._link = link

    async def runs(self, **filters: Any) -> bytes:
        statuses = [("status", one) for one in filters.pop("status", None) or ()]
        attributes = [(f"attr.{name}", value) for name, value in (filters.pop("attributes", None) or {}).items()]
        return await self._link.get("/v1/runs", [*statuses, *attributes, *given(**filters)])

    async def run(self, run_id: str) -> bytes:
        return await self._link.get(f"/v1/runs/{part(run_id)}")

    async def history(self, run_id: str, *, after: int, limit: int) -> bytes:
        return await self._link.get(f"/v1/runs/{part(run_id)}/history", given(after=after, limit=limit))

    async def outputs(self, run_id: str, *, after: int, limit: int) -> bytes:
        return await self._link.get(f"/v1/runs/{part(run_id)}/output", given(after=after, limit=limit))

    async def approvals(self, **filters: Any) -> bytes:
        return await self._link.get("/v1/approvals", given(**filters))

    async def approval(self, approval_id: str) -> bytes:
        return await self._link.get(f"/v1/approvals/{part(approval_id)}")

    async def sessions(self, **filters: Any) -> bytes:
        return await self._link.get("/v1/sessions", given(**filters))

    async def session(self, session_id: str) -> bytes:
        return await self._link.get(f"/v1/sessions/{part(session_id)}")

    async def state(self, scope: str, key: str) -> bytes:
        return await self._link.get(f"/v1/state/{part(scope)}/{part(key)}")

    async def states(self, scope: str, **filters: Any) -> bytes:
        return await self._link.get(f"/v1/state/{part(scope)}", given(**filters))

    async def why_asleep(self, run_id: str) -> str | None:
        """Why nothing will wake this run, which is a defect; None if something will."""
        from runtimed.wire import CareView

        try:
            view = msgspec.json.decode(await self._link.get("/v1/journal"), type=CareView)
        except NotFound:  # a daemon of a version before it could tell
            return None
        return next((doubt.why for doubt in view.unwakeable if doubt.id == run_id), None)

    async def connectors(self) -> bytes:
        return await self._link.get("/v1/connectors")

    async def connector(self, name: str) -> bytes:
        return await self._link.get(f"/v1/connectors/{part(name)}")

    async def streams(self) -> bytes:
        return await self._link.get("/v1/records")

    async def records(self, stream: str, *, after: int, limit: int) -> bytes:
        return await self._link.get(f"/v1/records/{part(stream)}", given(after=after, limit=limit))

    async def audit(self, *, after: int, limit: int) -> bytes:
        return await self._link.get("/v1/audit", given(after=after, limit=limit))

    async def tokens(self) -> bytes:
        return await self._link.get("/v1/tokens")


class Offline:
    """The file, read-only, in short transactions."""

    offline = True

    def __init__(self, reader: Reader) -> None:
        self._reader = reader
        self.seq = reader.head_seq()

    async def runs(self, **filters: Any) -> bytes:
        return _encode(self._reader.runs(**filters))

    async def run(self, run_id: str) -> bytes:
        view = self._reader.run_view(run_id)
        if view is None:
            raise RunNotFound(f"there is no run {run_id!r}")
        return _encode(view)

    async def history(self, run_id: str, *, after: int, limit: int) -> bytes:
        return _encode(self._page(run_id, after=after, limit=limit, kinds=None))

    async def outputs(self, run_id: str, *, after: int, limit: int) -> bytes:
        page = self._page(run_id, after=after, limit=limit, kinds=["output_emitted"])
        items = [OutputItem(r.seq, r.at, msgspec.json.decode(r.data, type=_Emitted).value) for r in page.items]
        return _encode(Page(items, page.next, page.total, page.seq))

    async def approvals(self, **filters: Any) -> bytes:
        return _encode(self._reader.approval_page(**filters))

    async def approval(self, approval_id: str) -> bytes:
        view = self._reader.approval(approval_id)
        if view is None:
            raise ApprovalNotFound(f"there is no approval {approval_id[:40]!r}")
        return _encode(view)

    async def sessions(self, **filters: Any) -> bytes:
        return _encode(self._reader.sessions(**filters))

    async def session(self, session_id: str) -> bytes:
        view = self._reader.session(session_id)
        if view is None:
            raise SessionNotFound(f"there is no session {session_id!r}")
        return _encode(view)

    async def state(self, scope: str, key: str) -> bytes:
        row = self._reader.state(scope, key)
        if row is None or row.deleted:
            raise NotFound(f"there is no {key!r} in {scope}")
        at = rfc3339(row.updated_at)
        return _encode(StateView(scope, key, row.value, row.version, row.tenant, row.classification, at))

    async def states(self, scope: str, **filters: Any) -> bytes:
        return _encode(self._reader.states(scope, **filters))

    async def connectors(self) -> bytes:
        items = [row.view() for row in self._reader.connectors() if row.kind != SCHEDULE]
        return _encode(Page(items, None, len(items), self.seq))

    async def connector(self, name: str) -> bytes:
        found = [view for row in self._reader.connectors() if (view := row.view()).name == name]
        if not found:
            raise ConnectorNotFound(f"the journal knows of no connector {name!r}: it has recorded nothing yet")
        return _encode(min(found, key=lambda view: view.kind == WEBHOOK))

    async def streams(self) -> bytes:
        items = [StreamView(row.name, row.records) for row in self._reader.streams()]
        return _encode(Page(items, None, len(items), self.seq))

    async def records(self, stream: str, *, after: int, limit: int) -> bytes:
        page = self._reader.stored(stream, after=after, limit=limit)
        if page is None:
            raise StreamNotFound(f"the record store has no stream {stream[:200]!r}")
        return _encode(page)

    async def audit(self, *, after: int, limit: int) -> bytes:
        return _encode(self._reader.audit_page(after=after, limit=limit))

    async def tokens(self) -> bytes:
        from runtimed.tokens import view_of

        now_us = time.time_ns() // 1_000
        items = [view_of(row, now_us) for row in self._reader.tokens()]
        return _encode(Page(items, None, len(items), self.seq))

    async def why_asleep(self, run_id: str) -> str | None:
        doubts = self._reader.doubts()
        return next((doubt.why for doubt in doubts if doubt.run_id == run_id and not doubt.going_on), None)

    def events(self, after: int) -> list[EventView]:
        """The next records beyond a seq; empty at the end."""
        return self._reader.events(after, PAGE_MAX)

    def counts(self) -> dict[str, int]:
        """How many runs there are, by status."""
        counts: dict[str, int] = {}
        for (_, status), number in self._reader.counts().items():
            counts[status] = counts.get(status, 0) + number
        return counts

    def _page(self, run_id: str, *, after: int, limit: int, kinds: list[str] | None) -> Page:
        page = self._reader.history_page(run_id, after=after, limit=limit, kinds=kinds)
        if page is None:
            raise RunNotFound(f"there is no run {run_id!r}")
        return page


class _Emitted(msgspec.Struct):
    value: msgspec.Raw


@contextmanager
def offline(journal: Path) -> Iterator[Offline]:
    """The journal's file as a source. Raises `JournalRefused` if it is none."""
    from wal.queries import Reader  # loads SQLite, which commands that talk to a daemon do without

    with Reader.open(journal) as reader:
        yield Offline(reader)
