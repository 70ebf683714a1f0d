"""The client: the daemon's verbs as async methods, on trio and on asyncio, over the unix socket or TCP.

Loads neither trio nor SQLite by itself. What a method returns are the views of `wal.views`; a refusal is raised as the
exception class with the problem's code (`runtimed.client_errors`).
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from contextlib import AsyncExitStack
from types import TracebackType
from typing import Any, Literal, Self, TypeVar

import anyio
from msgspec import UNSET

from actors.errors import InvalidInput
from runtimed.client_approvals import ApprovalVerbs
from runtimed.client_care import CareVerbs
from runtimed.client_connectors import ConnectorVerbs
from runtimed.client_errors import BadAnswer, DaemonUnreachable, TimedOut, from_problem
from runtimed.client_events import EventStream
from runtimed.client_link import Link, decode, given, part
from runtimed.client_runs import NewRun, RunHandle, RunVerbs, why
from runtimed.client_schedules import ScheduleVerbs
from runtimed.client_secrets import SecretVerbs
from runtimed.client_tokens import TokenVerbs
from runtimed.client_wire import Target
from runtimed.wire import (
    AcceptedView,
    ActorPage,
    HealthDetail,
    SessionPage,
    StatePage,
)
from wal.views import ActorView, SessionView, StateView

T = TypeVar("T")

REQUEST_TIMEOUT = 30.0


class Client(RunVerbs, ApprovalVerbs, CareVerbs, ConnectorVerbs, ScheduleVerbs, SecretVerbs, TokenVerbs):
    """A connection to a daemon: `async with Client(socket=...) as c`, or `url=` with `token=`.

    With neither, the local daemon's socket is used, found as the command line finds it. `timeout` is seconds for one
    request. `traceparent` (W3C) goes with every request. Every POST carries an `Idempotency-Key`, so a request whose
    connection broke is repeated once and happens once.

    Raises: `DaemonUnreachable`, `TimedOut`, `BadAnswer`, and what the daemon refuses with (`RunNotFound`, ...).
    """

    def __init__(
        self,
        *,
        socket: str | os.PathLike[str] | None = None,
        url: str | None = None,
        token: str | None = None,
        timeout: float = REQUEST_TIMEOUT,
        traceparent: str | None = None,
    ) -> None:
        if socket is not None and url is not None:
            raise InvalidInput("give a socket or a url, not both")
        if socket is None and url is None:
            socket = _local_socket()
        target = Target.of(None if socket is None else os.fspath(socket), url)
        self.link = Link(target, token=token, timeout=timeout, traceparent=traceparent)
        self._feeds: list[EventStream] = []

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with anyio.CancelScope(shield=True):  # closing never waits for the other side
            async with AsyncExitStack() as each:
                each.push_async_callback(self.link.wire.aclose)
                for feed in self._feeds:
                    each.push_async_callback(feed.aclose)

    def traced(self, traceparent: str) -> Client:
        """The same connections under another trace; it needs no leaving of its own."""
        other = Client.__new__(Client)
        other.link, other._feeds = self.link.traced(traceparent), self._feeds
        return other

    def because(self, reason: str | None) -> Client:
        """The same connections, with a reason for the audit at each change that has no place for one of its own."""
        if reason is None:
            return self
        other = Client.__new__(Client)
        other.link, other._feeds = self.link.because(reason), self._feeds
        return other

    # --- sessions ---------------------------------------------------------------------------------------------------

    async def open_session(
        self,
        id: str | None = None,
        *,
        tenant: str | None = None,
        subject: str | None = None,
        ttl: float | None = None,
        on_close: Literal["cancel", "leave"] = "leave",
        attributes: Mapping[str, Any] | None = None,
        idempotency_key: str | None = None,
    ) -> SessionView:
        """Open a session; `ttl` in seconds, None for one that does not expire."""
        body = dict(given(id=id, tenant=tenant, subject=subject, ttl=ttl), on_close=on_close)
        return decode(
            await self.link.post("/v1/sessions", {**body, "attributes": dict(attributes or {})}, idempotency_key),
            SessionView,
        )

    async def session(self, session_id: str) -> SessionView:
        """A session."""
        return decode(await self.link.get(f"/v1/sessions/{part(session_id)}"), SessionView)

    async def sessions(
        self, *, status: str | None = None, tenant: str | None = None, limit: int = 50, cursor: str | None = None
    ) -> SessionPage:
        """A page of sessions, newest first."""
        params = given(status=status, tenant=tenant, limit=limit, cursor=cursor)
        return decode(await self.link.get("/v1/sessions", params), SessionPage)

    async def touch_session(self, session_id: str, *, idempotency_key: str | None = None) -> SessionView:
        """Extend a session by its ttl from now."""
        return decode(await self.link.post(f"/v1/sessions/{part(session_id)}/touch", {}, idempotency_key), SessionView)

    async def close_session(
        self, session_id: str, *, reason: str | None = None, idempotency_key: str | None = None
    ) -> SessionView:
        """Close a session; its runs follow its `on_close`."""
        path = f"/v1/sessions/{part(session_id)}/close"
        return decode(await self.link.post(path, why(reason), idempotency_key), SessionView)

    # --- state ------------------------------------------------------------------------------------------------------

    async def state(self, scope: str, key: str) -> StateView:
        """A value with its version. Raises `NotFound`."""
        return decode(await self.link.get(_state_path(scope, key)), StateView)

    async def states(self, scope: str, *, limit: int = 50, cursor: str | None = None) -> StatePage:
        """A page of a scope's values, by key."""
        return decode(await self.link.get(f"/v1/state/{part(scope)}", given(limit=limit, cursor=cursor)), StatePage)

    async def put_state(self, scope: str, key: str, value: Any, *, expect_version: int | None = None) -> StateView:
        """Write a value; with `expect_version` only over that version (0: none). Raises `VersionConflict`."""
        body = await self.link.change("PUT", _state_path(scope, key), {"value": value}, expect_version)
        return decode(body, StateView)

    async def delete_state(self, scope: str, key: str, *, expect_version: int | None = None) -> AcceptedView:
        """Delete a value; with `expect_version` only that version. Raises `NotFound`, `VersionConflict`."""
        body = await self.link.change("DELETE", _state_path(scope, key), UNSET, expect_version)
        return decode(body, AcceptedView)

    # --- the daemon -------------------------------------------------------------------------------------------------

    async def actors(self) -> list[ActorView]:
        """The supervision tree, parents before children."""
        return decode(await self.link.get("/v1/actors"), ActorPage).items

    async def restart_actor(
        self, path: str, *, reason: str | None = None, idempotency_key: str | None = None
    ) -> Mapping[str, Any]:
        """Restart one actor of the tree; returns what the daemon says of it."""
        body = await self.link.post(f"/v1/actors/{part(path, safe='/')}/restart", why(reason), idempotency_key)
        return decode(body, dict[str, Any])

    async def health(self) -> HealthDetail:
        """Health per component; a failing one is an answer, not an error."""
        answer = await self.link.fetch("GET", "/health/detail")
        if answer.status in (200, 503) and "problem" not in answer.headers.get("content-type", ""):
            return decode(answer.body, HealthDetail)
        raise from_problem(answer.status, answer.headers, answer.body)

    async def ready(self) -> bool:
        """Whether the daemon takes work."""
        return (await self.link.fetch("GET", "/health/ready")).status == 200

    async def metrics(self) -> str:
        """Metrics in Prometheus' text format."""
        return (await self.link.get("/metrics")).decode()

    def events(self, after: int = 0) -> EventStream:
        """The committed records beyond the seq `after`, as they come; see `EventStream`."""
        feed = EventStream(self.link, after)
        self._feeds = [each for each in self._feeds if not each.closed]
        self._feeds.append(feed)
        return feed


def _state_path(scope: str, key: str) -> str:
    return f"/v1/state/{part(scope)}/{part(key)}"


def _local_socket() -> str:
    from pathlib import Path

    from runtimed.settings import find_config, load

    return str(load(find_config(os.environ, Path.cwd())).paths.socket)


__all__ = ["BadAnswer", "Client", "DaemonUnreachable", "EventStream", "NewRun", "RunHandle", "TimedOut"]
