"""The command line on the file: the same answers as from the daemon, and nothing that could change it."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path
from typing import Any

import pytest
from msgspec import Raw

from runtimed.cli.main import run
from tests.runtimed.stranger import as_a_stranger, closed
from wal import records
from wal.journal import Journal
from wal.lock import DataFolderLock
from wal.records import Entry

AT = 1_770_000_000_000_000


@pytest.fixture(autouse=True)
def _elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))
    for name in ("STATE_DIRECTORY", "RUNTIME_DIRECTORY", "XDG_STATE_HOME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr("runtimed.cli.shell.SYSTEM_SOCKET", tmp_path / "none")


@pytest.fixture
def folder(short_dir: Path) -> Path:
    """A data folder whose daemon is down: one run that has completed with one output, one session, one value."""
    facts: list[tuple[int, int, Any]] = [
        (1, 0, records.RunStarted(id="r1", workflow="checkout", input=Raw(b'{"cents":5}'))),
        (1, 1, records.StepScheduled("0", "charge", Raw(b"[[],{}]"))),
        (1, 2, records.StepCompleted("0", "charge", Raw(b'"c"'))),
        (1, 3, records.OutputEmitted("1", Raw(b'{"half":true}'))),
        (1, 4, records.RunCompleted(Raw(b'"done"'))),
        (0, 0, records.SessionOpened(id="s1", tenant="acme")),
        (0, 0, records.StateWritten(key="", scope="global", name="k", version=1, value=Raw(b"[1]"))),
    ]
    entries = [Entry(seq, key, before, AT + seq, fact) for seq, (key, before, fact) in enumerate(facts, 1)]
    with Journal.open(short_dir / "journal.db") as journal:
        journal.commit(entries)
    return short_dir


@pytest.mark.parametrize(
    ("arguments", "path", "expected"),
    [
        (["runs", "list"], ["items", 0, "id"], "r1"),
        (["runs", "list", "--status", "failed"], ["items"], []),
        (["runs", "show", "r1"], ["result"], "done"),
        (["runs", "history", "r1"], ["items", 2, "kind"], "step_completed"),
        (["runs", "history", "r1", "--after", "4"], ["items", 0, "seq"], 5),
        (["runs", "output", "r1"], ["items", 0, "value"], {"half": True}),
        (["runs", "explain", "r1"], ["because", 1], "So far: 1 step is done."),
        (["sessions", "list"], ["items", 0, "tenant"], "acme"),
        (["sessions", "show", "s1"], ["status"], "open"),
        (["state", "get", "global", "k"], ["value"], [1]),
        (["state", "list", "global"], ["items", 0, "version"], 1),
        (["journal", "stats"], ["seq"], 7),
        (["journal", "verify"], ["ok"], True),
        (["journal", "sql", "select id from runs"], [0, "id"], "r1"),
    ],
)
def test_reading_works_without_a_daemon(
    folder: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], path: list[Any], expected: Any
) -> None:
    """With --data-dir and no daemon the file answers, with the JSON that HTTP gives, and a note says so."""
    assert run([*arguments, "--data-dir", str(folder), "--json"]) == 0

    captured = capsys.readouterr()
    found = json.loads(captured.out)
    for part in path:
        found = found[part]
    assert found == expected
    if arguments[0] != "journal":
        assert f"the daemon is down; read from {folder}/journal.db as of record 7" in captured.err


@pytest.mark.parametrize(
    "arguments",
    [["runs", "show", "no"], ["runs", "history", "no"], ["sessions", "show", "no"], ["state", "get", "global", "no"]],
)
def test_what_is_not_there_ends_with_4_also_on_the_file(folder: Path, arguments: list[str]) -> None:
    """Not found is 4, whoever answers."""
    assert run([*arguments, "--data-dir", str(folder)]) == 4


@pytest.mark.parametrize(
    "arguments",
    [
        ["runs", "start", "checkout"],
        ["runs", "cancel", "r1"],
        ["runs", "wait", "r1"],
        ["sessions", "close", "s1"],
        ["state", "put", "global", "k", "1"],
        ["actors", "tree"],
        ["events", "-f"],
    ],
)
def test_changing_needs_the_daemon(folder: Path, arguments: list[str]) -> None:
    """Nothing is ever written to the file by the command line; what needs the daemon ends with 3."""
    before = (folder / "journal.db").read_bytes()

    assert run([*arguments, "--data-dir", str(folder)]) == 3
    assert (folder / "journal.db").read_bytes() == before


def test_the_file_is_read_only_when_it_is_asked_for(
    folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without --data-dir a daemon that is down is an error, which says how to read the file."""
    monkeypatch.setenv("STATE_DIRECTORY", str(folder))

    assert run(["runs", "list"]) == 3
    assert f"can be read with --data-dir {folder}" in capsys.readouterr().err
    assert run(["runs", "list", "--socket", str(folder / "no.sock"), "--data-dir", str(folder)]) == 3


def test_events_from_the_file(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The records of the file, filtered as the feed is."""
    assert run(["events", "--data-dir", str(folder), "--after", "2", "--run", "r1", "-o", "id"]) == 0
    assert capsys.readouterr().out.split() == ["3", "4", "5"]


def test_explain_by_id(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """-o id is the id, of what is explained too."""
    assert run(["runs", "explain", "r1", "--data-dir", str(folder), "-o", "id"]) == 0
    assert capsys.readouterr().out == "r1\n"


def test_status_of_a_daemon_that_is_down(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Status says what the file tells, and still ends with 3: a probe must not take it for well."""
    assert run(["status", "--data-dir", str(folder)]) == 3
    assert run(["status", "--data-dir", str(folder), "--json"]) == 3

    *lines, as_json = capsys.readouterr().out.splitlines()
    assert [line.split() for line in lines] == [["status", "down"], ["records", "7"], ["runs", "1", "completed"]]
    assert json.loads(as_json)["runs"] == {"completed": 1}


def test_a_name_that_is_no_text_is_told(folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A file whose name is not UTF-8, which SQLite does not take, ends with 2 and a line."""
    file = tmp_path / "x\udcff.db"
    shutil.copy(folder / "journal.db", file)
    assert run(["journal", "verify", str(file)]) == 2
    assert "is not text in UTF-8" in capsys.readouterr().err


def test_sql_in_every_output(folder: Path, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    """Rows as a table, as JSON, a line each; SQL from a file; a limit that says when there was more."""
    file = tmp_path / "q.sql"
    file.write_text("select id, x'00ff' as b, null as n from runs union all select 'x', 1, 2 order by 1")
    options = ["--data-dir", str(folder)]

    assert run(["journal", "sql", f"@{file}", *options]) == 0
    assert run(["journal", "sql", f"@{file}", *options, "-o", "jsonl", "--limit", "1"]) == 0

    captured = capsys.readouterr()
    *table, line = captured.out.splitlines()
    assert [row.split() for row in table] == [["id", "b", "n"], ["r1", "x'00ff'", "-"], ["x", "1", "2"]]
    assert json.loads(line) == {"id": "r1", "b": "x'00ff'", "n": None}
    assert "only the first 1 rows" in captured.err


def test_sql_ends_with_the_time_it_may_take(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """--timeout bounds a query too: one without an end ends with 7."""
    endless = "with recursive n(i) as (select 1 union all select i + 1 from n) select count(*) from n"

    assert run(["journal", "sql", endless, "--data-dir", str(folder), "--timeout", "0.05"]) == 7
    assert "has not ended within 0.05 s" in capsys.readouterr().err


def test_sql_loses_no_column(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Columns of one name are shown in a table; JSON, which would hold the last alone, refuses them."""
    command = ["journal", "sql", "select 1 as b, 2 as b", "--data-dir", str(folder)]

    assert run(command) == 0
    assert capsys.readouterr().out.split() == ["b", "b", "1", "2"]
    for output in ("json", "jsonl"):
        assert run([*command, "-o", output]) == 2
    assert "several columns are called 'b'" in capsys.readouterr().err


@pytest.mark.parametrize("statement", ["delete from runs", "drop table runs", "selec", "select * from nope", "vacuum"])
def test_sql_cannot_write(folder: Path, statement: str) -> None:
    """What SQLite refuses ends with 2, and the file is as before."""
    before = (folder / "journal.db").read_bytes()

    assert run(["journal", "sql", statement, "--data-dir", str(folder)]) == 2
    assert (folder / "journal.db").read_bytes() == before


def test_no_journal_ends_with_4(short_dir: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A folder without a journal is named."""
    assert run(["journal", "stats", "--data-dir", str(short_dir)]) == 4
    assert f"there is no journal at {short_dir}/journal.db" in capsys.readouterr().err
    assert run(["journal", "stats", "--socket", "x"]) == 2


def test_a_foreign_file_ends_with_78(short_dir: Path) -> None:
    """A file that is no journal is refused, by reading commands too."""
    (short_dir / "journal.db").write_bytes(b"hello" * 100)

    assert run(["journal", "stats", "--data-dir", str(short_dir)]) == 78
    assert run(["runs", "list", "--data-dir", str(short_dir)]) == 78


def test_verify_finds_damage(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A changed byte is found; verify ends with 78."""
    file = folder / "journal.db"
    data = bytearray(file.read_bytes())
    data[data.rindex(b"checkout")] ^= 0x20
    file.write_bytes(data)

    assert run(["journal", "verify", "--data-dir", str(folder)]) == 78
    assert "is damaged" in capsys.readouterr().err


def test_the_audit_is_read_from_the_file_across_what_it_does_not_hold(
    short_dir: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """`journal audit` goes on over stretches without a call, page by page, and shows who, what, from where and why,
    escaped; `--after` begins later."""
    said = records.CallAudited("run.cancel", "r1", "uid:7", "eve pts/1", "a\x1b[2J b", "t")
    quiet = [records.StateWritten(key="", scope="global", name="k", version=n + 1) for n in range(25_000)]
    facts: list[Any] = [said, *quiet, records.CallAudited("token.revoke", "abc", "token:ci", "10.0.0.7", None, "t")]
    with Journal.open(short_dir / "journal.db") as journal:
        for at in range(0, len(facts), 5_000):
            part = facts[at : at + 5_000]
            journal.commit([Entry(at + n, 0, 0, AT, fact) for n, fact in enumerate(part, 1)])

    assert run(["journal", "audit", "--data-dir", str(short_dir)]) == 0
    out = capsys.readouterr().out
    assert "uid:7     run.cancel    r1      eve pts/1" in out
    assert "token:ci  token.revoke  abc     10.0.0.7" in out
    assert "\x1b" not in out
    assert run(["journal", "audit", "--after", "1", "-o", "id", "--data-dir", str(short_dir)]) == 0
    assert capsys.readouterr().out == "25002\n"


def test_a_daemon_that_listens_elsewhere_is_not_down(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Who holds the folder is up, though not at its socket: that is said, reading goes on with the file, and nothing
    is done beside it, nor is starting another the advice."""
    named, held = ["--data-dir", str(folder)], f"pid {os.getpid()} holds {folder}, but does not answer at"
    with DataFolderLock(folder):
        assert run(["runs", "list", *named, "-o", "id"]) == 0
        read = capsys.readouterr()
        assert run(["status", *named]) == 3
        status = capsys.readouterr()
        refused = [run([*words, *named]) for words in (["journal", "backup", "b.db"], ["runs", "cancel", "r1"])]
        said = capsys.readouterr().err

    assert (read.out, held in read.err, "is down" in read.err) == ("r1\n", True, False)
    assert status.out.split()[:2] == ["status", "unreachable"]
    assert (refused, said.count(held), "runtimed serve" in said) == ([3, 3], 2, False)
    assert not Path("b.db").exists()


@pytest.mark.slow
def test_a_folder_that_is_closed_to_us_is_told_as_that(folder: Path, tmp_path: Path) -> None:
    """A service's data folder is its own: what reads the file says so, with the exit code for a daemon that is down or
    for what is not allowed, and nothing ends in a traceback."""
    environment = {"STATE_DIRECTORY": str(folder), "RUNTIME_DIRECTORY": str(tmp_path)}
    named = ["--data-dir", str(folder)]
    with closed(folder):
        reads = as_a_stranger(
            tmp_path / "none",
            *(["runs", "list", *named], ["runs", "explain", "r1"], ["events"], ["status"]),
            *(["journal", "stats"], ["journal", "verify", str(folder / "journal.db")], ["init", str(folder / "x")]),
            env=environment,
        )
        (doctor,) = as_a_stranger(tmp_path / "none", ["doctor", "--json"], env=environment)

    assert [each.code for each in reads] == [3, 3, 3, 3, 6, 6, 2]
    assert all(f"{folder}/journal.db, is not readable for this user" in each.err for each in reads[:3])
    assert "is not readable for this user" in reads[4].err
    found = {each["subject"]: each for each in json.loads(doctor.out)}
    assert (doctor.code, found["data folder"]["level"], found["daemon"]["level"]) == (1, "fail", "warn")
    assert "cannot be seen" in found["daemon"]["what"]
    assert {"journal", "rights", "backup"} & set(found) == set()


@pytest.mark.slow
def test_a_service_is_found_past_a_folder_that_is_closed_to_us(fake: Any, tmp_path: Path) -> None:
    """In a project folder whose data is another user's, a service that is up is asked; the doctor finds it too."""
    data = tmp_path / "data"
    data.mkdir()
    (tmp_path / "runtimed.toml").write_text('[daemon]\ndata_dir = "data"\n')
    fake.on("GET", "/v1/actors", fake.Reply(200, {"items": [], "next": None, "total": 0, "seq": 0}))
    fake.on("GET", "/health/detail", fake.Reply(200, {"status": "pass", "reasons": []}))
    with closed(data):
        tree, doctor = as_a_stranger(fake.socket, ["actors", "tree"], ["doctor", "--json"])

    assert tree.code == 0
    (found,) = [each for each in json.loads(doctor.out) if each["subject"] == "daemon"]
    assert (found["level"], f"a service is ready at {fake.socket}" in found["what"]) == ("ok", True)
