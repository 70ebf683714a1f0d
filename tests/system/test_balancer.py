"""Rolling restarts behind a balancer: no request fails, because readiness fails first (P11)."""

from __future__ import annotations

import os
import shutil
import signal
from collections import Counter
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path

import pytest
import trio

from tests.system.balancer import Balancer, haproxy, small_balancer
from tests.system.conftest import QUICK
from tests.system.daemon_process import Daemon

pytestmark = [pytest.mark.trio, pytest.mark.slow]

CLIENTS = 4
HAPROXY = shutil.which("haproxy") or shutil.which("haproxy", path="/usr/sbin")
Pair = tuple[Daemon, Daemon]


@asynccontextmanager
async def pair(folder: Path, drain_delay: float) -> AsyncIterator[Pair]:
    """Two daemons, each with a data folder of its own; both are ready."""
    options = ("--drain-delay", str(drain_delay), "--drain-timeout", "5")
    daemons = []
    for name in "ab":
        (folder / name).mkdir()
        daemons.append(Daemon(folder / name, app="daemon_flows:app", environ=QUICK, options=options))
    first, second = daemons
    try:
        for daemon in daemons:
            await daemon.start()
        yield first, second
    finally:
        with trio.CancelScope(shield=True):
            for daemon in daemons:
                await daemon.close()


class Load:
    """Clients that start runs through a balancer, one request a connection, without a pause and without a retry."""

    def __init__(self, port: int) -> None:
        self.port = port
        self.outcomes: Counter[str] = Counter()
        self.started: set[str] = set()
        self._moved = trio.Event()

    async def client(self) -> None:
        while True:
            run_id = f"r-{os.urandom(6).hex()}"
            body = b'{"workflow": "ending", "input": "completed", "id": "%s"}' % run_id.encode()
            outcome = await self._post(body)
            self.outcomes[outcome] += 1
            if outcome == "201":
                self.started.add(run_id)
            self._moved.set()

    async def _post(self, body: bytes) -> str:
        head = b"POST /v1/runs HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nConnection: close\r\n"
        try:
            async with await trio.open_tcp_stream("127.0.0.1", self.port) as stream:
                await stream.send_all(head + b"Content-Length: %d\r\n\r\n" % len(body) + body)
                answer = b"".join([chunk async for chunk in stream])
        except (OSError, trio.BrokenResourceError) as error:
            return type(error).__name__
        return answer[9:12].decode() or "closed"

    async def answers(self, count: int) -> None:
        """Wait until so many more requests have been answered."""
        wanted = self.outcomes.total() + count
        while self.outcomes.total() < wanted:
            self._moved = trio.Event()
            await self._moved.wait()


async def reachable(port: int) -> None:
    """Wait until the balancer answers with a daemon's answer."""
    load = Load(port)
    with trio.fail_after(30.0):
        while await load._post(b'{"workflow": "ending", "input": "completed"}') != "201":  # noqa: ASYNC110 - another process
            await trio.sleep(0.05)


async def is_sent_work(daemon: Daemon) -> None:
    """Wait until the balancer has seen that this one is back: it starts runs."""
    async with daemon.client() as client:
        with trio.fail_after(30.0):
            while "\nruntimed_runs_started_total 0.0" in (await client.get("/metrics")).text:  # noqa: ASYNC110 - another process
                await trio.sleep(0.05)


async def roll(daemons: Pair, balancer: Balancer, load: Load, rounds: int) -> None:
    """Restart one after the other, with traffic on both sides of each restart. The delay of the drain is as long as the
    balancer needs: how quickly it looks away on a busy machine is not what is tried."""
    for _ in range(rounds):
        for number, daemon in enumerate(daemons):
            daemon.send(signal.SIGTERM)
            await balancer.leaves(number)
            assert await daemon.stop() == 0
            await load.answers(20)
            await daemon.start()
            await is_sent_work(daemon)  # else the other one would be stopped while the balancer knows no third
            await load.answers(20)


async def restarted(pair_of: Pair, balancing: AbstractAsyncContextManager[Balancer], rounds: int) -> Load:
    """What became of all requests during rolling restarts."""
    async with balancing as balancer:
        await reachable(balancer.port)
        load = Load(balancer.port)
        async with trio.open_nursery() as nursery:
            for _ in range(CLIENTS):
                nursery.start_soon(load.client)
            await load.answers(40)
            await roll(pair_of, balancer, load, rounds)
            nursery.cancel_scope.cancel()
    return load


async def known_to(daemons: Pair) -> set[str]:
    """The ids of all runs that either daemon has."""
    found: set[str] = set()
    for daemon in daemons:
        async with daemon.client() as client:
            cursor = ""
            while True:
                page = (await client.get(f"/v1/runs?limit=500{cursor}")).json()
                found |= {run["id"] for run in page["items"]}
                if page["next"] is None:
                    break
                cursor = f"&cursor={page['next']}"
    return found


@pytest.mark.chaos
@pytest.mark.parametrize("kind", ["ours", "haproxy"])
async def test_no_request_fails_in_rolling_restarts(
    kind: str, short_dir: Path, scale: Callable[[int, int], int], figures: Callable[..., None]
) -> None:
    """Behind a balancer that obeys `/health/ready`, each of two daemons is restarted in turn under load: every request
    is answered with 201, and every run that was acknowledged is there."""
    if kind == "haproxy" and HAPROXY is None:
        pytest.skip("haproxy is not on this machine")
    rounds = scale(1, 25)
    async with pair(short_dir, drain_delay=600.0) as daemons:
        sockets = [daemon.socket for daemon in daemons]
        balancing = small_balancer(sockets) if kind == "ours" else haproxy(sockets, short_dir, str(HAPROXY))
        load = await restarted(daemons, balancing, rounds)
        failed = {outcome: count for outcome, count in load.outcomes.items() if outcome != "201"}
        seen = {"restarts": 2 * rounds, "requests": load.outcomes.total(), "failed": sum(failed.values())}
        figures("P11", **{f"{kind}_{name}": value for name, value in seen.items()})
        assert failed == {}
        assert load.started <= await known_to(daemons)


async def test_without_a_delay_requests_do_fail(short_dir: Path) -> None:
    """The negative control: a daemon that closes its listener at once is still sent requests by a balancer that has not
    looked again, and they fail."""
    async with pair(short_dir, drain_delay=0.0) as daemons:
        sockets = [daemon.socket for daemon in daemons]
        async with small_balancer(sockets, look_every_s=3_600.0) as balancer:
            await reachable(balancer.port)
            load = Load(balancer.port)
            async with trio.open_nursery() as nursery:
                for _ in range(CLIENTS):
                    nursery.start_soon(load.client)
                await load.answers(40)
                daemons[0].send(signal.SIGTERM)
                with trio.fail_after(30.0):
                    while set(load.outcomes) == {"201"}:
                        await load.answers(1)
                nursery.cancel_scope.cancel()
