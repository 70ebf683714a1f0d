"""`runtimed check --runs`: what becomes of the open runs of a real journal under changed code, and what it touches."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import apsw
import pytest
import trio

from runtimed import open_runtime
from runtimed.cli import preflight, preflight_report
from runtimed.cli.main import run
from runtimed.loading import load_apps
from tests.runtimed.stranger import as_a_stranger, closed
from tests.runtimed.terminal import Terminal
from wal.journal import Journal

ROOT = Path(__file__).parents[2]
OLD = '''"""What the runs began with."""

import msgspec

from runtimed import App, Context

app = App("shop")


class Order(msgspec.Struct):
    cents: int


@app.step
async def charge(cents: int) -> int:
    return cents


@app.step
async def ship(cents: int) -> str:
    return "parcel"


@app.workflow
async def checkout(ctx: Context, order: Order) -> str:
    paid = await ctx.step(charge, order.cents)
    await ctx.signal("go")
    return await ctx.step(ship, paid)


@app.workflow
async def broken(ctx: Context) -> None:
    raise ValueError("\\x1b[2Jbug")


@app.workflow
async def gone(ctx: Context) -> None:
    await ctx.signal("go")
'''
CHARGE = "    paid = await ctx.step(charge, order.cents)\n"
CHANGES = {
    "same": ("", ""),
    "swapped": (CHARGE, "    await ctx.step(ship, order.cents)\n" + CHARGE),
    "dearer": ("    cents: int\n", "    cents: int\n    currency: str\n"),
    "buggy": (CHARGE, CHARGE + "    order.limit\n"),
    "mended": ('    raise ValueError("\\x1b[2Jbug")', '    print("hello")'),
    "renamed": ("async def gone", "async def went"),
    "lost": ("async def broken", "async def repaired"),
    "endless": (CHARGE, CHARGE + "    print('in the loop')\n    while True:\n        pass\n"),
    "deaf": (
        CHARGE,
        CHARGE
        + "    while True:\n        try:\n            while True:\n                paid += 1\n"
        + "        except:\n            pass\n",
    ),
    "patched": (CHARGE, CHARGE + "    if ctx.patched('wait'):\n        await ctx.sleep(5)\n"),
}
"""What is changed in the code, and for what."""


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


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A data folder with two runs that wait, one that is to begin, one that has ended, and one that is blocked."""
    for name, (old, new) in CHANGES.items():
        assert old in OLD
        (tmp_path / f"{name}_flows.py").write_text(OLD.replace(old, new) if old else OLD)
    [app] = load_apps(["same_flows.py"], tmp_path)

    async def park() -> None:
        async with open_runtime(app, tmp_path / "data", writer="inline") as runtime:
            await runtime.start("checkout", {"cents": 5}, id="order-1")
            await runtime.start("checkout", {"cents": 7}, id="order-2", start_at=4_000_000_000_000_000)
            await runtime.start("gone", id="gone-1")
            blocked = await runtime.start("broken", id="broken-1")
            with pytest.raises(Exception, match="bug"):
                await blocked.result(5)
            ended = await runtime.start("checkout", {"cents": 9}, id="order-0")
            await runtime.signal("order-0", "go")
            await ended.result(5)
            seq = 0
            while (await runtime.runs(status="waiting")).total < 2:
                seq = await runtime.feed.wait_beyond(seq)

    trio.run(park)
    return tmp_path / "data"


def checked(code: str, *more: str) -> int:
    return run(["check", "--runs", "--app", f"{code}_flows.py", "--data-dir", "data", *more])


def judged(code: str, capsys: pytest.CaptureFixture[str], *more: str) -> tuple[int, dict[str, Any]]:
    exit_code = checked(code, "-o", "jsonl", *more)
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    return exit_code, {each["id"]: each for each in lines}


@pytest.mark.parametrize(
    ("code", "exit_code", "order_1", "order_2", "gone_1", "broken_1"),
    [
        ("same", 0, "fits", "fits", "fits", "blocked"),
        ("patched", 0, "fits", "fits", "fits", "blocked"),
        ("mended", 0, "fits", "fits", "fits", "mended"),
        ("swapped", 5, "breaks", "fits", "fits", "blocked"),
        ("dearer", 5, "breaks", "breaks", "fits", "blocked"),
        ("buggy", 5, "breaks", "fits", "fits", "blocked"),
        ("renamed", 5, "fits", "fits", "breaks", "blocked"),
    ],
)
@pytest.mark.usefixtures("folder")
def test_each_open_run_has_a_verdict(
    code: str, exit_code: int, order_1: str, order_2: str, gone_1: str, broken_1: str,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    """All that are open are judged, and only they; the exit code says whether this code would block one."""
    found, runs = judged(code, capsys)
    assert found == exit_code
    assert list(runs) == ["order-1", "order-2", "gone-1", "broken-1"]
    assert [each["verdict"] for each in runs.values()] == [order_1, order_2, gone_1, broken_1]
    assert runs["broken-1"]["blocked_by"] == "code_error"


@pytest.mark.usefixtures("folder")
def test_a_run_that_would_be_blocked_says_why(capsys: pytest.CaptureFixture[str]) -> None:
    """The code of the block, the call, both sides, and what to do; every field is there."""
    _, runs = judged("swapped", capsys)
    one = runs["order-1"]
    assert (one["workflow"], one["status"], one["code"], one["call"]) == ("checkout", "waiting", "nondeterminism", "0")
    assert one["message"] == (
        "recorded: step_scheduled 'charge' (call 0) [[5],{}]; the code now makes: step 'ship' (call 0) [[5],{}]"
    )
    assert "ctx.patched" in one["next"]
    assert (one["traceback"], one["blocked_by"]) == (None, None)
    assert runs["order-2"] == dict.fromkeys(one, None) | {
        "id": "order-2", "workflow": "checkout", "status": "queued", "verdict": "fits"
    }  # fmt: skip


@pytest.mark.usefixtures("folder")
def test_people_read_sums_and_what_to_do(capsys: pytest.CaptureFixture[str]) -> None:
    """A table by workflow and verdict, each run that needs something, where it raised, and the next command."""
    assert checked("buggy") == 5
    told = capsys.readouterr()
    lines = told.out.splitlines()
    assert [" ".join(line.split()) for line in lines if line.startswith(("checkout ", "broken ", "gone "))] == [
        "checkout 1 breaks code_error goes on now; this code would block it",
        "broken 1 blocked code_error blocked now, and stays so with this code",
        "checkout 1 fits - goes on as before",
        "gone 1 fits - goes on as before",
    ]
    place = lines.index("  order-1: code_error")
    assert lines[place + 1] == "    AttributeError: 'Order' object has no attribute 'limit'"
    assert lines[place + 2].endswith("buggy_flows.py:27, in checkout")
    assert "  next: Mend the code where it raises; -o json has the whole traceback." in lines
    assert "    ValueError: \\x1b[2Jbug" in lines
    assert "\x1b" not in told.out
    assert "error: this code would block 1 of 4 open runs" in told.err

    assert checked("mended") == 0
    told = capsys.readouterr()
    assert "    next: runtimed runs retry broken-1" in told.out.splitlines()
    assert "hello" in told.err
    assert "hello" not in told.out


@pytest.mark.usefixtures("folder")
def test_a_run_that_stays_blocked_says_by_what(capsys: pytest.CaptureFixture[str]) -> None:
    """What would hold it with this code, and what holds it now where that is another thing."""
    assert checked("lost") == 0
    assert "  broken-1: unknown_workflow (now code_error)" in capsys.readouterr().out.splitlines()


@pytest.mark.usefixtures("folder")
def test_programs_read_one_document(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """`-o json` is what `check` gives with `runs` in it, `-o id` the runs that would be blocked."""
    assert checked("dearer", "--json") == 5
    told = json.loads(capsys.readouterr().out)
    assert told["apps"][0]["name"] == "shop"
    runs = told["runs"]
    assert (runs["total"], runs["more"]) == (4, 0)
    assert runs["verdicts"] == {"breaks": 2, "unjudged": 0, "blocked": 1, "mended": 0, "fits": 1}
    assert runs["workflows"][0] == {"workflow": "checkout", "verdict": "breaks", "code": "undecodable", "runs": 2}
    assert [each["id"] for each in runs["items"]] == ["order-1", "order-2", "broken-1"]

    monkeypatch.setattr(preflight_report, "KEPT_MAX", 1)
    assert checked("dearer", "--json") == 5
    assert json.loads(capsys.readouterr().out)["runs"]["more"] == 1
    assert checked("dearer", "-o", "id") == 5
    assert capsys.readouterr().out.split() == ["order-1", "order-2"]


@pytest.mark.usefixtures("folder")
def test_what_is_alike_is_told_once(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """Runs with one reason share a line; of very many a few are named, and how many there are more."""
    assert checked("dearer") == 5
    assert "  order-1, order-2: undecodable" in capsys.readouterr().out
    monkeypatch.setattr(preflight_report, "IDS_MAX", 1)
    assert checked("dearer") == 5
    assert "  order-1 and 1 more: undecodable" in capsys.readouterr().out
    monkeypatch.setattr(preflight_report, "SHOWN_MAX", 0)
    assert checked("dearer") == 5
    assert "  and 2 more; each of them: runtimed check --runs -o jsonl" in capsys.readouterr().out


@pytest.mark.parametrize("seconds", ["0.05"])
@pytest.mark.usefixtures("folder")
def test_code_that_does_not_come_to_a_wait_is_stuck(
    seconds: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is ended when its time is over; after some of a workflow its others are not waited for."""
    found, runs = judged("endless", capsys, "--replay-timeout", seconds)
    assert (found, runs["order-1"]["verdict"], runs["order-1"]["code"]) == (5, "breaks", "stuck")
    assert runs["order-1"]["message"] == "its code did not come to a wait within 0.05 s"
    assert runs["gone-1"]["verdict"] == "fits"

    monkeypatch.setattr(preflight, "STUCK_MAX", 0)
    found, runs = judged("endless", capsys, "--replay-timeout", seconds)
    assert (found, {each["verdict"] for each in runs.values()}) == (8, {"unjudged"})


def test_nothing_is_written(folder: Path) -> None:
    """The file keeps its bytes, nobody's lock is taken, and no other file of ours changes."""

    def seen() -> dict[str, str]:
        files = [path for path in folder.rglob("*") if path.is_file() and path.suffix != ".db-shm"]
        return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in files if path.stat().st_size}

    before = seen()
    assert "journal.db" in before
    for code in ("same", "swapped", "mended"):
        checked(code)
    assert seen() == before


def test_a_history_that_cannot_be_read_is_one_line_of_its_own(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A damaged run is told, the others are judged, and the exit code says that it is not all."""
    with Journal.open(folder / "journal.db") as journal:
        damage = journal._db
        damage.config(apsw.SQLITE_DBCONFIG_DEFENSIVE, 0)
        damage.execute("drop trigger if exists records_no_update")
        damage.execute(
            'update records set body = \'{"kind":"of_magic"}\' where seq = (select min(seq) + 1 from records)'
        )
    found, runs = judged("same", capsys)
    unjudged = [each for each in runs.values() if each["verdict"] == "unjudged"]
    assert (found, len(runs), len(unjudged)) == (8, 4, 1)
    assert "cannot be read" in unjudged[0]["message"]
    assert unjudged[0]["next"] == "runtimed journal verify"


def test_a_run_that_ended_meanwhile_is_left_out(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Beside a daemon a run may end, and be forgotten, between the list and its history: then there is no verdict."""
    from wal.queries import Reader

    def forgotten(self: Reader, run_key: int, **_: Any) -> list[Any]:
        monkeypatch.setattr(Reader, "run_by_key", lambda self, run_key: None)
        return []

    monkeypatch.setattr(Reader, "history", forgotten)
    assert checked("same") == 0


def test_before_the_first_start_there_is_nothing_to_judge(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Without a journal the check is the plain one, and says so."""
    assert run(["init", "d"]) == 0
    assert run(["check", "--config", "d/runtimed.toml", "--runs"]) == 0
    assert "there is no journal at" in capsys.readouterr().err
    assert run(["check", "--config", "d/runtimed.toml", "--runs", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["runs"]["total"] == 0


def test_a_data_folder_that_is_named_has_to_be_there(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A gate that is told a wrong folder does not open."""
    assert run(["init", "d"]) == 0
    assert run(["check", "--config", "d/runtimed.toml", "--runs", "-q", "--data-dir", str(tmp_path / "dada")]) == 4
    assert "there is no folder" in capsys.readouterr().err


def test_a_file_that_is_no_journal_is_refused(tmp_path: Path) -> None:
    """What is not ours ends with 78, as everywhere."""
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "journal.db").write_bytes(b"something else" * 100)
    assert run(["check", "--runs", "--data-dir", "data"]) == 78


def test_a_journal_of_somebody_elses_is_not_allowed(folder: Path, tmp_path: Path) -> None:
    """Who may not read the file is told so: 6, and not that there is none."""
    with closed(folder):
        [done] = as_a_stranger(tmp_path / "none", ["check", "--runs", "--data-dir", str(folder)])
    assert (done.code, "Run as its owner" in done.err) == (6, True)


# --- as a process ---------------------------------------------------------------------------------------------------


def command(code: str, *more: str) -> list[str]:
    words = ["check", "--runs", "--app", f"{code}_flows.py", "--data-dir", "data", *more]
    return [sys.executable, "-P", "-m", "runtimed", *words]


def environment() -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": str(ROOT), "TERM": "xterm"}


@pytest.mark.slow
@pytest.mark.usefixtures("folder")
def test_code_that_swallows_its_end_ends_the_check() -> None:
    """Nothing but the end of the process ends such code: which run it was is said, and the exit code is that of a run
    that would be blocked."""
    done = subprocess.run(
        command("deaf", "--replay-timeout", "0.05"), capture_output=True, text=True, check=False, env=environment(),
        timeout=60,
    )  # fmt: skip
    assert done.returncode == 5
    assert "error: run order-1 (workflow checkout) never comes to a wait, and catches all" in done.stderr
    assert done.stdout.startswith("APP ")


@pytest.mark.slow
@pytest.mark.trio
async def test_it_works_beside_the_daemon_that_has_the_old_code(folder: Path) -> None:
    """The runs go on while they are judged, and the runtime that holds the folder notices nothing."""
    [app] = load_apps(["same_flows.py"], folder.parent)
    async with open_runtime(app, folder) as runtime:
        done = await trio.run_process(
            command("swapped", "-o", "id"), capture_stdout=True, capture_stderr=True, check=False, env=environment()
        )
        assert (done.returncode, done.stdout) == (5, b"order-1\n")
        await runtime.signal("order-1", "go")
        assert await runtime.result("order-1", 10) == "parcel"


@pytest.mark.slow
@pytest.mark.trio
@pytest.mark.usefixtures("folder")
async def test_on_a_terminal_it_says_how_far_it_is() -> None:
    """A check that takes long paints one line, which is gone at the end."""
    async with Terminal(command("endless", "--replay-timeout", "1.2"), environment()) as terminal:
        await terminal.until(b"\r\x1b[K1 of 4 open runs are replayed")
        code, shown = await terminal.end()
    assert code == 5
    assert shown.startswith(b"\r\x1b[K")
    assert b"of 4 open runs are replayed" not in shown


@pytest.mark.slow
@pytest.mark.trio
@pytest.mark.usefixtures("folder")
async def test_ctrl_c_ends_it() -> None:
    """An interrupt in the middle of a run's code ends it with 130, and without a traceback."""
    async with Terminal(command("endless", "--replay-timeout", "60"), environment()) as terminal:
        await terminal.until(b"in the loop")
        terminal.interrupt()
        code, shown = await terminal.end()
    assert (code, b"Traceback" in shown) == (130, False)
