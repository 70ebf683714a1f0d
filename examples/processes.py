"""The processes of a demo, each known by its pid: the outside, which prints its address, and the daemon to kill."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path

import httpx2
import trio

READY_SECONDS = 30.0
STOP_SECONDS = 20.0


class DaemonLost(Exception):
    """The daemon ended or did not get ready; the text is the end of its log."""


@asynccontextmanager
async def outside(script: Path, *options: str) -> AsyncIterator[str]:
    """Run a service that prints its address; yields that. It ends with this block, and with this process, however that
    ends: it serves until its stdin is closed."""
    command = [sys.executable, str(script), *options, "--until-eof"]
    process = await trio.lowlevel.open_process(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert process.stdin is not None
    assert process.stdout is not None
    try:
        with trio.fail_after(READY_SECONDS):
            address = (await process.stdout.receive_some(200)).decode().strip()
        yield address
    finally:
        with trio.CancelScope(shield=True):
            await process.stdin.aclose()
            await process.wait()
            await process.stdout.aclose()


class Daemon:
    """`runtimed serve` in the folder `home`, as a process of its own that can be killed and started again."""

    def __init__(
        self, home: Path, data_dir: Path, log: Path, *, options: Sequence[str], environment: Mapping[str, str]
    ) -> None:
        self.data_dir = data_dir
        self.socket = data_dir / "runtimed.sock"
        self._home, self._log, self._options = home, log, list(options)
        self._environment = {**os.environ, **environment}
        self._environment.pop("RUNTIME_DIRECTORY", None)  # it would move the socket
        self._process: trio.Process | None = None

    async def start(self) -> float:
        """Start it and wait until it is ready; returns the seconds that took."""
        began = trio.current_time()
        program = [sys.executable, "-P", "-m", "runtimed"]
        serve = [*program, "serve", *self._options, "--data-dir", str(self.data_dir)]
        with self._log.open("ab") as log:
            start = partial(trio.lowlevel.open_process, serve, cwd=self._home, env=self._environment)
            self._process = await start(stdin=subprocess.DEVNULL, stdout=log, stderr=log)
        with trio.move_on_after(READY_SECONDS):
            while not await self._ready():
                if self._process.poll() is not None:
                    break
                await trio.sleep(0.02)
            else:
                return trio.current_time() - began
        raise DaemonLost(f"the daemon did not get ready; the end of its log:\n{self.log_tail()}")

    async def kill(self) -> None:
        """`kill -9`: no warning, no goodbye."""
        assert self._process is not None
        os.kill(self._process.pid, signal.SIGKILL)
        await self._process.wait()

    async def stop(self) -> int:
        """Ask it to end (SIGTERM) and wait; returns its exit code. One that does not end in time is killed."""
        if self._process is None:
            return 0
        if self._process.poll() is None:
            self._process.terminate()
            with trio.move_on_after(STOP_SECONDS) as patience:
                await self._process.wait()
            if patience.cancelled_caught:
                await self.kill()
        return self._process.returncode or 0

    async def command(self, *arguments: str) -> subprocess.CompletedProcess[bytes]:
        """`runtimed ...` against this daemon, as a person types it."""
        return await self._runtimed(*arguments, "--socket", str(self.socket))

    async def command_on_the_folder(self, *arguments: str, stdin: bytes = b"") -> subprocess.CompletedProcess[bytes]:
        """`runtimed ... --data-dir`, which also works while the daemon is down."""
        return await self._runtimed(*arguments, "--data-dir", str(self.data_dir), stdin=stdin)

    async def _runtimed(self, *arguments: str, stdin: bytes = b"") -> subprocess.CompletedProcess[bytes]:
        words = [sys.executable, "-P", "-m", "runtimed", *arguments]
        return await trio.run_process(words, stdin=stdin, capture_stdout=True, capture_stderr=True, check=False)

    def log_tail(self, lines: int = 20) -> str:
        """The end of its log."""
        if not self._log.exists():
            return ""
        return "\n".join(self._log.read_text(encoding="utf-8", errors="replace").splitlines()[-lines:])

    def client(self) -> httpx2.AsyncClient:
        """An HTTP client on its unix socket."""
        transport = httpx2.AsyncHTTPTransport(uds=str(self.socket))
        return httpx2.AsyncClient(transport=transport, base_url="http://localhost", timeout=10.0)

    async def _ready(self) -> bool:
        try:
            async with self.client() as client:
                return (await client.get("/health/ready")).status_code == 200
        except httpx2.TransportError:
            return False
