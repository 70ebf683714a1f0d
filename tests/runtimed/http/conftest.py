"""A runtime that only remembers, the edge round it on real sockets, and a client that says exactly what it is told."""

from __future__ import annotations

import functools
import socket
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Iterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path
from typing import Any

import h11
import msgspec
import pytest
import trio

from actors.connector_spec import WebhookSpec
from actors.errors import ConnectorNotFound, InvalidInput, RunNotFound, ScheduleNotFound, SecretMissing
from actors.messages import NOBODY, Accepted, Message, NoteSecret, Origin, StartedRun, StartedRuns, StartRun, StartRuns
from runtimed import tokens
from runtimed.care import Swept
from runtimed.http.app import ROUTES, Edge, Route
from runtimed.http.limits import EdgeLimits
from runtimed.http.server import HttpServer, open_tcp_listeners, open_unix_listener
from runtimed.http.surface import Health, ResetForeseen, RuntimeStatistics
from runtimed.secret_store import SecretInfo
from runtimed.tokens import Refusal
from wal.backup import Backup
from wal.journal import Journal
from wal.liveness import Doubt
from wal.records import Entry, Record
from wal.tokens import TokenRow
from wal.views import ActorView, ConnectorView, RunDetail, RunView, ScheduleView

Replies = dict[type[Message], Callable[[Any], Any]]
PATIENCE_S = 30.0
"""What guards a test against hanging: no promise, so that a machine which stands still for a while breaks none."""


async def until(true: Callable[[], bool]) -> None:
    """Wait until something is so. What is sent over TCP arrives when the kernel finds the time: also on the loopback,
    that all tasks wait does not mean that all has been read."""
    with trio.fail_after(PATIENCE_S):
        while not true():  # noqa: ASYNC110 - seen in counts, which tell nobody
            await trio.sleep(0.001)


class FakeFeed:
    """The durable mark, moved by `FakeRuntime.record`."""

    def __init__(self) -> None:
        self.seq = 0
        self._moved = trio.Event()
        self._closed = False

    def close(self) -> None:
        self._closed = True
        self.move(self.seq)

    def move(self, seq: int) -> None:
        self.seq = seq
        self._moved.set()
        self._moved = trio.Event()

    async def wait_beyond(self, seq: int, /) -> int:
        while self.seq <= seq and not self._closed:
            await self._moved.wait()
        return self.seq


class FakeCare:
    """Says what it was asked for; has one backup and no doubts."""

    def __init__(self) -> None:
        self.last_backup: Backup | None = None
        self.asked: list[Any] = []
        self.refusal: BaseException | None = None
        self.doubts: list[Doubt] = []

    async def backup(self, path: str | None = None) -> Backup:
        await trio.lowlevel.checkpoint()
        self.asked.append(path)
        if self.refusal is not None:
            raise self.refusal
        self.last_backup = Backup(path or "/backups/journal.db", 9, 4096, 0.5, 1_700_000_000_000_000)
        return self.last_backup

    def age_s(self, older_than_s: float | None) -> float:
        return older_than_s or 86_400.0

    async def forget(self, older_than_s: float | None = None, *, dry_run: bool = False, by: str | None = None) -> Swept:
        await trio.lowlevel.checkpoint()
        self.asked.append((older_than_s, dry_run, by))
        return Swept(2, 20, 1_700_000_000_000_000, dry_run, 4)

    async def unwakeable_runs(self) -> list[Doubt]:
        await trio.lowlevel.checkpoint()
        return self.doubts


class FakeRuntime:
    """Keeps what it was asked; answers starts by itself and the rest from `replies`; reads a real journal in memory."""

    def __init__(self) -> None:
        self.asked: list[Any] = []
        self.replies: Replies = {
            StartRuns: self._started,
            NoteSecret: lambda command: Accepted(seq=7, id=command.name),
        }
        self.feed = FakeFeed()
        self.journal = Journal.open(None)
        self.healthy = Health()
        self.figures = RuntimeStatistics(version="1.2.3")
        self.actors = [
            ActorView("runtime", "up", 0, "one_for_all", 0, 0),
            ActorView("runtime/saga", "up", 2, None, 3, 10),
        ]
        self.restarted: list[str] = []
        self.tokens = tokens.TokenTable(b"k" * 32)
        self.care = FakeCare()
        self.audited: list[tuple[str, str, Origin, str | None]] = []
        self.sources: list[ConnectorView] = []
        self.polled: list[str] = []
        self.waiting = 0
        self.webhooks: dict[str, WebhookSpec] = {}
        self.secrets: dict[str, tuple[str, ...]] = {}
        self._last: dict[int, int] = {}

    async def ask(self, command: Message, /) -> Any:
        await trio.lowlevel.checkpoint()
        self.asked.append(command)
        reply = self.replies[type(command)](command)
        if isinstance(reply, BaseException):
            raise reply
        return reply

    def _started(self, command: StartRuns) -> StartedRuns:
        return StartedRuns(
            items=[
                StartedRun(run=RunView(item.id or f"made-{at}", item.workflow, "running", seq=at + 1), created=True)
                for at, item in enumerate(command.items)
            ]
        )

    async def read(self, query: Callable[[Any], Any], /) -> Any:
        await trio.lowlevel.checkpoint()
        return query(self.journal.reader())

    async def settled(self, run_id: str, timeout: float, /) -> RunDetail:
        over = ("completed", "failed", "cancelled", "blocked")
        self.waiting += 1
        with trio.move_on_after(timeout):
            while True:
                detail: RunDetail | None = self.journal.reader().run_view(run_id)
                if detail is None:
                    raise RunNotFound(f"there is no run {run_id!r}")
                if detail.status in over:
                    return detail
                await self.feed.wait_beyond(self.feed.seq)
        found = self.journal.reader().run_view(run_id)
        assert found is not None
        return found

    async def restart_actor(
        self, path: str, /, *, origin: Origin = NOBODY, reason: str | None = None
    ) -> ActorView | None:
        self.restarted.append(path)
        return next((actor for actor in self.actors if actor.path == path), None)

    async def once(self, origin: Origin, kind: type[Any], work: Callable[[], Awaitable[Any]]) -> Any:
        """It keeps no answers."""
        return await work()

    async def once_unwritten(self, origin: Origin, work: Callable[[], Awaitable[Any]]) -> Any:
        """It keeps no answers."""
        return await work()

    async def audit(self, action: str, target: str, origin: Origin, reason: str | None = None, /) -> int:
        await trio.lowlevel.checkpoint()
        self.audited.append((action, target, origin, reason))
        return 1

    now_us = 1_700_000_000_000_000

    def check_token(self, text: bytes, /) -> TokenRow | Refusal:
        return self.tokens.check(text, self.now_us)

    def token_counts(self, token_id: str, /) -> bool:
        return self.tokens.counts(token_id, self.now_us)

    def list_tokens(self) -> list[TokenRow]:
        return self.tokens.rows()

    async def create_token(
        self, name: str, role: str, /, *, expires_in_s: float | None = None, reason: str | None, origin: Origin
    ) -> tuple[TokenRow, str]:
        await trio.lowlevel.checkpoint()
        return self.new_token(name, role, None if expires_in_s is None else self.now_us + int(expires_in_s * 1e6))

    def new_token(
        self, name: str, role: str, expires_at: int | None = None, revoked_at: int | None = None
    ) -> tuple[TokenRow, str]:
        """A token, as if it had been made."""
        token_id, secret = tokens.new_id(), tokens.new_secret()
        kept = tokens.digest(b"k" * 32, token_id, secret)
        row = TokenRow(token_id, name, role, kept, self.now_us, None, expires_at, revoked_at, None)
        self.tokens.load([*self.tokens.rows(), row])
        return row, tokens.written(token_id, secret)

    async def revoke_token(self, token: str, /, *, reason: str | None, origin: Origin) -> Accepted:
        await trio.lowlevel.checkpoint()
        rows = self.tokens.rows()
        self.tokens.load(
            msgspec.structs.replace(row, revoked_at=self.now_us) if row.id == token else row for row in rows
        )
        return Accepted(seq=1, id=token)

    def tree(self) -> list[ActorView]:
        return self.actors

    def schedules(self) -> list[ScheduleView]:
        return []

    def schedule(self, name: str) -> ScheduleView:
        raise ScheduleNotFound(f"there is no schedule {name!r}")

    def triggered(self, name: str) -> StartRun:
        raise ScheduleNotFound(f"there is no schedule {name!r}")

    def connectors(self) -> list[ConnectorView]:
        return self.sources

    async def poll_connector(self, name: str, /) -> ConnectorView:
        view = next((each for each in self.sources if each.name == name), None)
        if view is None:
            raise ConnectorNotFound(f"there is no connector {name!r}")
        self.polled.append(name)
        return msgspec.structs.replace(view, status="polling")

    def active_secrets(self, name: str, /) -> tuple[str, ...]:
        found = self.secrets.get(name.removeprefix("secret:"))
        if found is None:
            raise SecretMissing(f"there is no secret {name!r}")
        return found

    def list_secrets(self) -> list[SecretInfo]:
        return [SecretInfo(name, len(values), 1_700_000_000_000_000) for name, values in self.secrets.items()]

    async def set_secret(self, name: str, value: str, /, *, reason: str | None, origin: Origin) -> SecretInfo:
        await self.ask(NoteSecret(name=name, action="set", reason=reason, origin=origin))
        self.secrets[name] = (value,)
        return SecretInfo(name, 1, 1_700_000_000_000_000)

    async def rotate_secret(
        self, name: str, value: str, /, *, grace_s: float, reason: str | None, origin: Origin
    ) -> SecretInfo:
        before = self.active_secrets(name)
        await self.ask(NoteSecret(name=name, action="rotate", reason=reason, origin=origin))
        self.secrets[name] = (value, *before)
        return SecretInfo(name, 2, 1_700_000_000_000_000, 1_700_000_000_000_000 + int(grace_s * 1e6))

    async def delete_secret(self, name: str, /, *, reason: str | None, origin: Origin) -> int:
        del self.secrets[name]
        accepted: Accepted = await self.ask(NoteSecret(name=name, action="delete", reason=reason, origin=origin))
        return accepted.seq

    async def rotate_master_key(self, *, reason: str | None, origin: Origin) -> int:
        await self.ask(NoteSecret(name="*", action="rotate_master", reason=reason, origin=origin))
        return len(self.secrets)

    async def preview_reset(self, name: str, cursor: Any = None, /) -> ResetForeseen:
        await trio.lowlevel.checkpoint()
        if bytes(cursor) == b'"wrong"':
            raise InvalidInput("$.cursor: Expected `int`, got `str`")
        view = next(each for each in self.sources if each.name == name)
        return ResetForeseen(name, view.cursor, cursor, view.records_total, 11)

    def health(self) -> Health:
        return self.healthy

    def statistics(self) -> RuntimeStatistics:
        return self.figures

    def record(self, *records: Record, run_key: int = 0, at: int = 1_700_000_000_000_000) -> int:
        """Commit facts of one run; returns the seq of the last."""
        seq = self.feed.seq
        entries = []
        for fact in records:
            seq += 1
            entries.append(Entry(seq, run_key, self._last.get(run_key, 0) if run_key else 0, at, fact))
            self._last[run_key] = seq
        self.journal.commit(entries)
        self.feed.move(seq)
        return seq


class Answer(msgspec.Struct):
    """A response as it came."""

    status: int
    headers: dict[str, str]
    body: bytes

    def json(self) -> Any:
        return msgspec.json.decode(self.body)


class Client:
    """One connection that sends what it is told, byte by byte if need be."""

    def __init__(self, stream: trio.SocketStream) -> None:
        self.stream = stream
        self._h11 = h11.Connection(h11.CLIENT)

    async def send(self, data: bytes) -> None:
        await self.stream.send_all(data)

    async def ask(
        self,
        method: str,
        target: str,
        body: Any = None,
        *,
        headers: Iterable[tuple[str, str]] = (),
        raw: bytes | None = None,
    ) -> Answer:
        """A whole request and its response, on this connection."""
        data = raw if raw is not None else b"" if body is None else msgspec.json.encode(body)
        lines = [f"{method} {target} HTTP/1.1", "Host: localhost", *(f"{name}: {value}" for name, value in headers)]
        if data or method in ("POST", "PUT"):
            lines.append(f"Content-Length: {len(data)}")
        if data and not any(name.lower() == "content-type" for name, _ in headers):
            lines.append("Content-Type: application/json")
        await self.send("\r\n".join(lines).encode() + b"\r\n\r\n" + data)
        return await self.answer(method)

    async def answer(self, method: str = "GET") -> Answer:
        """The next response. Raises EOFError if the connection ends before."""
        if self._h11.our_state is h11.DONE:
            self._h11.start_next_cycle()
        if self._h11.our_state is h11.IDLE:  # tell the parser what was asked, which decides where a response ends
            self._h11.send(h11.Request(method=method, target="/", headers=[("host", "x")]))
            self._h11.send(h11.EndOfMessage())
        status, headers, body = 0, {}, b""
        while True:
            event = self._h11.next_event()
            if event is h11.NEED_DATA:
                self._h11.receive_data(await self._receive())
            elif isinstance(event, h11.Response):
                status = event.status_code
                headers = {name.decode(): value.decode() for name, value in event.headers}
            elif isinstance(event, h11.Data):
                body += event.data
            elif isinstance(event, h11.EndOfMessage):
                return Answer(status, headers, body)
            elif isinstance(event, h11.ConnectionClosed):
                raise EOFError

    async def _receive(self) -> bytes:
        try:
            return bytes(await self.stream.receive_some(65_536))
        except trio.BrokenResourceError:
            return b""

    async def until(self, wanted: bytes, seen: bytes = b"") -> bytes:
        """All that comes until `wanted` is in it. Raises EOFError if it never is."""
        while wanted not in seen:
            data = await self._receive()
            if not data:
                raise EOFError(seen)
            seen += data
        return seen

    async def rest(self) -> bytes:
        """All that comes until the server closes."""
        seen = b""
        while data := await self._receive():
            seen += data
        return seen


class Serving:
    """A server at work: its runtime, its addresses, and clients for them."""

    def __init__(self, rt: FakeRuntime, edge: Edge, server: HttpServer, path: Path, port: int) -> None:
        self.rt, self.edge, self.server, self.path, self.port = rt, edge, server, path, port
        self._clients: list[Client] = []

    async def client(self, *, tcp: bool = False) -> Client:
        if tcp:
            stream = await trio.open_tcp_stream("127.0.0.1", self.port)
        else:
            sock = trio.socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
            try:
                await sock.connect(str(self.path))
            except BaseException:
                sock.close()
                raise
            stream = trio.SocketStream(sock)
        self._clients.append(Client(stream))
        return self._clients[-1]

    async def ask(self, method: str, target: str, body: Any = None, *, tcp: bool = False, **more: Any) -> Answer:
        """One request on a connection of its own."""
        client = await self.client(tcp=tcp)
        try:
            return await client.ask(method, target, body, **more)
        finally:
            await client.stream.aclose()

    def forget(self, client: Client) -> None:
        """A client that is closed need not be closed at the end."""
        self._clients.remove(client)

    async def close(self) -> None:
        for client in self._clients:
            await trio.aclose_forcefully(client.stream)


@pytest.fixture
def rt() -> Iterator[FakeRuntime]:
    runtime = FakeRuntime()
    yield runtime
    runtime.journal.close()


Serve = Callable[..., AbstractAsyncContextManager[Serving]]


@asynccontextmanager
async def served(
    rt: Any, folder: Path, *, routes: Iterable[Route] = ROUTES, options: dict[str, Any] | None = None, **limits: Any
) -> AsyncIterator[Serving]:
    """The edge round a runtime, on a unix socket in `folder` and on loopback."""
    edge_limits = EdgeLimits(**limits)
    edge = Edge(rt, limits=edge_limits, routes=routes, **(options or {}))
    server = HttpServer(edge.app, edge_limits)
    path = folder / "s.sock"
    listeners = [open_unix_listener(path), *await open_tcp_listeners("127.0.0.1", 0)]
    port = listeners[1].socket.getsockname()[1]
    async with trio.open_nursery() as nursery:
        await nursery.start(server.serve, listeners)
        http = Serving(rt, edge, server, path, port)
        try:
            yield http
        finally:
            with trio.CancelScope(shield=True):
                await http.close()
            nursery.cancel_scope.cancel()


@pytest.fixture
def serve(rt: FakeRuntime, short_dir: Path) -> Serve:
    """`async with serve(limit=value, ...) as http`: the edge on a unix socket and on loopback."""
    return functools.partial(served, rt, short_dir)
