"""Two balancers on the loopback: a small one of our own, and HAProxy's where it is installed.

Both ask `/health/ready`, send each new connection to a backend that said yes, and retry nothing: what fails is seen.
"""

from __future__ import annotations

import subprocess
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path

import trio

PROBE = b"GET /health/ready HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"
LOOK_EVERY_S = 0.1
HAPROXY = """\
global
    maxconn 2000
defaults
    mode http
    timeout connect 2s
    timeout client 30s
    timeout server 30s
    timeout check 2s
    retries 0
frontend in
    bind 127.0.0.1:{port}
    default_backend daemons
backend daemons
    balance roundrobin
    option httpchk
    http-check send meth GET uri /health/ready ver HTTP/1.1 hdr Host localhost
    default-server check inter 100ms fall 1 rise 1
{servers}
"""


class Backend:
    """One daemon as the balancer sees it."""

    def __init__(self, socket: Path) -> None:
        self.socket, self.up = socket, False

    async def look(self) -> None:
        """Ask it again and again whether it is ready."""
        while True:
            with trio.move_on_after(1.0) as scope:
                self.up = await self._is_ready()
            if scope.cancelled_caught:
                self.up = False
            await trio.sleep(LOOK_EVERY_S)

    async def _is_ready(self) -> bool:
        try:
            async with await trio.open_unix_socket(str(self.socket)) as stream:
                await stream.send_all(PROBE)
                return (await stream.receive_some(64)).startswith(b"HTTP/1.1 200")
        except (OSError, trio.BrokenResourceError):
            return False


@asynccontextmanager
async def small_balancer(sockets: Sequence[Path]) -> AsyncIterator[int]:
    """Ours; gives its port. Each connection goes to the next backend that is up."""
    backends, turn = [Backend(socket) for socket in sockets], 0

    async def serve(client: trio.SocketStream) -> None:
        nonlocal turn
        up = [backend for backend in backends if backend.up]
        turn += 1
        async with client:
            if not up:
                return
            try:
                backend = await trio.open_unix_socket(str(up[turn % len(up)].socket))
            except OSError:
                return  # the client sees a connection that closes: a failed request
            async with backend, trio.open_nursery() as nursery:
                nursery.start_soon(pump, client, backend)
                await pump(backend, client)
                nursery.cancel_scope.cancel()

    async with trio.open_nursery() as nursery:
        for backend in backends:
            nursery.start_soon(backend.look)
        listeners = await nursery.start(partial(trio.serve_tcp, serve, 0, host="127.0.0.1"))
        yield listeners[0].socket.getsockname()[1]
        nursery.cancel_scope.cancel()


async def pump(source: trio.SocketStream, target: trio.SocketStream) -> None:
    """Bytes from one to the other, until either ends."""
    try:
        async for chunk in source:
            await target.send_all(chunk)
    except (trio.BrokenResourceError, trio.ClosedResourceError):
        pass  # the other side of it sees the end


@asynccontextmanager
async def haproxy(sockets: Sequence[Path], folder: Path, program: str) -> AsyncIterator[int]:
    """HAProxy with the configuration that docs/operating.md shows; gives its port."""
    with trio.socket.socket() as probe:
        await probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    servers = "\n".join(f"    server d{number} unix@{socket}" for number, socket in enumerate(sockets))
    config = folder / "haproxy.cfg"
    config.write_text(HAPROXY.format(port=port, servers=servers))
    command = [program, "-db", "-q", "-f", str(config)]
    process = await trio.lowlevel.open_process(command, stdin=subprocess.DEVNULL)
    try:
        yield port
    finally:
        process.terminate()
        with trio.CancelScope(shield=True):
            await process.wait()
