"""P9 and P2 for webhooks: a burst far over the limit, and `kill -9` in the middle of one. None acknowledged is lost."""

from __future__ import annotations

import hashlib
import hmac
import socket
from collections import Counter
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import msgspec
import pytest
import trio

from runtimed.secret_store import SecretStore
from tests.system.daemon_process import HERE, Daemon

SECRET = "hub-secret"
CONFIG = """
[limits]
mailbox_size = {mailbox}
[http]
max_connections = {connections}
[journal]
ballast_bytes = 0
[webhooks.hub]
verify = "github"
secrets = ["secret:hub"]
key = "id"
deliver = "workflow:on_event"
"""


def request(number: int) -> bytes:
    """A signed delivery as it goes over the wire."""
    body = b'{"id": %d}' % number
    signature = hmac.new(SECRET.encode(), body, hashlib.sha256).hexdigest()
    head = (
        "POST /v1/webhooks/hub HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
        f"Content-Length: {len(body)}\r\nX-Hub-Signature-256: sha256={signature}\r\n\r\n"
    )
    return head.encode() + body


class Answered(msgspec.Struct):
    """What became of each delivery: its status, and for a 2xx the answer."""

    statuses: dict[int, int]
    taken: dict[int, dict[str, int]]
    retry_after: int = 0


async def connect(path: Path) -> trio.SocketStream:
    sock = trio.socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        await sock.connect(str(path))
    except BaseException:
        sock.close()
        raise
    return trio.SocketStream(sock)


async def send(stream: trio.SocketStream, number: int, answered: Answered) -> None:
    """One delivery, and what it was answered. Raises EOFError, BrokenResourceError if the daemon dies."""
    await stream.send_all(request(number))
    data = b""
    while b"\r\n\r\n" not in data:
        data += await _more(stream)
    head, _, body = data.partition(b"\r\n\r\n")
    lines = head.decode().lower().split("\r\n")
    headers = dict(line.split(": ", 1) for line in lines[1:])
    while len(body) < int(headers["content-length"]):
        body += await _more(stream)
    status = int(lines[0].split(" ")[1])
    answered.statuses[number] = status
    if status == 200:
        answered.taken[number] = msgspec.json.decode(body)
    elif "retry-after" in headers:
        answered.retry_after += 1


async def _more(stream: trio.SocketStream) -> bytes:
    data = await stream.receive_some(65_536)
    if not data:
        raise EOFError
    return bytes(data)


async def burst(daemon: Daemon, numbers: list[int], clients: int, answered: Answered) -> None:
    """All of these by so many clients at once; ends early, quietly, if the daemon dies."""
    left = iter(numbers)

    async def client() -> None:
        try:
            async with await connect(daemon.socket) as stream:
                for number in left:
                    await send(stream, number, answered)
        except (OSError, EOFError, trio.BrokenResourceError):
            return

    async with trio.open_nursery() as nursery:
        for _ in range(clients):
            nursery.start_soon(client)


@asynccontextmanager
async def serving(folder: Path, mailbox: int, connections: int) -> AsyncIterator[Daemon]:
    config = folder / "runtimed.toml"
    config.write_text(CONFIG.format(mailbox=mailbox, connections=connections))
    daemon = Daemon(folder, app="webhook_flows:app", cwd=HERE, options=["--config", str(config)])
    SecretStore(daemon.data_dir, environ={}).set("hub", SECRET)
    try:
        await daemon.start()
        yield daemon
    finally:
        with trio.CancelScope(shield=True):
            await daemon.close()


async def runs_total(daemon: Daemon) -> int:
    async with daemon.client() as client:
        return int((await client.get("/v1/runs?workflow=on_event&limit=1")).json()["total"])


@pytest.mark.trio
@pytest.mark.slow
@pytest.mark.chaos
async def test_a_burst_over_the_limit_is_refused_and_not_suffered(
    short_dir: Path, scale: Callable[[int, int], int], figures: Callable[..., None]
) -> None:
    """P9: at ten times the mailbox's limit each delivery is taken or told to come again; what was acknowledged is on
    disk, what comes again is taken, and each key has one run in the end."""
    count, clients = scale(2_000, 10_000), scale(200, 1_000)
    async with serving(short_dir, mailbox=clients // 10, connections=clients + 20) as daemon:
        first = Answered({}, {})
        await burst(daemon, list(range(count)), clients, first)
        statuses = Counter(first.statuses.values())
        assert set(statuses) <= {200, 429, 503}
        assert sum(statuses.values()) == count
        refused = [number for number, status in first.statuses.items() if status != 200]
        assert first.retry_after == len(refused)
        assert await runs_total(daemon) == len(first.taken)
        second = Answered({}, {})
        for _ in range(50):
            left = [number for number in range(count) if number not in second.taken]
            if not left:
                break
            await burst(daemon, left, clients // 20, second)
        assert {n: each["repeated"] for n, each in second.taken.items()} == {n: n in first.taken for n in range(count)}
        lost = sum(second.taken[n]["seq"] != each["seq"] for n, each in first.taken.items())
        assert lost == 0
        assert await runs_total(daemon) == count
    figures("P9", webhooks=count, taken_at_once=len(first.taken), refused=len(refused), acknowledged_lost=lost)


@pytest.mark.trio
@pytest.mark.slow
@pytest.mark.chaos
async def test_killed_in_a_burst_nothing_acknowledged_is_lost(
    short_dir: Path, scale: Callable[[int, int], int], figures: Callable[..., None]
) -> None:
    """P2: `kill -9` in the middle of deliveries, again and again: what was acknowledged is there with its seq, and what
    was not is taken when its sender comes again; never two runs for one."""
    kills, per_life = scale(2, 20), 1_000
    acknowledged: dict[int, int] = {}
    async with serving(short_dir, mailbox=10_000, connections=200) as daemon:
        for life in range(kills):
            answered = Answered({}, {})
            numbers = list(range(life * per_life, (life + 1) * per_life))
            async with trio.open_nursery() as nursery:
                nursery.start_soon(burst, daemon, numbers, 40, answered)
                while len(answered.taken) < 100 + 200 * (life % 4):  # noqa: ASYNC110 - many tasks answer
                    await trio.sleep(0.005)
                await daemon.kill()
            acknowledged |= {number: each["seq"] for number, each in answered.taken.items()}
            await daemon.start()
        everything = Answered({}, {})
        await burst(daemon, list(range(kills * per_life)), 40, everything)
        lost = [n for n, seq in acknowledged.items() if everything.taken[n] != {"seq": seq, "repeated": True}]
        assert lost == []
        assert set(everything.statuses.values()) == {200}
        assert await runs_total(daemon) == kills * per_life
    figures("P2", webhook_kills=kills, webhooks_acknowledged=len(acknowledged), webhooks_lost=len(lost))
