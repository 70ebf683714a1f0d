"""P9 and P10 on the real daemon: what is too much is refused, what is hostile harms nobody, and probes are answered."""

from __future__ import annotations

import json
import os
import random
import signal
import socket
import struct
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import trio

from tests.runtimed.http.test_hostile import mutated
from tests.system.daemon_process import Daemon
from tests.system.probing import patience_s, probed, tcp_port
from wal.queries import Reader

pytestmark = [pytest.mark.trio, pytest.mark.slow, pytest.mark.chaos, pytest.mark.alone]

MAILBOX = 40
CONNECTIONS = 10 * MAILBOX
NORMAL_AFTER_MAX_S = 15.0  # it takes some tenths; a machine that stands still for a moment is no backlog
CONFIG = f"""
[http]
bind = "127.0.0.1:0"
max_connections = 1000

[limits]
mailbox_size = {MAILBOX}

[webhooks.in]
verify = "none"
key = "id"
deliver = "records"
"""


class Line:
    """One kept connection that says what it is told and reads one answer after the other."""

    def __init__(self, stream: trio.SocketStream) -> None:
        self.stream = stream
        self._seen = b""

    async def post(self, path: str, body: Any) -> tuple[int, bytes]:
        """One request and its answer. Raises EOFError if the daemon hangs up."""
        data = json.dumps(body).encode()
        head = f"POST {path} HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
        await self.stream.send_all(f"{head}Content-Length: {len(data)}\r\n\r\n".encode() + data)
        while b"\r\n\r\n" not in self._seen:
            await self._more()
        head_bytes, _, rest = self._seen.partition(b"\r\n\r\n")
        lines = head_bytes.lower().split(b"\r\n")
        size = next(int(line.split(b":")[1]) for line in lines if line.startswith(b"content-length:"))
        self._seen = rest
        while len(self._seen) < size:
            await self._more()
        answer, self._seen = self._seen[:size], self._seen[size:]
        return int(lines[0].split(b" ")[1]), answer

    async def _more(self) -> None:
        data = await self.stream.receive_some(65_536)
        if not data:
            raise EOFError
        self._seen += data


async def connect(path: Path) -> trio.SocketStream:
    """A connection to the daemon's unix socket."""
    link = trio.socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    await link.connect(str(path))
    return trio.SocketStream(link)


async def refusing(daemon: Daemon, gate: trio.Event, statuses: Counter[int]) -> None:
    """Open the gate, with a disk that takes nothing until somebody was refused: how quick it is decides no test."""
    writer = daemon.writer_pid()
    assert writer is not None
    os.kill(writer, signal.SIGSTOP)
    try:
        gate.set()
        while not statuses[503] + statuses[429]:  # noqa: ASYNC110 - many tasks count
            await trio.sleep(0.001)
    finally:
        os.kill(writer, signal.SIGCONT)


async def test_a_burst_is_refused_and_not_suffered(
    running: Any, short_dir: Path, scale: Callable[[int, int], int], figures: Any
) -> None:
    """P9: 10,000 starts and webhooks on ten times as many connections as the mailbox has room for: each is either
    acknowledged, and then on disk, or refused with 429 or 503; readiness answers all the while; afterwards a run
    starts and ends within seconds."""
    config = short_dir / "runtimed.toml"
    config.write_text(CONFIG)
    wanted, patience = scale(10_000, 200_000), patience_s()
    statuses: Counter[int] = Counter()
    started: set[str] = set()
    delivered: set[str] = set()

    async def burst(daemon: Daemon, first: int, gate: trio.Event) -> None:
        line = Line(await connect(daemon.socket))
        await gate.wait()
        for number in range(first, wanted, CONNECTIONS):
            if number % 5:
                status, _ = await line.post(
                    "/v1/runs", {"workflow": "ending", "input": "completed", "id": f"r{number}"}
                )
                started.update({f"r{number}"} if status in (200, 201) else set())
            else:
                status, _ = await line.post("/v1/webhooks/in", {"id": f"d{number}"})
                delivered.update({f"d{number}"} if status == 200 else set())
            statuses[status] += 1
        await line.stream.aclose()

    async with running(options=("--config", str(config))) as daemon:
        port = tcp_port(daemon.log)
        async with probed(port, "/health/ready") as probes:
            gate = trio.Event()
            with trio.fail_after(240):
                async with trio.open_nursery() as nursery:
                    for first in range(CONNECTIONS):
                        nursery.start_soon(burst, daemon, first, gate)
                    await refusing(daemon, gate, statuses)
        began = trio.current_time()
        line = Line(await connect(daemon.socket))
        with trio.fail_after(30):
            assert (await line.post("/v1/runs", {"workflow": "ending", "input": "completed", "id": "last"}))[0] == 201
        async with daemon.client() as client:
            assert (await client.get("/v1/runs/last/result?wait=25")).status_code == 200
            normal_s = trio.current_time() - began
        await line.stream.aclose()
        assert await daemon.stop() == 0
    assert set(statuses) <= {200, 201, 429, 503}, statuses
    assert statuses[503] + statuses[429] > 0, "this burst was none"
    assert set(probes.statuses) == {200}, probes.statuses
    assert probes.steady_p(0.99) < patience
    assert normal_s < NORMAL_AFTER_MAX_S
    with Reader.open(daemon.data_dir / "journal.db") as reader:
        assert [run_id for run_id in started if reader.run(run_id) is None] == []
        assert delivered - reader.delivered("webhook:in", sorted(delivered)) - _stored(reader) == set()
    figures(
        "P9",
        requests=wanted,
        acknowledged=len(started) + len(delivered),
        refused=statuses[503] + statuses[429],
        lost=0,
        ready_p99_ms=round(probes.steady_p(0.99) * 1_000),
        normal_after_s=round(normal_s, 2),
    )


def _stored(reader: Reader) -> set[str]:
    keys: set[str] = set()
    after = 0
    while True:
        page = reader.stored("in", after=after, limit=500)
        if page is None or not page.items:
            return keys
        keys.update(item.key for item in page.items)
        after = page.items[-1].seq


async def test_hostile_clients_stop_nothing(
    running: Any, short_dir: Path, scale: Callable[[int, int], int], figures: Any
) -> None:
    """P10: 200 slow connections, readers that stop, resets in the middle and mutated requests by the thousand on the
    real daemon: it does not end, meets no defect, and liveness is answered."""
    inputs, patience = scale(3_000, 300_000), patience_s()
    chance = random.Random(11)
    config = short_dir / "runtimed.toml"
    config.write_text(CONFIG)
    async with running(options=("--config", str(config), "--log-level", "warning")) as daemon:
        port = tcp_port_of(daemon)
        pid = daemon.pid
        async with probed(port, "/health") as probes, trio.open_nursery() as nursery:
            slow = [await _slow(daemon, port, at) for at in range(200)]
            stuck = [await _stuck(daemon) for _ in range(10)]
            async with trio.open_nursery() as attackers:
                for _ in range(10):
                    attackers.start_soon(_attack, daemon, port, chance, inputs // 10)
            nursery.cancel_scope.cancel()
        for stream in [*slow, *stuck]:
            await trio.aclose_forcefully(stream)
        async with daemon.client() as client:
            assert (await client.get("/health")).json() == {"status": "pass"}
        assert (daemon.process.poll(), daemon.pid) == (None, pid)
        assert await daemon.stop() == 0
    assert set(probes.statuses) == {200}, probes.statuses
    assert probes.steady_p(0.99) < patience
    log = daemon.log.read_text(encoding="utf-8", errors="replace")
    assert "defect" not in log, log[-3_000:]
    figures("P10", daemon_inputs=inputs, daemon_exits=0, live_p99_ms=round(probes.steady_p(0.99) * 1_000, 1))


def tcp_port_of(daemon: Daemon) -> int:
    """The TCP port of a daemon that logs warnings only, from the kernel's table of its sockets."""
    inodes = set()
    for link in Path(f"/proc/{daemon.pid}/fd").iterdir():
        try:
            inodes.add(link.readlink().name)
        except OSError:
            continue
    for line in Path(f"/proc/{daemon.pid}/net/tcp").read_text().splitlines()[1:]:
        parts = line.split()
        if parts[3] == "0A" and f"socket:[{parts[9]}]" in inodes:
            return int(parts[1].rpartition(":")[2], 16)
    raise AssertionError("it listens on no port")


async def _slow(daemon: Daemon, port: int, at: int) -> trio.SocketStream:
    stream = await trio.open_tcp_stream("127.0.0.1", port) if at % 2 else await connect(daemon.socket)
    body = b"POST /v1/runs HTTP/1.1\r\nHost: localhost\r\nContent-Length: 9\r\n\r\n{"
    await stream.send_all(body if at % 4 == 0 else b"GET /health HTTP/1.1\r\nHost:")
    return stream


async def _stuck(daemon: Daemon) -> trio.SocketStream:
    """A reader of the event stream that takes nothing."""
    stream = await connect(daemon.socket)
    stream.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4_096)
    await stream.send_all(b"GET /v1/events HTTP/1.1\r\nHost: localhost\r\n\r\n")
    return stream


async def _attack(daemon: Daemon, port: int, chance: random.Random, count: int) -> None:
    for _ in range(count):
        tcp = chance.random() < 0.5
        stream = await trio.open_tcp_stream("127.0.0.1", port) if tcp else await connect(daemon.socket)
        try:
            await stream.send_all(mutated(chance))
            if chance.random() < 0.5:
                await stream.send_eof()
                with trio.move_on_after(0.05):
                    while await stream.receive_some():
                        pass
            elif tcp:  # a reset in the middle
                stream.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        except (trio.BrokenResourceError, OSError):
            pass  # the daemon had enough of it
        await trio.aclose_forcefully(stream)
