"""A real daemon beside the dashboard under test: started, killed, started again, ended with the test."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import anyio

from runtimed.client import Client, DaemonUnreachable

HERE = Path(__file__).resolve().parent
READY_SECONDS = 60.0


class Served:
    """`runtimed serve` of one module beside the tests, on a folder."""

    def __init__(self, folder: Path, app: str) -> None:
        self.data = folder / "data"
        self.socket = self.data / "runtimed.sock"
        self.journal = self.data / "journal.db"
        self._app = app
        self._log = (folder / "daemon.log").open("ab")
        self._process: subprocess.Popen[bytes] | None = None

    async def start(self) -> None:
        """Start it, and wait until it takes work."""
        process = self._spawn()
        with anyio.fail_after(READY_SECONDS):
            while not await self._answers():
                assert process.poll() is None, self._log.name
                await anyio.sleep(0.02)

    def _spawn(self) -> subprocess.Popen[bytes]:
        command = [sys.executable, "-P", "-m", "runtimed", "serve", "--app", self._app, "--data-dir", str(self.data)]
        self._process = subprocess.Popen(
            command, cwd=HERE, stdin=subprocess.DEVNULL, stdout=self._log, stderr=self._log,
            env={**os.environ, "PYTHONPATH": str(HERE.parent.parent)},
        )  # fmt: skip
        return self._process

    async def _answers(self) -> bool:
        try:
            async with Client(socket=self.socket) as client:
                return await client.ready()
        except DaemonUnreachable:
            return False

    def kill(self) -> None:
        """`kill -9`."""
        assert self._process is not None
        self._process.send_signal(signal.SIGKILL)
        self._process.wait()

    def close(self) -> None:
        """End it, gently."""
        if self._process is not None and self._process.poll() is None:
            self._process.terminate()
            self._process.wait(READY_SECONDS)
        self._log.close()
