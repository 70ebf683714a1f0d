"""`runtimed connectors` and `runtimed records`: against a fake daemon, and on the file when there is none."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import click
import msgspec
import pytest
from msgspec import Raw

from runtimed.cli import completing
from runtimed.cli.connectors import connectors
from runtimed.cli.main import run
from runtimed.cli.options import global_options
from runtimed.cli.secret import secret
from runtimed.connectors.installing import Installed, Package
from tests.runtimed.test_client_connectors import VIEW
from wal import records
from wal.journal import Journal
from wal.records import Entry, StoredItem

AT = 1_770_000_000_000_000
HOSTILE = {**VIEW, "name": "crm", "kind": "singer", "status": "quarantined", "last_error": "boom \x1b[2J", "lag": None}


@pytest.fixture
def ask(fake: Any) -> Any:
    """`ask("connectors", "list", ...)` against the fake daemon."""
    return lambda *arguments: run([*arguments, "--socket", str(fake.socket)])


def page(*items: Any) -> dict[str, Any]:
    return {"items": list(items), "next": None, "total": len(items), "seq": 3}


def test_list_and_show(fake: Any, ask: Any, capsys: pytest.CaptureFixture[str]) -> None:
    """A line each; one in full ends with why it does not poll now; what is from outside is escaped."""
    fake.on("GET", "/v1/connectors", fake.Reply(200, page(VIEW, HOSTILE)))
    fake.on("GET", "/v1/connectors/charges", fake.Reply(200, VIEW))
    fake.on("GET", "/v1/connectors/crm", fake.Reply(200, HOSTILE))

    assert ask("connectors", "list") == 0
    assert ask("connectors", "list", "-o", "id") == 0
    assert ask("connectors", "list", "-o", "jsonl") == 0
    out = capsys.readouterr().out.splitlines()
    assert out[1].split() == [
        "charges", "stripe", "backoff", "2026-01-31T12:00:00Z", "2026-01-31T12:00:30Z", "80s", "12", "-", "3",
        '{"id":"ch_9"}',
    ]  # fmt: skip
    assert out[3:5] == ["charges", "crm"]
    assert [json.loads(line)["name"] for line in out[5:]] == ["charges", "crm"]

    assert ask("connectors", "show", "charges") == 0
    assert ask("connectors", "show", "crm") == 0
    assert ask("connectors", "show", "charges", "--json") == 0
    first, _, rest = capsys.readouterr().out.partition("name           crm")
    assert "It waits after a failure (503): it tries again by itself at 2026-01-31T12:00:30Z" in first
    assert "boom \\x1b[2J" in rest and "\x1b" not in rest
    assert json.loads(rest.splitlines()[-1]) == VIEW


def test_changes_name_what_came_of_each(fake: Any, ask: Any, capsys: pytest.CaptureFixture[str]) -> None:
    """Pause and resume go with their reason; of several, one that fails ends with 8 and is named."""
    for name in ("charges", "crm"):
        for verb in ("pause", "resume"):
            fake.on("POST", f"/v1/connectors/{name}/{verb}", fake.Reply(202, {"seq": 8, "id": name}))
    fake.on("POST", "/v1/connectors/charges/poll", fake.Reply(202, VIEW))
    fake.on("POST", "/v1/connectors/crm/poll", fake.problem(409, "connector_held", "crm is quarantined"))

    assert ask("connectors", "pause", "charges", "crm", "--reason", "audit") == 0
    assert ask("connectors", "resume", "charges", "-o", "id") == 0
    assert ask("connectors", "poll", "charges", "crm") == 8
    assert ask("connectors", "poll", "crm") == 5

    captured = capsys.readouterr()
    assert captured.out.splitlines() == [
        "charges: paused (record 8)", "crm: paused (record 8)", "charges", "charges: is asked to poll",
    ]  # fmt: skip
    assert "crm is quarantined" in captured.err
    assert fake.requests[0].json == fake.requests[1].json == {"reason": "audit"}


def test_reset_and_its_dry_run(fake: Any, ask: Any, capsys: pytest.CaptureFixture[str]) -> None:
    """A cursor is JSON, none is the beginning; a dry run tells sentence by sentence; bad JSON never leaves."""
    told = {"name": "charges", "status": "ok", "cursor": 7, "new_cursor": 3, "records_total": 3, "would": ["it reads"]}
    fake.on("POST", "/v1/connectors/charges/reset", fake.Reply(200, told), fake.Reply(202, {"seq": 8, "id": "charges"}))

    assert ask("connectors", "reset", "charges", "--cursor", "3", "--dry-run") == 0
    assert ask("connectors", "reset", "charges", "--cursor", "3", "--reason", "again", "--idempotency-key", "k") == 0
    assert ask("connectors", "reset", "charges") == 0
    assert ask("connectors", "reset", "charges", "--cursor", "{3") == 2

    captured = capsys.readouterr()
    assert captured.out.splitlines() == [
        "A reset of charges would do this; nothing is changed yet:", "  it reads", "charges: reset (record 8)",
        "charges: reset (record 8)",
    ]  # fmt: skip
    assert "--cursor is not JSON" in captured.err
    assert [request.json for request in fake.requests] == [
        {"cursor": 3, "dry_run": True}, {"cursor": 3, "reason": "again"}, {"cursor": None},
    ]  # fmt: skip
    assert fake.requests[1].headers["idempotency-key"] == "k"


def test_records(fake: Any, ask: Any, capsys: pytest.CaptureFixture[str]) -> None:
    """Streams with their sizes; a stream's records with keys, what is deleted said so; all pages with --all."""
    fake.on("GET", "/v1/records", fake.Reply(200, page({"name": "people", "records": 2})))
    first = {"seq": 1, "key": "a", "at": "2026-01-31T12:00:00.000000Z", "deleted": False, "data": {"n": 1}}
    second = {**first, "seq": 2, "key": "b", "deleted": True, "data": None}
    fake.on(
        "GET", "/v1/records/people",
        lambda request: fake.Reply(200, {**page(second), "total": None} if ("after", "1") in request.query
                                   else {**page(first), "next": "1", "total": None}),
    )  # fmt: skip

    assert ask("records", "streams") == 0
    assert ask("records", "list", "people", "--limit", "1") == 0
    assert ask("records", "list", "people", "--all", "-o", "id") == 0

    captured = capsys.readouterr()
    lines = captured.out.splitlines()
    assert lines[1].split() == ["people", "2"]
    assert lines[3].split() == ["1", "2026-01-31T12:00:00Z", "a", "-", '{"n":1}']
    assert lines[4:] == ["a", "b"]
    assert "--after 1" in captured.err


def test_names_are_completed(fake: Any) -> None:
    """Connectors by name with their status; streams with their size; secrets with their version."""
    fake.on("GET", "/v1/connectors", fake.Reply(200, page(VIEW, HOSTILE)))
    fake.on("GET", "/v1/records", fake.Reply(200, page({"name": "people", "records": 2})))
    command = global_options(click.Command("show"))
    with command.make_context("show", ["--socket", str(fake.socket)]) as context:
        named = completing.complete_connectors(context, context.command.params[0], "c")
        assert [(item.value, item.help) for item in named] == [
            ("charges", "stripe, backoff"), ("crm", "singer, quarantined"),
        ]  # fmt: skip
        streams = completing.complete_streams(context, context.command.params[0], "p")
        assert [(item.value, item.help) for item in streams] == [("people", "2 records")]
    fake.on("GET", "/v1/secrets", fake.Reply(200, page({"name": "stripe", "version": 2, "changed_at": "2026-01-31"})))
    with command.make_context("show", ["--socket", str(fake.socket)]) as context:
        named = completing.complete_secrets(context, context.command.params[0], "s")
        assert [(item.value, item.help) for item in named] == [("stripe", "version 2")]
        assert completing.complete_secrets(context, context.command.params[0], "x") == []
    for verb in ("set", "rotate", "delete"):
        named = [p._custom_shell_complete for p in secret.commands[verb].params if p.name == "name"]
        assert named == [completing.complete_secrets]
    for verb in ("show", "pause", "resume", "poll", "reset"):
        names = [p for p in connectors.commands[verb].params if p.name in ("name", "names")]
        assert [p._custom_shell_complete for p in names] == [completing.complete_connectors]


def test_show_says_what_is_installed(
    fake: Any, ask: Any, short_dir: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of a tap with an environment of its own: its packages with version, licence and hash. Not of a daemon that is
    somewhere else, whose data folder is not this one."""
    monkeypatch.setenv("RUNTIMED__DAEMON__DATA_DIR", str(short_dir))
    package = Package("tap-tiny", "1.0", "MIT \x1b[2J", "ab" * 32)
    (short_dir / "connectors" / "crm").mkdir(parents=True)
    told = Installed("3.11.7", [package], ["tap-tiny==1.0"], "2026-01-31T12:00:00Z", "environments/1")
    (short_dir / "connectors" / "crm" / "installed.json").write_bytes(msgspec.json.encode(told))
    fake.on("GET", "/v1/connectors/crm", fake.Reply(200, HOSTILE))

    assert run(["connectors", "show", "crm"]) == 0
    out = capsys.readouterr().out
    assert "tap-tiny  1.0      MIT \\x1b[2J  abababababababab" in out and "Python 3.11.7" in out
    assert ask("connectors", "show", "crm") == 0
    assert "tap-tiny" not in capsys.readouterr().out
    (short_dir / "connectors" / "crm" / "installed.json").write_text("{")
    assert run(["connectors", "show", "crm"]) == 0  # the rest is told all the same
    assert "installed.json cannot be read" in capsys.readouterr().err


# --- the file ---------------------------------------------------------------------------------------------------------


@pytest.fixture
def folder(short_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A data folder whose daemon is down: a connector that has read two records, and one that is paused."""
    monkeypatch.chdir(tmp_path)
    facts: list[Any] = [
        records.RecordsStored("people", [StoredItem("a", Raw(b'{"n":1}')), StoredItem("b", Raw(b"{}"))]),
        records.CursorAdvanced("people", Raw(b"7"), "files", 2),
        records.ConnectorPaused("crm", "uid:1", "audit"),
        records.CursorAdvanced("nightly", Raw(b"1"), "schedule", 1),
    ]
    with Journal.open(short_dir / "journal.db") as journal:
        journal.commit([Entry(seq, 0, 0, AT + seq, fact) for seq, fact in enumerate(facts, 1)])
    return short_dir


def test_the_file_tells_cursors_totals_and_what_is_held(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """With --data-dir and no daemon: the same JSON, out of the journal, with a note; why nothing polls."""
    place = ["--data-dir", str(folder)]
    assert run(["connectors", "list", "--json", *place]) == 0
    captured = capsys.readouterr()
    items = {item["name"]: item for item in json.loads(captured.out)["items"]}
    assert (items["people"]["cursor"], items["people"]["records_total"], items["people"]["status"]) == (7, 2, "ok")
    assert items["crm"]["status"] == "paused" and len(items) == 2  # a schedule has a list of its own
    assert "the daemon is down" in captured.err
    assert run(["connectors", "list", *place]) == 0
    row = next(line for line in capsys.readouterr().out.splitlines() if line.startswith("people")).split()
    assert row[-4:] == ["2", "-", "-", "7"]  # records, and what only a daemon counts: new ones lately, errors

    assert run(["connectors", "show", "people", *place]) == 0
    shown = capsys.readouterr().out
    assert "starting the daemon wakes it" in shown and "records total   2" in shown
    assert "errors total" not in shown  # the file does not know
    assert run(["records", "streams", "-o", "id", *place]) == 0
    assert run(["records", "list", "people", "-o", "id", *place]) == 0
    assert capsys.readouterr().out.split() == ["people", "a", "b"]


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        (["connectors", "show", "none"], 4),
        (["records", "list", "none"], 4),
        (["connectors", "pause", "people"], 3),
        (["connectors", "poll", "people"], 3),
        (["connectors", "reset", "people"], 3),
        (["connectors", "reset", "people", "--dry-run"], 3),
    ],
)
def test_what_is_not_there_is_4_and_changing_needs_the_daemon(folder: Path, arguments: list[str], code: int) -> None:
    """The file is never written, and not found is 4, whoever answers."""
    before = (folder / "journal.db").read_bytes()
    assert run([*arguments, "--data-dir", str(folder)]) == code
    assert (folder / "journal.db").read_bytes() == before
