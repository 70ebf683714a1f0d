"""Two balancers on the loopback: a small one of our own, and HAProxy's where it is installed.

Both ask `/health/ready`, send each new connection to a backend that said yes, and retry nothing: what fails is seen.
"""

from __future__ import annotations

import csv
import socket
import subprocess
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path

import trio

PROBE = b"GET /health/ready HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"
LOOK_EVERY_S = 0.1
PATIENCE_S = 30.0  # of those who look and wait: a machine that stands still for a moment is no daemon that is down
HAPROXY = """\
global
    maxconn 2000
    stats socket {stats} mode 600 level user
defaults
    mode http
    timeout connect 30s
    timeout client 30s
    timeout server 30s
    timeout check 2s
    retries 0
frontend in
    bind fd@{listener}
    default_backend daemons
backend daemons
    balance roundrobin
    option httpchk
    http-check send meth GET uri /health/ready ver HTTP/1.1 hdr Host localhost
    default-server check inter 100ms fall 1 rise 1
{servers}
"""


class Balancer:
    """A balancer at work: its port, and whether it knows that a backend is down and has nothing open with it."""

    def __init__(self, port: int, has_left: Callable[[int], Awaitable[bool]]) -> None:
        self.port, self._has_left = port, has_left

    async def leaves(self, number: int) -> None:
        """Wait until it has turned away from this backend and has all answers of it."""
        with trio.fail_after(PATIENCE_S):
            while not await self._has_left(number):  # noqa: ASYNC110 - asked for, of a process of its own too
                await trio.sleep(0.01)


class Backend:
    """One daemon as the balancer sees it."""

    def __init__(self, socket: Path) -> None:
        self.socket, self.up, self.open = socket, False, 0

    async def look(self, every_s: float) -> None:
        """Ask it again and again whether it is ready."""
        while True:
            with trio.move_on_after(PATIENCE_S) as scope:
                self.up = await self._is_ready()
            if scope.cancelled_caught:
                self.up = False
            await trio.sleep(every_s)

    async def _is_ready(self) -> bool:
        try:
            async with await trio.open_unix_socket(str(self.socket)) as stream:
                await stream.send_all(PROBE)
                return (await stream.receive_some(64)).startswith(b"HTTP/1.1 200")
        except (OSError, trio.BrokenResourceError):
            return False


@asynccontextmanager
async def small_balancer(sockets: Sequence[Path], *, look_every_s: float = LOOK_EVERY_S) -> AsyncIterator[Balancer]:
    """Ours. Each connection goes to the next backend that is up."""
    backends, turn = [Backend(socket) for socket in sockets], 0

    async def has_left(number: int) -> bool:
        return not backends[number].up and backends[number].open == 0

    async def serve(client: trio.SocketStream) -> None:
        nonlocal turn
        up = [backend for backend in backends if backend.up]
        turn += 1
        async with client:
            if not up:
                return
            chosen = up[turn % len(up)]
            chosen.open += 1
            try:
                await hand_on(client, chosen.socket)
            finally:
                chosen.open -= 1

    async with trio.open_nursery() as nursery:
        for backend in backends:
            nursery.start_soon(backend.look, look_every_s)
        listeners = await nursery.start(partial(trio.serve_tcp, serve, 0, host="127.0.0.1"))
        yield Balancer(listeners[0].socket.getsockname()[1], has_left)
        nursery.cancel_scope.cancel()


async def hand_on(client: trio.SocketStream, address: Path) -> None:
    """One connection of a client's to a backend, until the backend ends it."""
    try:
        backend = await trio.open_unix_socket(str(address))
    except OSError:
        return  # the client sees a connection that closes: a failed request
    async with backend, trio.open_nursery() as nursery:
        nursery.start_soon(pump, client, backend)
        await pump(backend, client)
        nursery.cancel_scope.cancel()


async def pump(source: trio.SocketStream, target: trio.SocketStream) -> None:
    """Bytes from one to the other, until either ends."""
    try:
        async for chunk in source:
            await target.send_all(chunk)
    except (trio.BrokenResourceError, trio.ClosedResourceError):
        pass  # the other side of it sees the end


@asynccontextmanager
async def haproxy(sockets: Sequence[Path], folder: Path, program: str) -> AsyncIterator[Balancer]:
    """HAProxy with the configuration that docs/operating.md shows, and more patience."""
    servers = "\n".join(f"    server d{number} unix@{socket}" for number, socket in enumerate(sockets))
    config, stats = folder / "haproxy.cfg", folder / "haproxy.sock"
    with socket.create_server(("127.0.0.1", 0)) as listener:  # handed down: a free port may be another's a moment later
        text = HAPROXY.format(listener=listener.fileno(), servers=servers, stats=stats)
        config.write_text(text.replace("timeout check 2s", f"timeout check {PATIENCE_S:.0f}s"))
        command = [program, "-db", "-q", "-f", str(config)]
        process = await trio.lowlevel.open_process(command, stdin=subprocess.DEVNULL, pass_fds=[listener.fileno()])
        port = listener.getsockname()[1]

    async def has_left(number: int) -> bool:
        row = (await statistics(stats))["daemons", f"d{number}"]
        return row["status"].startswith("DOWN") and row["scur"] == "0"

    try:
        yield Balancer(port, has_left)
    finally:
        process.terminate()
        with trio.CancelScope(shield=True):
            await process.wait()


async def statistics(stats: Path) -> dict[tuple[str, str], dict[str, str]]:
    """What HAProxy tells of itself, by proxy and server."""
    async with await trio.open_unix_socket(str(stats)) as stream:
        await stream.send_all(b"show stat\n")
        told = b"".join([chunk async for chunk in stream]).decode()
    return {(row["# pxname"], row["svname"]): row for row in csv.DictReader(told.splitlines())}
