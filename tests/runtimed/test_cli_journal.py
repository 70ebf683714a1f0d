"""`runtimed journal backup|restore|gc`, and what explain and status tell of the journal's care."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from runtimed.cli.main import run
from wal import records as r
from wal.journal import Journal
from wal.records import Entry, OpenCallData
from wal.verify import verify


@pytest.fixture(autouse=True)
def _elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))
    for name in ("STATE_DIRECTORY", "RUNTIME_DIRECTORY", "XDG_STATE_HOME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr("runtimed.cli.shell.SYSTEM_SOCKET", tmp_path / "none")


@pytest.fixture
def folder(short_dir: Path) -> Path:
    """A data folder whose daemon is down, with a run that waits for a timer which is not there."""
    with Journal.open(short_dir / "journal.db") as journal:
        journal.commit(
            [
                Entry(1, 1, 0, 1, r.RunStarted("lost", "shop", r.Raw(b"1"))),
                Entry(2, 1, 1, 2, r.RunWaiting("timer", 5, [OpenCallData("0", "timer")])),
            ]
        )
    return short_dir


def test_without_a_daemon_the_file_is_backed_up_and_restored(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """To a file, and into the folder of backups; restored into another folder; each told as JSON and in words."""
    data = ["--data-dir", str(folder)]
    assert run(["journal", "backup", "mine.db", *data, "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert (told["path"], told["seq"]) == (str(tmp_path / "mine.db"), 2)
    assert run(["journal", "backup", *data, "-o", "id"]) == 0
    path = Path(capsys.readouterr().out.strip())
    assert path.parent == folder / "backups"
    assert verify(path).problems == []
    assert run(["journal", "verify", "mine.db"]) == 0
    assert "2 records were read" in capsys.readouterr().out
    assert run(["journal", "backup", "mine.db", *data]) == 5
    assert "overwrites nothing" in capsys.readouterr().err

    into = ["--data-dir", str(tmp_path / "new")]
    for words in (["verify", "none.db"], ["restore", "none.db", *into]):
        assert run(["journal", *words]) == 4
        assert "there is no file none.db" in capsys.readouterr().err
    assert run(["journal", "restore", "mine.db", *into]) == 0
    said = capsys.readouterr()
    assert "now goes up to record 2, of 1970-01-01" in said.out
    assert run(["journal", "restore", "mine.db", *into]) == 5
    assert "--force" in capsys.readouterr().err
    assert run(["journal", "restore", "mine.db", "--force", "--json", *into]) == 0
    aside = json.loads(capsys.readouterr().out)["aside"]
    assert verify(aside).problems == []


def test_backups_and_forgetting_are_asked_of_a_daemon(
    fake: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The daemon gets absolute paths and seconds; what it did is told."""
    view = {"path": "/b/x.db", "seq": 9, "size_bytes": 2048, "seconds": 0.1, "at": "2026-01-01T00:00:00.000000Z"}
    fake.on("POST", "/v1/journal/backup", fake.Reply(201, view))
    gone = {"runs": 3, "records": 30, "answers": 2, "older_than": "2026-01-01T00:00:00.000000Z", "dry_run": True}
    fake.on("POST", "/v1/journal/gc", fake.Reply(200, gone))
    socket = ["--socket", str(fake.socket)]
    assert run(["journal", "backup", "x.db", "--reason", "before", *socket]) == 0
    assert "/b/x.db: 2.0 KiB, up to record 9" in capsys.readouterr().out
    assert run(["journal", "gc", "--dry-run", "--older-than", "1.5d", *socket]) == 0
    said = capsys.readouterr().out
    assert "3 runs with 30 records and 2 first answers to idempotency keys would be forgotten" in said
    asked = [json.loads(request.body) for request in fake.requests]
    assert asked[0] == {"path": str(tmp_path / "x.db"), "reason": "before"}
    assert asked[1] == {"dry_run": True, "older_than": 129_600.0}
    assert run(["journal", "gc", "--older-than", "soon", *socket]) == 2


def test_explain_says_that_nothing_will_wake_a_run(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A defect of ours is told as one, with what can be done about the run."""
    assert run(["runs", "explain", "lost", "--data-dir", str(folder)]) == 0
    said = capsys.readouterr().out
    assert "Nothing will wake it: it waits for a timer, and there is none." in said
    assert "runtimed runs cancel lost" in said


def test_status_tells_of_the_last_backup(fake: Any, capsys: pytest.CaptureFixture[str]) -> None:
    """How old it is and where, or that there is none."""
    for told, words in (
        ({"observedValue": 7_200.0, "output": "/b/x.db"}, "2.0 hours old: /b/x.db"),
        ({"observedValue": -7_200.0, "output": "/b/x.db"}, "dated 2.0 hours ahead of the clock: /b/x.db"),
        ({"output": "there is no backup"}, "none"),
    ):
        detail = {"status": "pass", "reasons": [], "checks": {"journal:backup": [told]}}
        fake.on("GET", "/health/detail", fake.Reply(200, detail))
        fake.on("GET", "/metrics", fake.Reply(200, {}))
        assert run(["status", "--socket", str(fake.socket)]) == 0
        line = next(line for line in capsys.readouterr().out.splitlines() if line.startswith("backup"))
        assert line.endswith(words)
