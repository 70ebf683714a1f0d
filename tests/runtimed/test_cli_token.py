"""`runtimed token`: made and shown once, listed, revoked."""

from __future__ import annotations

import json
import stat
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from actors.errors import InvalidInput
from runtimed.cli.inputs import read_duration
from runtimed.cli.main import run
from wal.journal import Journal
from wal.records import Entry, TokenCreated

TOKEN = {
    "id": "0123456789ab", "name": "ci", "role": "operator", "status": "active", "created_at": "2026-11-28T00:00:00.0Z",
    "created_by": "uid:0", "expires_at": None, "revoked_at": None, "used_at": None,
}  # fmt: skip
TEXT = "rtd_0123456789ab_" + "f" * 64


@pytest.fixture
def ask(fake: Any) -> Callable[..., int]:
    """`ask("create", "ci")`: the exit code of `runtimed token create ci` against the fake daemon."""
    fake.on("POST", "/v1/tokens", fake.Reply(201, TOKEN | {"token": TEXT}))
    fake.on("GET", "/v1/tokens", fake.Reply(200, {"items": [TOKEN], "next": None, "total": 1, "seq": 1}))
    return lambda *words: run(["token", *words, "--socket", str(fake.socket)])


def test_a_token_alone_goes_to_stdout(fake: Any, ask: Any, capsys: pytest.CaptureFixture[str]) -> None:
    """`create` prints the token and nothing else, so that it can be piped; what is to be known is on stderr."""
    assert ask("create", "ci", "--role", "operator", "--expires", "30d", "--reason", "deploys") == 0
    assert fake.requests[0].json == {"name": "ci", "role": "operator", "expires_in": 30 * 86_400.0, "reason": "deploys"}
    told = capsys.readouterr()
    assert told.out == TEXT + "\n"
    assert "0123456789ab: ci, operator; it is not shown again" in told.err
    assert TEXT not in told.err
    assert ask("create", "ci", "--role", "operator", "-o", "json") == 0
    assert json.loads(capsys.readouterr().out)["token"] == TEXT
    assert ask("create", "ci") == 2


def test_a_token_may_go_into_a_file_instead(
    fake: Any, ask: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """`--save` writes a new file of mode 0600 and shows nothing; an existing file is left alone, before anything is
    made, and a refusal leaves no file behind."""
    path = tmp_path / "token"
    assert ask("create", "ci", "--role", "viewer", "--save", str(path)) == 0
    assert path.read_text() == TEXT + "\n"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert TEXT not in "".join(capsys.readouterr())
    assert ask("create", "ci", "--role", "viewer", "--save", str(path)) == 2
    assert len(fake.requests) == 1
    fake.on("POST", "/v1/tokens", fake.problem(409, "token_exists", "there is one"))
    assert ask("create", "ci", "--role", "viewer", "--save", str(tmp_path / "other")) == 5
    assert not (tmp_path / "other").exists()


def test_tokens_are_listed_and_revoked(fake: Any, ask: Any, capsys: pytest.CaptureFixture[str]) -> None:
    """`list` shows who has which role; `revoke` takes ids or names, and a reason."""
    assert ask("list") == 0
    assert "0123456789ab  ci    operator  active" in capsys.readouterr().out
    fake.on("POST", "/v1/tokens/ci/revoke", fake.Reply(202, {"seq": 9, "id": "0123456789ab"}))
    assert ask("revoke", "ci", "--reason", "leaked") == 0
    assert fake.requests[-1].json == {"reason": "leaked"}
    assert capsys.readouterr().out == "ci: revoked (record 9)\n"


def test_tokens_are_listed_from_the_file_while_the_daemon_is_down(
    short_dir: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """With --data-dir `list` says who has access when nobody answers; to make or revoke one takes the daemon."""
    facts = [TokenCreated("a" * 12, "ci", "viewer", "d", None), TokenCreated("b" * 12, "old", "admin", "e", 2)]
    with Journal.open(short_dir / "journal.db") as journal:
        journal.commit([Entry(seq, 0, 0, 1, fact) for seq, fact in enumerate(facts, 1)])
    assert run(["token", "list", "--data-dir", str(short_dir), "--json"]) == 0
    items = json.loads(capsys.readouterr().out)["items"]
    assert [(one["name"], one["role"], one["status"]) for one in items] == [
        ("ci", "viewer", "active"),
        ("old", "admin", "expired"),
    ]
    assert run(["token", "revoke", "ci", "--data-dir", str(short_dir)]) == 3


@pytest.mark.parametrize("name", ["", "a b", "x" * 65, "a\n"])
def test_a_name_that_is_none_is_told_in_words(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    """What a name may be made of, before anybody is asked."""
    assert run(["token", "create", name, "--role", "viewer"]) == 2
    assert "1 to 64 letters, digits, dots, dashes, underscores" in capsys.readouterr().err


@pytest.mark.parametrize(("text", "seconds"), [("90", 90), ("1.5h", 5_400), ("30d", 2_592_000), ("2w", 1_209_600)])
def test_times_have_units(text: str, seconds: float) -> None:
    """Seconds, minutes, hours, days and weeks."""
    assert read_duration(text, "--expires") == seconds


@pytest.mark.parametrize("text", ["", "0", "0d", "-1d", "1y", "d", "1 d", "1e9", "inf", "nan"])
def test_what_is_no_time_is_refused(text: str) -> None:
    """Nothing is guessed."""
    with pytest.raises(InvalidInput):
        read_duration(text, "--expires")
