"""Bodies: their size, their type, and what is told about them."""

from __future__ import annotations

from typing import Any

import pytest
import trio
from trio.testing import wait_all_tasks_blocked

from runtimed.http.errors import UnsupportedMediaType
from runtimed.http.limits import Bodies, EdgeLimits, check_json
from runtimed.http.protocol import RequestPipe
from runtimed.settings import Http

HEAD = b"POST /v1/runs HTTP/1.1\r\nHost: localhost\r\n"


def test_limits_come_from_the_settings() -> None:
    """What `[http]` says is what the edge holds to."""
    http = Http(max_connections=7, body_max_bytes=2048, header_timeout=1.0, body_timeout=2.0, send_timeout=3.0)
    limits = EdgeLimits.from_settings(http, batch_items_max=5)
    assert (limits.connections_max, limits.body_max_bytes, limits.batch_items_max) == (7, 2048, 5)
    assert (limits.header_timeout_s, limits.body_timeout_s, limits.send_timeout_s) == (1.0, 2.0, 3.0)


@pytest.mark.trio
async def test_large_body_is_refused_by_its_length(serve: Any, rt: Any) -> None:
    """A Content-Length beyond the cap gets 413 before the body is read; the answer survives what is still sent."""
    async with serve(body_max_bytes=1024, linger_s=600.0) as http:
        client = await http.client(tcp=False)
        await client.send(HEAD + b"Content-Length: 3000000\r\n\r\n")
        async with trio.open_nursery() as nursery:
            nursery.start_soon(client.send, b"x" * 3_000_000)
            answer = await client.answer("POST")
        assert (answer.status, answer.json()["code"]) == (413, "body_too_large")
        assert answer.headers["connection"] == "close"
        assert rt.asked == []


@pytest.mark.trio
async def test_large_chunked_body_is_refused_on_its_way(serve: Any, rt: Any) -> None:
    """A chunked body gets 413 as soon as it is beyond the cap, without an end in sight."""
    async with serve(body_max_bytes=100_000, linger_s=600.0) as http:
        client = await http.client()

        async def send_for_ever() -> None:
            await client.send(HEAD + b"Transfer-Encoding: chunked\r\n\r\n")
            chunk = b"2000\r\n" + b"x" * 0x2000 + b"\r\n"
            while True:
                await client.send(chunk)

        async with trio.open_nursery() as nursery:
            nursery.start_soon(send_for_ever)
            answer = await client.answer("POST")
            nursery.cancel_scope.cancel()
        assert (answer.status, answer.json()["code"]) == (413, "body_too_large")
        assert rt.asked == []


@pytest.mark.trio
async def test_chunked_body_is_taken(serve: Any, rt: Any) -> None:
    """A chunked body, cut anywhere, is a body."""
    async with serve() as http:
        client = await http.client()
        await client.send(HEAD + b"Transfer-Encoding: chunked\r\n\r\n")
        for part in (b'{"work', b'flow":"w","inp', b'ut":[1]}'):
            await client.send(b"%x\r\n" % len(part) + part + b"\r\n")
            await wait_all_tasks_blocked()
        await client.send(b"0\r\n\r\n")
        assert (await client.answer("POST")).status == 201
        assert bytes(rt.asked[0].items[0].input) == b"[1]"


@pytest.mark.trio
async def test_continue_is_said(serve: Any, rt: Any) -> None:
    """A client that waits for `100 Continue` is told to go on."""
    async with serve() as http:
        client = await http.client()
        await client.send(HEAD + b"Expect: 100-continue\r\nContent-Length: 16\r\n\r\n")
        seen = await client.until(b"\r\n\r\n")
        assert seen.startswith(b"HTTP/1.1 100")
        await client.send(b'{"workflow":"w"}')
        assert (await client.answer("POST")).status == 201


@pytest.mark.trio
async def test_bodies_together_are_bounded(serve: Any) -> None:
    """When the bodies being received are more than may be held, the next one gets 503, and later one is taken again."""
    async with serve(bodies_max_bytes=1000, linger_s=0.01) as http:
        slow = await http.client()
        await slow.send(HEAD + b"Content-Length: 950\r\n\r\n" + b" " * 940)
        await wait_all_tasks_blocked()
        other = await http.client()
        await other.send(HEAD + b"Content-Length: 200\r\n\r\n" + b" " * 100)
        answer = await other.answer("POST")
        assert (answer.status, answer.headers["retry-after"]) == (503, "1")
        await slow.stream.aclose()
        await wait_all_tasks_blocked()
        assert http.edge.bodies.held_bytes == 0
        assert (await http.ask("POST", "/v1/runs", {"workflow": "w"})).status == 201


@pytest.mark.parametrize(
    "kind",
    [None, b"application/json", b"application/json; charset=utf-8", b"Application/JSON;charset=UTF-8",
     b'application/json; charset="utf-8"', b"application/vnd.shop+json"],
)  # fmt: skip
def test_json_is_taken(kind: bytes | None) -> None:
    """JSON in UTF-8 is taken, however it is written, and what has no type is taken to be it."""
    check_json(kind)


@pytest.mark.parametrize(
    "kind",
    [b"text/plain", b"application/x-www-form-urlencoded", b"multipart/form-data; boundary=x", b"text/json",
     b"application/json; charset=latin-1", b"application/jsonx", b"", b"json"],
)  # fmt: skip
def test_other_types_are_refused(kind: bytes) -> None:
    """What a web form can send, and JSON in another encoding, is refused."""
    with pytest.raises(UnsupportedMediaType, match="JSON in UTF-8"):
        check_json(kind)


@pytest.mark.trio
async def test_form_gets_415(serve: Any, rt: Any) -> None:
    """A form's body gets 415 with what to send instead."""
    async with serve() as http:
        headers = [("Content-Type", "application/x-www-form-urlencoded")]
        answer = await http.ask("POST", "/v1/runs", raw=b"workflow=w", headers=headers)
        assert (answer.status, answer.json()["code"]) == (415, "unsupported_media_type")
        assert "application/json" in answer.json()["hint"]
        assert rt.asked == []


@pytest.mark.trio
async def test_pipe_holds_no_more_than_its_bound() -> None:
    """What the handler does not take waits in the socket, not in memory."""
    pipe = RequestPipe(10)
    await pipe.put({"type": "http.request", "body": b"x" * 8, "more_body": True})
    async with trio.open_nursery() as nursery:
        nursery.start_soon(pipe.put, {"type": "http.request", "body": b"y" * 8, "more_body": True})
        await wait_all_tasks_blocked()
        assert nursery.child_tasks
        assert (await pipe.receive())["body"] == b"x" * 8
    assert (await pipe.receive())["body"] == b"y" * 8


@pytest.mark.trio
async def test_pipe_lets_nobody_wait_when_its_handler_has_ended() -> None:
    """A handler that ends without reading its body does not leave the reader stuck."""
    pipe = RequestPipe(10)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(pipe.put, {"type": "http.request", "body": b"x" * 80, "more_body": True})
        await wait_all_tasks_blocked()
        pipe.close()
    await pipe.put({"type": "http.disconnect"})


@pytest.mark.trio
async def test_body_of_one_part_is_not_copied() -> None:
    """The usual small body goes through as it was read."""
    body = b'{"workflow":"w"}'
    pipe = RequestPipe(100)
    await pipe.put({"type": "http.request", "body": body, "more_body": True})
    await pipe.put({"type": "http.request", "body": b"", "more_body": False})
    assert await Bodies(EdgeLimits()).read(pipe.receive, len(body)) is body
