"""The command line as a whole: help, exit codes, where words go, and that a command loads only what it needs."""

from __future__ import annotations

import json
import os
import pty
import shlex
import shutil
import subprocess
import sys
import termios
import tomllib
from pathlib import Path
from typing import Any

import pytest

from runtimed.cli import main
from runtimed.cli.main import COMMANDS, cli, run
from runtimed.version import VERSION

ROOT = Path(__file__).parents[2]


@pytest.fixture(autouse=True)
def _elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No settings, sockets or folders of this machine take part."""
    monkeypatch.chdir(tmp_path)
    for name in [name for name in os.environ if name.startswith(("RUNTIMED", "STATE_DIR", "RUNTIME_DIR", "XDG_"))]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("HOME", str(tmp_path))


def process(*arguments: str, **options: Any) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-P", "-m", "runtimed", *arguments]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)} | options.pop("env", {})
    return subprocess.run(command, capture_output=True, text=True, check=False, env=environment, **options)


def loaded_by(*arguments: str) -> set[str]:
    """The packages that a command line loads."""
    program = (
        "import sys; from runtimed.cli.main import run\n"
        f"run({list(arguments)!r})\n"
        "print('LOADED', *{name.partition('.')[0] for name in sys.modules})"
    )
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        [sys.executable, "-P", "-c", program], capture_output=True, text=True, check=True, env=environment
    )
    return set(done.stdout.rpartition("LOADED")[2].split())


@pytest.mark.parametrize("name", COMMANDS)
def test_each_command_exists_and_has_the_help_that_the_list_shows(
    name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """The list of commands is kept apart from them, so that it need not load them; it says what they say."""
    assert run([name, "--help"]) == 0

    shown = " ".join(capsys.readouterr().out.split())
    first_word = COMMANDS[name][1].split()[0]
    assert f" {first_word} " in shown


def test_help_lists_the_nouns(capsys: pytest.CaptureFixture[str]) -> None:
    """`runtimed --help` shows every noun with its help."""
    assert run(["--help"]) == 0

    out = capsys.readouterr().out
    assert [name for name, (_, text) in COMMANDS.items() if name not in out or text not in out] == []


def test_version(capsys: pytest.CaptureFixture[str]) -> None:
    """The version is that of the packaging, in text and as JSON."""
    packaged = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]

    assert run(["version"]) == 0
    assert run(["version", "-o", "json"]) == 0
    assert run(["--version"]) == 0

    first, second, third = capsys.readouterr().out.splitlines()
    assert first == third == f"runtimed {packaged}" == f"runtimed {VERSION}"
    assert json.loads(second)["version"] == packaged


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["rnus"], "Did you mean runs?"),
        (["runs", "lisst"], "No such command 'lisst'"),
        (["runs", "list", "--nope"], "No such option"),
        (["runs", "list", "--status", "odd"], "'odd' is not one of"),
        (["runs", "show"], "Missing argument"),
        (["runs", "list", "--limit", "0"], "0 is not in the range"),
        (["--url", "http://x", "--socket", "y", "runs", "list"], "--url names a daemon elsewhere"),
        (["runs", "list", "--timeout", "nan"], "nan is not a finite number"),
        (["sessions", "open", "--ttl", "inf"], "inf is not a finite number"),
        (["secret", "rotate", "x", "--grace", "nan"], "nan is not a finite number"),
        (["serve", "--drain-delay", "nan"], "nan is not a finite number"),
        (["--url", "http://[::1", "runs", "list"], "is not a URL of a daemon"),
        (["runs", "history", "x", "--after", "99999999999999999999"], "is not in the range"),
        (["records", "list", "x", "--after", "99999999999999999999"], "is not in the range"),
        (["journal", "audit", "--after", "99999999999999999999"], "is not in the range"),
        (["events", "--after", "99999999999999999999"], "is not in the range"),
        (["sessions", "open", "--attr", "x=\udcff"], "is not UTF-8"),
        (["sessions", "touch", "x", "--reason", "a\nb\udcff"], "is not text in UTF-8"),
        (["runs", "show", "\udcff"], "is not text in UTF-8"),
        (["runs", "list", "--workflow", "\udcff"], "is not text in UTF-8"),
        (["--url", "nonsense", "runs", "list"], "is not a URL of a daemon"),
    ],
)
def test_wrong_usage_ends_with_2(arguments: list[str], said: str, capsys: pytest.CaptureFixture[str]) -> None:
    """A command that cannot be meant ends with 2 and says why, on stderr."""
    assert run(arguments) == 2

    captured = capsys.readouterr()
    assert said in captured.err
    assert captured.out == ""


@pytest.mark.parametrize(
    "arguments",
    [
        ["runs", "list"],
        ["runs", "start", "checkout"],
        ["status"],
        ["sessions", "list"],
        ["state", "get", "global", "k"],
        ["actors", "tree"],
        ["events"],
        ["runs", "wait", "x"],
        ["runs", "cancel", "x", "y"],
    ],
)
@pytest.mark.parametrize("options", [[], ["--socket", "/nonexistent/sock"], ["--url", "http://127.0.0.1:1"]])
def test_no_daemon_ends_with_3(
    arguments: list[str], options: list[str], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without a daemon each command says so, and what to run, and ends with 3."""
    monkeypatch.setattr("runtimed.cli.shell.SYSTEM_SOCKET", Path("/nonexistent/too"))

    assert run([*arguments, *options]) == 3

    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.startswith("error: ")
    assert "runtimed serve" in captured.err


@pytest.mark.parametrize(
    ("status", "code", "exit_code"),
    [
        (404, "run_not_found", 4),
        (409, "run_ended", 5),
        (412, "version_conflict", 5),
        (403, "not_allowed", 6),
        (401, "unauthorised", 6),
        (400, "invalid_input", 2),
        (503, "draining", 75),
        (503, "overloaded", 75),
        (429, "something_new", 75),
        (500, "internal", 1),
    ],
)
def test_problems_have_the_contracts_exit_codes(
    fake: Any, capsys: pytest.CaptureFixture[str], status: int, code: str, exit_code: int
) -> None:
    """What the daemon refuses with decides the exit code; its words and hint are shown."""
    fake.on("GET", "/v1/runs/x", fake.problem(status, code, "the \x1b[2J reason", hint="what to do"))

    assert run(["runs", "show", "x", "--socket", str(fake.socket)]) == exit_code

    captured = capsys.readouterr()
    assert captured.err == "error: the \\x1b[2J reason\n next: what to do\n"
    assert captured.out == ""


def test_a_daemon_that_is_silent_ends_with_7(fake: Any, capsys: pytest.CaptureFixture[str]) -> None:
    """--timeout bounds a request; running out of it ends with 7."""
    fake.on("GET", "/v1/runs/x", fake.silence)

    assert run(["runs", "show", "x", "--socket", str(fake.socket), "--timeout", "0.05"]) == 7
    assert "more with --timeout" in capsys.readouterr().err


def test_options_may_stand_before_the_noun_or_after_the_verb(fake: Any, capsys: pytest.CaptureFixture[str]) -> None:
    """Global options are taken in both places; the later one wins."""
    fake.on("GET", "/v1/actors", fake.Reply(200, {"items": [], "next": None, "total": 0, "seq": 0}))

    assert run(["--socket", str(fake.socket), "-o", "text", "actors", "tree", "--json"]) == 0
    assert run(["--socket", "/nowhere", "--json", "actors", "tree", "--socket", str(fake.socket)]) == 0

    assert [json.loads(line)["total"] for line in capsys.readouterr().out.splitlines()] == [0, 0]


@pytest.mark.parametrize("command", ["check", "doctor"])
def test_the_data_folder_may_be_named_before_every_noun(
    command: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Commands that read the settings themselves take global options in both places too; the later one wins."""
    one = str(tmp_path / "one")
    for line in (["--data-dir", one, "--json", command], ["--data-dir", "two", command, "--json", "--data-dir", one]):
        assert run([*line, "--no-color", "-q"]) == 0
        out = capsys.readouterr().out
        assert one in out
        assert json.loads(out)


def test_serve_takes_the_data_folder_before_its_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """`runtimed --data-dir DIR serve` serves DIR, and not the folder that would be meant without it."""
    served: list[Path] = []
    monkeypatch.setattr("runtimed.daemon.main", lambda settings, again: served.append(settings.paths.data_dir) or 0)
    assert run(["--data-dir", str(tmp_path / "one"), "serve"]) == 0
    assert run(["--data-dir", str(tmp_path / "one"), "serve", "--data-dir", str(tmp_path / "two")]) == 0
    assert served == [tmp_path / "one", tmp_path / "two"]


@pytest.mark.parametrize("output", ["json", "jsonl", "id"])
def test_the_doctor_prints_as_every_command_does(output: str, capsys: pytest.CaptureFixture[str]) -> None:
    """`-o json` is one document, `jsonl` a finding a line, `id` what each is about."""
    assert run(["doctor", "-o", output]) == 0
    out = capsys.readouterr().out
    if output == "json":
        subjects = [each["subject"] for each in json.loads(out)]
    else:
        subjects = [json.loads(line)["subject"] if output == "jsonl" else line for line in out.splitlines()]
    assert {"versions", "sqlite", "settings", "clock"} <= set(subjects)


@pytest.mark.parametrize(
    ("text", "named"),
    [('[daemon]\ndata_dir = "HERE"\n[http]\nnonsense = 1\n', []), ("no toml", ["--data-dir", "HERE"])],
)
def test_wrong_settings_do_not_hide_a_daemon_that_runs(
    text: str, named: list[str], fake: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A daemon keeps its settings when a file became wrong: the command finds it, and says what is wrong."""
    fake.on("GET", "/v1/actors", fake.Reply(200, {"items": [], "next": None, "total": 0, "seq": 0}))
    here = str(fake.socket.parent)
    (tmp_path / "runtimed.toml").write_text(text.replace("HERE", here))
    assert run(["actors", "tree", *[word.replace("HERE", here) for word in named]]) == 0
    told = capsys.readouterr().err
    assert "the settings are wrong: " in told
    assert "runtimed.toml" in told
    fake.socket.unlink()
    assert run(["actors", "tree", *[word.replace("HERE", here) for word in named]]) == 78
    fake.socket.touch()


def test_a_file_that_cannot_be_read_at_all_names_no_daemon(
    fake: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where it is not known which daemon is meant, none is asked; a service's socket is in a place of its own."""
    fake.on("GET", "/v1/actors", fake.Reply(200, {"items": [], "next": None, "total": 0, "seq": 0}))
    (tmp_path / "runtimed.toml").write_text("no toml")
    monkeypatch.setenv("STATE_DIRECTORY", str(fake.socket.parent))
    assert run(["actors", "tree"]) == 78
    monkeypatch.setenv("RUNTIME_DIRECTORY", str(fake.socket.parent))
    assert run(["actors", "tree"]) == 0


def test_the_environment_names_the_daemon_too(
    fake: Any, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """RUNTIMED_SOCKET stands for --socket."""
    fake.on("GET", "/v1/actors", fake.Reply(200, {"items": [], "next": None, "total": 0, "seq": 0}))
    monkeypatch.setenv("RUNTIMED_SOCKET", str(fake.socket))

    assert run(["actors", "tree", "--json"]) == 0


def test_what_is_typed_wins_over_the_environment(fake: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """RUNTIMED_SOCKET and RUNTIMED_URL stand aside for a place that is typed, before the noun or after the verb."""
    fake.on("GET", "/v1/actors", fake.Reply(200, {"items": [], "next": None, "total": 0, "seq": 0}))
    monkeypatch.setenv("RUNTIMED_SOCKET", "/nonexistent/sock")

    assert run(["--socket", str(fake.socket), "actors", "tree"]) == 0
    assert run(["actors", "tree", "--socket", str(fake.socket)]) == 0
    assert run(["actors", "tree", "--url", "http://127.0.0.1:1"]) == 3
    monkeypatch.setenv("RUNTIMED_SOCKET", str(fake.socket))
    monkeypatch.setenv("RUNTIMED_URL", "http://127.0.0.1:1")
    assert run(["actors", "tree", "--data-dir", str(fake.socket.parent)]) == 0


def test_a_token_goes_with_the_url(fake: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The token comes from a file, never from the command line, and one that others can read is remarked on."""
    fake.on("GET", "/v1/actors", fake.Reply(200, {"items": [], "next": None, "total": 0, "seq": 0}))
    token = tmp_path / "token"
    token.write_text("rtd_a_b\n")
    token.chmod(0o644)

    assert run(["actors", "tree", "--socket", str(fake.socket), "--token-file", str(token)]) == 0
    assert fake.requests[0].headers["authorization"] == "Bearer rtd_a_b"
    assert "chmod 600" in capsys.readouterr().err

    assert run(["actors", "tree", "--socket", str(fake.socket), "--token-file", str(tmp_path / "no")]) == 2


def test_bad_settings_end_with_78(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A mistake in ./runtimed.toml stops every command that has to read it, and says where it is."""
    (tmp_path / "runtimed.toml").write_text("[http]\nmax_conections = 3\n")

    assert run(["runs", "list"]) == 78
    assert run(["serve"]) == 78
    assert run(["check"]) == 78
    assert capsys.readouterr().err.count("http.max_conections: unknown key. Did you mean max_connections?") == 3


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion_scripts(shell: str, capsys: pytest.CaptureFixture[str]) -> None:
    """Each shell gets a script that asks us."""
    assert run(["completion", shell]) == 0
    assert "_RUNTIMED_COMPLETE" in capsys.readouterr().out


@pytest.mark.slow
@pytest.mark.parametrize(
    ("words", "expected"),
    [("runtimed ru", "runs"), ("runtimed runs li", "list"), ("runtimed runs list --sta", "--status")],
)
def test_completion_answers(words: str, expected: str) -> None:
    """What the script asks is answered: nouns, verbs, options."""
    number = str(len(words.split()) - 1)

    done = process(env={"_RUNTIMED_COMPLETE": "bash_complete", "COMP_WORDS": words, "COMP_CWORD": number})

    assert f"plain,{expected}" in done.stdout.splitlines()


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("bash") is None, reason="bash is not on this machine")
@pytest.mark.parametrize(
    ("line", "words", "asked", "offered"),
    [
        ("runs show people:al", ["people", ":", "al"], ["people:al"], "alice"),
        ("runs show people:", ["people", ":"], ["people:"], "alice"),
        ("runs show peo", ["peo"], ["peo"], "people:alice"),
        ('runs show "people:al', ['"people:al'], ['"people:al'], "people:alice"),
        ("runs show a:b people:al", ["a", ":", "b", "people", ":", "al"], ["a:b", "people:al"], "alice"),
        ("runs show a: ", ["a", ":", ""], ["a:", ""], "people:alice"),
    ],
)
def test_bash_completes_ids_with_colons(
    line: str, words: list[str], asked: list[str], offered: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """readline splits words at ":" and replaces the last part alone: we are asked for the whole word, and what goes
    after the colon is offered."""
    assert run(["completion", "bash"]) == 0
    (tmp_path / "script").write_text(capsys.readouterr().out)
    stub = tmp_path / "runtimed"
    stub.write_text('#!/bin/sh\nprintf "%s|%s" "$COMP_WORDS" "$COMP_CWORD" >asked\necho plain,people:alice\n')
    stub.chmod(0o700)
    typed = ["runtimed", "runs", "show", *words]
    program = f"""source ./script
COMP_LINE={shlex.quote("runtimed " + line)} COMP_WORDS=({shlex.join(typed)}) COMP_CWORD={len(typed) - 1}
_runtimed_completion {stub}; printf '%s\\n' "${{COMPREPLY[@]}}\""""

    done = subprocess.run(["bash", "--norc", "-c", program], capture_output=True, text=True, check=True, cwd=tmp_path)

    assert (done.stdout, done.stderr) == (offered + "\n", "")
    told, _, number = (tmp_path / "asked").read_text().partition("|")
    assert told.split("\n") == ["runtimed", "runs", "show", *asked]
    assert int(number) == 2 + len(asked)


@pytest.mark.slow
@pytest.mark.parametrize("arguments", [["--help"], ["version"], ["runs", "--help"], ["completion", "bash"]])
def test_the_light_commands_load_nothing_heavy(arguments: list[str]) -> None:
    """Help, version and completion load no event loop, no HTTP, no SQLite, no screen."""
    heavy = {
        "trio",
        "anyio",
        "asyncio",
        "textual",
        "hypercorn",
        "starlette",
        "apsw",
        "h11",
        "httpx2",
        "prometheus_client",
    }

    assert loaded_by(*arguments) & heavy == set()


@pytest.mark.slow
def test_a_command_to_the_daemon_loads_neither_trio_nor_sqlite() -> None:
    """What talks to a daemon loads the client and no more."""
    loaded = loaded_by("runs", "list", "--socket", "/nonexistent")

    assert loaded & {"trio", "textual", "hypercorn", "starlette", "apsw", "httpx2"} == set()
    assert "anyio" in loaded


@pytest.mark.slow
def test_a_closed_pipe_is_no_error(fake: Any) -> None:
    """`runtimed runs list | head -1` ends quietly."""
    run_ = {"id": "r" * 100, "workflow": "w", "status": "running", "error": None, "waiting_on": None}
    run_ |= {"created_at": None, "ended_at": None, "waiting_until": None}
    fake.on("GET", "/v1/runs", fake.Reply(200, {"items": [run_] * 500, "next": None, "total": 500, "seq": 1}))
    reading, writing = os.pipe()
    os.close(reading)

    command = [sys.executable, "-P", "-m", "runtimed", "runs", "list", "--socket", str(fake.socket)]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(command, stdout=writing, stderr=subprocess.PIPE, text=True, check=False, env=environment)
    os.close(writing)

    assert (done.returncode, done.stderr) == (1, "")


@pytest.mark.slow
@pytest.mark.parametrize("arguments", [["version"], ["version", "--json"], ["runs", "--help"], ["doctor"]])
def test_data_that_cannot_be_written_is_told_in_a_line(arguments: list[str]) -> None:
    """Into a full disk, or with stdout closed: exit 1, what the system said, and no traceback."""
    command = [sys.executable, "-P", "-m", "runtimed", *arguments]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    for redirected, said in ((">/dev/full", "No space left on device"), (">&-", "Bad file descriptor")):
        done = subprocess.run(
            f"{shlex.join(command)} {redirected}", shell=True, stderr=subprocess.PIPE, text=True, check=False,
            env=environment,
        )  # fmt: skip
        assert done.returncode == 1
        assert done.stderr.startswith("error: what is to be shown cannot be written: ")
        assert (said in done.stderr, done.stderr.count("\n")) == (True, 1)


@pytest.mark.slow
def test_a_closed_stdin_has_nothing_in_it() -> None:
    """What is to come from a stdin that is closed is missing: that is said, without a traceback."""
    command = shlex.join([sys.executable, "-P", "-m", "runtimed", "secret", "set", "a"])
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(f"{command} <&-", shell=True, capture_output=True, text=True, check=False, env=environment)
    assert (done.returncode, done.stderr) == (2, "error: stdin: the value of a secret is 1 to 65536 bytes\n")


@pytest.mark.slow
def test_a_shadowed_package_is_told_before_anything_runs(tmp_path: Path) -> None:
    """A user's actors.py in front of ours: one line, exit 78."""
    (tmp_path / "actors.py").write_text("raise SystemExit('never run')")

    done = process("version", env={"PYTHONPATH": f"{tmp_path}{os.pathsep}{ROOT}"})

    assert done.returncode == 78
    assert str(tmp_path / "actors.py") in done.stderr
    assert done.stderr.count("\n") == 1


def test_the_root_command_is_named_after_us() -> None:
    """Usage lines and completion say `runtimed`."""
    assert cli.name == "cli"
    assert main.run.__module__ == "runtimed.cli.main"


def on_terminal(*arguments: str, env: dict[str, str] | None = None) -> str:
    """What a command writes when stdout is a terminal of 80 columns."""
    reading, terminal = pty.openpty()
    termios.tcsetwinsize(terminal, (24, 80))
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "TERM": "xterm-256color", **(env or {})}
    environment.pop("COLUMNS", None)
    command = [sys.executable, "-P", "-m", "runtimed", *arguments]
    done = subprocess.run(command, stdout=terminal, stderr=subprocess.DEVNULL, check=True, env=environment)
    os.close(terminal)
    assert done.returncode == 0
    written = b""
    try:
        while part := os.read(reading, 65_536):
            written += part
    except OSError:  # how Linux says that the other end of a terminal is closed
        pass
    os.close(reading)
    return written.decode()


@pytest.mark.slow
def test_hostile_text_does_not_reach_a_terminal(fake: Any) -> None:
    """On a terminal neither tables nor JSON let text from outside act; lines fit; NO_COLOR takes colours away."""
    hostile = "\x1b]52;c;aGk=\x07\x9b2J\u202e\u200b" + "x" * 200
    error = {"type": hostile, "message": hostile, "step": None}
    run_ = {"id": hostile[:30], "workflow": "w", "status": "failed", "error": error, "waiting_on": None}
    run_ |= {"created_at": None, "ended_at": None, "waiting_until": None}
    fake.on("GET", "/v1/runs", fake.Reply(200, {"items": [run_], "next": None, "total": 1, "seq": 1}))
    arguments = ["runs", "list", "--socket", str(fake.socket)]

    table, plain = on_terminal(*arguments), on_terminal(*arguments, env={"NO_COLOR": "1"})
    as_json = on_terminal(*arguments, "--json")

    for written in (table, plain, as_json):
        assert set(written) & set("\x07\x9b\u202e\u200b") == set()
    assert "\x1b[31m" in table
    assert "\x1b" not in plain + as_json
    assert json.loads(as_json)["items"][0]["error"]["message"] == hostile
    assert len(plain.splitlines()) == 2
