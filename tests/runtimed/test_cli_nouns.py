"""The other nouns against a fake daemon: status, sessions, state, actors, events."""

from __future__ import annotations

import json
from typing import Any

import msgspec
import pytest

from runtimed.cli import events
from runtimed.cli.main import run
from wal.views import ActorView, SessionView, StateView

STREAM = {"Content-Type": "text/event-stream"}


@pytest.fixture
def ask(fake: Any) -> Any:
    """`ask("state", "get", ...)` against the fake daemon."""
    return lambda *arguments: run([*arguments, "--socket", str(fake.socket)])


def page(*items: Any) -> dict[str, Any]:
    return {"items": [msgspec.to_builtins(item) for item in items], "next": None, "total": len(items), "seq": 3}


METRICS = b"""# HELP runtimed_runs Runs.
runtimed_runs{workflow="a",status="running"} 2.0
runtimed_runs{workflow="b",status="running"} 3.0
runtimed_runs{workflow="b",status="failed"} 0.0
runtimed_journal_seq 1234.0
"""


@pytest.mark.parametrize(("health", "exit_code"), [("pass", 0), ("warn", 0), ("fail", 75)])
def test_status(fake: Any, ask: Any, capsys: pytest.CaptureFixture[str], health: str, exit_code: int) -> None:
    """One look at the daemon; not ready ends with 75, with the reasons."""
    checks = {"actor:a": [{"status": "pass"}], "actor:b": [{"status": "fail"}], "live": [{"status": "pass"}]}
    document = {"status": health, "reasons": ["the disk is full"], "checks": checks}
    fake.on("GET", "/health/detail", fake.Reply(503 if health == "fail" else 200, document))
    fake.on("GET", "/metrics", fake.Reply(200, METRICS))

    assert ask("status") == exit_code
    assert ask("status", "--json") == exit_code

    *lines, as_json = capsys.readouterr().out.splitlines()
    assert [line.split(maxsplit=1) for line in lines[1:]] == [
        ["records", "1234"],
        ["runs", "5 running"],
        ["actors", "1 of 2 up"],
        ["because", "the disk is full"],
    ]
    assert json.loads(as_json) == document


def test_status_without_rights_shows_the_probe(fake: Any, ask: Any, capsys: pytest.CaptureFixture[str]) -> None:
    """Over TCP without a token there is still the probe's word."""
    fake.on("GET", "/health/detail", fake.problem(401, "unauthorised", "no"))
    fake.on("GET", "/health/ready", fake.Reply(200, {"status": "pass"}, {"Content-Type": "application/health+json"}))
    fake.on("GET", "/metrics", fake.Reply(200, METRICS))

    assert ask("status") == 0
    assert capsys.readouterr().out.splitlines()[0].split() == ["status", "ready"]


SESSION = SessionView(id="s1", status="open", tenant="acme", attributes={"k": 1})


def test_sessions(fake: Any, ask: Any, capsys: pytest.CaptureFixture[str]) -> None:
    """List, show, open, touch and close."""
    view = msgspec.to_builtins(SESSION)
    fake.on("GET", "/v1/sessions", fake.Reply(200, page(SESSION)))
    fake.on("GET", "/v1/sessions/s1", fake.Reply(200, view))
    fake.on("POST", "/v1/sessions", fake.Reply(201, view))
    for verb in ("touch", "close"):
        fake.on("POST", f"/v1/sessions/s1/{verb}", fake.Reply(200, view))

    assert ask("sessions", "list", "--status", "open") == 0
    assert ask("sessions", "show", "s1", "-o", "id") == 0
    options = ["--tenant", "acme", "--ttl", "60", "--on-close", "cancel", "--attr", "k=1", "--reason", "why"]
    assert ask("sessions", "open", "s1", *options, "-o", "id") == 0
    assert ask("sessions", "touch", "s1") == 0
    assert ask("sessions", "close", "s1", "--reason", "done") == 0

    out = capsys.readouterr().out.splitlines()
    assert out[1].split() == ["s1", "open", "acme", "-", "-", "-"]
    assert out[2:] == ["s1", "s1", "s1: extended", "s1: closed"]
    bodies = {request.path: request.json for request in fake.requests if request.method == "POST"}
    assert bodies["/v1/sessions"] == {
        "id": "s1", "tenant": "acme", "ttl": 60.0, "on_close": "cancel", "attributes": {"k": 1, "reason": "why"},
    }  # fmt: skip
    assert bodies["/v1/sessions/s1/close"] == {"reason": "done"}


def test_state(fake: Any, ask: Any, capsys: pytest.CaptureFixture[str]) -> None:
    """Get, list, put and delete, with the version as a condition."""
    value = StateView("session:s1", "cart", msgspec.Raw(b'["tea"]'), 4)
    view = msgspec.json.decode(msgspec.json.encode(value))
    fake.on("GET", "/v1/state/session:s1/cart", fake.Reply(200, view))
    fake.on("PUT", "/v1/state/session:s1/cart", fake.Reply(200, view))
    fake.on("DELETE", "/v1/state/session:s1/cart", fake.Reply(200, {"seq": 8, "id": "cart"}))
    fake.on("GET", "/v1/state/session:s1", fake.Reply(200, {**page(), "items": [view]}))

    assert ask("state", "get", "session:s1", "cart") == 0
    assert ask("state", "put", "session:s1", "cart", '["tea"]', "--expect-version", "3") == 0
    assert ask("state", "list", "session:s1", "-o", "id") == 0
    assert ask("state", "delete", "session:s1", "cart", "--expect-version", "4") == 0
    assert ask("state", "delete", "session:s1", "cart", "--json") == 0

    *lines, deleted = capsys.readouterr().out.splitlines()
    assert lines == ['["tea"]', "session:s1 cart: version 4", "cart", "cart: deleted (record 8)"]
    assert json.loads(deleted) == {"seq": 8, "id": "cart"}
    sent = [(request.method, request.headers.get("if-match")) for request in fake.requests]
    assert sent == [("GET", None), ("PUT", '"3"'), ("GET", None), ("DELETE", '"4"'), ("DELETE", None)]
    assert fake.requests[1].json == {"value": ["tea"]}


def test_actors(fake: Any, ask: Any, capsys: pytest.CaptureFixture[str]) -> None:
    """The tree shows paths, parents first; a restart names them."""
    root = ActorView("root", "up", 0, "one_for_all", 0, 0)
    child = ActorView("root/timers", "restarting", 2, None, 3, 100, "boom \x1b[0m")
    fake.on("GET", "/v1/actors", fake.Reply(200, page(root, child)))
    fake.on("POST", "/v1/actors/root/timers/restart", fake.Reply(202, msgspec.to_builtins(child)))

    assert ask("actors", "tree") == 0
    assert ask("actors", "tree", "-o", "id") == 0
    assert ask("actors", "restart", "root/timers", "--reason", "stuck") == 0

    out = capsys.readouterr().out.splitlines()
    assert out[1].split() == ["root", "up", "0", "-", "one_for_all", "-"]
    assert out[2].split(maxsplit=5) == ["root/timers", "restarting", "2", "3/100", "-", "boom \\x1b[0m"]
    assert out[3:] == ["root", "root/timers", "root/timers: restarts"]


def event(seq: int, kind: str = "run_started", run_id: str | None = "r1") -> bytes:
    data = {"seq": seq, "at": "2026-01-31T12:00:00.000000Z", "kind": kind, "run_id": run_id, "workflow": "w"}
    data |= {"trace_id": None, "call": None, "name": None, "attempt": None, "data": {}}
    return f"id: {seq}\nevent: {kind}\ndata: {json.dumps(data)}\n\n".encode()


def test_events_ends_at_the_head(fake: Any, ask: Any, capsys: pytest.CaptureFixture[str]) -> None:
    """Without -f the records that there are, and no waiting for more."""
    fake.on("GET", "/v1/runs", fake.Reply(200, page()))
    fake.on("GET", "/v1/events", fake.Reply(200, None, STREAM, [event(1), event(2, "step_failed"), event(3)]))

    assert ask("events") == 0
    assert ask("events", "-o", "id", "--after", "1") == 0
    assert ask("events", "-o", "jsonl", "--kind", "step_failed") == 0

    out = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in out[:3]] == ["1", "2", "3"]
    assert out[3:5] == ["2", "3"]
    assert [json.loads(line)["seq"] for line in out[5:]] == [2]
    assert dict(fake.requests[3].query) == {"after": "1"}


def test_events_takes_silence_for_no_end(
    fake: Any, ask: Any, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """What does not come within --timeout is told as missing, and ends with 7; a record of after the question is not
    shown."""
    before = events._before

    async def short(head: int, feed: Any, seconds: float) -> Any:
        assert seconds == 60.0
        return await before(head, feed, 0.1 if feed.seq else seconds)  # what does come has its time

    fake.on("GET", "/v1/runs", fake.Reply(200, page()))
    fake.on(
        "GET",
        "/v1/events",
        fake.Reply(200, None, STREAM, [event(1), event(2), event(4)]),  # 3 was forgotten meanwhile
        fake.Reply(200, None, STREAM, [event(1)]),
    )
    assert ask("events", "-o", "id") == 0
    assert capsys.readouterr().out.split() == ["1", "2"]
    monkeypatch.setattr(events, "_before", short)
    assert ask("events", "-o", "id", "--timeout", "60") == 7
    told = capsys.readouterr()
    assert (told.out.split(), "records 2 to 3 are missing" in told.err) == (["1"], True)


def test_events_follow_survives_a_restart(fake: Any, ask: Any, capsys: pytest.CaptureFixture[str]) -> None:
    """With -f a broken stream is taken up where it was; it ends when the daemon refuses."""
    fake.on("GET", "/v1/runs", fake.Reply(200, page()))
    fake.on(
        "GET",
        "/v1/events",
        fake.Reply(200, None, STREAM, [event(1), event(2)], cut=True),
        fake.Reply(200, None, STREAM, [event(2), event(3)], cut=True),
        fake.problem(403, "not_allowed", "no more"),
    )

    assert ask("events", "-f", "-o", "id") == 6
    assert capsys.readouterr().out.splitlines() == ["1", "2", "3"]
