"""`runtimed runs`: each verb sends what the contract says and prints what came of it, in every output."""

from __future__ import annotations

import io
import json
import sys
from pathlib import Path
from typing import Any

import msgspec
import pytest

from runtimed.cli.main import run
from wal.views import ErrorView, RunDetail, RunView

EMPTY: dict[str, Any] = {"items": [], "next": None, "total": 0, "seq": 3}


def view(**changes: Any) -> dict[str, Any]:
    base = RunView(id="r1", workflow="checkout", status="running", created_at="2026-01-31T12:00:00.000001Z", seq=3)
    return dict(msgspec.to_builtins(msgspec.structs.replace(base, **changes)))


def detail(**changes: Any) -> dict[str, Any]:
    return {**view(**changes), "input": {"cents": 5}, "result": None}


@pytest.fixture
def ask(fake: Any) -> Any:
    """`ask("list", ...)` runs `runtimed runs list ...` against the fake daemon."""
    return lambda *arguments: run(["runs", *arguments, "--socket", str(fake.socket)])


def test_list_as_text(fake: Any, ask: Any, capsys: pytest.CaptureFixture[str]) -> None:
    """A table with one line a run; why a run stands still is in it; what is from outside is escaped."""
    waiting = view(id="r2", status="waiting", waiting_on="signal", waiting_until="2026-02-01T00:00:00.000000Z")
    failed = view(id="r\x1b3", status="failed", error=ErrorView("StepFailed", "no \x07 money", "charge"))
    fake.on(
        "GET", "/v1/runs", fake.Reply(200, {"items": [view(), waiting, failed], "next": "c2", "total": 9, "seq": 3})
    )

    assert ask("list", "--limit", "3") == 0

    captured = capsys.readouterr()
    assert [line.split() for line in captured.out.splitlines()] == [
        ["ID", "WORKFLOW", "STATUS", "CREATED", "ENDED", "WHY"],
        ["r1", "checkout", "running", "2026-01-31T12:00:00Z", "-", "-"],
        ["r2", "checkout", "waiting", "2026-01-31T12:00:00Z", "-", "signal", "until", "2026-02-01T00:00:00Z"],
        ["r\\x1b3", "checkout", "failed", "2026-01-31T12:00:00Z", "-", "StepFailed:", "no", "\\x07", "money"],
    ]
    assert "3 of 9 shown; more with --all, or --cursor c2" in captured.err


def test_list_outputs(fake: Any, ask: Any, capsys: pytest.CaptureFixture[str]) -> None:
    """json is what HTTP gives, jsonl a line an item, id a line an id."""
    page = {"items": [view(), view(id="r2")], "next": None, "total": 2, "seq": 3}
    fake.on("GET", "/v1/runs", fake.Reply(200, page))

    for output in ("json", "jsonl", "id"):
        assert ask("list", "-o", output) == 0

    first, *lines = capsys.readouterr().out.splitlines()
    assert json.loads(first) == page
    assert [json.loads(line)["id"] for line in lines[:2]] == ["r1", "r2"]
    assert lines[2:] == ["r1", "r2"]


def test_list_filters(fake: Any, ask: Any) -> None:
    """Filters go into the query as the contract names them."""
    fake.on("GET", "/v1/runs", fake.Reply(200, EMPTY))

    arguments = ["--status", "failed", "--status", "blocked", "--workflow", "w", "--session", "s", "--tenant", "t"]
    assert ask("list", *arguments, "--attr", "k=a=b", "--limit", "7", "--cursor", "c") == 0

    assert fake.requests[0].query == [
        ("status", "failed"), ("status", "blocked"), ("attr.k", "a=b"), ("workflow", "w"), ("session_id", "s"),
        ("tenant", "t"), ("limit", "7"), ("cursor", "c"),
    ]  # fmt: skip


def test_list_follows_pages(fake: Any, ask: Any, capsys: pytest.CaptureFixture[str]) -> None:
    """--all, and a limit beyond one page, read on; the result looks like one page."""
    pages = [
        fake.Reply(200, {"items": [view(id="r1")], "next": "a", "total": 3, "seq": 3}),
        fake.Reply(200, {"items": [view(id="r2")], "next": "b", "total": 3, "seq": 4}),
        fake.Reply(200, {"items": [view(id="r3")], "next": None, "total": 3, "seq": 5}),
    ]
    fake.on("GET", "/v1/runs", *pages)

    assert ask("list", "--all", "-o", "json") == 0

    told = json.loads(capsys.readouterr().out)
    assert ([each["id"] for each in told["items"]], told["next"]) == (["r1", "r2", "r3"], None)
    assert [dict(request.query).get("cursor") for request in fake.requests] == [None, "a", "b"]


def test_show(fake: Any, ask: Any, capsys: pytest.CaptureFixture[str]) -> None:
    """A run whole, as fields or as it came."""
    fake.on("GET", "/v1/runs/r1", fake.Reply(200, detail(tenant="acme", error=ErrorView("E", "why", "charge"))))

    assert ask("show", "r1") == 0
    assert ask("show", "r1", "--json") == 0

    *lines, last = capsys.readouterr().out.splitlines()
    shown = dict(line.split("  ", 1) for line in lines)
    assert {name.strip(): value.strip() for name, value in shown.items()} == {
        "id": "r1",
        "workflow": "checkout",
        "status": "running",
        "tenant": "acme",
        "classification": "platform",
        "priority": "0",
        "created at": "2026-01-31T12:00:00.000001Z",
        "error": "E: why (step charge)",
        "seq": "3",
        "input": '{"cents":5}',
    }
    assert json.loads(last)["tenant"] == "acme"


def test_history_and_output(fake: Any, ask: Any, capsys: pytest.CaptureFixture[str]) -> None:
    """Records and emitted values, a line each; they go on by `after`."""
    record = {"seq": 4, "at": "2026-01-31T12:00:00.000000Z", "kind": "step_completed", "call": "1", "name": "charge"}
    record |= {"attempt": 1, "data": {"result": "x"}}
    fake.on("GET", "/v1/runs/r1/history", fake.Reply(200, {"items": [record], "next": None, "total": 1, "seq": 4}))
    emitted = {"seq": 5, "at": "2026-01-31T12:00:00.000000Z", "value": [1, 2]}
    fake.on("GET", "/v1/runs/r1/output", fake.Reply(200, {"items": [emitted], "next": None, "total": 1, "seq": 5}))

    assert ask("history", "r1", "--after", "3") == 0
    assert ask("output", "r1") == 0

    _, first, _, second = capsys.readouterr().out.splitlines()
    assert first.split() == [
        "4", "2026-01-31T12:00:00.000Z", "step_completed", "1", "charge", "gave", '"x"',
    ]  # fmt: skip
    assert second.split() == ["5", "2026-01-31T12:00:00.000000Z", "[1,2]"]
    assert fake.requests[0].query == [("after", "3"), ("limit", "200")]


@pytest.mark.parametrize(("argument", "sent"), [('{"a": 1}', {"a": 1}), ("null", None), ("[1]", [1]), ('"é"', "é")])
def test_start_takes_json_as_an_argument(fake: Any, ask: Any, argument: str, sent: Any) -> None:
    """INPUT is any JSON value."""
    fake.on("POST", "/v1/runs", fake.Reply(201, {**view(), "created": True}))

    assert ask("start", "checkout", argument) == 0
    assert fake.requests[0].json == {"workflow": "checkout", "input": sent, "priority": 0, "attributes": {}}


def test_start_takes_json_from_a_file_and_from_stdin(
    fake: Any, ask: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """@FILE and - are read."""
    fake.on("POST", "/v1/runs", fake.Reply(201, {**view(), "created": True}))
    file = tmp_path / "order.json"
    file.write_text('{"from": "file"}')
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(b'{"from": "stdin"}')))

    assert ask("start", "checkout", f"@{file}") == 0
    assert ask("start", "checkout", "-") == 0
    assert [request.json["input"]["from"] for request in fake.requests] == ["file", "stdin"]


@pytest.mark.parametrize(
    ("argument", "said"),
    [
        ("{", "INPUT is not JSON: Input data was truncated at line 1, column 2"),
        ('{"a": 1,\n "b": oops}', "invalid character at line 2, column 7"),
        ("", "INPUT is not JSON: it is empty"),
        ("hello", "Text is JSON only in double quotes"),
        ("@/nonexistent/file", "INPUT: /nonexistent/file: No such file"),
        ("[" * 5000, "INPUT is n"),
    ],
)
def test_bad_json_ends_with_2_and_its_position(
    fake: Any, ask: Any, capsys: pytest.CaptureFixture[str], argument: str, said: str
) -> None:
    """Bad JSON is found here, with line and column; nothing is sent."""
    assert ask("start", "checkout", argument) == 2
    assert said in capsys.readouterr().err
    assert fake.requests == []


def test_start_sends_every_option(fake: Any, ask: Any, capsys: pytest.CaptureFixture[str]) -> None:
    """Options become the fields of the request; a reason is kept as an attribute."""
    fake.on("POST", "/v1/runs", fake.Reply(200, {**view(), "created": False}))

    arguments = ["--id", "r1", "--session", "s", "--tenant", "t", "--queue", "q", "--priority", "5"]
    arguments += ["--start-at", "2026-01-31T12:00:00Z", "--attr", "n=1", "--attr", "s=x", "--reason", "why"]
    assert ask("start", "checkout", "1", *arguments, "--idempotency-key", "key-1") == 0

    (request,) = fake.requests
    assert request.json == {
        "workflow": "checkout", "input": 1, "id": "r1", "session_id": "s", "tenant": "t", "queue": "q", "priority": 5,
        "start_at": "2026-01-31T12:00:00+00:00", "attributes": {"n": 1, "s": "x", "reason": "why"},
    }  # fmt: skip
    assert request.headers["idempotency-key"] == "key-1"
    assert capsys.readouterr().out == "r1: running (it was there already)\n"


@pytest.mark.parametrize("instant", ["tomorrow", "2026-01-31T12:00:00", "2026-13-01T00:00:00Z"])
def test_an_instant_has_an_offset(fake: Any, ask: Any, instant: str) -> None:
    """A local time would mean something else on another machine: it is refused."""
    assert ask("start", "checkout", "--start-at", instant) == 2
    assert fake.requests == []


@pytest.mark.parametrize(
    ("reply", "exit_code"),
    [
        ((200, {"parcel": 1}), 0),
        ((409, "run_failed"), 20),
        ((409, "run_cancelled"), 21),
        ((409, "run_blocked"), 22),
        ((404, "run_not_found"), 4),
    ],
)
@pytest.mark.parametrize("verb", ["wait", "start"])
def test_waiting_ends_as_the_run_ended(
    fake: Any, ask: Any, capsys: pytest.CaptureFixture[str], reply: tuple[int, Any], exit_code: int, verb: str
) -> None:
    """`wait` and `start --wait` print the result, or end with 20 (failed), 21 (cancelled), 22 (blocked)."""
    status, what = reply
    fake.on("POST", "/v1/runs", fake.Reply(201, {**view(), "created": True}))
    answer = fake.Reply(200, what) if status == 200 else fake.problem(status, what, "the cause")
    fake.on("GET", "/v1/runs/r1/result", fake.Reply(202, detail()), answer)

    assert ask(*(["wait", "r1"] if verb == "wait" else ["start", "checkout", "--wait"])) == exit_code

    captured = capsys.readouterr()
    assert captured.out == ('{"parcel":1}\n' if exit_code == 0 else "")
    assert ("the cause" in captured.err) == (exit_code != 0)


def test_waiting_gives_up_with_7(fake: Any, ask: Any, capsys: pytest.CaptureFixture[str]) -> None:
    """--timeout bounds the wait; the run goes on."""
    fake.on("GET", "/v1/runs/r1/result", fake.Reply(202, detail()))

    assert ask("wait", "r1", "--timeout", "0") == 7
    assert "It goes on; wait again." in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "body"),
    [
        (["signal", "r1", "go", '{"a": 1}', "--signal-id", "s"], {"name": "go", "value": {"a": 1}, "signal_id": "s"}),
        (["signal", "r1", "go"], {"name": "go", "value": None}),
        (["cancel", "r1", "--reason", "why"], {"reason": "why"}),
        (["pause", "r1"], {}),
        (["resume", "r1", "--reason", "ok"], {"reason": "ok"}),
        (["retry", "r1"], {}),
        (
            ["resolve", "r1", "2", "--happened", "--result", '"id"', "--reason", "asked"],
            {"call": "2", "happened": True, "result": "id", "reason": "asked"},
        ),
        (["resolve", "r1", "2", "--did-not-happen"], {"call": "2", "happened": False, "result": None}),
    ],
)
def test_steering(
    fake: Any, ask: Any, capsys: pytest.CaptureFixture[str], arguments: list[str], body: dict[str, Any]
) -> None:
    """Each verb posts to its route and says as which record it is on disk."""
    fake.on("POST", f"/v1/runs/r1/{arguments[0]}", fake.Reply(202, {"seq": 9, "id": "r1"}))

    assert ask(*arguments) == 0
    assert ask(*arguments, "--json") == 0

    assert fake.requests[0].json == body
    text, as_json = capsys.readouterr().out.splitlines()
    assert text.startswith("r1: ")
    assert text.endswith("(record 9)")
    assert json.loads(as_json) == {"seq": 9, "id": "r1"}


def test_fork_names_the_new_run(fake: Any, ask: Any, capsys: pytest.CaptureFixture[str]) -> None:
    """The point is wanted; what is printed is the new run, as text, JSON and id."""
    fake.on("POST", "/v1/runs/r1/fork", fake.Reply(202, {"seq": 9, "id": "r1:f7"}))

    assert ask("fork", "r1") == 2
    assert fake.requests == []
    assert ask("fork", "r1", "--at", "7") == 0
    assert ask("fork", "r1", "--at", "7", "--id", "r2", "--reason", "again", "-o", "id") == 0
    assert ask("fork", "r1", "--at", "7", "--json") == 0
    assert [request.json for request in fake.requests] == [
        {"at_seq": 7}, {"at_seq": 7, "id": "r2", "reason": "again"}, {"at_seq": 7},
    ]  # fmt: skip
    text, as_id, as_json = capsys.readouterr().out.splitlines()
    assert text == "r1:f7: begins with the past of r1 at record 7 (record 9)"
    assert (as_id, json.loads(as_json)) == ("r1:f7", {"seq": 9, "id": "r1:f7"})


def test_resolve_wants_to_know(fake: Any, ask: Any) -> None:
    """Whether it happened has no default: that is the question."""
    assert ask("resolve", "r1", "2") == 2
    assert fake.requests == []


def test_a_reason_goes_along_where_the_body_has_no_place_for_it(fake: Any, ask: Any) -> None:
    """--reason is taken everywhere: where no field holds it, a header takes it to the audit."""
    fake.on("POST", "/v1/runs/r1/signal", fake.Reply(202, {"seq": 9, "id": "r1"}))

    assert ask("signal", "r1", "go", "--reason", "wegen Müller, 100 %") == 0
    assert fake.requests[0].headers["runtimed-reason"] == "wegen M%C3%BCller, 100 %25"


def test_a_daemon_that_goes_away_in_the_middle(fake: Any, ask: Any, capsys: pytest.CaptureFixture[str]) -> None:
    """What was done before is told, the rest is tried all the same, and it ends with 8; with 3 if nothing was done."""
    fake.on("POST", "/v1/runs/a/cancel", fake.Reply(202, {"seq": 7, "id": "a"}))
    fake.on("POST", "/v1/runs/b/cancel", fake.CLOSE)
    fake.on("POST", "/v1/runs/c/cancel", fake.Reply(202, {"seq": 9, "id": "c"}))

    assert ask("cancel", "a", "b", "c", "-o", "id") == 8
    told = capsys.readouterr()
    assert (told.out.split(), "may have happened" in told.err) == (["a", "c"], True)
    assert ask("cancel", "b", "a") == 3
    assert capsys.readouterr().out == ""


def test_several_ids_partly_done(fake: Any, ask: Any, capsys: pytest.CaptureFixture[str]) -> None:
    """Of several, those that work are done; some failing ends with 8, all failing with the first one's code."""
    fake.on("POST", "/v1/runs/a/cancel", fake.Reply(202, {"seq": 9, "id": "a"}))
    fake.on("POST", "/v1/runs/b/cancel", fake.problem(404, "run_not_found", "there is no run b"))

    assert ask("cancel", "a", "b") == 8
    captured = capsys.readouterr()
    assert captured.out == "a: cancel is recorded (record 9)\n"
    assert "there is no run b" in captured.err

    assert ask("cancel", "a", "b", "--json") == 8
    done, failed = json.loads(capsys.readouterr().out)
    assert (done["seq"], failed["error"]["code"]) == (9, "run_not_found")
    assert ask("cancel", "b", "b") == 4


def test_the_views_are_the_contracts() -> None:
    """The fields that the table reads are fields of the view."""
    wanted = {"id", "workflow", "status", "created_at", "ended_at", "error", "waiting_on", "waiting_until"}

    assert wanted <= set(RunDetail.__struct_fields__)
