"""The server against clients that are broken, slow, silent or hostile: real sockets, one promise a test."""

from __future__ import annotations

import inspect
import logging
import os
import socket
import stat
import statistics
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pytest
import trio
from hypercorn.config import Config
from hypercorn.protocol.h11 import H11Protocol
from hypercorn.protocol.http_stream import HTTPStream
from hypercorn.trio.tcp_server import TCPServer
from trio.testing import wait_all_tasks_blocked

from runtimed.http import connection, protocol
from runtimed.http.access import Level
from runtimed.http.app import ROUTES, Route
from runtimed.http.errors import BindFailed
from runtimed.http.replies import Reply
from runtimed.http.server import TURNING_AWAY_MAX, open_listeners, open_tcp_listeners, open_unix_listener
from runtimed.settings import Http
from tests.runtimed.http.conftest import PATIENCE_S, until

TRACEPARENT = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
GET = b"GET /health HTTP/1.1\r\nHost: localhost\r\n\r\n"


# --- what we stand on -------------------------------------------------------------------------------------------------


def test_what_is_overridden_exists_upstream() -> None:
    """Every method that our subclasses override is there in the pinned hypercorn, with the same parameters."""
    assert version("hypercorn").startswith("0.18.")
    overridden = {
        (TCPServer, connection.Connection): ["run", "protocol_send", "_read_data"],
        (H11Protocol, protocol.Http11): [
            "handle", "stream_send", "_check_protocol", "_create_stream", "_send_error_response",
            "_handle_events",
        ],
        (Config, protocol.EdgeConfig): ["response_headers"],
    }  # fmt: skip
    for (theirs, ours), names in overridden.items():
        for name in names:
            wanted = list(inspect.signature(getattr(theirs, name)).parameters)
            assert list(inspect.signature(getattr(ours, name)).parameters)[: len(wanted)] == wanted, (theirs, name)


def test_what_is_relied_on_exists_upstream() -> None:
    """What our subclasses call or read of hypercorn's private parts is there."""
    for name in ("_maybe_recycle", "_close_stream", "_send_h11_event"):
        assert inspect.iscoroutinefunction(getattr(H11Protocol, name))
    assert {"app_send", "handle"} <= set(dir(HTTPStream))
    source = inspect.getsource(HTTPStream)
    assert "self.task_group.spawn_app" in source
    assert "self.app_put(" in source
    assert "self.send_lock = trio.Lock()" in inspect.getsource(TCPServer.__init__)


# --- listeners --------------------------------------------------------------------------------------------------------


@pytest.mark.trio
async def test_socket_has_its_mode_and_replaces_a_stale_one(short_dir: Path) -> None:
    """The unix socket has exactly the mode asked for, and takes the place of one that a killed daemon left."""
    path = short_dir / "s.sock"
    for mode in (0o660, 0o600):
        listener = open_unix_listener(path, mode=mode)
        assert stat.S_IMODE(path.stat().st_mode) == mode
        assert os.listdir(short_dir) == ["s.sock"]
        await listener.aclose()
        assert path.exists()  # as after a kill


@pytest.mark.trio
async def test_socket_does_not_replace_a_file(short_dir: Path) -> None:
    """Something else than a socket at the socket's path is refused and left alone."""
    path = short_dir / "s.sock"
    path.write_text("mine")
    with pytest.raises(BindFailed, match="something else"):
        open_unix_listener(path)
    assert path.read_text() == "mine"


@pytest.mark.trio
async def test_bind_failures_name_the_address(short_dir: Path) -> None:
    """A socket without a folder, a path too long and an address in use are refused with a sentence."""
    with pytest.raises(BindFailed, match=r"none/s\.sock"):
        open_unix_listener(short_dir / "none" / "s.sock")
    with pytest.raises(BindFailed, match="too long"):
        open_unix_listener(short_dir / ("x" * 120))
    taken = await open_tcp_listeners("127.0.0.1", 0)
    port = taken[0].socket.getsockname()[1]
    with pytest.raises(BindFailed, match=f"127.0.0.1:{port}"):
        await open_tcp_listeners("127.0.0.1", port)
    await taken[0].aclose()


@pytest.mark.trio
async def test_settings_say_where_to_listen(short_dir: Path) -> None:
    """The socket's mode and the TCP address are those of the settings; without a bind there is no TCP."""
    path = short_dir / "s.sock"
    (local,) = await open_listeners(Http(socket_mode="0600"), path)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    await local.aclose()
    both = await open_listeners(Http(bind="127.0.0.1:0"), path)
    assert [listener.socket.family for listener in both] == [socket.AF_UNIX, socket.AF_INET]
    port = both[1].socket.getsockname()[1]
    with pytest.raises(BindFailed):
        await open_listeners(Http(bind=f"127.0.0.1:{port}"), short_dir / "other.sock")
    assert os.listdir(short_dir) == ["s.sock"]
    for listener in both:
        await listener.aclose()


# --- packets that killed it -------------------------------------------------------------------------------------------

WEBSOCKET = (
    b"GET /health HTTP/1.1\r\nHost: localhost\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
    b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n"
)
H2C = (
    b"GET /health HTTP/1.1\r\nHost: localhost\r\nConnection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\n"
    b"HTTP2-Settings: !!!!not-base64\r\n\r\n"
)
PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
HOSTILE = [
    pytest.param(WEBSOCKET + b"x", id="websocket upgrade with a trailing byte"),
    pytest.param(WEBSOCKET + b"\x81\xff\xff\xff", id="websocket upgrade with half a frame"),
    pytest.param(H2C, id="h2c upgrade with malformed settings"),
    pytest.param(H2C + b"x" * 100, id="h2c upgrade with more"),
    pytest.param(PREFACE, id="the preface of HTTP/2"),
    pytest.param(b"CONNECT evil:443 HTTP/1.1\r\nHost: evil\r\n\r\nxx", id="connect"),
    pytest.param(b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", id="the hello of TLS"),
    pytest.param(b"GET / HTTP/1.1\r\n\r\n", id="no host"),
    pytest.param(b"GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n", id="two hosts"),
    pytest.param(b"GET /%ff%zz%00 HTTP/1.1\r\nHost: localhost\r\n\r\n", id="a path that is not UTF-8"),
    pytest.param(b"GET http://evil/v1/runs HTTP/1.1\r\nHost: localhost\r\n\r\n", id="absolute form"),
    pytest.param(b"OPTIONS * HTTP/1.1\r\nHost: localhost\r\n\r\n", id="options of the server"),
    pytest.param(b"\r\n\r\n\r\n", id="empty lines"),
    pytest.param(b"GET /health HTTP/9.9\r\nHost: localhost\r\n\r\n", id="a version from the future"),
    pytest.param(b"GET /health HTTP/1.1\r\nHost: localhost\r\nX: \x00\r\n\r\n", id="a zero byte"),
    pytest.param(b"G\xc3\x89T / HTTP/1.1\r\nHost: localhost\r\n\r\n", id="a method beyond ASCII"),
    pytest.param(b"HEAD /health HTTP/3.0\r\nHost: localhost\r\n\r\n", id="HEAD in a version from the future"),
    pytest.param(
        b"POST /v1/runs HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n", id="bad chunk"
    ),
]


@pytest.mark.trio
@pytest.mark.parametrize("packet", HOSTILE)
@pytest.mark.parametrize("tcp", [False, True])
async def test_hostile_packet_harms_its_own_connection_only(
    serve: Any, packet: bytes, tcp: bool, caplog: pytest.LogCaptureFixture
) -> None:
    """A packet that kills hypercorn as shipped, or that is not HTTP/1.1, is answered or ended; nobody else notices."""
    async with serve(linger_s=0.05) as http:
        bystander = await http.client(tcp=tcp)
        client = await http.client(tcp=tcp)
        with trio.fail_after(PATIENCE_S):
            await client.send(packet)
            await client.stream.send_eof()
            await client.rest()
            assert (await bystander.ask("GET", "/health")).status == 200
        assert http.server.statistics().counts.crashed == 0
    assert not [record for record in caplog.records if record.levelno >= logging.ERROR]


@pytest.mark.trio
async def test_upgrades_are_ignored(serve: Any) -> None:
    """An upgrade is not taken: the request is answered as plain HTTP/1.1, and the connection goes on."""
    async with serve() as http:
        client = await http.client()
        await client.send(WEBSOCKET)
        assert (await client.answer()).json() == {"status": "pass"}
        assert (await client.ask("GET", "/health")).status == 200


@pytest.mark.trio
async def test_http2_is_refused(serve: Any) -> None:
    """The preface of HTTP/2 gets 505 as a problem document and the end of the connection."""
    async with serve(linger_s=0.05) as http:
        client = await http.client(tcp=True)
        await client.send(PREFACE)
        answer = await client.rest()
        assert answer.startswith(b"HTTP/1.1 505")
        assert b"application/problem+json" in answer


@pytest.mark.trio
@pytest.mark.parametrize(
    "head",
    [
        b"Content-Length: 4\r\nTransfer-Encoding: chunked\r\n",
        b"Transfer-Encoding: chunked\r\nContent-Length: 4\r\n",
        b"Content-Length: 4\r\nContent-Length: 5\r\n",
        b"Content-Length: 4, 5\r\n",
        b"Content-Length: -1\r\n",
        b"Content-Length: 0x4\r\n",
        b"Transfer-Encoding: chunked\r\nTransfer-Encoding: identity\r\n",
        b"Transfer-Encoding: xchunked\r\n",
        b"Transfer-Encoding : chunked\r\n",
        b"Content-Length: 4\r\n Transfer-Encoding: chunked\r\n",
        b"Content-Length: 4\r\nTransfer-Encoding:\r\n chunked\r\n",
        b"Content-Length: 4\r\nContent-Length : 5\r\n",
        b"Content-Length: +4\r\n",
        b"Content-Length: 4 4\r\n",
        b"Content-Length: 4\x00\r\n",
        b"Content-Length: 4_0\r\n",
        b"Content-Length: 99999999999999999999999\r\n",
        b"Content-Length: \xd9\xa4\r\n",
        b"Transfer-Encoding: chunked, chunked\r\n",
        b"Transfer-Encoding: gzip, chunked\r\n",
        b"Transfer-Encoding: chunked, identity\r\n",
        b"Transfer-Encoding: chunked;q=1\r\n",
        b"Transfer-Encoding:\x0bchunked\r\n",
        b'Transfer-Encoding: "chunked"\r\n',
        b"Transfer-Encoding: chunked\rX: y\r\n",
        b"X: y\rTransfer-Encoding: chunked\r\n",
        b"Transfer_Encoding: chunked\r\nTransfer-Encoding: x\r\n",
    ],
)
async def test_request_with_two_ends_is_refused(serve: Any, rt: Any, head: bytes) -> None:
    """A request whose end proxies may see elsewhere (smuggling) is refused and its connection closed."""
    smuggled = b"0\r\n\r\nPOST /v1/runs HTTP/1.1\r\nHost: localhost\r\nContent-Length: 16\r\n\r\n" + b'{"workflow":"x"}'
    async with serve(linger_s=0.05) as http:
        client = await http.client()
        await client.send(b"POST /v1/runs HTTP/1.1\r\nHost: localhost\r\n" + head + b"\r\n" + smuggled)
        with trio.fail_after(PATIENCE_S):
            answers = await client.rest()
        assert answers.count(b"HTTP/1.1 ") == 1
        assert answers.startswith((b"HTTP/1.1 400", b"HTTP/1.1 501"))
        assert rt.asked == []


@pytest.mark.trio
@pytest.mark.parametrize(
    "chunks",
    [
        b"-1\r\n",
        b"+2\r\n{}\r\n0\r\n\r\n",
        b"0x2\r\n{}\r\n0\r\n\r\n",
        b"2_0\r\n{}\r\n0\r\n\r\n",
        b"\r\n2\r\n{}\r\n0\r\n\r\n",
        b"2\r\n{}XX0\r\n\r\n",
        b"2\r\n{}\n0\r\n\r\n",
        b"f" * 21 + b"\r\n{}",
    ],
)
async def test_body_in_bad_chunks_is_refused(serve: Any, rt: Any, chunks: bytes) -> None:
    """Chunks whose sizes are read differently by different programs end the request with 400 and its connection; what
    stands behind them is no second request."""
    head = b"POST /v1/runs HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n"
    behind = b"POST /v1/runs HTTP/1.1\r\nHost: localhost\r\nContent-Length: 16\r\n\r\n" + b'{"workflow":"x"}'
    async with serve(linger_s=0.05) as http:
        client = await http.client()
        await client.send(head + chunks + behind)
        with trio.fail_after(PATIENCE_S):
            answers = await client.rest()
        assert answers.count(b"HTTP/1.1 ") <= 1
        assert answers.startswith(b"HTTP/1.1 4") or answers == b""
        assert rt.asked == []


@pytest.mark.trio
async def test_huge_chunk_is_bounded_by_time_and_size(serve: Any, rt: Any, autojump_clock: Any) -> None:
    """A chunk that announces 2**64 bytes holds memory for what came, and ends with the body's deadline."""
    async with serve(body_timeout_s=3.0) as http:
        client = await http.client()
        head = b"POST /v1/runs HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n"
        await client.send(head + b"ffffffffffffffff\r\n{}")
        assert (await client.answer("POST")).status == 408
        assert (http.edge.bodies.held_bytes, rt.asked) == (0, [])


@pytest.mark.trio
@pytest.mark.parametrize("target", [b"http://evil/v1/runs", b"http://localhost/v1/runs", b"//evil/v1/runs", b"*"])
async def test_other_forms_of_a_target_are_no_route(serve: Any, rt: Any, target: bytes) -> None:
    """A target that is not a path names none of our routes: we are no proxy, and nothing is asked."""
    async with serve() as http:
        client = await http.client()
        body = b'{"workflow":"x"}'
        await client.send(b"POST %s HTTP/1.1\r\nHost: localhost\r\nContent-Length: 16\r\n\r\n%s" % (target, body))
        assert (await client.answer("POST")).status == 404
        assert rt.asked == []


# --- slow and silent clients ------------------------------------------------------------------------------------------


@pytest.mark.trio
async def test_slow_head_is_ended(serve: Any, autojump_clock: Any) -> None:
    """A head that is dripped is answered 408 when `header_timeout_s` is over, however often a byte comes."""
    async with serve(header_timeout_s=2.0) as http:
        client = await http.client()
        began = trio.current_time()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(_drip, client, b"GET /health HTTP/1.1\r\nHost: localhost\r\nX: " + b"a" * 100)
            answer = await client.rest()
            assert answer.startswith(b"HTTP/1.1 408")
            assert trio.current_time() - began == pytest.approx(2.0, abs=0.5)
            nursery.cancel_scope.cancel()


@pytest.mark.trio
async def test_silent_connection_is_ended(serve: Any, autojump_clock: Any) -> None:
    """A connection that never says anything is closed after `header_timeout_s`, without an answer."""
    async with serve(header_timeout_s=2.0) as http:
        client = await http.client()
        assert await client.rest() == b""
        assert trio.current_time() == pytest.approx(2.0, abs=0.5)


@pytest.mark.trio
async def test_idle_connection_is_kept_and_then_ended(serve: Any, autojump_clock: Any) -> None:
    """Between requests a connection may be idle for longer than a head may take, up to `keep_alive_timeout_s`."""
    async with serve(header_timeout_s=2.0, keep_alive_timeout_s=20.0) as http:
        client = await http.client()
        assert (await client.ask("GET", "/health")).status == 200
        await trio.sleep(15)
        assert (await client.ask("GET", "/health")).status == 200
        assert await client.rest() == b""
        assert trio.current_time() == pytest.approx(35.0, abs=0.5)


@pytest.mark.trio
async def test_dripped_body_is_ended(serve: Any, autojump_clock: Any, rt: Any) -> None:
    """A body that is dripped is answered 408 when `body_timeout_s` is over; nothing was asked of the runtime."""
    async with serve(body_timeout_s=3.0) as http:
        client = await http.client()
        await client.send(b"POST /v1/runs HTTP/1.1\r\nHost: localhost\r\nContent-Length: 100\r\n\r\n")
        async with trio.open_nursery() as nursery:
            nursery.start_soon(_drip, client, b'{"workflow":' + b" " * 100)
            answer = await client.answer("POST")
            assert (answer.status, answer.json()["code"]) == (408, "body_too_slow")
            assert answer.headers["connection"] == "close"
            assert trio.current_time() == pytest.approx(3.0, abs=0.5)
            nursery.cancel_scope.cancel()
        assert rt.asked == []


async def _drip(client: Any, data: bytes) -> None:
    for at in range(len(data)):
        try:
            await client.send(data[at : at + 1])
        except trio.BrokenResourceError:
            return
        await trio.sleep(0.5)


@pytest.mark.trio
@pytest.mark.slow
async def test_liveness_answers_beside_200_slow_connections(serve: Any) -> None:
    """With 200 slow heads and 50 slow bodies open, every probe is answered, half of them within 100 ms."""
    waits = []
    async with serve() as http:
        for at in range(250):
            client = await http.client(tcp=at % 2 == 0)
            slow_body = b"POST /v1/runs HTTP/1.1\r\nHost: localhost\r\nContent-Length: 9\r\n\r\n{"
            await client.send(slow_body if at % 5 == 1 else b"GET /health HTTP/1.1\r\nHost:")
        for _ in range(20):
            began = trio.current_time()
            with trio.fail_after(PATIENCE_S):
                assert (await http.ask("GET", "/health", tcp=True)).status == 200
            waits.append(trio.current_time() - began)
    assert statistics.median(waits) < 0.1


def _flood_route(chunks: int) -> Route:
    class Flood:
        status = 200

        async def send(self, send: Any, traceparent: bytes) -> None:
            await send({"type": "http.response.start", "status": 200, "headers": []})
            for _ in range(chunks):
                await send({"type": "http.response.body", "body": b"x" * 65_536, "more_body": True})
            await send({"type": "http.response.body", "body": b""})

    async def flood(rt: Any, request: Any) -> Any:
        return Flood()

    return Route("GET", "/flood", flood, Level.PUBLIC, {})


@pytest.mark.trio
async def test_client_that_does_not_read_is_ended(serve: Any, autojump_clock: Any) -> None:
    """A client that takes nothing of its answer is dropped when one send took longer than `send_timeout_s`."""
    async with serve(routes=[*ROUTES, _flood_route(1000)], send_timeout_s=5.0) as http:
        client = await http.client()
        await client.send(b"GET /flood HTTP/1.1\r\nHost: localhost\r\n\r\n")
        await trio.sleep(4.5)
        assert http.server.statistics().open_local == 1
        await trio.sleep(1)
        assert (http.server.statistics().open_local, http.server.counts.send_timeouts) == (0, 1)


@pytest.mark.trio
async def test_drain_ends_with_a_client_that_does_not_read(serve: Any, autojump_clock: Any) -> None:
    """A stalled reader is gone about a second after the drain began, whatever its send timeout."""
    async with serve(routes=[*ROUTES, _flood_route(1000)], send_timeout_s=600.0) as http:
        client = await http.client()
        await client.send(b"GET /flood HTTP/1.1\r\nHost: localhost\r\n\r\n")
        await trio.sleep(1)
        http.server.drain()
        await trio.sleep(0.9)
        assert http.server.statistics().open_local == 1
        await trio.sleep(0.2)
        assert http.server.statistics().open_local == 0


@pytest.mark.trio
async def test_drain_finishes_requests_and_closes_idle_connections(serve: Any, rt: Any) -> None:
    """When the server drains, idle connections end at once, a request in hand is answered with `Connection: close`."""
    release = trio.Event()
    begun = trio.Event()

    async def slowly(rt: Any, request: Any) -> Reply:
        begun.set()
        await release.wait()
        return Reply(200, b"{}")

    routes = [*ROUTES, Route("GET", "/slowly", slowly, Level.PUBLIC, {})]
    async with serve(routes=routes, drain_grace_s=600.0) as http:
        idle, busy = await http.client(), await http.client()
        assert (await idle.ask("GET", "/health")).status == 200
        await busy.send(b"GET /slowly HTTP/1.1\r\nHost: localhost\r\n\r\n")
        await begun.wait()
        http.server.drain()
        with trio.fail_after(PATIENCE_S):
            assert await idle.rest() == b""
            release.set()
            answer = await busy.answer()
            assert (answer.status, answer.headers["connection"]) == (200, "close")
            assert await busy.rest() == b""
        with pytest.raises(OSError, match="refused"):
            await http.client()


# --- bounds -----------------------------------------------------------------------------------------------------------


@pytest.mark.trio
async def test_one_connection_too_many_is_told_so(serve: Any) -> None:
    """Beyond the cap a connection gets 503 with Retry-After; one that ends makes room; each listener has its cap."""
    async with serve(connections_max=3) as http:
        held = [await http.client(tcp=True) for _ in range(3)]
        for client in held:
            assert (await client.ask("GET", "/health")).status == 200
        answer = await (await http.client(tcp=True)).answer()
        assert (answer.status, answer.headers["retry-after"], answer.json()["code"]) == (503, "1", "overloaded")
        assert (await http.ask("GET", "/health")).status == 200  # the unix socket has a cap of its own
        await held[0].stream.aclose()
        await until(lambda: http.server.statistics().open_tcp == 2)
        assert (await http.ask("GET", "/health", tcp=True)).status == 200
        assert http.server.statistics().counts.refused == 1


@pytest.mark.trio
async def test_flood_of_connections_costs_little(serve: Any) -> None:
    """Beyond the cap only a bounded number are told; the others are closed at once, and the server answers on."""
    async with serve(connections_max=1, linger_s=600.0) as http:
        held = await http.client(tcp=True)
        assert (await held.ask("GET", "/health")).status == 200
        flood = [await http.client(tcp=True) for _ in range(TURNING_AWAY_MAX + 10)]
        await wait_all_tasks_blocked()
        for client in flood[-10:]:
            assert await client.rest() == b""
        assert (await flood[0].answer()).status == 503
        assert (await held.ask("GET", "/health")).status == 200


@pytest.mark.trio
@pytest.mark.parametrize("end", [b"", b"\r\n\r\n"], ids=["endless", "whole"])
@pytest.mark.parametrize("line", [b"X: " + b"a" * 10_000, b"a:b\r\n" * 1_000 + b"a: b"], ids=["long", "many"])
async def test_large_head_is_refused(serve: Any, line: bytes, end: bytes) -> None:
    """A head beyond `head_max_bytes` gets 431 as a problem document, also one that came in one piece."""
    async with serve(head_max_bytes=4096, linger_s=0.05) as http:
        client = await http.client()
        await client.send(b"GET /health HTTP/1.1\r\nHost: localhost\r\n" + line + end)
        answer = await client.rest()
        assert answer.startswith(b"HTTP/1.1 431")
        assert b"head_too_large" in answer


@pytest.mark.trio
async def test_pipelined_requests_are_answered_in_order(serve: Any, rt: Any) -> None:
    """Requests sent in one packet without waiting are answered one after the other, in order."""
    async with serve() as http:
        client = await http.client()
        requests = b""
        for name in ("a", "b", "c"):
            body = b'{"workflow":"w","id":"%s"}' % name.encode()
            requests += b"POST /v1/runs HTTP/1.1\r\nHost: localhost\r\nContent-Length: %d\r\n\r\n" % len(body) + body
        await client.send(requests + GET)
        with trio.fail_after(PATIENCE_S):
            assert [(await client.answer("POST")).json()["id"] for _ in range(3)] == ["a", "b", "c"]
            assert (await client.answer()).json() == {"status": "pass"}


@pytest.mark.trio
async def test_pipelined_rest_after_the_last_answer_ends(serve: Any, autojump_clock: Any) -> None:
    """A client that pipelines more after `Connection: close` gets one answer and the end, not a stuck connection."""
    async with serve(linger_s=1.0) as http:
        client = await http.client()
        await client.send(b"GET /health HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n" + GET * 3)
        with trio.fail_after(PATIENCE_S):
            assert (await client.rest()).count(b"HTTP/1.1 200") == 1
        await trio.sleep(1.1)
        assert http.server.statistics().open_local == 0


@pytest.mark.trio
async def test_handler_goes_on_when_its_client_leaves(serve: Any, rt: Any) -> None:
    """A client that leaves in the middle of a request does not undo it half-way: the handler runs to its end."""
    begun, finished, release = trio.Event(), trio.Event(), trio.Event()

    async def work(rt: Any, request: Any) -> Reply:
        begun.set()
        await release.wait()
        finished.set()
        return Reply(200, b"{}")

    async with serve(routes=[*ROUTES, Route("GET", "/work", work, Level.PUBLIC, {})]) as http:
        client = await http.client()
        await client.send(b"GET /work HTTP/1.1\r\nHost: localhost\r\n\r\n")
        await begun.wait()
        await client.stream.aclose()
        await wait_all_tasks_blocked()
        release.set()
        with trio.fail_after(PATIENCE_S):
            await finished.wait()


@pytest.mark.trio
async def test_client_that_leaves_in_its_body_asks_nothing(serve: Any, rt: Any) -> None:
    """Half a body is no request: the runtime is not asked, and the connection is given free."""
    async with serve() as http:
        client = await http.client()
        await client.send(b'POST /v1/runs HTTP/1.1\r\nHost: localhost\r\nContent-Length: 100\r\n\r\n{"workflow":"w"}')
        await wait_all_tasks_blocked()
        await client.stream.aclose()
        await wait_all_tasks_blocked()
        assert http.server.statistics().open_local == 0
        assert rt.asked == []
        assert http.server.counts.crashed == 0


@pytest.mark.trio
async def test_defect_in_a_handler_is_told_without_insides(serve: Any, caplog: pytest.LogCaptureFixture) -> None:
    """An unexpected exception is 500 without its text, logged with its traceback, and the connection goes on."""

    async def broken(rt: Any, request: Any) -> Reply:
        raise KeyError("a secret")

    async with serve(routes=[*ROUTES, Route("GET", "/broken", broken, Level.PUBLIC, {})]) as http:
        client = await http.client()
        answer = await client.ask("GET", "/broken", headers=[("traceparent", TRACEPARENT)])
        assert (answer.status, answer.json()["code"]) == (500, "internal")
        assert b"secret" not in answer.body
        assert (await client.ask("GET", "/health")).status == 200
    assert "a secret" in caplog.text
    assert caplog.records[0].trace_id == TRACEPARENT[3:35]
