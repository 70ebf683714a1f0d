"""`runtimed approvals`: what is shown, what is sent, and that nothing is decided by accident."""

from __future__ import annotations

import io
import json
import sys
from pathlib import Path
from typing import Any

import msgspec
import pytest
from msgspec import Raw

from runtimed.cli.main import run
from wal import records
from wal.journal import Journal
from wal.records import Entry
from wal.views import ApprovalView, Vote

HASH = "7f3a91c2" + "0" * 56
FORM = {
    "$ref": "#/$defs/Refund",
    "$defs": {
        "Refund": {
            "type": "object",
            "properties": {
                "cents": {"type": "integer"},
                "to": {"$ref": "#/$defs/To"},
                "note": {"anyOf": [{"type": "string"}, {"type": "null"}]},
            },
            "required": ["cents"],
        },
        "To": {"enum": ["card", "voucher"]},
    },
}


def view(**changes: Any) -> dict[str, Any]:
    asked = ApprovalView(
        id="812", run_id="7f3a2c", workflow="refund", call="4", title="refund EUR 1240", detail=Raw(b'{"order": 991}'),
        form=Raw(b"null"), roles=["ops"], quorum=1, risk="low", four_eyes=True, status="open",
        requested_at="2026-01-31T11:49:10.000001Z", expires_at="2026-01-31T12:49:10.000001Z", payload_hash=HASH,
        votes=[], decided_at=None,
    )  # fmt: skip
    shown: dict[str, Any] = json.loads(msgspec.json.encode(msgspec.structs.replace(asked, **changes)))
    return shown


def decided(approve: bool = True, **changes: Any) -> dict[str, Any]:
    vote = Vote("uid:1000", approve, "why", "2026-01-31T12:00:00.000001Z", "kim pts/3")
    status = "approved" if approve else "refused"
    return view(**({"status": status, "votes": [vote], "decided_at": vote.at} | changes))


@pytest.fixture
def ask(fake: Any) -> Any:
    """`ask("list", ...)` runs `runtimed approvals list ...` against the fake daemon."""
    return lambda *arguments: run(["approvals", *arguments, "--socket", str(fake.socket)])


def _serve(fake: Any, shown: dict[str, Any], answer: Any = None) -> None:
    fake.on("GET", "/v1/approvals/812", fake.Reply(200, shown))
    fake.on("POST", "/v1/approvals/812/decide", answer or fake.Reply(200, decided()))


def _sent(fake: Any) -> list[Any]:
    return [request.json for request in fake.requests if request.method == "POST"]


def test_list(fake: Any, ask: Any, capsys: pytest.CaptureFixture[str]) -> None:
    """What is open, a line each; the filters go into the query; titles cannot act on the terminal."""
    page = {"items": [view(title="pay \x1b[2J"), view(id="9", risk="high")], "next": None, "total": 2, "seq": 9}
    fake.on("GET", "/v1/approvals", fake.Reply(200, page))
    assert ask("list") == 0
    assert ask("list", "--status", "all", "--run", "r1", "-o", "id") == 0
    captured = capsys.readouterr()
    assert captured.out.splitlines()[1].split() == [
        "812", "open", "LOW", "7f3a2c", "2026-01-31T11:49:10Z", "2026-01-31T12:49:10Z", "0/1", "pay", "\\x1b[2J",
    ]  # fmt: skip
    assert captured.out.splitlines()[-2:] == ["812", "9"]
    assert fake.requests[0].query == [("status", "open"), ("limit", "50")]
    assert fake.requests[1].query == [("run_id", "r1"), ("limit", "50")]


def test_show(fake: Any, ask: Any, capsys: pytest.CaptureFixture[str]) -> None:
    """The card says what is asked, for whom, what silence means, the votes, the detail, the form and the hash."""
    vote = Vote("uid:7", True, "goods \x07 back", "2026-01-31T11:52:00.000001Z", "alice pts/1 ssh 10.0.4.9")
    fake.on("GET", "/v1/approvals/812", fake.Reply(200, view(quorum=2, votes=[vote]) | {"form": FORM}))
    assert ask("show", "812") == 0
    assert ask("show", "812", "--json") == 0
    *lines, as_json = capsys.readouterr().out.splitlines()
    assert [line.strip() for line in lines] == [
        "approval 812  refund EUR 1240  LOW risk  open",
        "asked by   run 7f3a2c of refund, call 4, since 2026-01-31T11:49:10Z",
        "for        those with the role ops, but not who started the run",
        "if silent  refused at 2026-01-31T12:49:10Z",
        "votes      1 of 2 needed",
        'uid:7 (alice pts/1 ssh 10.0.4.9) approved at 2026-01-31T11:52:00Z  "goods \\x07 back"',
        "detail     order  991",
        "form       cents: integer (required)",
        "to: card | voucher",
        "note: string or null",
        f"payload    sha256 {HASH}",
    ]
    assert json.loads(as_json)["payload_hash"] == HASH


def test_a_pipe_is_not_asked(fake: Any, ask: Any, capsys: pytest.CaptureFixture[str]) -> None:
    """Without a terminal nothing is decided, unless it was said what: --payload-hash, or --yes for what is there."""
    _serve(fake, view())
    assert ask("approve", "812", "--reason", "fine") == 2
    assert "--payload-hash 7f3a91c20000" in capsys.readouterr().err
    assert _sent(fake) == []
    assert ask("approve", "812", "--reason", "fine", "--yes") == 0
    captured = capsys.readouterr()
    assert captured.out == "812: approved by uid:1000 (kim pts/3)\n"
    assert "refund EUR 1240" in captured.err
    assert _sent(fake) == [{"approve": True, "payload_hash": HASH, "data": None, "reason": "fine"}]


def test_a_hash_or_its_beginning_is_enough(fake: Any, ask: Any) -> None:
    """The whole hash is sent as it is; a prefix is checked against what is there; another one is 5, a short one 2."""
    _serve(fake, view())
    assert ask("approve", "812", "--payload-hash", HASH) == 0
    assert [request.method for request in fake.requests] == ["POST"]
    assert ask("approve", "812", "--payload-hash", HASH[:8].upper()) == 0
    assert ask("approve", "812", "--payload-hash", "0" * 8) == 5
    assert ask("approve", "812", "--payload-hash", HASH[:7]) == 2
    assert [body["payload_hash"] for body in _sent(fake)] == [HASH, HASH]


def test_deny(fake: Any, ask: Any, capsys: pytest.CaptureFixture[str]) -> None:
    """A refusal needs its reason and no confirmation; what was refused is shown."""
    _serve(fake, view(), fake.Reply(200, decided(False)))
    assert ask("deny", "812") == 2
    assert ask("deny", "812", "--reason", " ") == 2
    assert _sent(fake) == []
    assert ask("deny", "812", "--reason", "duplicate", "-o", "json") == 0
    assert json.loads(capsys.readouterr().out)["status"] == "refused"
    assert _sent(fake) == [{"approve": False, "payload_hash": HASH, "data": None, "reason": "duplicate"}]


def test_what_is_missing_is_said_before_asking(fake: Any, ask: Any, capsys: pytest.CaptureFixture[str]) -> None:
    """High risk needs a reason; a form needs data, and its fields are named."""
    _serve(fake, view(risk="high"))
    assert ask("approve", "812", "--yes") == 2
    assert "--reason" in capsys.readouterr().err
    _serve(fake, view() | {"form": FORM})
    assert ask("approve", "812", "--yes") == 2
    assert "cents: integer (required)" in capsys.readouterr().err
    assert _sent(fake) == []


def test_data(fake: Any, ask: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What the form asks for comes as JSON, from a file or from stdin."""
    _serve(fake, view() | {"form": FORM})
    (tmp_path / "refund.json").write_text('{"cents": 2}')
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(b'{"cents": 3}')))
    for data in ('{"cents": 1}', f"@{tmp_path / 'refund.json'}", "-"):
        assert ask("approve", "812", "--yes", "--data", data) == 0
    assert [body["data"]["cents"] for body in _sent(fake)] == [1, 2, 3]
    assert ask("approve", "812", "--yes", "--data", "{") == 2


def test_a_vote_that_does_not_settle_it(fake: Any, ask: Any, capsys: pytest.CaptureFixture[str]) -> None:
    """One of two is told as one of two."""
    _serve(fake, view(quorum=2), fake.Reply(200, decided(status="open", quorum=2, decided_at=None)))
    assert ask("approve", "812", "--yes") == 0
    assert capsys.readouterr().out == "812: your yes is recorded; 1 of 2 needed\n"


@pytest.mark.parametrize(
    ("status", "code", "exit_code", "words"),
    [
        (409, "approval_closed", 5, "approvals show"),
        (409, "stale_payload", 5, "decide anew"),
        (409, "already_voted", 5, "Somebody else"),
        (403, "not_allowed", 6, ""),
        (404, "approval_not_found", 4, "approvals list"),
    ],
)
def test_refusals(
    fake: Any, ask: Any, capsys: pytest.CaptureFixture[str], status: int, code: str, exit_code: int, words: str
) -> None:
    """Each refusal ends with its code and says what to run next."""
    fake.on("POST", "/v1/approvals/812/decide", fake.problem(status, code, "kim was quicker"))
    assert ask("approve", "812", "--payload-hash", HASH) == exit_code
    told = capsys.readouterr().err
    assert "kim was quicker" in told and words in told


def test_from_the_file(short_dir: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """With the daemon down approvals are shown from the file, and cannot be decided."""
    monkeypatch.setattr("runtimed.cli.shell.SYSTEM_SOCKET", short_dir / "none")
    facts: list[Any] = [
        records.RunStarted(id="r1", workflow="refund", input=Raw(b"1")),
        records.ApprovalRequested("0", "Ship?", HASH),
    ]
    with Journal.open(short_dir / "journal.db") as journal:
        journal.commit([Entry(seq, 1, seq - 1, 1_770_000_000_000_000, fact) for seq, fact in enumerate(facts, 1)])
    folder = ["--data-dir", str(short_dir)]
    assert run(["approvals", "list", "-o", "id", *folder]) == 0
    assert run(["approvals", "show", "2", *folder]) == 0
    assert run(["approvals", "show", "7", *folder]) == 4
    assert run(["approvals", "approve", "2", "--yes", *folder]) == 3
    out = capsys.readouterr().out
    assert out.startswith("2\n") and "approval 2  Ship?" in out


def test_a_watching_pipe_is_told_news_only(
    fake: Any, ask: Any, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """`-w` in a pipe: a JSON line for what is new or has changed, and for what came back; a daemon that is away for a
    while is no news."""
    first, second = view(), view(id="813")
    changed = view(votes=[Vote("uid:7", True, None, "2026-01-31T12:00:00.000001Z")])
    pages = [[first], [first, second], [changed, second], [second], [first]]
    replies = [fake.Reply(200, {"items": items, "next": None, "total": 1, "seq": 1}) for items in pages]
    replies.insert(2, fake.problem(503, "draining", "the daemon is stopping"))
    fake.on("GET", "/v1/approvals", *replies)
    looks = iter(range(len(replies) - 1))

    def sleep(seconds: float) -> None:
        if next(looks, None) is None:
            raise KeyboardInterrupt

    monkeypatch.setattr("runtimed.cli.shell.time.sleep", sleep)
    assert ask("list", "-w") == 130
    told = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [(each["id"], len(each["votes"])) for each in told] == [("812", 0), ("813", 0), ("812", 1), ("812", 0)]


def test_ids_are_completed(fake: Any, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """A shell that asks for completions gets open approvals and runs by prefix, with a word about each; or nothing."""
    page = {"items": [view(title="pay \x1b now"), view(id="99")], "next": None, "total": 2, "seq": 9}
    fake.on("GET", "/v1/approvals", fake.Reply(200, page))
    runs = {"items": [{"id": "order-1", "workflow": "w", "status": "waiting"}], "next": None, "total": 1, "seq": 1}
    fake.on("GET", "/v1/runs", fake.Reply(200, runs))
    monkeypatch.setenv("_RUNTIMED_COMPLETE", "bash_complete")

    def complete(words: str, number: int) -> list[str]:
        monkeypatch.setenv("COMP_WORDS", words)
        monkeypatch.setenv("COMP_CWORD", str(number))
        with pytest.raises(SystemExit):
            run([])
        return capsys.readouterr().out.split()

    socket = f"--socket {fake.socket}"
    assert complete(f"runtimed approvals approve {socket} 8", 5) == ["plain,812"]
    assert complete(f"runtimed runs explain {socket} ", 5) == ["plain,order-1"]
    assert complete("runtimed approvals approve --socket /nowhere/x 8", 5) == []
