"""The client: the same verbs on trio and asyncio, problems as exceptions, safe repeats, a feed that goes on."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import anyio
import anyio.lowlevel
import pytest
from anyio.abc import SocketAttribute
from msgspec import Raw

from actors import errors
from runtimed.client import Client, DaemonUnreachable, NewRun, TimedOut
from runtimed.client_errors import BadAnswer, from_problem
from wal.errors import RuntimedError

pytestmark = pytest.mark.anyio

RUN = {"id": "r1", "workflow": "checkout", "status": "running", "attributes": {}, "created": True}
BACKENDS = ["asyncio", "trio"]


@pytest.fixture(params=BACKENDS)
def anyio_backend(request: pytest.FixtureRequest) -> str:
    return str(request.param)


async def test_start_gives_a_handle_and_sends_what_was_said(fake: Any) -> None:
    """Start posts the run under an idempotency key and returns a handle with the run's view."""
    fake.on("POST", "/v1/runs", fake.Reply(201, RUN))
    async with Client(socket=fake.socket, traceparent="00-" + "1" * 32 + "-" + "2" * 16 + "-01") as client:
        handle = await client.start("checkout", {"cents": 5}, id="r1")

    (request,) = fake.requests
    assert (handle.id, handle.created) == ("r1", True)
    assert request.json == {"workflow": "checkout", "input": {"cents": 5}, "id": "r1"}
    assert len(request.headers["idempotency-key"]) == 32
    assert request.headers["traceparent"].startswith("00-111")
    assert request.headers["host"] == "localhost"


async def test_connections_are_kept(fake: Any) -> None:
    """Requests one after the other share one connection."""
    fake.on("GET", "/v1/runs/r1", fake.Reply(200, RUN))
    async with Client(socket=fake.socket) as client:
        for _ in range(5):
            assert await client.status("r1") == "running"

    assert (len(fake.requests), fake.connections) == (5, 1)


@pytest.mark.parametrize("broken", [(0, False), (200, True)])
async def test_a_broken_post_is_repeated_once_under_the_same_key(fake: Any, broken: tuple[int, bool]) -> None:
    """A connection that breaks, before or within the answer, is tried once more with the same idempotency key."""
    cut = fake.Reply(status=broken[0], body=RUN, cut=broken[1])
    fake.on("POST", "/v1/runs", cut, fake.Reply(200, {**RUN, "created": False}))
    async with Client(socket=fake.socket) as client:
        handle = await client.start("checkout", None)

    keys = {request.headers["idempotency-key"] for request in fake.requests}
    assert (handle.created, len(fake.requests), len(keys)) == (False, 2, 1)


async def test_a_connection_that_breaks_twice_says_that_the_outcome_is_unknown(fake: Any) -> None:
    """After one repeat the client gives up and says what that means."""
    fake.on("POST", "/v1/runs", fake.CLOSE)
    async with Client(socket=fake.socket) as client:
        with pytest.raises(DaemonUnreachable, match="broke") as caught:
            await client.start("checkout", None)

    assert len(fake.requests) == 2
    assert "may have happened" in caught.value.hint


async def test_a_conditional_change_is_not_repeated(fake: Any) -> None:
    """A PUT with a version is sent once: its repeat would meet the version that it made itself."""
    fake.on("PUT", "/v1/state/global/k", fake.CLOSE)
    async with Client(socket=fake.socket) as client:
        with pytest.raises(DaemonUnreachable):
            await client.put_state("global", "k", 1, expect_version=3)

    assert [request.headers["if-match"] for request in fake.requests] == ['"3"']


async def test_problems_are_the_exceptions_with_their_code(fake: Any) -> None:
    """A problem document becomes the class of that code, with the daemon's words, hint and fields."""
    fake.on("GET", "/v1/runs/x", fake.problem(404, "run_not_found", "there is no run x", hint="Look again."))
    fake.on("POST", "/v1/runs", fake.problem(409, "id_conflict", "r1 exists"))
    fake.on("GET", "/v1/runs", fake.problem(418, "teapot", "short and stout", spout="left"))
    async with Client(socket=fake.socket) as client:
        with pytest.raises(errors.RunNotFound, match="there is no run x") as not_found:
            await client.run("x")
        with pytest.raises(errors.IdConflict):
            await client.start("checkout", None, id="r1")
        with pytest.raises(RuntimedError, match="short and stout") as unknown:
            await client.runs()

    assert (not_found.value.hint, not_found.value.exit_code) == ("Look again.", 4)
    assert (unknown.value.code, unknown.value.status, vars(unknown.value)["problem"]["spout"]) == (
        "teapot",
        418,
        "left",
    )


@pytest.mark.parametrize(
    ("code", "kind"),
    [
        ("overloaded", errors.Overloaded),
        ("version_conflict", errors.VersionConflict),
        ("idempotency_key_reused", errors.KeyReused),
        ("draining", errors.Draining),
        ("not_allowed", errors.NotAllowed),
        ("invalid_input", errors.InvalidInput),
    ],
)
def test_each_code_has_its_class(code: str, kind: type[RuntimedError]) -> None:
    """The registry goes by code; of two classes with one code it takes the general one."""
    assert type(from_problem(kind.status, {}, b'{"code": "%s"}' % code.encode())) is kind


def test_a_refusal_without_a_document_still_is_an_error_with_its_exit_code() -> None:
    """Whatever a proxy says instead of a problem document, the status decides the exit code; Retry-After is kept."""
    error = from_problem(503, {"retry-after": "7"}, b"<html>busy</html>")

    assert (str(error), error.status, error.exit_code, vars(error)["retry_after"]) == ("HTTP status 503", 503, 75, 7.0)


async def test_result_waits_until_the_run_has_ended(fake: Any) -> None:
    """202 is asked again; 200 is the result, decoded to the type that was asked for."""
    fake.on("GET", "/v1/runs/r1/result", fake.Reply(202, RUN), fake.Reply(202, RUN), fake.Reply(200, [1, 2]))
    async with Client(socket=fake.socket) as client:
        assert await client.result("r1", type=tuple[int, int]) == (1, 2)

    assert len(fake.requests) == 3
    assert all(float(dict(request.query)["wait"]) > 0 for request in fake.requests)


async def test_result_raises_how_the_run_ended(fake: Any) -> None:
    """409 becomes RunFailed, RunCancelled or RunBlocked with the run, the error's type and the step."""
    told = {"type": "StepFailed", "message": "card declined", "step": "charge"}
    fake.on("GET", "/v1/runs/r1/result", fake.problem(409, "run_failed", "the run failed", run_id="r1", error=told))
    async with Client(socket=fake.socket) as client:
        with pytest.raises(errors.RunFailed, match="card declined") as caught:
            await client.result("r1")

    assert (caught.value.run_id, caught.value.type, caught.value.step) == ("r1", "StepFailed", "charge")


async def test_result_gives_up_in_time_and_says_that_the_run_goes_on(fake: Any) -> None:
    """A wait with a time limit ends with TimedOut (exit code 7), which also is a TimeoutError."""
    fake.on("GET", "/v1/runs/r1/result", fake.Reply(202, RUN))
    async with Client(socket=fake.socket) as client:
        with pytest.raises(TimedOut, match="has not ended") as caught:
            await client.result("r1", timeout=0.0)

    assert (caught.value.exit_code, isinstance(caught.value, TimeoutError)) == (7, True)


async def test_a_wait_outlives_the_daemon(fake: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """A daemon that restarts while its result is waited for is waited for too; one never reached is not."""
    monkeypatch.setattr("runtimed.client_runs.RETRY_SECONDS", 0.001)
    draining = fake.problem(503, "draining", "stopping")
    replies = [fake.Reply(202, RUN), draining, fake.CLOSE, fake.CLOSE, fake.CLOSE, fake.CLOSE, fake.Reply(200, 7)]
    fake.on("GET", "/v1/runs/r1/result", *replies)
    fake.on("GET", "/v1/runs/r2/result", draining)
    async with Client(socket=fake.socket) as client:
        assert await client.result("r1") == 7
        with pytest.raises(DaemonUnreachable):
            await client.result("r2")


async def test_a_daemon_that_does_not_answer_is_a_timeout(fake: Any) -> None:
    """A request has a time limit; the daemon's silence is an error, not a hang."""
    fake.on("GET", "/v1/runs/r1", fake.silence)
    async with Client(socket=fake.socket, timeout=0.05) as client:
        with pytest.raises(TimedOut, match="no answer"):
            await client.run("r1")


async def test_nobody_there_is_said_plainly(tmp_path: Path, short_dir: Path) -> None:
    """No socket, a dead socket and a closed port are all `DaemonUnreachable` with exit code 3."""
    import socket

    dead = socket.socket(socket.AF_UNIX)
    dead.bind(str(short_dir / "dead.sock"))
    dead.close()
    places: list[dict[str, Any]] = [
        {"socket": short_dir / "none.sock"},
        {"socket": short_dir / "dead.sock"},
        {"url": "http://127.0.0.1:1"},
    ]
    for place in places:
        async with Client(**place) as client:
            with pytest.raises(DaemonUnreachable) as caught:
                await client.runs()
        assert caught.value.exit_code == 3
        assert str(next(iter(place.values()))) in str(caught.value)


async def test_what_is_no_runtimed_is_said_plainly(fake: Any) -> None:
    """An answer that is not JSON or has another shape is `BadAnswer`."""
    fake.on("GET", "/v1/runs", fake.Reply(200, b"<html>"), fake.Reply(200, {"hello": "world"}))
    async with Client(socket=fake.socket) as client:
        for _ in range(2):
            with pytest.raises(BadAnswer):
                await client.runs()


async def test_start_many_gives_each_its_fate_in_order(fake: Any) -> None:
    """A batch's answer is, item by item, a handle or the error for it."""
    refused = {"status": 409, "problem": fake.problem(409, "id_conflict", "b exists").body}
    fake.on("POST", "/v1/runs", fake.Reply(200, {"items": [{"status": 201, "run": RUN}, refused]}))
    async with Client(socket=fake.socket) as client:
        first, second = await client.start_many([NewRun(workflow="w", id="a"), {"workflow": "w", "id": "b"}])

    assert not isinstance(first, RuntimedError)
    assert (first.id, type(second)) == ("r1", errors.IdConflict)
    assert fake.requests[0].json == [{"workflow": "w", "id": "a"}, {"workflow": "w", "id": "b"}]


async def test_a_fork_is_a_run(fake: Any) -> None:
    """What comes back of a fork is the new run, to ask after; without an id, one is made."""
    fake.on("POST", "/v1/runs/r1/fork", fake.Reply(202, {"seq": 7, "id": "r2"}))
    async with Client(socket=fake.socket) as client:
        fork = await client.fork("r1", 41, id="r2", reason="the street is there now")
        await client.fork("r1", 41)
    assert (fork.id, fork.created) == ("r2", True)
    named = {"at_seq": 41, "id": "r2", "reason": "the street is there now"}
    assert [request.json for request in fake.requests] == [named, {"at_seq": 41}]


async def test_every_verb_goes_to_its_route(fake: Any) -> None:
    """Method, path, query and body of each verb are those of the contract."""
    seq = {"seq": 7, "id": "r1"}
    page: dict[str, Any] = {"items": [], "next": None, "total": 0, "seq": 7}
    session = {"id": "s1", "status": "open"}
    state = {"scope": "global", "key": "a/b", "value": 1, "version": 1}
    for verb in ("signal", "cancel", "pause", "resume", "retry", "resolve"):
        fake.on("POST", f"/v1/runs/r1/{verb}", fake.Reply(202, seq))
    for path in (
        "/v1/runs",
        "/v1/runs/r1/history",
        "/v1/runs/r1/output",
        "/v1/sessions",
        "/v1/state/global",
        "/v1/actors",
    ):
        fake.on("GET", path, fake.Reply(200, page))
    fake.on("POST", "/v1/sessions", fake.Reply(201, session))
    for path in ("/v1/sessions/s1/touch", "/v1/sessions/s1/close", "/v1/actors/a/b/restart"):
        fake.on("POST", path, fake.Reply(200, session))
    fake.on("GET", "/v1/sessions/s1", fake.Reply(200, session))
    for method, answer in (("GET", state), ("PUT", state), ("DELETE", seq)):
        fake.on(method, "/v1/state/global/a%2Fb", fake.Reply(200, answer))
    fake.on("GET", "/metrics", fake.Reply(200, b"runtimed_journal_seq 7\n"))
    fake.on("GET", "/health/ready", fake.Reply(503, {"status": "fail"}))
    fake.on("GET", "/health/detail", fake.Reply(503, {"status": "fail", "reasons": ["disk"], "checks": {}}))

    async with Client(socket=fake.socket) as client:
        assert await client.signal("r1", "go", 1, signal_id="x") == 7
        await client.cancel("r1", reason="why")
        await client.pause("r1")
        await client.resume("r1")
        await client.retry("r1", reason="mended")
        await client.resolve("r1", "2", happened=False, reason="asked the bank")
        assert (await client.runs(status=["failed", "blocked"], attributes={"k": "v"}, cursor="c")).seq == 7
        await client.history("r1", after=3)
        await client.output("r1")
        assert (await client.open_session("s1", ttl=5.0, tenant="acme")).status == "open"
        await client.touch_session("s1")
        await client.close_session("s1", reason="done")
        await client.session("s1")
        await client.sessions(status="open")
        assert (await client.put_state("global", "a/b", {"x": 1}, expect_version=0)).version == 1
        await client.state("global", "a/b")
        await client.states("global")
        assert (await client.delete_state("global", "a/b", expect_version=1)).seq == 7
        assert await client.actors() == []
        await client.restart_actor("a/b", reason="stuck")
        assert "journal_seq" in await client.metrics()
        assert await client.ready() is False
        assert (await client.health()).reasons == ["disk"]

    sent = {(r.method, r.path): (r.json if r.body else None, r.query, r.headers.get("if-match")) for r in fake.requests}
    assert sent["POST", "/v1/runs/r1/signal"][0] == {"name": "go", "value": 1, "signal_id": "x"}
    assert sent["POST", "/v1/runs/r1/cancel"][0] == {"reason": "why"}
    assert sent["POST", "/v1/runs/r1/pause"][0] == {}
    assert sent["POST", "/v1/runs/r1/resolve"][0] == {
        "call": "2", "happened": False, "result": None, "reason": "asked the bank",
    }  # fmt: skip
    assert sent["GET", "/v1/runs"][1] == [
        ("status", "failed"), ("status", "blocked"), ("attr.k", "v"), ("limit", "50"), ("cursor", "c"),
    ]  # fmt: skip
    assert sent["GET", "/v1/runs/r1/history"][1] == [("after", "3"), ("limit", "200")]
    assert sent["POST", "/v1/sessions"][0] == {
        "id": "s1", "tenant": "acme", "ttl": 5.0, "on_close": "leave", "attributes": {},
    }  # fmt: skip
    assert sent["PUT", "/v1/state/global/a%2Fb"] == ({"value": {"x": 1}}, [], '"0"')
    assert sent["DELETE", "/v1/state/global/a%2Fb"] == (None, [], '"1"')
    assert all("idempotency-key" in r.headers for r in fake.requests if r.method == "POST")


def event(seq: int) -> bytes:
    return (
        b'id: %d\ndata: {"seq": %d, "at": "", "kind": "run_started", "run_id": "r", "workflow": "w", "trace_id": null,'
        % (
            seq,
            seq,
        )
        + b' "call": null, "name": null, "attempt": null, "data": {}}\n\n'
    )


async def test_events_connect_again_and_miss_and_double_nothing(fake: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """A feed that breaks in the middle of an event goes on after the last whole one."""
    monkeypatch.setattr("runtimed.client_events.BACKOFF_FIRST", 0.001)
    stream = {"Content-Type": "text/event-stream"}
    fake.on(
        "GET",
        "/v1/events",
        fake.Reply(200, None, stream, [b": hello\n\n", event(5), event(6), event(7)[:20]], cut=True),
        fake.CLOSE,
        fake.problem(503, "draining", "stopping"),
        fake.Reply(200, None, stream, [event(6), event(7), event(8)]),
    )
    seen = []
    async with Client(socket=fake.socket) as client, client.events(after=4) as feed:
        async for one in feed:
            seen.append(one.seq)
            if one.seq == 8:
                break

    assert seen == [5, 6, 7, 8]
    assert [request.headers["last-event-id"] for request in fake.requests] == ["4", "6", "6", "6"]
    assert [dict(request.query)["after"] for request in fake.requests] == ["4", "6", "6", "6"]


async def test_events_of_a_client_that_is_left_end(fake: Any) -> None:
    """Leaving the client closes its feeds: the iteration ends instead of hanging."""
    fake.on("GET", "/v1/events", fake.Reply(200, None, {"Content-Type": "text/event-stream"}, [event(1)]))
    async with Client(socket=fake.socket) as client:
        feed = client.events()
        assert (await anext(feed)).seq == 1

    assert [one async for one in feed] == []


async def test_events_raise_at_once_what_cannot_get_better(short_dir: Path, fake: Any) -> None:
    """A refusal, or no daemon at the first connection, is raised instead of being tried for ever."""
    fake.on("GET", "/v1/events", fake.problem(403, "not_allowed", "no"))
    async with Client(socket=fake.socket) as client:
        with pytest.raises(errors.NotAllowed):
            await anext(client.events())
    async with Client(socket=short_dir / "none.sock") as client:
        with pytest.raises(DaemonUnreachable):
            await anext(client.events())


@pytest.mark.parametrize("anyio_backend", ["asyncio"])
async def test_a_client_that_is_cancelled_while_it_closes_leaves_no_connection(fake: Any) -> None:
    """A task of asyncio may be cancelled again while it leaves its client: every connection is closed all the same."""
    fake.on("GET", "/v1/runs/r1", fake.Reply(200, RUN))
    client = Client(socket=fake.socket)
    async with anyio.create_task_group() as tasks:
        for _ in range(3):
            tasks.start_soon(client.status, "r1")
    sockets = [connection._stream.extra(SocketAttribute.raw_socket) for connection in client.link.wire._idle]
    assert len(sockets) == 3
    leaving = asyncio.create_task(client.__aexit__(None, None, None))
    await asyncio.sleep(0)
    leaving.cancel()
    with pytest.raises(asyncio.CancelledError):
        await leaving
    assert [socket.fileno() for socket in sockets] == [-1, -1, -1]


async def test_cancelling_a_request_drops_its_connection(fake: Any) -> None:
    """A cancelled request leaves nothing half-read behind; the next one gets its own answer."""
    fake.on("GET", "/v1/runs/slow/result", fake.silence)
    fake.on("GET", "/v1/runs/r1", fake.Reply(200, RUN))
    async with Client(socket=fake.socket) as client:
        assert await client.status("r1") == "running"
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(client.result, "slow")
            with anyio.fail_after(30):
                while len(fake.requests) < 2:  # noqa: ASYNC110 - a thread's progress
                    await anyio.sleep(0.01)
            tasks.cancel_scope.cancel()
        assert await client.status("r1") == "running"

    assert fake.connections == 2


@pytest.mark.parametrize("run_id", ["", ".", "..", "..."])
async def test_an_id_that_would_name_another_route_is_not_sent(fake: Any, run_id: str) -> None:
    """Dots and nothing are refused here; everything else is quoted."""
    async with Client(socket=fake.socket) as client:
        with pytest.raises(errors.InvalidInput):
            await client.run(run_id)
        with pytest.raises(RuntimedError):
            await client.run("a/../b?c#d\r\ne")

    assert [request.path for request in fake.requests] == ["/v1/runs/a%2F..%2Fb%3Fc%23d%0D%0Ae"]


@pytest.mark.parametrize("url", ["daemon", "ftp://x", "http://", "http://x:99999", "http://x?y", "unix:/x"])
def test_a_url_that_is_none_is_refused(url: str) -> None:
    """Only http and https URLs with a host are taken."""
    with pytest.raises(errors.InvalidInput):
        Client(url=url)


async def test_a_number_that_is_not_finite_is_refused(fake: Any) -> None:
    """JSON has no such number and null means "not given": without this, a session of infinite ttl would be one without.
    The field is named; what is JSON already goes as it is."""
    nan, inf = float("nan"), float("inf")
    async with Client(socket=fake.socket) as client:
        cases: list[tuple[str, Callable[[], Awaitable[Any]]]] = [
            ("ttl", lambda: client.open_session(ttl=inf)),
            ("expires_in", lambda: client.create_token("ci", "viewer", expires_in=nan)),
            ("older_than", lambda: client.forget_runs(nan)),
            (r"input\.prices\[1\]", lambda: client.start("w", {"prices": [None, inf]})),
            (r"\[1\]\.input", lambda: client.start_many([NewRun(workflow="w", input=Raw(b"null")), {"input": nan}])),
        ]
        for named, refused in cases:
            with pytest.raises(errors.InvalidInput, match=f"^{named} is not a finite number"):
                await refused()
    assert fake.requests == []


def test_a_token_that_would_split_the_head_is_refused() -> None:
    """No line end reaches a header."""
    with pytest.raises(errors.InvalidInput):
        Client(url="http://x", token="a\r\nb: c")


@pytest.mark.slow
def test_on_asyncio_neither_trio_nor_sqlite_is_loaded(fake: Any) -> None:
    """Importing and using the client on asyncio loads no trio, no apsw, no web framework."""
    fake.on("GET", "/v1/runs", fake.Reply(200, {"items": [], "next": None, "total": 0, "seq": 0}))
    program = (
        "import sys, anyio\n"
        "from runtimed.client import Client\n"
        "async def main():\n"
        f"    async with Client(socket={str(fake.socket)!r}) as client:\n"
        "        await client.runs()\n"
        "anyio.run(main)\n"
        "unwanted = ('trio', 'apsw', 'sqlite3', 'starlette', 'hypercorn', 'textual', 'click')\n"
        "print([name for name in unwanted if name in sys.modules])\n"
    )

    done = subprocess.run([sys.executable, "-P", "-c", program], capture_output=True, text=True, check=True)

    assert done.stdout == "[]\n"
