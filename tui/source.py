"""Where the dashboard reads: the daemon, or its file when it is down. One set of verbs, the views of `wal.views`."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Protocol

from runtimed.client import Client
from runtimed.wire import HealthDetail, HistoryPage, RunPage, SessionPage
from tui.runs_index import PAGE_RUNS, RunFilter
from wal.views import ActorView, ApprovalView, ConnectorView, EventView, RunDetail

_METRIC = re.compile(
    r"^(runtimed_(?:runs|journal_seq|sqlite_wal_bytes|disk_free_bytes|loop_lag_seconds|runs_without_wake_source"
    r"|build_info|commit_seconds_bucket)|process_(?:resident_memory_bytes|start_time_seconds|cpu_seconds_total))"
    r'(?:\{((?:[^"}]|"(?:[^"\\]|\\.)*")*)\})? ([0-9.eE+-]+)$',
    re.MULTILINE,
)
"""Only what is shown: a daemon with many workflows tells tens of thousands of other figures."""
_LABEL = re.compile(r'(\w+)="((?:[^"\\]|\\.)*)"')


class Figures(Protocol):
    """Counts and sizes: runs by status, and single figures by their metric's name."""

    counts: Mapping[str, int]
    figures: Mapping[str, float]


class Metrics:
    """The figures out of the text of `/metrics`: those that are one number by their name, the commit's quantiles as
    `commit_p50_seconds` and `commit_p99_seconds`, the process's own as `process_...`."""

    def __init__(self, text: str) -> None:
        self.counts: dict[str, int] = {}
        self.figures: dict[str, float] = {}
        self.version = ""
        buckets: list[tuple[float, float]] = []
        for name, labels, value in _METRIC.findall(text):
            if name == "runtimed_runs":
                status = dict(_LABEL.findall(labels)).get("status", "")
                self.counts[status] = self.counts.get(status, 0) + int(float(value))
            elif name == "runtimed_build_info":
                self.version = dict(_LABEL.findall(labels)).get("version", "")
            elif name == "runtimed_commit_seconds_bucket":
                buckets.append((float(dict(_LABEL.findall(labels)).get("le", "inf")), float(value)))
            else:
                self.figures[name.removeprefix("runtimed_")] = float(value)
        for percent in (50, 99):
            if (found := quantile(buckets, percent / 100)) is not None:
                self.figures[f"commit_p{percent}_seconds"] = found


def quantile(buckets: list[tuple[float, float]], share: float) -> float | None:
    """The upper bound of the bucket that the quantile falls into, of cumulative (bound, count); None without counts."""
    ordered = sorted(buckets)
    whole = ordered[-1][1] if ordered else 0.0
    bounds = [bound for bound, count in ordered if count >= share * whole and bound != float("inf")]
    return bounds[0] if whole and bounds else None


class Source(Protocol):
    """What screens may ask for. Raises `RuntimedError`s; pages are newest first where not said otherwise."""

    offline: bool

    @property
    def held(self) -> bool:
        """Whether a daemon has the journal, and may still write what it was asked."""

    async def runs(self, which: RunFilter, cursor: str | None = None, limit: int = PAGE_RUNS) -> RunPage: ...
    async def run(self, run_id: str) -> RunDetail: ...
    async def history(self, run_id: str, after: int = 0, limit: int = 200) -> HistoryPage:
        """A page of a run's records, oldest first."""

    async def approvals(self, status: str | None = "open", limit: int = 200) -> list[ApprovalView]: ...
    async def approval(self, approval_id: str) -> ApprovalView: ...
    async def sessions(self, status: str | None = None, limit: int = 200, cursor: str | None = None) -> SessionPage: ...
    async def connectors(self) -> list[ConnectorView]: ...
    async def actors(self) -> list[ActorView]: ...
    async def health(self) -> HealthDetail: ...
    async def metrics(self) -> Metrics: ...
    async def events_before(self, seq: int, limit: int = 200) -> list[EventView]:
        """The records with a seq up to `seq`, oldest first, as far back as `limit` of them reach."""


class Online:
    """The daemon, through the client."""

    offline, held = False, True

    def __init__(self, client: Client) -> None:
        self.client = client

    async def runs(self, which: RunFilter, cursor: str | None = None, limit: int = PAGE_RUNS) -> RunPage:
        return await self.client.runs(
            status=which.statuses,
            workflow=which.workflow,
            session_id=which.session_id,
            tenant=which.tenant,
            attributes=which.attributes,
            limit=limit,
            cursor=cursor,
        )

    async def run(self, run_id: str) -> RunDetail:
        return await self.client.run(run_id)

    async def history(self, run_id: str, after: int = 0, limit: int = 200) -> HistoryPage:
        return await self.client.history(run_id, after=after, limit=limit)

    async def approvals(self, status: str | None = "open", limit: int = 200) -> list[ApprovalView]:
        return (await self.client.approvals(status=status, limit=limit)).items

    async def approval(self, approval_id: str) -> ApprovalView:
        return await self.client.approval(approval_id)

    async def sessions(self, status: str | None = None, limit: int = 200, cursor: str | None = None) -> SessionPage:
        return await self.client.sessions(status=status, limit=limit, cursor=cursor)

    async def connectors(self) -> list[ConnectorView]:
        return await self.client.connectors()

    async def actors(self) -> list[ActorView]:
        return await self.client.actors()

    async def health(self) -> HealthDetail:
        return await self.client.health()

    async def metrics(self) -> Metrics:
        return Metrics(await self.client.metrics())

    async def events_before(self, seq: int, limit: int = 200) -> list[EventView]:
        """Read from the stream and left at `seq`."""
        found: list[EventView] = []
        after = max(0, seq - limit)
        if after >= seq:
            return found
        async with self.client.events(after=after) as events:
            async for event in events:
                found.append(event)
                if event.seq >= seq:
                    break
        return found
