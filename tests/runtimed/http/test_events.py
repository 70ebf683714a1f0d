"""The event stream: whole, in order, resumable, and ended by its client, by the drain, or by silence."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
import trio
from msgspec import Raw
from trio.testing import wait_all_tasks_blocked

from actors.messages import NOBODY
from runtimed.http.access import Access, Level
from tests.runtimed.http.conftest import PATIENCE_S, until
from wal.records import OutputEmitted, RunCompleted, RunStarted


def ask(query: str = "", *headers: str) -> bytes:
    lines = [f"GET /v1/events{query} HTTP/1.1", "Host: localhost", *headers]
    return "\r\n".join(lines).encode() + b"\r\n\r\n"


def start(rt: Any, count: int = 0) -> None:
    rt.record(RunStarted(id="r-1", workflow="w", input=Raw(b'"a\\nb"')), run_key=1)
    emit(rt, count)


def emit(rt: Any, count: int = 1) -> None:
    if count:
        rt.record(*(OutputEmitted("k", Raw(b"1")) for _ in range(count)), run_key=1)


def seqs(seen: bytes) -> list[int]:
    return [int(line[4:]) for line in seen.split(b"\n") if line.startswith(b"id: ")]


@pytest.mark.trio
async def test_stream_is_whole_and_in_order(serve: Any, rt: Any) -> None:
    """Every committed record is one event with its seq as id, its kind and its data; more come as they are durable."""
    start(rt, 1200)
    async with serve() as http:
        client = await http.client()
        await client.send(ask())
        seen = await client.until(b"id: 1201\n")
        head, _, _ = seen.partition(b"\r\n\r\n")
        assert b"content-type: text/event-stream" in head
        assert b"retry: 1000" in seen
        assert seqs(seen) == list(range(1, 1202))
        event = seen[seen.index(b"id: 1\n") : seen.index(b"id: 2\n")].split(b"\n")
        assert event[1] == b"event: run_started"
        data = msgspec.json.decode(event[2].removeprefix(b"data: "))
        assert (data["seq"], data["run_id"], data["data"]["input"]) == (1, "r-1", "a\nb")
        emit(rt, 2)
        assert seqs(await client.until(b"id: 1203\n")) == [1202, 1203]


@pytest.mark.trio
@pytest.mark.parametrize("resume", [("?after=3",), ("", "Last-Event-ID: 3"), ("?after=1", "Last-Event-ID: 3")])
async def test_stream_is_resumed(serve: Any, rt: Any, resume: tuple[str, ...]) -> None:
    """A stream goes on after a seq; what the client saw last counts more than its address."""
    start(rt, 4)
    async with serve() as http:
        client = await http.client()
        await client.send(ask(*resume))
        assert seqs(await client.until(b"id: 5\n")) == [4, 5]


@pytest.mark.trio
async def test_stream_from_now_leaves_out_the_past(serve: Any, rt: Any) -> None:
    """`after=now` begins with the next record."""
    start(rt, 4)
    async with serve() as http:
        client = await http.client()
        await client.send(ask("?after=now"))
        await client.until(b"retry")
        await wait_all_tasks_blocked()
        emit(rt)
        assert seqs(await client.until(b"id: 6\n")) == [6]


@pytest.mark.trio
@pytest.mark.parametrize("bad", [("?after=x",), ("?after=-1",), ("?after=99",), ("", "Last-Event-ID: x")])
async def test_bad_place_is_refused(serve: Any, rt: Any, bad: tuple[str, ...]) -> None:
    """A place that is no seq, or lies beyond the journal, is 400 and not a stream that never begins."""
    start(rt)
    async with serve() as http:
        client = await http.client()
        await client.send(ask(*bad))
        assert (await client.answer()).status == 400


@pytest.mark.trio
async def test_silence_is_broken_by_heartbeats(serve: Any, rt: Any, autojump_clock: Any) -> None:
    """When nothing happens, a comment comes every `heartbeat_s`, so that both ends know the other is there."""
    start(rt)
    async with serve(heartbeat_s=15.0) as http:
        client = await http.client()
        await client.send(ask())
        await client.until(b": heartbeat\n\n")
        assert trio.current_time() == pytest.approx(15.0, abs=0.5)
        await client.until(b": heartbeat\n\n")
        assert trio.current_time() == pytest.approx(30.0, abs=0.5)


@pytest.mark.trio
async def test_stream_ends_with_its_client(serve: Any, rt: Any) -> None:
    """A client that leaves is noticed at once, without waiting for something to send."""
    start(rt)
    async with serve() as http:
        client = await http.client()
        await client.send(ask())
        await client.until(b"id: 1\n")
        await client.stream.aclose()
        await wait_all_tasks_blocked()
        assert http.server.statistics().open_local == 0
        assert http.server.counts.crashed == 0


@pytest.mark.trio
async def test_stream_ends_properly_with_the_drain(serve: Any, rt: Any) -> None:
    """When the server drains, the stream gets its last chunk: the client knows that nothing was cut off."""
    start(rt)
    async with serve(drain_grace_s=600.0) as http:
        client = await http.client()
        await client.send(ask())
        seen = await client.until(b"id: 1\n")
        http.server.drain()
        with trio.fail_after(PATIENCE_S):
            assert (seen + await client.rest()).endswith(b"\r\n0\r\n\r\n")


@pytest.mark.trio
async def test_stream_ends_properly_with_the_runtime(serve: Any, rt: Any) -> None:
    """When the runtime stops before the server does, the stream ends; it does not ask again and again."""
    start(rt)
    async with serve() as http:
        client = await http.client()
        await client.send(ask())
        seen = await client.until(b"id: 1\n")
        rt.feed.close()
        with trio.fail_after(PATIENCE_S):
            await client.until(b"\r\n0\r\n\r\n", seen)


@pytest.mark.trio
async def test_slow_reader_holds_one_page(serve: Any, rt: Any, autojump_clock: Any) -> None:
    """A reader that takes nothing makes the server read no further, and is ended by the send timeout."""
    start(rt, 6000)
    reads = 0
    read = rt.read

    async def counted(query: Any) -> Any:
        nonlocal reads
        reads += 1
        return await read(query)

    rt.read = counted
    async with serve(send_timeout_s=5.0) as http:
        client = await http.client()
        await client.send(ask())
        await trio.sleep(4)
        assert reads < 12
        await trio.sleep(2)
        assert http.server.statistics().open_local == 0


@pytest.mark.trio
async def test_record_that_is_no_event_does_not_spin(serve: Any, rt: Any) -> None:
    """If the mark moves and the page is still empty, the stream waits for the next mark instead of asking again."""
    reads = 0

    async def nothing(query: Any) -> Any:
        nonlocal reads
        reads += 1
        assert reads < 10
        await trio.lowlevel.checkpoint()
        return b"", 0

    rt.read = nothing
    async with serve() as http:
        client = await http.client()
        await client.send(ask())
        await client.until(b"retry")
        rt.feed.move(5)
        await wait_all_tasks_blocked()
        assert reads <= 2


@pytest.mark.trio
async def test_streams_are_bounded_for_each_client_and_in_all(serve: Any, rt: Any) -> None:
    """One stream too many, of a client or of all, gets 429 with `Retry-After`; one that has ended makes room again."""
    _, text = rt.new_token("ci", "viewer")
    with_token = f"Authorization: Bearer {text}"
    async with serve(streams_max=3, streams_per_client_max=2) as http:
        ours = [await http.client() for _ in range(2)]
        for client in ours:
            await client.send(ask())
            await client.until(b"retry: 1000")
        refused = await http.ask("GET", "/v1/events")
        assert (refused.status, refused.json()["code"]) == (429, "too_many_streams")
        assert refused.headers["retry-after"] == "1"
        theirs = await http.client(tcp=True)
        await theirs.send(ask("", with_token))
        await theirs.until(b"retry: 1000")
        refused = await http.ask("GET", "/v1/events", headers=[("Authorization", f"Bearer {text}")])
        assert refused.status == 429
        await ours[0].stream.aclose()
        while http.edge.streams.total == 3:
            await wait_all_tasks_blocked()
        another = await http.client(tcp=True)
        await another.send(ask("", with_token))
        await another.until(b"retry: 1000")
        assert (await http.ask("HEAD", "/v1/events")).status == 429
    assert http.edge.streams.total == 0


@pytest.mark.trio
async def test_a_stream_ends_with_its_token(serve: Any, rt: Any) -> None:
    """A stream that was opened with a token ends when that is revoked, before another record is sent."""
    row, text = rt.new_token("ci", "viewer")
    async with serve() as http:
        client = await http.client(tcp=True)
        await client.send(ask("", f"Authorization: Bearer {text}"))
        await client.until(b"retry: 1000")
        start(rt, 1)
        await client.until(b"id: 2\n")
        await rt.revoke_token(row.id, reason=None, origin=NOBODY)
        emit(rt)
        with trio.fail_after(PATIENCE_S):
            assert seqs(await client.until(b"0\r\n\r\n")) == []
        await until(lambda: http.edge.streams.total == 0)


def giving(level: Level, monkeypatch: pytest.MonkeyPatch) -> Access:
    """What a reload leaves: everybody has this level."""
    access = Access()
    monkeypatch.setattr(access, "level", lambda peer: level)
    return access


@pytest.mark.trio
async def test_a_stream_ends_with_its_level(serve: Any, rt: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """A stream goes on as long as its caller has the level that it needs; when a reload takes that away, no other
    record is sent."""
    async with serve(options={"access": giving(Level.OPERATOR, monkeypatch)}) as http:
        client = await http.client()
        await client.send(ask())
        await client.until(b"retry: 1000")
        http.edge.access = giving(Level.VIEWER, monkeypatch)
        start(rt, 1)
        await client.until(b"id: 2\n")
        http.edge.access = giving(Level.PUBLIC, monkeypatch)
        emit(rt)
        with trio.fail_after(PATIENCE_S):
            assert seqs(await client.until(b"0\r\n\r\n")) == []
        await until(lambda: http.edge.streams.total == 0)


@pytest.mark.trio
@pytest.mark.parametrize("gone", ["level", "token"])
async def test_a_result_that_is_waited_for_needs_the_right_to_the_end(
    serve: Any, rt: Any, monkeypatch: pytest.MonkeyPatch, gone: str
) -> None:
    """Who lost level or token while it waited is told so, and not the result."""
    row, text = rt.new_token("ci", "viewer")
    start(rt)
    async with serve() as http:
        client = await http.client(tcp=gone == "token")
        shown = f"Authorization: Bearer {text}\r\n" if gone == "token" else ""
        await client.send(f"GET /v1/runs/r-1/result?wait=60 HTTP/1.1\r\nHost: localhost\r\n{shown}\r\n".encode())
        await until(lambda: rt.waiting == 1)
        if gone == "token":
            await rt.revoke_token(row.id, reason=None, origin=NOBODY)
        else:
            http.edge.access = giving(Level.PUBLIC, monkeypatch)
        rt.record(RunCompleted(result=Raw(b"7")), run_key=1)
        with trio.fail_after(PATIENCE_S):
            answer = await client.answer()
        assert (answer.status, answer.json()["code"]) == (403, "not_allowed")
