"""The table of routes: what is found, who may, and what every answer carries."""

from __future__ import annotations

import os
import re
import socket
from typing import Any

import pytest
import trio

from actors.messages import Accepted, CancelRun
from runtimed.http.access import Access, Level, Peer, peer_of
from runtimed.http.app import ROUTES
from runtimed.settings import ConfigError, Levels

TRACEPARENT = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"


@pytest.mark.trio
async def test_unknown_path_is_a_problem(serve: Any) -> None:
    """A path that is not in the table gets 404 as a problem, with and without a slash at the end."""
    async with serve() as http:
        for path in ("/", "/v1", "/v1/nothing", "/v1/runs/", "/health/", "/v1/approval", "/v1/runs/x/spoon"):
            answer = await http.ask("GET", path)
            assert (answer.status, answer.json()["code"]) == (404, "route_not_found"), path


@pytest.mark.trio
async def test_wrong_method_names_the_right_ones(serve: Any) -> None:
    """A path with another method gets 405 with all methods in Allow."""
    async with serve() as http:
        answer = await http.ask("DELETE", "/v1/runs")
        assert (answer.status, answer.headers["allow"]) == (405, "GET, HEAD, POST")
        answer = await http.ask("POST", "/v1/state/global/k", {})
        assert (answer.status, answer.headers["allow"]) == (405, "DELETE, GET, HEAD, PUT")
        assert (await http.ask("get", "/health")).status == 405


@pytest.mark.trio
async def test_head_is_get_without_a_body(serve: Any) -> None:
    """HEAD has the headers of GET and no body, on a connection that goes on."""
    async with serve() as http:
        client = await http.client()
        answer = await client.ask("HEAD", "/health")
        assert (answer.status, answer.body, answer.headers["content-length"]) == (200, b"", "17")
        assert (await client.ask("GET", "/health")).status == 200


# --- access -----------------------------------------------------------------------------------------------------------


WEBHOOKS = "/v1/webhooks/{name}"


@pytest.mark.trio
async def test_tcp_serves_probes_and_metrics_only(serve: Any, rt: Any) -> None:
    """Over TCP every route but the public ones gets 401, before its body is read."""
    async with serve() as http:
        for route in ROUTES:
            path = re.sub(r"\{[^}]+\}", "x", route.path)
            answer = await http.ask(route.method, path, tcp=True)
            public = 404 if route.path == WEBHOOKS else 200  # there is no webhook `x`
            assert answer.status == (public if route.level is Level.PUBLIC else 401), route.path
        assert rt.asked == []
        client = await http.client(tcp=True)
        await client.send(b"POST /v1/runs HTTP/1.1\r\nHost: localhost\r\nContent-Length: 100\r\n\r\n")
        answer = await client.answer("POST")
        assert (answer.status, answer.headers["www-authenticate"]) == (401, "Bearer")


def test_only_probes_metrics_and_webhooks_are_public() -> None:
    """No route becomes public by accident; a webhook's credential is its signature."""
    public = {route.path for route in ROUTES if route.level is Level.PUBLIC}
    probes = {"/health", "/health/ready", "/health/startup", "/livez", "/readyz", "/startupz"}
    assert public == probes | {"/metrics", WEBHOOKS}


@pytest.mark.trio
async def test_caller_is_who_the_kernel_says(serve: Any, rt: Any) -> None:
    """Over the unix socket `by` is the peer's uid."""
    async with serve() as http:
        await http.ask("POST", "/v1/runs", {"workflow": "w"})
        assert rt.asked[0].origin.by == f"uid:{os.geteuid()}"


@pytest.mark.trio
async def test_kernel_says_all_of_the_peer() -> None:
    """What is known of a local peer is its process, user, group and further groups, none of it from the peer itself."""
    ours, theirs = trio.socket.socketpair(socket.AF_UNIX)
    with ours, theirs:
        peer = peer_of(ours)
    assert (peer.local, peer.uid, peer.gid, peer.pid) == (True, os.geteuid(), os.getegid(), os.getpid())
    assert set(peer.groups) == set(os.getgroups())


def test_levels_are_those_of_the_settings() -> None:
    """Uids and groups have the highest level that names them; root and we are admin; a stranger has none."""
    access = Access(Levels(viewer=("gid:4000000",), operator=("uid:4000001",), approver=("gid:4000002",)))
    assert access.level(Peer(local=True, uid=0)) is Level.ADMIN
    assert access.level(Peer(local=True, uid=os.geteuid())) is Level.ADMIN
    assert access.level(Peer(local=True, uid=4_000_009, gid=1)) == Level.PUBLIC
    assert access.level(Peer(local=True, uid=4_000_001, gid=4_000_000)) == Level.OPERATOR
    assert access.level(Peer(local=True, uid=4_000_009, gid=1, groups=(4_000_000, 4_000_002))) == Level.APPROVER
    assert access.level(Peer(local=False, uid=0)) == Level.PUBLIC


def test_levels_may_name_users_and_groups() -> None:
    """A name stands for its number; an unknown one is a mistake of the configuration; tokens mean nothing here."""
    access = Access(Levels(viewer=("gid:root", "token:ci"), operator=("uid:root",)))
    assert access.level(Peer(local=True, uid=4_000_009, gid=0)) is Level.VIEWER
    assert access.level(Peer(local=True, uid=0)) is Level.ADMIN
    for principal in ("uid:no-such-user", "gid:no-such-group"):
        with pytest.raises(ConfigError, match=r"access\.levels.*no-such"):
            Access(Levels(viewer=(principal,)))


@pytest.mark.trio
async def test_peer_without_the_level_is_refused(serve: Any, rt: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """A local user who is on no list gets 403 naming the level; a viewer may look and not act."""
    access = Access(Levels())
    level = Level.PUBLIC
    monkeypatch.setattr(access, "level", lambda peer: level)
    async with serve(options={"access": access}) as http:
        answer = await http.ask("GET", "/v1/runs")
        assert (answer.status, answer.json()["code"]) == (403, "not_allowed")
        assert "viewer" in answer.json()["detail"]
        level = Level.VIEWER
        assert (await http.ask("GET", "/v1/runs")).status == 200
        assert (await http.ask("POST", "/v1/runs", {"workflow": "w"})).status == 403
        assert rt.asked == []


@pytest.mark.trio
async def test_web_pages_are_refused(serve: Any) -> None:
    """A request with a browser's Origin gets 403, on both listeners, unless the origin is listed."""
    async with serve(options={"origins": ["https://ops.example"]}) as http:
        for tcp in (False, True):
            answer = await http.ask("GET", "/health", tcp=tcp, headers=[("Origin", "https://evil.example")])
            assert (answer.status, answer.json()["code"]) == (403, "foreign_origin")
            answer = await http.ask("GET", "/health", tcp=tcp, headers=[("Origin", "https://ops.example")])
            assert answer.status == 200


@pytest.mark.trio
async def test_foreign_host_is_refused_over_tcp(serve: Any) -> None:
    """Over TCP a Host that is not ours gets 421 (DNS rebinding); addresses, localhost and listed names are served."""
    async with serve(options={"hosts": ["runtimed.internal"]}) as http:
        for host, status in (
            ("evil.example", 421), ("evil.example:80", 421), ("127.0.0.1.evil.example", 421),
            ("127.0.0.1", 200), ("127.0.0.1:8080", 200), ("[::1]:80", 200), ("LOCALHOST:1", 200),
            ("runtimed.internal:8080", 200),
        ):  # fmt: skip
            client = await http.client(tcp=True)
            await client.send(f"GET /metrics HTTP/1.1\r\nHost: {host}\r\n\r\n".encode())
            assert (await client.answer()).status == status, host


# --- what every answer carries --------------------------------------------------------------------------------------


@pytest.mark.trio
async def test_traceparent_comes_back_and_goes_into_the_command(serve: Any, rt: Any) -> None:
    """A good traceparent is returned as it came, and is the trace of what was asked."""
    async with serve() as http:
        answer = await http.ask("POST", "/v1/runs", {"workflow": "w"}, headers=[("traceparent", TRACEPARENT)])
        assert answer.headers["traceparent"] == TRACEPARENT
        assert rt.asked[0].origin.traceparent == TRACEPARENT
        assert rt.asked[0].origin.trace_id == "4bf92f3577b34da6a3ce929d0e0e4736"


@pytest.mark.trio
@pytest.mark.parametrize(
    "sent",
    [
        [],
        ["nonsense"],
        ["ff-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"],
        ["00-00000000000000000000000000000000-00f067aa0ba902b7-01"],
        ["00-4bf92f3577b34da6a3ce929d0e0e4736-0000000000000000-01"],
        [TRACEPARENT.upper()],
        [TRACEPARENT + "-more"],
        [TRACEPARENT, TRACEPARENT],
    ],
)
async def test_bad_traceparent_is_replaced(serve: Any, sent: list[str]) -> None:
    """Without a good traceparent a new trace begins, on answers and on problems; it is never a reason to refuse."""
    async with serve() as http:
        for path, status in (("/health", 200), ("/nothing", 404)):
            answer = await http.ask("GET", path, headers=[("traceparent", value) for value in sent])
            assert answer.status == status
            assert re.fullmatch(r"00-[0-9a-f]{32}-[0-9a-f]{16}-01", answer.headers["traceparent"])
            assert answer.headers["traceparent"] not in sent


@pytest.mark.trio
async def test_later_version_of_traceparent_is_read(serve: Any) -> None:
    """A traceparent of a later version may have more parts."""
    async with serve() as http:
        sent = "01" + TRACEPARENT[2:] + "-more"
        assert (await http.ask("GET", "/health", headers=[("traceparent", sent)])).headers["traceparent"] == sent


@pytest.mark.trio
async def test_idempotency_key_goes_with_who_and_what(serve: Any, rt: Any) -> None:
    """A key is the principal's, with a digest of method, path and body: the same for a repeat, another for another."""
    rt.replies[CancelRun] = lambda command: Accepted(seq=1, id=command.run_id)
    async with serve() as http:
        key = [("Idempotency-Key", "k-1")]
        for run, body in (("a", {}), ("a", {}), ("b", {}), ("a", {"reason": "x"})):
            assert (await http.ask("POST", f"/v1/runs/{run}/cancel", body, headers=key)).status == 202
        await http.ask("POST", "/v1/runs/a/cancel", {})
        keys = [command.origin.request for command in rt.asked]
        assert keys[0] == keys[1]
        assert len({request.digest for request in keys[:4]}) == 3
        assert (keys[0].principal, keys[0].key) == (f"uid:{os.geteuid()}", "k-1")
        assert keys[4] is None


@pytest.mark.trio
@pytest.mark.parametrize("key", ["", "x" * 256, "a b", "\u00e9"])
async def test_bad_idempotency_key_is_refused(serve: Any, rt: Any, key: str) -> None:
    """A key that is empty, too long or not visible ASCII gets 400, and nothing is asked."""
    async with serve() as http:
        answer = await http.ask("POST", "/v1/runs", {"workflow": "w"}, headers=[("Idempotency-Key", key)])
        assert answer.status == 400
        assert rt.asked == []


@pytest.mark.trio
@pytest.mark.parametrize("name", ["Idempotency-Key", "Content-Type", "If-Match"])
async def test_double_header_is_refused(serve: Any, rt: Any, name: str) -> None:
    """A header that changes what is done and is there twice gets 400 naming it."""
    async with serve() as http:
        headers = [("Content-Type", "application/json"), (name, "application/json"), (name, "application/json")]
        answer = await http.ask("POST", "/v1/runs", {"workflow": "w"}, headers=headers)
        assert answer.status == 400
        assert name.lower() in answer.json()["detail"]
        assert rt.asked == []


@pytest.mark.trio
@pytest.mark.parametrize(
    ("query", "detail"),
    [
        ("limit=x", "`?limit`"),
        ("limit=0", "`?limit`"),
        ("limit=1&limit=2", "?limit is there twice"),
        ("nothing=1", "unknown field `nothing`"),
        ("status=walking", "`?status[0]`"),
        ("a.b=1", "unknown field `a.b`"),
        ("attr.=1", "unknown field `attr.`"),
        ("workflow=%ff", "UTF-8"),
        ("&".join(f"a{at}=1" for at in range(60)), "over 50 fields"),
    ],
)
async def test_bad_query_names_the_field(serve: Any, query: str, detail: str) -> None:
    """A query that is wrong gets 400 naming the field."""
    async with serve() as http:
        answer = await http.ask("GET", f"/v1/runs?{query}")
        assert answer.status == 400
        assert detail in answer.json()["detail"]


@pytest.mark.trio
async def test_route_without_a_query_takes_none(serve: Any) -> None:
    """A query where none is taken is refused, because it would be ignored; probes do not mind."""
    async with serve() as http:
        assert (await http.ask("GET", "/v1/actors?status=up")).status == 400
        assert (await http.ask("GET", "/health?from=lb")).status == 200
