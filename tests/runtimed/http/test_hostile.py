"""P10: hostile clients cannot stop the server. Mutated requests by the thousand, beside slow connections."""

from __future__ import annotations

import logging
import random
from collections.abc import Callable
from typing import Any

import pytest
import trio

from actors.messages import Accepted, DeleteState, PutState, SignalRun, StateReply
from wal.views import StateView

SEEDS = [
    b"GET /health HTTP/1.1\r\nHost: localhost\r\n\r\n",
    b"GET /v1/runs?status=running&limit=5&attr.a=b HTTP/1.1\r\nHost: localhost\r\nAccept: */*\r\n\r\n",
    b'POST /v1/runs HTTP/1.1\r\nHost: localhost\r\nContent-Length: 27\r\n\r\n{"workflow":"w","input":{}}',
    b"POST /v1/runs HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\nContent-Type: application/json\r\n\r\n"
    b'10\r\n{"workflow":"w"}\r\n0\r\n\r\n',
    b"POST /v1/runs/r-1/signal HTTP/1.1\r\nHost: localhost\r\nIdempotency-Key: k\r\nContent-Length: 2\r\n\r\n{}",
    b"PUT /v1/state/global/k HTTP/1.1\r\nHost: localhost\r\nIf-Match: 3\r\nContent-Length: 11\r\n\r\n" + b'{"value":1}',
    b"GET /v1/events?after=now HTTP/1.1\r\nHost: localhost\r\nLast-Event-ID: 0\r\n\r\n",
    b"GET /health HTTP/1.1\r\nHost: localhost\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
    b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\nx",
    b"GET /health HTTP/1.1\r\nHost: localhost\r\nConnection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\n"
    b"HTTP2-Settings: AAMAAABkAAQAAP__\r\n\r\n",
    b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    b"OPTIONS * HTTP/1.1\r\nHost: localhost\r\nExpect: 100-continue\r\nContent-Length: 3\r\n\r\nabc",
    b"HEAD /metrics HTTP/1.0\r\n\r\n",
]
TOKENS = [
    b"\r\n", b"\n", b"\r", b"\x00", b" ", b"\t", b":", b"Content-Length: 5\r\n", b"Transfer-Encoding: chunked\r\n",
    b"Upgrade: websocket\r\n", b"Upgrade: h2c\r\n", b"Connection: close\r\n", b"Expect: 100-continue\r\n", b"HTTP/2.0",
    b"HTTP/1.0", b"Host: x\r\n", b"\xff", b"%00", b"%ff", b"../", b"{", b"[" * 50, b'"', b"0\r\n\r\n", b"-1",
    b"99999999999999999999", b"traceparent: x\r\n", b"Origin: null\r\n",
]  # fmt: skip


def mutated(chance: random.Random) -> bytes:
    """One of the seeds, or two in a row, changed in some places."""
    data = bytearray(b"".join(chance.choices(SEEDS, k=chance.choice((1, 1, 1, 2)))))
    for _ in range(chance.randint(0, 6)):
        at = chance.randrange(len(data) + 1)
        match chance.randrange(5):
            case 0:
                data[at:at] = chance.choice(TOKENS)
            case 1:
                del data[at : at + chance.randint(1, 20)]
            case 2:
                data[at : at + 1] = bytes([chance.randrange(256)])
            case 3:
                data[at:at] = data[chance.randrange(len(data) + 1) :][: chance.randint(1, 40)]
            case 4:
                data[at:] = b""
    return bytes(data)


@pytest.mark.trio
@pytest.mark.slow
@pytest.mark.chaos
async def test_mutated_requests_stop_nothing(
    serve: Any, rt: Any, scale: Callable[[int, int], int], figures: Any, caplog: pytest.LogCaptureFixture
) -> None:
    """P10: no mutated request makes the server end or meet a defect, and liveness answers all the while."""
    caplog.set_level(logging.WARNING)
    rt.replies[SignalRun] = lambda command: Accepted(seq=1, id=command.run_id)
    rt.replies[DeleteState] = lambda command: Accepted(seq=1, id=command.key)
    rt.replies[PutState] = lambda c: StateReply(state=StateView(c.scope, c.key, c.value, 1))
    inputs = scale(20_000, 1_000_000)
    chance = random.Random(10)  # the same inputs at each run
    slowest_s = 0.0

    async def attack(http: Any, count: int) -> None:
        for _ in range(count):
            client = await http.client(tcp=chance.random() < 0.3)
            try:
                await client.send(mutated(chance))
                if chance.random() < 0.5:
                    await client.stream.send_eof()
                    with trio.move_on_after(0.2):  # a stream that another request waits behind goes on
                        await client.rest()
            except trio.BrokenResourceError:
                pass  # the server had enough of it
            await trio.aclose_forcefully(client.stream)
            http.forget(client)

    async with serve(linger_s=0.02, header_timeout_s=30.0, connections_max=1_000) as http:
        for at in range(200):
            await (await http.client(tcp=at % 2 == 0)).send(b"GET /health HTTP/1.1\r\nHost:")
        async with trio.open_nursery() as nursery:
            for _ in range(20):
                nursery.start_soon(attack, http, inputs // 20)
            probes = 0
            while len(nursery.child_tasks) > 0:
                began = trio.current_time()
                assert (await http.ask("GET", "/health", tcp=True)).status == 200
                slowest_s = max(slowest_s, trio.current_time() - began)
                probes += 1
                await trio.sleep(0.05)
        counts = http.server.statistics().counts
        assert counts.crashed == 0
        assert (await http.ask("POST", "/v1/runs", {"workflow": "w"})).status == 201
    assert not [record for record in caplog.records if record.levelno >= logging.ERROR and "defect" in record.message]
    figures("P10", inputs=inputs, crashed=counts.crashed, probes=probes, slowest_probe_ms=round(slowest_s * 1000))
