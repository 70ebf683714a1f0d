"""The client: the daemon's verbs as async methods, on trio and on asyncio, over the unix socket or TCP.

Loads neither trio nor SQLite by itself. What a method returns are the views of `wal.views`; a refusal is raised as the
exception class with the problem's code (`runtimed.client_errors`).
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from types import TracebackType
from typing import Any, Literal, Protocol, Self, TypeVar, overload

import anyio
import msgspec
from msgspec import UNSET

from actors.errors import InvalidInput
from runtimed.client_errors import BadAnswer, DaemonUnreachable, TimedOut, from_problem
from runtimed.client_events import EventStream
from runtimed.client_link import Link, decode, given, part
from runtimed.client_wire import Target
from runtimed.wire import (
    AcceptedView,
    ActorPage,
    Batch,
    HealthDetail,
    HistoryPage,
    OutputPage,
    RunPage,
    SessionPage,
    StartedRunView,
    StatePage,
)
from wal.errors import RuntimedError
from wal.views import ActorView, RunDetail, RunView, SessionView, StateView

T = TypeVar("T")

REQUEST_TIMEOUT = 30.0
RESULT_WAIT_MAX = 60.0
"""Seconds that one request for a result is held; waiting longer takes several."""
ABSENCE_MAX, RETRY_SECONDS = 30.0, 0.25
"""How long a wait that has begun bears with a daemon that is away, and how often it looks, in seconds."""


class Named(Protocol):
    """A workflow as `@app.workflow` leaves it, or anything else with its name."""

    @property
    def name(self) -> str: ...


class NewRun(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One run to start with `start_many`. `start_at` is an aware datetime; the rest as for `Client.start`."""

    workflow: str
    input: Any = None
    id: str | None = None
    session_id: str | None = None
    tenant: str | None = None
    classification: str = "platform"
    queue: str | None = None
    priority: int = 0
    start_at: Any = None
    attributes: dict[str, Any] = {}


class RunHandle:
    """A run that was started or exists. `created` says whether this request made it."""

    def __init__(self, client: Client, run: RunView, created: bool) -> None:
        self._client = client
        self.run = run
        self.created = created

    @property
    def id(self) -> str:
        """The run's id."""
        return self.run.id

    async def status(self) -> RunDetail:
        """The run as it stands now."""
        return await self._client.get(self.id)

    async def result(self, *, timeout: float | None = None) -> Any:
        """The run's result; see `Client.result`."""
        return await self._client.result(self.id, timeout=timeout)

    async def signal(self, name: str, value: Any = None, *, signal_id: str | None = None) -> AcceptedView:
        """Send the run a named value."""
        return await self._client.signal(self.id, name, value, signal_id=signal_id)

    async def cancel(self, reason: str | None = None) -> AcceptedView:
        """Cancel the run."""
        return await self._client.cancel(self.id, reason=reason)


class Client:
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
            for feed in self._feeds:
                await feed.aclose()
            await self.link.wire.aclose()

    def traced(self, traceparent: str) -> Client:
        """The same connections under another trace; it needs no leaving of its own."""
        other = Client.__new__(Client)
        other.link, other._feeds = self.link.traced(traceparent), self._feeds
        return other

    # --- runs -----------------------------------------------------------------------------------------------------

    async def start(
        self,
        workflow: str | Named,
        input: Any = None,
        *,
        id: str | None = None,
        session_id: str | None = None,
        tenant: str | None = None,
        queue: str | None = None,
        priority: int = 0,
        start_at: Any = None,
        attributes: Mapping[str, Any] | None = None,
        idempotency_key: str | None = None,
    ) -> RunHandle:
        """Start a run; when this returns it is on disk. An id that exists with the same input gives that run."""
        new = NewRun(
            workflow=workflow if isinstance(workflow, str) else workflow.name,
            input=input,
            id=id,
            session_id=session_id,
            tenant=tenant,
            queue=queue,
            priority=priority,
            start_at=start_at,
            attributes=dict(attributes or {}),
        )
        body = await self.link.post("/v1/runs", new, idempotency_key)
        run = decode(body, StartedRunView)
        return RunHandle(self, run, run.created)

    async def start_many(
        self, runs: Iterable[NewRun | Mapping[str, Any]], *, idempotency_key: str | None = None
    ) -> list[RunHandle | RuntimedError]:
        """Start up to `limits.runs_batch_max` runs in one commit: for each, in order, the run or why not."""
        items = decode(await self.link.post("/v1/runs", list(runs), idempotency_key), Batch).items
        handles: list[RunHandle | RuntimedError] = []
        for item in items:
            if item.run is not None:
                handles.append(RunHandle(self, item.run, item.run.created))
            else:
                handles.append(from_problem(item.status, {}, msgspec.json.encode(item.problem)))
        return handles

    async def get(self, run_id: str) -> RunDetail:
        """A run whole."""
        return decode(await self.link.get(f"/v1/runs/{part(run_id)}"), RunDetail)

    async def status(self, run_id: str) -> str:
        """A run's status in one word."""
        return (await self.get(run_id)).status

    @overload
    async def result(self, run_id: str, *, type: type[T], timeout: float | None = None) -> T: ...
    @overload
    async def result(self, run_id: str, *, timeout: float | None = None) -> Any: ...
    async def result(self, run_id: str, *, type: Any = Any, timeout: float | None = None) -> Any:
        """Wait for a run to end and return its result, decoded to `type`; `timeout` in seconds, None for ever.

        Raises `RunFailed`, `RunCancelled`, `RunBlocked`, `TimedOut`. Cancelling the wait changes nothing for the run.
        """
        body = await self.wait(run_id, timeout=timeout)
        value: Any = decode(body, type)
        return value

    async def wait(self, run_id: str, *, timeout: float | None = None) -> bytes:
        """As `result`, but the result as the JSON it is recorded as.

        A daemon that goes away while we wait is waited for, up to `ABSENCE_MAX`: the run outlives it, so does the wait.
        """
        until = None if timeout is None else anyio.current_time() + timeout
        missing_since: float | None = None
        while True:
            now = anyio.current_time()
            left = RESULT_WAIT_MAX if until is None else min(RESULT_WAIT_MAX, max(0.0, until - now))
            try:
                answer = await self._await_result(run_id, left)
            except DaemonUnreachable:
                if missing_since is None or now - missing_since > ABSENCE_MAX or (until is not None and now > until):
                    raise
                await anyio.sleep(RETRY_SECONDS)
                continue
            missing_since = anyio.current_time()
            if answer is not None:
                return answer
            if until is not None and anyio.current_time() >= until:
                raise TimedOut(f"run {run_id} has not ended within {timeout:g} s", hint="It goes on; wait again.")

    async def _await_result(self, run_id: str, seconds: float) -> bytes | None:
        """The result if the run ends within so many seconds, else None; raises how it ended without one."""
        answer = await self.link.fetch(
            "GET",
            f"/v1/runs/{part(run_id)}/result",
            params=[("wait", f"{seconds:.3f}")],
            timeout=seconds + self.link.wire.timeout,
        )
        if answer.status == 200:
            return answer.body
        if answer.status == 202:
            return None
        problem = from_problem(answer.status, answer.headers, answer.body, run_id=run_id)
        if problem.code == "draining":
            raise DaemonUnreachable(str(problem)) from problem
        raise problem

    async def runs(
        self,
        *,
        status: str | Sequence[str] | None = None,
        workflow: str | None = None,
        session_id: str | None = None,
        tenant: str | None = None,
        attributes: Mapping[str, str] | None = None,
        limit: int = 50,
        cursor: str | None = None,
    ) -> RunPage:
        """A page of runs, newest first; `next` of it is the `cursor` of the page after."""
        statuses = [status] if isinstance(status, str) else list(status or ())
        params = [("status", one) for one in statuses] + [(f"attr.{k}", v) for k, v in (attributes or {}).items()]
        params += given(workflow=workflow, session_id=session_id, tenant=tenant, limit=limit, cursor=cursor)
        return decode(await self.link.get("/v1/runs", params), RunPage)

    async def history(self, run_id: str, *, after: int = 0, limit: int = 200) -> HistoryPage:
        """A page of a run's records, oldest first."""
        return decode(
            await self.link.get(f"/v1/runs/{part(run_id)}/history", given(after=after, limit=limit)), HistoryPage
        )

    async def output(self, run_id: str, *, after: int = 0, limit: int = 200) -> OutputPage:
        """A page of what a run emitted, oldest first."""
        return decode(
            await self.link.get(f"/v1/runs/{part(run_id)}/output", given(after=after, limit=limit)), OutputPage
        )

    async def signal(
        self,
        run_id: str,
        name: str,
        value: Any = None,
        *,
        signal_id: str | None = None,
        idempotency_key: str | None = None,
    ) -> AcceptedView:
        """Send a run a named value; the run gets it when it asks for that name."""
        body = {"name": name, "value": value, **dict(given(signal_id=signal_id))}
        return await self._ask_run(run_id, "signal", body, idempotency_key)

    async def cancel(
        self, run_id: str, *, reason: str | None = None, idempotency_key: str | None = None
    ) -> AcceptedView:
        """Cancel a run: its completed steps are undone."""
        return await self._ask_run(run_id, "cancel", _why(reason), idempotency_key)

    async def pause(
        self, run_id: str, *, reason: str | None = None, idempotency_key: str | None = None
    ) -> AcceptedView:
        """Hold a run where it stands."""
        return await self._ask_run(run_id, "pause", _why(reason), idempotency_key)

    async def resume(
        self, run_id: str, *, reason: str | None = None, idempotency_key: str | None = None
    ) -> AcceptedView:
        """Let a paused run go on."""
        return await self._ask_run(run_id, "resume", _why(reason), idempotency_key)

    async def retry(
        self, run_id: str, *, reason: str | None = None, idempotency_key: str | None = None
    ) -> AcceptedView:
        """Let a blocked run try again from where it stands."""
        return await self._ask_run(run_id, "retry", _why(reason), idempotency_key)

    async def resolve(
        self,
        run_id: str,
        call: str,
        *,
        happened: bool,
        result: Any = None,
        reason: str | None = None,
        idempotency_key: str | None = None,
    ) -> AcceptedView:
        """Say whether a call of unknown outcome happened, and with which result."""
        body = {"call": call, "happened": happened, "result": result, **_why(reason)}
        return await self._ask_run(run_id, "resolve", body, idempotency_key)

    async def _ask_run(self, run_id: str, verb: str, body: Any, key: str | None) -> AcceptedView:
        return decode(await self.link.post(f"/v1/runs/{part(run_id)}/{verb}", body, key), AcceptedView)

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
        return decode(await self.link.post(path, _why(reason), idempotency_key), SessionView)

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

    async def delete_state(self, scope: str, key: str, *, expect_version: int | None = None) -> None:
        """Delete a value; with `expect_version` only that version. Raises `NotFound`, `VersionConflict`."""
        await self.link.change("DELETE", _state_path(scope, key), UNSET, expect_version)

    # --- the daemon -------------------------------------------------------------------------------------------------

    async def actors(self) -> list[ActorView]:
        """The supervision tree, parents before children."""
        return decode(await self.link.get("/v1/actors"), ActorPage).items

    async def restart_actor(
        self, path: str, *, reason: str | None = None, idempotency_key: str | None = None
    ) -> Mapping[str, Any]:
        """Restart one actor of the tree; returns what the daemon says of it."""
        body = await self.link.post(f"/v1/actors/{part(path, safe='/')}/restart", _why(reason), idempotency_key)
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


def _why(reason: str | None) -> dict[str, str]:
    return {} if reason is None else {"reason": reason}


def _state_path(scope: str, key: str) -> str:
    return f"/v1/state/{part(scope)}/{part(key)}"


def _local_socket() -> str:
    from pathlib import Path

    from runtimed.settings import find_config, load

    return str(load(find_config(os.environ, Path.cwd())).paths.socket)


__all__ = ["BadAnswer", "Client", "DaemonUnreachable", "EventStream", "NewRun", "RunHandle", "TimedOut"]
