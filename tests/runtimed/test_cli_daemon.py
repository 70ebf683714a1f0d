"""The command line and the real daemon: from an empty folder to a run that has survived kill -9."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from runtimed.cli.demo import Daemon, run_small
from runtimed.cli.shell import Options, Shell

ROOT = Path(__file__).parents[2]
pytestmark = pytest.mark.slow


@pytest.fixture
def environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("STATE_DIRECTORY", "RUNTIME_DIRECTORY", "NOTIFY_SOCKET", "WATCHDOG_USEC"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("PYTHONPATH", str(ROOT))


def runtimed(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-P", "-m", "runtimed", *arguments]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False, timeout=60)


def until_asked(folder: Path, run_id: str) -> str:
    """The id of the approval that a run asks for, once it does."""
    patient_until = time.monotonic() + 60
    while not (asked := runtimed(folder, "approvals", "list", "--run", run_id, "-o", "id").stdout.strip()):
        assert time.monotonic() < patient_until
    return asked


@pytest.mark.usefixtures("environment")
def test_the_newcomers_way(short_dir: Path) -> None:
    """`init`, `serve`, a start, a person's no, a second daemon refused, a clean stop: as the first README says."""
    import anyio

    folder = short_dir / "d"
    assert runtimed(short_dir, "init", "d").returncode == 0
    daemon = Daemon(folder)
    try:
        anyio.run(daemon.start)
        small = runtimed(
            folder, "runs", "start", "checkout", '{"id": "a1", "cents": 4200}', "--id", "order-a1", "--wait"
        )
        assert (small.returncode, small.stdout) == (0, "parcel-a1\n")

        runtimed(folder, "runs", "start", "checkout", '{"id": "b2", "cents": 99000}', "--id", "order-b2")
        asked = until_asked(folder, "order-b2")
        assert f"runtimed approvals show {asked}" in runtimed(folder, "runs", "explain", "order-b2").stdout
        assert runtimed(folder, "approvals", "deny", asked, "--reason", "unknown customer").returncode == 0
        refused = runtimed(folder, "runs", "wait", "order-b2")
        assert refused.returncode == 20
        assert "unknown customer" in refused.stderr
        history = json.loads(runtimed(folder, "runs", "history", "order-b2", "--json").stdout)
        assert "compensation_completed" in [record["kind"] for record in history["items"]]

        second = runtimed(folder, "serve")
        assert second.returncode == 75
        assert f"pid {daemon.pid}" in second.stderr
        assert runtimed(folder, "status").returncode == 0
    finally:
        daemon.stop()
    assert daemon.returncode == 0
    offline = runtimed(folder, "runs", "list", "--data-dir", "data", "-o", "id")
    assert offline.stdout.split() == ["order-b2", "order-a1"]


@pytest.mark.usefixtures("environment")
def test_the_small_demo_is_right(capsys: pytest.CaptureFixture[str]) -> None:
    """Forty orders, a kill -9, a restart: the demo's own table says that nothing was lost or done twice."""
    assert run_small(Shell(Options())) == 0

    rows = [line.rsplit(maxsplit=2) for line in capsys.readouterr().out.splitlines()[1:]]
    assert rows == [
        ["completed", "38", "38"],
        ["refused and undone", "2", "2"],
        ["refunds", "2", "2"],
        ["steps done twice", "0", "0"],
    ]


@pytest.mark.usefixtures("environment")
def test_watching_ends_with_ctrl_c(short_dir: Path) -> None:
    """`status -w` waits for a daemon that is away and ends with 130 when interrupted, without a traceback."""
    command = [sys.executable, "-P", "-m", "runtimed", "status", "-w", "--data-dir", str(short_dir)]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env=dict(os.environ)) as watching:
        assert watching.stderr is not None
        first = watching.stderr.readline()
        watching.send_signal(signal.SIGINT)
        rest = watching.stderr.read()

    assert "trying again" in first
    assert (watching.returncode, rest.strip()) == (130, "")
