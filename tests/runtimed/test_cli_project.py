"""init, check and doctor: a first project that holds together, and mistakes that are told before the daemon starts."""

from __future__ import annotations

import errno
import json
import os
import resource
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from runtimed.cli import examinations
from runtimed.cli.access_examination import access
from runtimed.cli.inputs import check_json, read_pairs
from runtimed.cli.main import run
from runtimed.settings import Settings, load
from runtimed.token_key import make_token_key
from runtimed.tokens import digest
from wal.journal import Journal
from wal.records import Entry, TokenCreated


@pytest.fixture(autouse=True)
def _elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))
    for name in ("STATE_DIRECTORY", "RUNTIME_DIRECTORY", "XDG_STATE_HOME"):
        monkeypatch.delenv(name, raising=False)
    path, modules = list(sys.path), set(sys.modules)
    yield
    sys.path[:] = path
    for name in set(sys.modules) - modules:
        if str(tmp_path) in str(getattr(sys.modules[name], "__file__", "")):
            del sys.modules[name]


def test_init_makes_a_project_that_checks(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """What init writes loads as it stands, from its folder and by --config from elsewhere."""
    assert run(["init", "d"]) == 0
    assert capsys.readouterr().out == "cd d && runtimed serve\n"

    assert run(["check", "--config", "d/runtimed.toml", "--json"]) == 0

    told = json.loads(capsys.readouterr().out)
    assert told["data_dir"] == str(tmp_path / "d" / "data")
    assert told["apps"][0]["workflows"] == [{"name": "checkout", "version": None}]
    charge = {"name": "charge", "delivery": "at_least_once", "transaction": False, "compensation": "refund"}
    assert charge in told["apps"][0]["steps"]


def test_init_touches_nothing_that_is_there(tmp_path: Path) -> None:
    """A folder with one of the files is refused with 5, and nothing is written."""
    (tmp_path / "flows.py").write_text("mine")

    assert run(["init", "."]) == 5
    assert [path.name for path in tmp_path.iterdir()] == ["flows.py"]
    assert (tmp_path / "flows.py").read_text() == "mine"


def test_init_where_it_cannot(tmp_path: Path) -> None:
    """A folder that cannot be made is named."""
    (tmp_path / "file").write_text("")

    assert run(["init", "file/d"]) == 2


def test_the_readme_of_init_names_commands_that_exist() -> None:
    """Each command line in the first project's README is one of ours."""
    from runtimed.cli.init import _FIRST
    from runtimed.cli.main import COMMANDS

    lines = [
        line.split() for line in (_FIRST / "README.md").read_text().splitlines() if line.startswith("    runtimed ")
    ]

    assert len(lines) >= 5
    assert [line[1] for line in lines if line[1] not in COMMANDS] == []


def test_check_as_text(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """What is registered, a line each."""
    run(["init", "."])
    capsys.readouterr()

    assert run(["check"]) == 0

    assert [line.split() for line in capsys.readouterr().out.splitlines()[1:]] == [
        ["first", "workflow", "checkout", "-"],
        ["first", "step", "charge", "undone", "by", "refund"],
        ["first", "step", "refund", "-"],
        ["first", "step", "ship", "-"],
    ]


def test_check_shows_connectors_and_webhooks(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """What comes from outside, of apps and of the configuration: what kind, and what becomes of a record; no secret."""
    (tmp_path / "flows.py").write_text(
        """
from runtimed import App, Context, Page, Poll
app = App("crm")
@app.workflow
async def onboard(ctx: Context, person: dict) -> None: ...
@app.connector(key="id", deliver=onboard)
async def people(poll: Poll[int]):
    yield Page()
@app.webhook(verify="stripe", secrets=["whsec_shown_to_nobody"], key="id", deliver=onboard)
class Events: ...
"""
    )
    (tmp_path / "runtimed.toml").write_text(
        """
[daemon]
apps = ["flows.py"]
[connectors.tap]
kind = "singer"
command = ["tap-crm"]
[webhooks.pushes]
verify = "github"
secrets = ["secret:hub"]
"""
    )

    assert run(["check"]) == 0

    text = capsys.readouterr().out
    assert [line.split() for line in text.splitlines()[2:]] == [
        ["crm", "connector", "people", "poller,", "to", "workflow:onboard"],
        ["-", "connector", "tap", "singer,", "to", "records"],
        ["crm", "webhook", "Events", "stripe,", "to", "workflow:onboard"],
        ["-", "webhook", "pushes", "github,", "to", "records"],
    ]
    assert run(["check", "--json"]) == 0
    told = capsys.readouterr().out
    assert json.loads(told)["connectors"] == [
        {"name": "people", "kind": "poller", "deliver": "workflow:onboard", "app": "crm"},
        {"name": "tap", "kind": "singer", "deliver": "records", "app": None},
    ]
    assert json.loads(told)["webhooks"][1] == {"name": "pushes", "kind": "github", "deliver": "records", "app": None}
    assert "whsec" not in text + told


@pytest.mark.parametrize(
    ("flows", "said"),
    [
        ("x = undefined\n", "flows.py:1: NameError: name 'undefined' is not defined"),
        ("x = 1\n", "no App in"),
        ("from runtimed import App\na = App('a')\nb = App('b')\n", "has several Apps"),
    ],
)
def test_check_tells_a_mistake_in_one_line_and_ends_with_78(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], flows: str, said: str
) -> None:
    """A module that cannot be used stops check, and serve, with the same sentence."""
    (tmp_path / "flows.py").write_text(flows)

    assert run(["check", "--app", "flows.py"]) == 78
    assert said in capsys.readouterr().err


def test_check_finds_a_name_that_would_begin_the_ids_of_two(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A connector and a webhook of one name that both start runs: what comes by one would be lost to the other."""
    (tmp_path / "flows.py").write_text(
        """
from runtimed import App, Context, Page, Poll
app = App("crm")
@app.workflow
async def onboard(ctx: Context, person: dict) -> None: ...
@app.connector(key="id", deliver=onboard)
async def people(poll: Poll[int]):
    yield Page()
"""
    )
    (tmp_path / "runtimed.toml").write_text(
        """
[daemon]
apps = ["flows.py"]
[webhooks.people]
verify = "github"
secrets = ["secret:hub"]
deliver = "workflow:onboard"
"""
    )
    assert run(["check"]) == 78
    assert "webhooks.people: expected a name of its own" in capsys.readouterr().err


def test_check_finds_names_that_two_apps_share(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Workflows are started by name, so a name belongs to one app."""
    for name in ("one", "two"):
        text = f"from runtimed import App\napp = App('{name}')\n@app.workflow\nasync def same(ctx): ...\n"
        (tmp_path / f"flows_{name}.py").write_text(text)

    assert run(["check", "--app", "flows_one.py", "--app", "flows_two.py"]) == 78
    assert "'same' is declared twice" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ('[access.levels]\nviewer = ["uid:no-such-user"]', "access.levels.viewer: there is no user 'no-such-user'"),
        ('[access.groups]\nops = ["gid:no-such-group"]', "access.groups.ops: there is no group 'no-such-group'"),
        (f'[access.levels]\nadmin = ["uid:{"9" * 5_000}"]', "access.levels.admin: there is no user '999"),
    ],
)
def test_people_that_there_are_not_are_found_before_the_start(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], text: str, said: str
) -> None:
    """check ends with 78 as serve would, and doctor has a failing finding: both name the file and the whole key."""
    (tmp_path / "runtimed.toml").write_text(text)

    assert run(["check"]) == 78
    assert f"{tmp_path}/runtimed.toml: {said}" in capsys.readouterr().err
    assert run(["doctor"]) == 1
    assert f"fail  access      {tmp_path}/runtimed.toml: {said}" in capsys.readouterr().out


def test_doctor_says_what_why_and_what_to_do(capsys: pytest.CaptureFixture[str]) -> None:
    """In a sound place with an app missing: a warning with its reason, and exit 0."""
    assert run(["doctor", "--json"]) == 0

    findings = {each["subject"]: each for each in json.loads(capsys.readouterr().out)}
    assert findings["sqlite"]["level"] == "ok"
    assert (findings["apps"]["level"], findings["apps"]["why"]) == ("warn", "no run can start")
    assert "--app" in findings["apps"]["next"]


def test_doctor_ends_with_1_if_something_is_wrong(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A setting, an app or a journal that stops the daemon is a failing finding."""
    (tmp_path / "journal.db").write_bytes(b"no journal" * 100)
    assert run(["doctor", "--data-dir", str(tmp_path)]) == 1
    assert "fail  journal     " in capsys.readouterr().out

    (tmp_path / "runtimed.toml").write_text("nonsense = 1")
    assert run(["doctor"]) == 1
    assert "unknown key" in capsys.readouterr().out


def test_doctor_goes_on_after_a_check_that_cannot_be_made(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A disk that takes nothing more, a data folder that is a file: a failing finding of that check, and all the others
    are there."""

    def full(path: Path) -> float:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    def told(*options: str) -> dict[str, dict[str, Any]]:
        assert run(["doctor", "--json", *options]) == 1
        return {each["subject"]: each for each in json.loads(capsys.readouterr().out)}

    (tmp_path / "file").touch()
    found = told("--data-dir", "file")
    assert (found["data folder"]["level"], found["disk"]["level"], "clock" in found) == ("fail", "fail", True)
    assert found["data folder"]["what"].endswith("is not a folder")
    monkeypatch.setattr(examinations, "_flush_ms", full)
    found = told("--data-dir", str(tmp_path))
    assert (found["disk"]["level"], "No space left" in found["disk"]["what"]) == ("fail", True)
    assert "clock" in found


def settings_of(folder: Path, **flags: Any) -> Settings:
    return load(None, {"HOME": "/"}, {"daemon.data_dir": str(folder), **flags})


def test_doctor_finds_who_holds_the_folder(short_dir: Path, fake: Any) -> None:
    """The pid of the lock's holder comes from the kernel; a holder that does not answer is a failing finding, and
    one whose socket is elsewhere a warning."""
    from wal.lock import DataFolderLock

    fake.on("GET", "/health/ready", fake.Reply(200, {"status": "pass"}), fake.Reply(503, {"status": "fail"}))
    settings = settings_of(short_dir)
    (free,) = examinations.daemon(settings)
    with DataFolderLock(short_dir):
        levels = [finding.level for _ in range(2) for finding in examinations.daemon(settings)]
        fake.socket.rename(short_dir / "elsewhere.sock")
        (elsewhere,) = examinations.daemon(settings)
        fake.socket.touch()
        (silent,) = examinations.daemon(settings)

    assert free.level == "ok"
    assert levels == ["ok", "warn"]
    assert (elsewhere.level, "status --socket" in elsewhere.next) == ("warn", True)
    assert silent.level == "fail"


def test_doctor_knows_network_disks_and_few_files(short_dir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A network filesystem is refused, memory is warned of, few file descriptors as well."""
    kinds = iter(["nfs4", "tmpfs", "ext4"])
    monkeypatch.setattr(examinations, "_filesystem", lambda path: next(kinds))
    settings = settings_of(short_dir)

    assert [next(examinations.folder(settings)).level for _ in range(3)] == ["fail", "warn", "ok"]

    monkeypatch.setattr("resource.getrlimit", lambda what: (256, 1_024))
    assert next(examinations.limits(settings)).level == "warn"
    monkeypatch.setattr("resource.getrlimit", lambda what: (256, 4096))
    assert next(examinations.limits(settings)).level == "ok"  # the daemon raises its own limit when it starts
    monkeypatch.setattr(examinations, "lock_holder", lambda path: 2**30)
    assert next(examinations.limits(settings)).level == "warn"  # but one that runs has what it has
    assert examinations._files_max(os.getpid()) == resource.prlimit(
        os.getpid(), resource.RLIMIT_NOFILE
    )  # a daemon's own
    assert examinations._files_max(2**30) == (256, 4096)  # one that ended just now


def test_doctor_finds_a_full_disk(short_dir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Less room than intake needs is a failing finding."""
    monkeypatch.setattr("shutil.disk_usage", lambda path: SimpleNamespace(free=1024))

    assert next(examinations.disk(settings_of(short_dir))).level == "fail"


def test_pairs_take_json_and_text() -> None:
    """NAME=VALUE: a value that is JSON is that value, other text is text."""
    assert read_pairs(["a=1", "b=x", "c=true", 'd="1"', "e="], "--attr") == {
        "a": 1, "b": "x", "c": True, "d": "1", "e": "",
    }  # fmt: skip


def test_valid_json_passes() -> None:
    """Anything that is JSON in UTF-8 passes the check."""
    check_json(' [1, {"é": null}]\n'.encode(), "INPUT")


def test_doctor_as_root_takes_a_services_files_for_what_they_are(
    short_dir: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A service's key belongs to the service's user, as its folder does: root, who examines it, finds nothing wrong.
    A key that is not the folder's owner's is."""
    key = make_token_key(short_dir)
    with Journal.open(short_dir / "journal.db") as journal:
        journal.commit([Entry(1, 0, 0, 1, TokenCreated("a" * 12, "ci", "viewer", digest(key, "a", "b"), None))])
    monkeypatch.setattr(os, "geteuid", lambda: os.getuid() + 1)
    assert not [each for each in access(settings_of(short_dir)) if each.level != "ok"]
    if os.getuid() == 0:
        os.chown(short_dir / "token.key", 65_000, -1)
        (wrong,) = [each for each in access(settings_of(short_dir)) if each.level != "ok"]
        assert "belongs to user 65000" in wrong.what


def test_doctor_explains_access(
    short_dir: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Who is let in, which tokens will expire, and why none counts: each in one sentence."""

    def told(bind: str = "") -> list[tuple[str, str]]:
        monkeypatch.setenv("RUNTIMED__HTTP__BIND", bind) if bind else monkeypatch.delenv("RUNTIMED__HTTP__BIND", False)
        run(["doctor", "--data-dir", str(short_dir), "--json"])
        found = json.loads(capsys.readouterr().out)
        return [(each["level"], each["what"]) for each in found if each["subject"] in ("access", "tokens")]

    assert told() == [("ok", "the unix socket alone")]
    assert "there is no token that counts" in told("0.0.0.0:1")[0][1]
    key = make_token_key(short_dir)
    soon = time.time_ns() // 1_000 + 3_600_000_000
    with Journal.open(short_dir / "journal.db") as journal:
        journal.commit([Entry(1, 0, 0, 1, TokenCreated("a" * 12, "ci", "viewer", digest(key, "a", "b"), soon))])
    assert told() == [("ok", "the unix socket alone, tokens: 1"), ("warn", "ci will expire within a week")]
    assert told("127.0.0.1:1")[0] == ("ok", "127.0.0.1:1, tokens: 1")
    assert told("0.0.0.0:1")[0][0] == "warn"
    (short_dir / "token.key").chmod(0o644)
    assert told()[-1] == ("fail", f"{short_dir / 'token.key'} is open to others (mode 0644)")
    (short_dir / "token.key").unlink()
    assert told()[-1] == ("fail", f"{short_dir / 'token.key'} is gone")
    with monkeypatch.context() as closed:
        closed.setattr("runtimed.cli.access_examination.is_closed", lambda path: True)
        assert told()[-1] == ("warn", f"{short_dir / 'token.key'} is gone")  # or a credential that we may not see
    (short_dir / "runtimed_token_key").write_bytes(key)
    monkeypatch.setattr("runtimed.cli.access_examination.CREDSTORES", [short_dir])
    assert told()[-1] == ("warn", "ci will expire within a week")  # the service has it as a credential
