"""One connection: hypercorn's TCPServer with deadlines, a bound on sending, and its errors kept to itself."""

from __future__ import annotations

import logging
import os
import socket
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any

import trio
from hypercorn.events import Closed, Event, RawData, Updated
from hypercorn.trio.tcp_server import MAX_RECV, TCPServer
from hypercorn.typing import ConnectionState
from hypercorn.utils import parse_socket_addr

from runtimed.http.access import peer_of
from runtimed.http.identity import Place
from runtimed.http.protocol import Http11, RequestPipe

if TYPE_CHECKING:
    from runtimed.http.server import HttpServer

log = logging.getLogger("runtimed.http")

AsgiApp = Callable[[Any, Callable[[], Awaitable[Any]], Callable[[Any], Awaitable[None]]], Awaitable[None]]


class RequestTasks:
    """Starts a task a request, in the connection's nursery (hypercorn's TaskGroup, with our pipe)."""

    def __init__(self, nursery: trio.Nursery, app: AsgiApp, pipe_max_bytes: int) -> None:
        self._nursery = nursery
        self._app = app
        self._pipe_max_bytes = pipe_max_bytes

    async def spawn_app(
        self, app: Any, config: Any, scope: Any, send: Callable[[Any], Awaitable[None]]
    ) -> Callable[[Any], Awaitable[None]]:
        """Start the application for one request; returns where to put what is read for it."""
        pipe = RequestPipe(self._pipe_max_bytes)
        self._nursery.start_soon(self._run, scope, pipe, send)
        return pipe.put

    async def _run(self, scope: Any, pipe: RequestPipe, send: Callable[[Any], Awaitable[None]]) -> None:
        try:
            await self._app(scope, pipe.receive, send)
        except trio.Cancelled:
            pipe.close()
            raise  # the connection ends with us; `send(None)` would answer 500, and nobody knows what becomes of this
        except Exception:
            log.exception("%s %s ended by a defect", scope["method"], scope["path"])
        pipe.close()
        await send(None)


class Connection(TCPServer):
    """Serves one client until it leaves, is too slow, or the server closes.

    An exception in here ends this connection alone and is logged. Deadlines: a head must be whole `header_timeout_s`
    after its first byte, an idle connection is closed after `keep_alive_timeout_s`, a send that makes no end within
    `send_timeout_s` ends the connection. While a request is handled there is no deadline here; its body has one of
    its own (`limits.Bodies`).
    """

    protocol: Http11  # type: ignore[assignment] # upstream has a wrapper here that switches to HTTP/2

    def __init__(self, owner: HttpServer, stream: trio.SocketStream) -> None:
        super().__init__(owner.app, owner.config, owner.context, ConnectionState({}), stream)  # type: ignore[arg-type]
        self.owner = owner
        self.limits = owner.limits
        self._reading = trio.CancelScope(deadline=trio.current_time() + self.limits.header_timeout_s)
        self._head_begun = True
        self._kept = False  # it has had an answer
        self._in_turn = False
        self._local = stream.socket.family == socket.AF_UNIX
        self._hung_up = False
        self._swallowed_bytes = 0

    @property
    def idle(self) -> bool:
        """Between two requests, with nothing read of the next."""
        return not (self.protocol.busy or self._in_turn or self._hung_up or self.protocol.has_partial_head)

    async def run(self) -> None:
        try:
            self.state["peer"] = peer_of(self.stream.socket)
            self.state["place"] = Place(self.state["peer"])
            self.state["draining"] = self.owner.draining
            async with trio.open_nursery() as nursery:
                self._begin(nursery)
                await self._read_data()
        except* OSError:
            pass  # the client is gone; there is nobody to tell
        except* Exception:
            self.owner.counts.crashed += 1
            log.exception("a connection ended by a defect")
        finally:
            await trio.aclose_forcefully(self.stream)

    def _begin(self, nursery: trio.Nursery) -> None:
        sock = self.stream.socket
        self.protocol = Http11(
            self.app,
            self.config,
            self.context,
            RequestTasks(nursery, self.owner.app, self.limits.pipe_max_bytes),
            self.state,
            False,
            parse_socket_addr(sock.family, sock.getpeername()),
            parse_socket_addr(sock.family, sock.getsockname()),
            self.protocol_send,
        )

    # --- reading ----------------------------------------------------------------------------------------------------

    async def _read_data(self) -> None:
        with self._reading:
            await self._read_until_end()
        if self._reading.cancelled_caught and not self._hung_up:
            self.owner.counts.too_slow += 1
            if self.protocol.has_partial_head:
                await self.protocol.refuse(408, f"the head was not whole within {self.limits.header_timeout_s:g} s")
        await self.protocol.handle(Closed())

    async def _read_until_end(self) -> None:
        while True:
            try:
                data = await self.stream.receive_some(MAX_RECV)
            except (trio.ClosedResourceError, trio.BrokenResourceError):
                return
            if self._hung_up:
                self._swallowed_bytes += len(data)
                if not data or self._swallowed_bytes > self.limits.linger_max_bytes:
                    return
                continue
            if data and not self.protocol.busy:
                self._in_turn = True  # what was read is in hand, though nobody has looked at it yet
                await self.owner.turns[self._local, self._kept].take()
                self._in_turn = False
            await self.protocol.handle(RawData(bytes(data)))
            if not data:
                return
            if not self._head_begun and self.protocol.has_partial_head:
                self._head_begun = True
                self._reading.deadline = trio.current_time() + self.limits.header_timeout_s

    def close_if_idle(self) -> None:
        """End the connection now if no request is in hand (the server drains)."""
        if self.idle:
            self._hung_up = True
            self._reading.cancel()

    # --- sending ----------------------------------------------------------------------------------------------------

    async def protocol_send(self, event: Event) -> None:
        if isinstance(event, RawData):
            await self._send(event.data)
        elif isinstance(event, Updated):
            self._head_begun = False
            self._kept = self._kept or event.idle
            idle_until = trio.current_time() + self.limits.keep_alive_timeout_s
            self._reading.deadline = idle_until if event.idle else float("inf")
        elif isinstance(event, Closed):
            await self._hang_up()
            await self.protocol.handle(event)

    async def _send(self, data: bytes) -> None:
        rest = data if self.send_lock.locked() else self._send_now(data)
        if rest:
            await self._send_rest(rest)

    def _send_now(self, data: bytes) -> bytes:
        """Send what the socket takes at once, and give the rest. Nearly all answers go out here, without the lock, the
        deadline and the turns of the loop that waiting needs: a tenth of a small request's whole cost."""
        try:
            return data[os.write(self.stream.socket.fileno(), data) :]
        except OSError:  # full, or gone: the way that can wait will see which
            return data

    async def _send_rest(self, data: bytes) -> None:
        async with self.send_lock:
            with trio.CancelScope(deadline=trio.current_time() + self.limits.send_timeout_s) as scope:
                try:
                    await self.stream.send_all(data)
                except (trio.BrokenResourceError, trio.ClosedResourceError):
                    await self.protocol.handle(Closed())
        if scope.cancelled_caught:
            self.owner.counts.send_timeouts += 1
            await trio.aclose_forcefully(self.stream)
            await self.protocol.handle(Closed())

    async def _hang_up(self) -> None:
        """Say that no more comes, then swallow what the client still sends, bounded in time and bytes."""
        if self._hung_up:
            return
        self._hung_up = True
        async with self.send_lock:  # after what is being sent
            try:
                await self.stream.send_eof()
            except (trio.BrokenResourceError, trio.ClosedResourceError):
                pass  # gone already
        self._reading.deadline = trio.current_time() + self.limits.linger_s
