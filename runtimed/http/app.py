"""The route table as data, and the application that serves it.

A route names its method, path, handler, the types it takes and gives, and the level it needs: the same table makes
the router, the access rules and `openapi.json`. Every answer that is not of a handler comes from `faults`.
"""

from __future__ import annotations

import ipaddress
import socket
import time
from collections.abc import Awaitable, Callable, Iterable, Mapping
from functools import partial
from typing import Any, Final, Protocol

import msgspec
import trio
from starlette.routing import BaseRoute, Router
from starlette.routing import Route as PathRoute

from runtimed import wire
from runtimed.http import (
    actors,
    approvals,
    audit,
    connectors,
    events,
    health,
    journal,
    metrics,
    openapi,
    records,
    runs,
    schedules,
    secrets,
    sessions,
    state,
    tokens,
    webhooks,
    whoami,
)
from runtimed.http.access import Access, Level
from runtimed.http.connection import AsgiApp
from runtimed.http.errors import (
    ClientGone,
    ForeignHost,
    ForeignOrigin,
    MethodNotAllowed,
    NotOnList,
    RouteNotFound,
    TokenRefused,
    TooManyGuesses,
    Unauthorised,
)
from runtimed.http.faults import reply_of
from runtimed.http.guesses import FAILURES_MAX, Guesses
from runtimed.http.limits import Bodies, EdgeLimits, Receive, Streams
from runtimed.http.replies import Send
from runtimed.http.requests import Request
from runtimed.http.surface import RuntimeSurface
from runtimed.tracing import Tracer
from wal.tokens import TokenRow
from wal.views import ActorView, ApprovalView, ConnectorView, RunDetail, RunView, SessionView, StateView

PUBLIC, VIEWER, OPERATOR, APPROVER, ADMIN = Level


class Answer(Protocol):
    """What a handler gives: it has a status and can send itself."""

    @property
    def status(self) -> int: ...

    async def send(self, send: Send, traceparent: bytes) -> None: ...


Handler = Callable[[RuntimeSurface, Request], Awaitable[Answer]]


class Route(msgspec.Struct, frozen=True):
    """One row of the table. `answers` maps the statuses of success to their types; None is not JSON of ours, a tuple
    says one of several. `request` is the body's type, likewise."""

    method: str
    path: str
    handler: Handler
    level: Level
    answers: Mapping[int, Any]
    request: Any = None
    query: type[wire.Query] = wire.NoQuery
    media: str = "application/json"


_WORTHLESS: Final = {
    "malformed": "this is no token: expected `Bearer rtd_ID_SECRET`",
    "unknown": "there is no such token",
    "revoked": "this token was revoked",
    "expired": "this token has expired",
}
HEALTH: Final = "application/health+json"
ACCEPTED: Final = {202: wire.AcceptedView}
_APPROVAL, _CONNECTOR, _SCHEDULE = "/v1/approvals/{id}", "/v1/connectors/{name}", "/v1/schedules/{name}"
_TOKEN = "/v1/tokens/{id}"
_SECRET = "/v1/secrets/{name}"
_RUN, _SESSION, _STATE = "/v1/runs/{id}", "/v1/sessions/{id}", "/v1/state/{scope}/{key:path}"


def _probe(path: str, handler: Handler) -> Route:
    return Route("GET", path, handler, PUBLIC, {200: wire.Probe, 503: wire.Probe}, media=HEALTH)


ROUTES: Final = (
    Route(
        "POST", "/v1/runs", runs.start, OPERATOR,
        {201: wire.StartedRunView, 200: (wire.StartedRunView, wire.Batch)},
        (wire.StartRunRequest, list[wire.StartRunRequest]),
    ),
    Route("GET", "/v1/runs", runs.list_runs, VIEWER, {200: wire.RunPage}, query=wire.RunsQuery),
    Route("GET", _RUN, runs.show, VIEWER, {200: RunDetail}),
    Route("GET", _RUN + "/history", runs.history, VIEWER, {200: wire.HistoryPage}, query=wire.HistoryQuery),
    Route("GET", _RUN + "/output", runs.output, VIEWER, {200: wire.OutputPage}, query=wire.OutputQuery),
    Route("GET", _RUN + "/result", runs.result, VIEWER, {200: Any, 202: RunDetail}, query=wire.ResultQuery),
    Route("POST", _RUN + "/signal", runs.signal, OPERATOR, ACCEPTED, wire.SignalRequest),
    Route("POST", _RUN + "/cancel", runs.cancel, OPERATOR, ACCEPTED, wire.ReasonRequest),
    Route("POST", _RUN + "/pause", runs.pause, OPERATOR, ACCEPTED, wire.ReasonRequest),
    Route("POST", _RUN + "/resume", runs.resume, OPERATOR, ACCEPTED, wire.ReasonRequest),
    Route("POST", _RUN + "/retry", runs.retry, OPERATOR, ACCEPTED, wire.ReasonRequest),
    Route("POST", _RUN + "/resolve", runs.resolve, OPERATOR, ACCEPTED, wire.ResolveRequest),
    Route("POST", _RUN + "/fork", runs.fork, OPERATOR, ACCEPTED, wire.ForkRequest),
    Route(
        "GET", "/v1/approvals", approvals.list_approvals, VIEWER,
        {200: wire.ApprovalPage}, query=wire.ApprovalsQuery,
    ),
    Route("GET", _APPROVAL, approvals.show, VIEWER, {200: ApprovalView}),
    Route("POST", _APPROVAL + "/decide", approvals.decide, APPROVER, {200: ApprovalView}, wire.DecideRequest),
    Route("GET", "/v1/whoami", whoami.show, VIEWER, {200: wire.CallerView}),
    _probe("/health", health.live),
    _probe("/health/ready", health.ready),
    _probe("/health/startup", health.startup),
    _probe("/livez", health.live),
    _probe("/readyz", health.ready),
    _probe("/startupz", health.startup),
    Route(
        "GET", "/health/detail", health.detail, VIEWER,
        {200: wire.HealthDetail, 503: wire.HealthDetail}, media=HEALTH,
    ),
    Route("GET", "/metrics", metrics.show, PUBLIC, {200: None}, media="text/plain"),
    Route(
        "POST", "/v1/sessions", sessions.open_session, OPERATOR,
        {201: SessionView, 200: SessionView}, wire.OpenSessionRequest,
    ),
    Route("GET", "/v1/sessions", sessions.list_sessions, VIEWER, {200: wire.SessionPage}, query=wire.SessionsQuery),
    Route("GET", _SESSION, sessions.show, VIEWER, {200: SessionView}),
    Route("POST", _SESSION + "/touch", sessions.touch, OPERATOR, {200: SessionView}, wire.TouchSessionRequest),
    Route("POST", _SESSION + "/close", sessions.close, OPERATOR, {200: SessionView}, wire.ReasonRequest),
    Route("GET", "/v1/state/{scope}", state.list_states, VIEWER, {200: wire.StatePage}, query=wire.StatesQuery),
    Route("GET", _STATE, state.show, VIEWER, {200: StateView}),
    Route("PUT", _STATE, state.put, OPERATOR, {200: StateView, 201: StateView}, wire.PutStateRequest),
    Route("DELETE", _STATE, state.delete, OPERATOR, {200: wire.AcceptedView}),
    Route("GET", "/v1/tokens", tokens.list_tokens, ADMIN, {200: wire.TokenPage}),
    Route("POST", "/v1/tokens", tokens.create, ADMIN, {201: wire.NewTokenView}, wire.CreateTokenRequest),
    Route("POST", _TOKEN + "/revoke", tokens.revoke, ADMIN, ACCEPTED, wire.ReasonRequest),
    Route("GET", "/v1/journal", journal.show, VIEWER, {200: wire.CareView}),
    Route("POST", "/v1/journal/backup", journal.backup, ADMIN, {201: wire.BackupView}, wire.BackupRequest),
    Route("POST", "/v1/journal/gc", journal.forget, ADMIN, {200: wire.ForgottenView}, wire.ForgetRequest),
    Route("GET", "/v1/secrets", secrets.list_secrets, ADMIN, {200: wire.SecretPage}),
    Route("PUT", _SECRET, secrets.put, ADMIN, {200: wire.SecretView}, wire.SetSecretRequest),
    Route("DELETE", _SECRET, secrets.delete, ADMIN, {200: wire.AcceptedView}, query=wire.ReasonQuery),
    Route("POST", _SECRET + "/rotate", secrets.rotate, ADMIN, {200: wire.SecretView}, wire.RotateSecretRequest),
    Route(
        "POST", "/v1/master-key/rotate", secrets.rotate_master, ADMIN,
        {200: wire.MasterKeyView}, wire.ReasonRequest,
    ),
    Route("GET", "/v1/schedules", schedules.list_schedules, VIEWER, {200: wire.SchedulePage}),
    Route("POST", _SCHEDULE + "/pause", schedules.pause, OPERATOR, ACCEPTED, wire.ReasonRequest),
    Route("POST", _SCHEDULE + "/resume", schedules.resume, OPERATOR, ACCEPTED, wire.ReasonRequest),
    Route("POST", _SCHEDULE + "/trigger", schedules.trigger, OPERATOR, {202: RunView}, wire.ReasonRequest),
    Route("GET", "/v1/connectors", connectors.list_connectors, VIEWER, {200: wire.ConnectorPage}),
    Route("GET", _CONNECTOR, connectors.show, VIEWER, {200: ConnectorView}),
    Route("POST", _CONNECTOR + "/pause", connectors.pause, OPERATOR, ACCEPTED, wire.ReasonRequest),
    Route("POST", _CONNECTOR + "/resume", connectors.resume, OPERATOR, ACCEPTED, wire.ReasonRequest),
    Route("POST", _CONNECTOR + "/poll", connectors.poll, OPERATOR, {202: ConnectorView}, wire.ReasonRequest),
    Route(
        "POST", _CONNECTOR + "/reset", connectors.reset, OPERATOR,
        {200: wire.ResetPreview, 202: wire.AcceptedView}, wire.ResetConnectorRequest,
    ),
    Route("POST", "/v1/webhooks/{name}", webhooks.receive, PUBLIC, {200: wire.WebhookReply}, request=Any),
    Route("GET", "/v1/records", records.list_streams, VIEWER, {200: wire.StreamPage}),
    Route(
        "GET", "/v1/records/{stream:path}", records.list_records, VIEWER,
        {200: wire.StoredPage}, query=wire.RecordsQuery,
    ),
    Route("GET", "/v1/events", events.stream, VIEWER, {200: None}, query=wire.EventsQuery, media="text/event-stream"),
    Route("GET", "/v1/audit", audit.show, VIEWER, {200: wire.AuditPage}, query=wire.AuditQuery),
    Route("GET", "/v1/actors", actors.tree, VIEWER, {200: wire.ActorPage}),
    Route(
        "POST", "/v1/actors/{path:path}/restart", actors.restart, ADMIN,
        {202: ActorView}, wire.RestartActorRequest,
    ),
    Route("GET", "/openapi.json", openapi.show, VIEWER, {200: None}),
)  # fmt: skip


class Edge:
    """What all routes share: the runtime, who may what, the limits, and the counts of answers."""

    def __init__(
        self,
        rt: RuntimeSurface,
        *,
        access: Access | None = None,
        limits: EdgeLimits = EdgeLimits(),  # noqa: B008 - frozen
        hosts: Iterable[str] = (),
        origins: Iterable[str] = (),
        routes: Iterable[Route] = ROUTES,
        tracer: Tracer | None = None,
    ) -> None:
        self.rt, self.tracer = rt, tracer
        self.access = access or Access()
        self.bodies = Bodies(limits)
        self.guesses = Guesses()
        self.streams = Streams(limits)
        self.answers: dict[tuple[str, str, int], int] = {}
        self._hosts = {"localhost", socket.gethostname().lower(), *(host.lower() for host in hosts)}
        self._origins = {origin.encode() for origin in origins}
        self.app: AsgiApp = self._router(routes)

    def _router(self, routes: Iterable[Route]) -> AsgiApp:
        by_path: dict[str, dict[str, Route]] = {}
        for route in routes:
            by_path.setdefault(route.path, {})[route.method] = route
        paths: list[BaseRoute] = [PathRoute(path, Endpoint(self, path, table)) for path, table in by_path.items()]
        return Router(paths, redirect_slashes=False, default=Endpoint(self, "unmatched", {}))

    def check_browser(self, request: Request) -> None:
        """Refuse what a web page sends, and, over TCP, what is meant for a host that we are not (DNS rebinding)."""
        origin = request.headers.get(b"origin")
        if origin is not None and origin not in self._origins:
            raise ForeignOrigin
        if not request.peer.local:
            host = request.header(b"host")
            if host and not self._is_ours(host.lower()):
                raise ForeignHost(f"{host[:200]!r} is not served here")

    def _is_ours(self, host: str) -> bool:
        if host in self._hosts:
            return True
        name = host.rpartition(":")[0] if not host.endswith("]") and ":" in host else host
        if name in self._hosts:
            return True
        try:
            ipaddress.ip_address(name.strip("[]"))
        except ValueError:
            return False
        return True

    def identify(self, request: Request) -> None:
        """Take a request's token, if it shows one, as who it is from. Raises `TokenRefused`, `TooManyGuesses`."""
        said = request.headers.get(b"authorization")
        if said is None:
            return
        scheme, _, text = said.strip().partition(b" ")
        found = self.rt.check_token(text.strip()) if scheme.lower() == b"bearer" else "malformed"
        if isinstance(found, TokenRow):
            level = Level[found.role.upper()]
            request.peer = msgspec.structs.replace(request.peer, token=found.name, token_id=found.id, token_level=level)
            return
        address = request.peer.address or f"uid:{request.peer.uid}"
        retry_s = self.guesses.failed(address, trio.current_time())
        if retry_s is not None:
            raise TooManyGuesses(f"{address} has shown {FAILURES_MAX} wrong tokens in a row", retry_s)
        raise TokenRefused(_WORTHLESS[found])

    def may(self, request: Request, needed: Level) -> bool:
        """Whether the caller has a level, by the access of now, and the token that it may have shown still counts."""
        peer = request.peer
        if peer.token is not None and not self.rt.token_counts(peer.token_id):
            return False
        return needed is Level.PUBLIC or self.access.level(peer) >= needed

    def check_level(self, request: Request, needed: Level) -> None:
        """Raise `Unauthorised` or `NotOnList` unless the caller may."""
        if self.may(request, needed):
            return
        if request.peer.by is None:
            raise Unauthorised
        raise NotOnList(f"{request.peer.by} needs the level {needed.name.lower()} for this")

    def count(self, method: str, path: str, status: int) -> None:
        """One more answer. Bounded: paths are those of the table, methods the known ones."""
        key = (method, path, status)
        self.answers[key] = self.answers.get(key, 0) + 1


class Endpoint:
    """The methods of one path, as an ASGI application. Without any it is the answer to unknown paths."""

    def __init__(self, edge: Edge, path: str, table: Mapping[str, Route]) -> None:
        self._edge = edge
        self._path = path
        self._table = dict(table)
        if "GET" in table:
            self._table["HEAD"] = table["GET"]
        self._allow = ", ".join(sorted(self._table))

    async def __call__(self, scope: Any, receive: Receive, send: Send) -> None:
        """Answer one request; nothing but cancellation leaves here."""
        if scope["type"] != "http":
            return
        tracer, start_ns = self._edge.tracer, time.time_ns()
        edge = self._edge
        request = Request(scope, receive, edge.bodies, edge.answers, edge.access, edge.guesses, edge.streams)
        try:
            answer = await self._answer(request)
        except ClientGone:
            return
        except Exception as error:  # noqa: BLE001 - the one place where errors become answers; defects are logged there
            answer = reply_of(error, request.trace_id)
        self._edge.count(request.method if request.method in self._table else "other", self._path, answer.status)
        await answer.send(send, request.traceparent)
        if tracer is not None and self._path.startswith("/v1/"):  # probes and scrapes would be most of all spans
            came_along = request.headers.get(b"traceparent") == request.traceparent
            traceparent = request.traceparent.decode()
            tracer.request(traceparent, came_along, request.method, self._path, answer.status, start_ns)

    async def _answer(self, request: Request) -> Answer:
        edge = self._edge
        edge.check_browser(request)
        route = self._table.get(request.method)
        if route is None:
            raise self._no_route(request)
        request.check_headers()
        if route.level is not Level.PUBLIC:
            edge.identify(request)
            edge.check_level(request, route.level)
        request.still_may = partial(edge.may, request, route.level)
        if route.query is wire.NoQuery and request.scope["query_string"] and route.level is not Level.PUBLIC:
            request.query(wire.NoQuery)
        return await route.handler(edge.rt, request)

    def _no_route(self, request: Request) -> Exception:
        if not self._table:
            return RouteNotFound(f"there is no route {request.path[:200]!r}")
        return MethodNotAllowed(f"{self._path} takes {self._allow}", self._allow)
