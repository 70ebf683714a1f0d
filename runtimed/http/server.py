"""The hardened server: listeners, a bound on connections, and a drain that ends.

Hypercorn as shipped can be killed by one packet and held by one client that does not read; `connection` and
`protocol` mend that, and this module takes the place of its `serve`, so that nothing is patched from outside.
"""

from __future__ import annotations

import logging
import os
import socket
import stat
from collections.abc import Sequence
from functools import partial
from pathlib import Path

import msgspec
import trio
from hypercorn.trio.worker_context import WorkerContext

from runtimed.http.connection import AsgiApp, Connection
from runtimed.http.errors import BindFailed
from runtimed.http.faults import overflow_answer
from runtimed.http.limits import EdgeLimits
from runtimed.http.protocol import EdgeConfig
from runtimed.http.turns import Turns
from runtimed.settings import SOCKET_PATH_MAX_BYTES, Http

log = logging.getLogger("runtimed.http")

BACKLOG = 1024
TURNING_AWAY_MAX = 64
"""Connections that are told at once that there are too many."""


class Counts(msgspec.Struct):
    """What happened to connections so far."""

    accepted: int = 0
    refused: int = 0
    too_slow: int = 0
    send_timeouts: int = 0
    crashed: int = 0


class ServerStatistics(msgspec.Struct, frozen=True):
    """A snapshot: connections open by kind of listener, and the counts."""

    open_local: int
    open_tcp: int
    counts: Counts


class HttpServer:
    """Serves an ASGI application on listeners until it has drained.

    `serve` returns when `drain` was called and every connection has ended: idle ones at once, those with a request in
    hand after their answer, and all of them when `limits.drain_grace_s` is over. Cancelling `serve` ends all at once.
    """

    def __init__(self, app: AsgiApp, limits: EdgeLimits = EdgeLimits()) -> None:  # noqa: B008 - frozen
        self.app = app
        self.limits = limits
        self.config = _config(limits)
        self.context = WorkerContext(None)
        self.draining = trio.Event()
        self.turns = {(local, kept): Turns() for local in (True, False) for kept in (True, False)}
        self.counts = Counts()
        self._turning_away = 0
        self._open: dict[bool, set[Connection]] = {True: set(), False: set()}

    async def serve(
        self,
        listeners: Sequence[trio.SocketListener],
        *,
        task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED,
    ) -> None:
        """Accept and serve; see the class. The listeners are closed when this returns."""
        async with trio.open_nursery() as nursery:
            for lane in self.turns.values():
                nursery.start_soon(lane.run)
            await self._serve(listeners, task_status)
            nursery.cancel_scope.cancel()

    async def _serve(self, listeners: Sequence[trio.SocketListener], task_status: trio.TaskStatus[None]) -> None:
        async with trio.open_nursery() as connections:
            async with trio.open_nursery() as accepting:
                start = partial(trio.serve_listeners, self._serve_one, list(listeners), handler_nursery=connections)
                await accepting.start(start)
                task_status.started()
                await self.draining.wait()
                accepting.cancel_scope.cancel()
            await self.context.terminated.set()
            for connection in [*self._open[True], *self._open[False]]:
                connection.close_if_idle()
            connections.cancel_scope.deadline = trio.current_time() + self.limits.drain_grace_s

    def drain(self) -> None:
        """Accept no more, finish what is in hand. Calling it again changes nothing."""
        self.draining.set()

    def statistics(self) -> ServerStatistics:
        """Open connections and counts."""
        counts = msgspec.structs.replace(self.counts)
        return ServerStatistics(len(self._open[True]), len(self._open[False]), counts)

    async def _serve_one(self, stream: trio.SocketStream) -> None:
        opened = self._open[stream.socket.family == socket.AF_UNIX]
        if len(opened) >= self.limits.connections_max:
            await self._turn_away(stream)
            return
        self.counts.accepted += 1
        connection = Connection(self, stream)
        opened.add(connection)
        try:
            await connection.run()
        finally:
            opened.discard(connection)

    async def _turn_away(self, stream: trio.SocketStream) -> None:
        """Answer 503 and close; of a flood, most are just closed: they must not cost anything."""
        self.counts.refused += 1
        try:
            if self._turning_away < TURNING_AWAY_MAX:
                self._turning_away += 1
                try:
                    await self._say_full(stream)
                finally:
                    self._turning_away -= 1
        finally:
            await trio.aclose_forcefully(stream)

    async def _say_full(self, stream: trio.SocketStream) -> None:
        """The answer, then what the client sends is swallowed for a moment: a reset would take the answer with it."""
        with trio.move_on_after(self.limits.linger_s):
            try:
                await stream.send_all(overflow_answer())
                await stream.send_eof()
                while await stream.receive_some():
                    pass
            except (trio.BrokenResourceError, trio.ClosedResourceError):
                pass  # gone already


def _config(limits: EdgeLimits) -> EdgeConfig:
    config = EdgeConfig()
    config.accesslog = None
    config.errorlog = log
    config.h11_max_incomplete_size = limits.head_max_bytes
    config.keep_alive_max_requests = limits.keep_alive_requests_max
    return config


# --- listeners ------------------------------------------------------------------------------------------------------


async def open_listeners(http: Http, path: Path) -> list[trio.SocketListener]:
    """The listeners that `[http]` asks for: the unix socket first, then TCP if there is a bind. Raises `BindFailed`."""
    listeners = [open_unix_listener(path, mode=http.socket_mode_bits)]
    if http.address is not None:
        try:
            listeners += await open_tcp_listeners(*http.address)
        except BaseException:
            await trio.aclose_forcefully(listeners[0])
            remove_socket(path)
            raise
    return listeners


def open_unix_listener(path: Path, *, mode: int = 0o660) -> trio.SocketListener:
    """Listen on a unix socket at `path`, in place of a stale socket there. Raises `BindFailed`.

    The socket is made under another name, given its mode and moved in place: it is never there with other rights,
    and never there without somebody listening. Who holds the data folder's lock may replace what is there.
    """
    if len(os.fsencode(path)) > SOCKET_PATH_MAX_BYTES:  # under the other name it would work, and nobody could connect
        raise BindFailed(f"cannot listen on {path}: too long; a unix socket takes {SOCKET_PATH_MAX_BYTES} bytes")
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    temporary = path.with_name(f".{os.getpid()}")
    try:
        _refuse_non_socket(path)
        temporary.unlink(missing_ok=True)
        sock.bind(os.fspath(temporary))
        os.chmod(temporary, mode)
        sock.listen(BACKLOG)
        temporary.rename(path)
    except OSError as error:
        sock.close()
        temporary.unlink(missing_ok=True)
        raise BindFailed(f"cannot listen on {path}: {error.strerror or error}") from error
    except BindFailed:
        sock.close()
        raise
    return trio.SocketListener(trio.socket.from_stdlib_socket(sock))


def remove_socket(path: Path) -> None:
    """Take the socket away after the last connection, so that a stopped daemon looks stopped."""
    path.unlink(missing_ok=True)


def _refuse_non_socket(path: Path) -> None:
    try:
        if not stat.S_ISSOCK(path.lstat().st_mode):
            raise BindFailed(f"cannot listen on {path}: something else than a socket is there")
    except FileNotFoundError:
        pass  # the usual case


async def open_tcp_listeners(host: str, port: int) -> list[trio.SocketListener]:
    """Listen on every address of `host`; port 0 takes a free one. Raises `BindFailed`."""
    try:
        return await trio.open_tcp_listeners(port, host=host, backlog=BACKLOG)
    except OSError as error:
        raise BindFailed(f"cannot listen on {host}:{port}: {error.strerror or error}") from error
