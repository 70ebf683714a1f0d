"""A daemon that plays a script: what the dashboard asks is answered out of lists, events come when a test says so."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from types import TracebackType
from typing import Any, Self, TypeVar

import msgspec
from msgspec import Raw

from actors.errors import RunNotFound
from runtimed.client import DaemonUnreachable
from runtimed.client_wire import Broken
from runtimed.wire import ApprovalPage, CallerView, HealthDetail, HistoryPage, RunPage, SessionPage
from wal.errors import RuntimedError
from wal.views import (
    ActorView,
    ApprovalView,
    ConnectorView,
    EventView,
    HistoryRecord,
    RunDetail,
    RunView,
    SessionView,
    Vote,
    rfc3339,
)

T = TypeVar("T")
NOW = 1_790_000_000_000_000
"""2026-09-21T14:13:20Z in microseconds. The tests' dashboards stand still at it."""


def at(seconds_ago: float) -> str:
    """The instant so many seconds before NOW."""
    return rfc3339(NOW - int(seconds_ago * 1e6)) or ""


def run(id: str, workflow: str = "checkout", status: str = "running", *, ago: float = 60.0, **more: Any) -> RunView:
    """A run that was created `ago` seconds before NOW."""
    return RunView(
        id=id, workflow=workflow, status=status, **{"created_at": at(ago), "updated_at": at(ago / 2), "seq": 10, **more}
    )


def event(seq: int, kind: str, run_id: str | None = None, *, ago: float = 1.0, **more: Any) -> EventView:
    """A record as the stream tells it; what is no field of it goes into its data."""
    fields = {name: more.pop(name, None) for name in ("workflow", "call", "name", "attempt")}
    if kind == "run_started":
        more = {"workflow": fields["workflow"] or "checkout", "input": None, **more}
    data = Raw(msgspec.json.encode(more))
    return EventView(seq=seq, at=at(ago), kind=kind, run_id=run_id, trace_id=None, data=data, **fields)


def approval(id: str, title: str, run_id: str = "r1", **more: Any) -> ApprovalView:
    """An open request to people."""
    fields: dict[str, Any] = {
        "workflow": "checkout", "call": "4", "detail": Raw(b'{"amount":1240}'), "form": Raw(b"null"), "roles": ["ops"],
        "quorum": 1, "risk": "low", "four_eyes": False, "status": "open", "requested_at": at(840),
        "expires_at": at(-2760),
        "payload_hash": "7f3a91c2" * 8, "votes": list[Vote](), "decided_at": None,
    }  # fmt: skip
    return ApprovalView(id=id, run_id=run_id, title=title, **{**fields, **more})


class FakeDaemon:
    """The script: lists that tests fill, and switches for what goes wrong. While `answers_held` is set,
    answers of lists and runs are made but wait for it; a question that `refusals` names is refused once."""

    def __init__(self) -> None:
        self.runs: list[RunView] = []
        self.details: dict[str, RunDetail] = {}
        self.histories: dict[str, list[HistoryRecord]] = {}
        self.approvals: list[ApprovalView] = []
        self.sessions: list[SessionView] = []
        self.actors: list[ActorView] = []
        self.connectors: list[ConnectorView] = []
        self.events: list[EventView] = []
        self.health = HealthDetail(status="pass", reasons=[], checks={})
        self.figures: dict[str, float] = {"sqlite_wal_bytes": 2_200_000, "journal_seq": 10}
        self.caller = CallerView(by="uid:1002", level="admin", roles=None, via="bob pts/3 ssh 10.0.4.7")
        self.seq = 10
        self.up = True
        self.asked: list[str] = []
        self.answers_held: asyncio.Event | None = None
        self.refusals: list[str] = []
        self.streams: list[FakeStream] = []

    def client(self) -> FakeClient:
        """What the app makes its client with."""
        return FakeClient(self)

    def push(self, *events: EventView) -> None:
        """Records are committed: they reach every stream."""
        self.events += events
        self.seq = events[-1].seq
        for stream in self.streams:
            stream.push(events)

    def go_down(self) -> None:
        """The daemon is gone: streams break and nobody listens."""
        self.up = False
        for stream in self.streams:
            stream.break_off()
        self.streams.clear()

    def check(self, what: str) -> None:
        """Note a question; raises if nobody listens."""
        self.asked.append(what)
        if not self.up:
            raise DaemonUnreachable("nobody listens")
        if what in self.refusals:
            self.refusals.remove(what)
            raise RuntimedError(f"429: {what}")

    async def answer(self, found: T) -> T:
        """An answer that is made now, and goes out when nothing holds it up."""
        if self.answers_held is not None:
            await self.answers_held.wait()
        return found


class FakeStream:
    """The event stream of one connection."""

    def __init__(self) -> None:
        self.status, self.headers = 200, {"content-type": "text/event-stream"}
        self._queue: asyncio.Queue[bytes | None] = asyncio.Queue()

    def push(self, events: Sequence[EventView]) -> None:
        text = b"".join(
            b"id: %d\nevent: %s\ndata: %s\n\n" % (e.seq, e.kind.encode(), msgspec.json.encode(e)) for e in events
        )
        self._queue.put_nowait(text)

    def break_off(self) -> None:
        self._queue.put_nowait(None)

    async def read(self) -> bytes:
        data = await self._queue.get()
        if data is None:
            raise Broken("the connection ended")
        return data

    async def aclose(self) -> None:
        pass


class FakeEvents:
    """The events beyond a seq, as far as they are in the script; then it waits."""

    def __init__(self, daemon: FakeDaemon, events: Sequence[EventView]) -> None:
        self._daemon, self._left = daemon, list(events)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *about: object) -> None:
        pass

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> EventView:
        if not self._left:
            await asyncio.Event().wait()
        return await self._daemon.answer(self._left.pop(0))


class FakeClient:
    """The verbs of a client that the dashboard uses."""

    def __init__(self, daemon: FakeDaemon) -> None:
        self.daemon = daemon
        self.link = self  # `client.link.open_events` is the only verb below the client's own

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        pass

    async def open_events(self, after: int) -> FakeStream:
        self.daemon.check(f"events after {after}")
        stream = FakeStream()
        self.daemon.streams.append(stream)
        missed = [event for event in self.daemon.events if event.seq > after]
        if missed:
            stream.push(missed)
        return stream

    def events(self, after: int = 0) -> FakeEvents:
        return FakeEvents(self.daemon, [event for event in self.daemon.events if event.seq > after])

    async def runs(
        self, *, status: Sequence[str] = (), limit: int = 50, cursor: str | None = None, **more: Any
    ) -> RunPage:
        self.daemon.check("runs")
        found = [run for run in self.daemon.runs if not status or run.status in status]
        found = [run for run in found if all(getattr(run, k) == v for k, v in more.items() if v and k != "attributes")]
        start = int(cursor or 0)
        items = found[start : start + limit]
        following = str(start + limit) if start + limit < len(found) else None
        return await self.daemon.answer(RunPage(items=items, next=following, total=len(found), seq=self.daemon.seq))

    async def run(self, run_id: str) -> RunDetail:
        self.daemon.check(f"run {run_id}")
        if run_id in self.daemon.details:
            return self.daemon.details[run_id]
        for each in self.daemon.runs:
            if each.id == run_id:
                detail = RunDetail(**{name: getattr(each, name) for name in RunView.__struct_fields__})
                return await self.daemon.answer(detail)
        raise RunNotFound(f"there is no run {run_id!r}")

    async def history(self, run_id: str, after: int = 0, limit: int = 200) -> HistoryPage:
        self.daemon.check(f"history {run_id}")
        items = [record for record in self.daemon.histories.get(run_id, []) if record.seq > after][:limit]
        return HistoryPage(items=items, next=None, total=None, seq=self.daemon.seq)

    async def approvals(self, *, status: str | None = None, limit: int = 50, **more: Any) -> ApprovalPage:
        self.daemon.check("approvals")
        found = [view for view in self.daemon.approvals if status in (None, view.status)]
        page = ApprovalPage(items=found[:limit], next=None, total=len(found), seq=self.daemon.seq)
        return await self.daemon.answer(page)

    async def approval(self, approval_id: str) -> ApprovalView:
        self.daemon.check(f"approval {approval_id}")
        return next(view for view in self.daemon.approvals if view.id == approval_id)

    async def whoami(self) -> CallerView:
        self.daemon.check("whoami")
        return self.daemon.caller

    async def sessions(self, **more: Any) -> SessionPage:
        self.daemon.check("sessions")
        return SessionPage(items=self.daemon.sessions, next=None, total=len(self.daemon.sessions), seq=self.daemon.seq)

    async def connectors(self) -> list[ConnectorView]:
        self.daemon.check("connectors")
        return list(self.daemon.connectors)

    async def actors(self) -> list[ActorView]:
        self.daemon.check("actors")
        return self.daemon.actors

    async def health(self) -> HealthDetail:
        self.daemon.check("health")
        return self._health()

    def _health(self) -> HealthDetail:
        return self.daemon.health

    async def metrics(self) -> str:
        self.daemon.check("metrics")
        counts: dict[tuple[str, str], int] = {}
        for each in self.daemon.runs:
            counts[each.workflow, each.status] = counts.get((each.workflow, each.status), 0) + 1
        lines = [f'runtimed_runs{{workflow="{_label(wf)}",status="{st}"}} {n}' for (wf, st), n in counts.items()]
        lines += [f"runtimed_{name} {value}" for name, value in self.daemon.figures.items()]
        return "\n".join(lines) + "\n"


def _label(text: str) -> str:
    """A label's value as the text format of metrics has it."""
    return text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
