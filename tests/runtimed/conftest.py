"""A daemon that is none: a scripted HTTP server on a unix socket, in a thread, for tests of the client and the CLI."""

from __future__ import annotations

import json
import socketserver
import threading
from collections import deque
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import parse_qsl, urlsplit

import pytest


class Request(NamedTuple):
    """What a client sent."""

    method: str
    path: str
    query: list[tuple[str, str]]
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)


class Reply(NamedTuple):
    """What the fake answers. `parts` is a body of unknown length; `cut` ends the connection before its end."""

    status: int = 200
    body: Any = None
    headers: dict[str, str] = {}
    parts: list[bytes] | None = None
    cut: bool = False


CLOSE = Reply(status=0)
"""End the connection without an answer."""

PATIENCE_S = 60.0

Answering = Callable[[Request], Reply]


def problem(status: int, code: str, detail: str, **more: Any) -> Reply:
    document = {
        "type": "about:blank",
        "title": code,
        "status": status,
        "detail": detail,
        "code": code,
        "hint": "",
        **more,
    }
    return Reply(status, document, {"Content-Type": "application/problem+json"})


class FakeDaemon:
    """Answers by (method, path): a `Reply`, a list of them in turn, or a function. Notes each request."""

    CLOSE = CLOSE
    Reply: Any = Reply
    problem = staticmethod(problem)

    def __init__(self, socket: Path) -> None:
        self.socket = socket
        self.requests: list[Request] = []
        self.connections = 0
        self.routes: dict[tuple[str, str], Any] = {}
        self.release = threading.Event()

    def on(self, method: str, path: str, *replies: Any) -> None:
        self.routes[method, path] = replies[0] if len(replies) == 1 else deque(replies)

    def silence(self, request: Request) -> Reply:
        """No answer, until the test is over."""
        self.release.wait(PATIENCE_S)
        return CLOSE

    def answer(self, request: Request) -> Any:
        self.requests.append(request)
        found = self.routes.get((request.method, request.path))
        if isinstance(found, deque):
            found = found.popleft() if len(found) > 1 else found[0]
        if callable(found) and not isinstance(found, Reply):
            found = found(request)
        return found if found is not None else problem(404, "route_not_found", f"no {request.method} {request.path}")


class _Server(socketserver.ThreadingUnixStreamServer):
    daemon_threads = True
    fake: FakeDaemon

    def handle_error(self, request: Any, client_address: Any) -> None:
        pass  # a client that leaves is what some tests are about


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: _Server

    def setup(self) -> None:
        self.server.fake.connections += 1
        super().setup()

    def log_message(self, format: str, *args: Any) -> None:
        pass

    def address_string(self) -> str:
        return "local"

    def _any(self) -> None:
        parts = urlsplit(self.path)
        body = self.rfile.read(int(self.headers.get("content-length") or 0))
        headers = {name.lower(): value for name, value in self.headers.items()}
        fake = self.server.fake
        reply = fake.answer(Request(self.command, parts.path, parse_qsl(parts.query), headers, body))
        if reply.status == 0:
            self.close_connection = True
            return
        self.send_response(reply.status)
        plain = isinstance(reply.body, bytes)
        data = reply.body if plain else b"" if reply.status == 204 else json.dumps(reply.body).encode()
        for name, value in {"Content-Type": "application/json", **reply.headers}.items():
            self.send_header(name, value)
        if reply.parts is not None:
            self._parts(reply, fake)
            return
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data[: len(data) // 2] if reply.cut else data)
        self.close_connection = self.close_connection or reply.cut

    def _parts(self, reply: Reply, fake: FakeDaemon) -> None:
        self.send_header("Connection", "close")
        self.end_headers()
        for part in reply.parts or []:
            self.wfile.write(part)
            self.wfile.flush()
        if not reply.cut:
            fake.release.wait(PATIENCE_S)  # stay open until the test is over

    do_GET = do_POST = do_PUT = do_DELETE = _any


@pytest.fixture
def fake(short_dir: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeDaemon]:
    """A fake daemon that listens on `fake.socket`. Who asks it is patient, also where a daemon would be given up."""
    monkeypatch.setattr("runtimed.cli.completing.TIMEOUT_SECONDS", PATIENCE_S)
    monkeypatch.setattr("runtimed.cli.examinations.ANSWER_SECONDS", PATIENCE_S)
    monkeypatch.setattr("runtimed.client_wire.CONNECT_TIMEOUT", PATIENCE_S)
    daemon = FakeDaemon(short_dir / "runtimed.sock")
    with _Server(str(daemon.socket), _Handler) as server:
        server.fake = daemon
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield daemon
        daemon.release.set()
        server.shutdown()
        thread.join()
