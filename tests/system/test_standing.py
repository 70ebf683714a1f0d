"""Bad luck, and what an operator is told of it: `status` and `doctor` say in one sentence how the daemon stands."""

from __future__ import annotations

import json
import os
import signal
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import trio

from tests.system.conftest import Running
from tests.system.daemon_process import ROOT, Daemon

pytestmark = [pytest.mark.trio, pytest.mark.slow]


async def told(daemon: Daemon, *words: str, extra: Sequence[str] = ()) -> tuple[int, str]:
    """What a command of ours says about this daemon: its exit code and its output."""
    command = [sys.executable, "-P", "-m", "runtimed", *words, "--data-dir", str(daemon.data_dir), *extra]
    environ = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = await trio.run_process(command, capture_stdout=True, capture_stderr=True, check=False, env=environ)
    return done.returncode, (done.stdout + done.stderr).decode()


async def doctor_says(daemon: Daemon) -> dict[str, Any]:
    """Doctor's finding about the daemon."""
    _, output = await told(daemon, "doctor", "-o", "json")
    findings = json.loads(output)
    findings = findings["findings"] if isinstance(findings, dict) else findings
    return dict(next(each for each in findings if each["subject"] == "daemon"))


async def test_a_refused_reload_is_told_until_it_is_mended(running: Running, short_dir: Path) -> None:
    """SIGHUP with a bad file: still ready, both commands name the key; after a good one they do not."""
    config = short_dir / "runtimed.toml"
    config.write_text('[log]\nlevel = "info"\n')
    async with running(options=("--config", str(config))) as daemon:
        config.write_text('[log]\nlevel = "deafening"\n')
        daemon.send(signal.SIGHUP)
        await daemon.notices.until("READY=1")
        code, status = await told(daemon, "status")
        assert code == 0
        assert "the last reload was refused" in status
        assert "log.level" in status
        finding = await doctor_says(daemon)
        assert finding["level"] == "warn"
        assert "log.level" in finding["why"]
        config.write_text('[log]\nlevel = "info"\n')
        daemon.send(signal.SIGHUP)
        await daemon.notices.until("READY=1")
        assert "refused" not in (await told(daemon, "status"))[1]
        assert (await doctor_says(daemon))["level"] == "ok"


async def test_a_stuck_writer_is_told(running: Running) -> None:
    """While the writer stands still liveness fails, and the detail, which both commands show, says why."""
    async with running(started=False) as daemon:
        daemon.be_impatient()
        await daemon.start()
        writer = daemon.writer_pid()
        assert writer is not None
        os.kill(writer, signal.SIGSTOP)
        try:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(_ask, daemon)
                await daemon.until("/health", 503)
                async with daemon.client() as client:
                    detail = (await client.get("/health/detail")).json()
                nursery.cancel_scope.cancel()
        finally:
            os.kill(writer, signal.SIGCONT)
        assert any("has not confirmed a commit" in reason for reason in detail["reasons"])
        assert detail["status"] == "fail"


async def test_a_drain_that_is_under_way_is_told(running: Running) -> None:
    """SIGTERM while a balancer looks away: `status` ends with 75 and says that the daemon is stopping; after a second
    SIGTERM it is gone, and both say so."""
    async with running(options=("--drain-delay", "600")) as daemon:
        daemon.send(signal.SIGTERM)
        await daemon.notices.until("STOPPING=1")
        code, status = await told(daemon, "status")
        assert code == 75
        assert "the daemon is stopping" in status
        finding = await doctor_says(daemon)
        assert (finding["level"], "is stopping" in finding["why"]) == ("warn", True)
        daemon.send(signal.SIGTERM)
        assert await daemon.ended() == 0
        code, status = await told(daemon, "status")
        assert code == 3
        assert "down" in status
        assert "none is running" in (await doctor_says(daemon))["what"]


async def _ask(daemon: Daemon) -> None:
    async with daemon.client() as client:
        await client.post("/v1/runs", json={"workflow": "waiting"})
