"""The real daemon as a process under test: started, told apart from ready by `sd_notify`, killed, asked."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import sys
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

import httpx2
import trio

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent.parent
READY_SECONDS = 30.0
END_SECONDS = 30.0
ANSWER_SECONDS = 30.0


class DaemonEnded(Exception):
    """The daemon ended before it was ready; `code` is its exit code."""

    def __init__(self, code: int, log: str) -> None:
        super().__init__(f"exit code {code}; the end of its log:\n{log}")
        self.code = code


class Notices:
    """A service manager's end of `sd_notify`: the states that the daemon told, in order."""

    def __init__(self, path: Path) -> None:
        path.unlink(missing_ok=True)
        self.path = path
        self.states: list[str] = []
        self._plain = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket = trio.socket.from_stdlib_socket(self._plain)

    async def open(self) -> None:
        """Bind the socket that `NOTIFY_SOCKET` names."""
        await self._socket.bind(str(self.path))

    async def until(self, word: str) -> str:
        """Wait for a state that begins with `word`; gives its whole text."""
        while True:
            text = (await self._socket.recv(65_536)).decode()
            self.states.append(text)
            if text.startswith(word):
                return text

    def taken(self) -> list[str]:
        """All that was told up to now and not read yet."""
        taken: list[str] = []
        try:
            while True:
                taken.append(self._plain.recv(65_536).decode())
        except BlockingIOError:
            pass  # that was all
        self.states += taken
        return taken

    def close(self) -> None:
        self._socket.close()


class Daemon:
    """`runtimed serve` on one data folder, once or again and again."""

    def __init__(
        self, folder: Path, *, app: str = "load_flows:app", cwd: Path = HERE, options: Sequence[str] = (),
        environ: Mapping[str, str] | None = None, wrapper: Sequence[str] = (),
    ) -> None:  # fmt: skip
        self.folder, self.data_dir = folder, folder / "data"
        self.socket = self.data_dir / "runtimed.sock"
        self.log = folder / "daemon.log"
        self.command = [*wrapper, sys.executable, "-P", "-m", "runtimed", "serve", "--data-dir", str(self.data_dir)]
        self.command += [*(("--app", app) if app else ()), *options]
        self._cwd, self._environ = cwd, {**_environment(), **(environ or {})}
        self._process: trio.Process | None = None
        self._notices: Notices | None = None

    def be_impatient(self) -> None:
        """What is started from now on has the limits of `impatient.py`."""
        self.command[self.command.index("-m") : self.command.index("serve")] = [str(HERE / "impatient.py")]

    # --- its life

    async def spawn(self) -> None:
        """Start it, without waiting for anything."""
        if self._notices is not None:
            self._notices.close()
        self._notices = Notices(self.folder / "notify")
        await self._notices.open()
        with self.log.open("ab") as log:
            self._process = await trio.lowlevel.open_process(
                self.command, cwd=self._cwd, stdin=subprocess.DEVNULL, stdout=log, stderr=log,
                env={**self._environ, "NOTIFY_SOCKET": str(self._notices.path)},
            )  # fmt: skip

    async def ready(self) -> None:
        """Wait until it says that it is ready. Raises DaemonEnded if it ends instead."""
        with trio.fail_after(READY_SECONDS):
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self._end_early)
                await self.notices.until("READY=1")
                nursery.cancel_scope.cancel()

    async def start(self) -> float:
        """Start it and wait until it is ready; gives the seconds that this took."""
        began = trio.current_time()
        await self.spawn()
        try:
            await self.ready()
        except* DaemonEnded as group:
            raise group.exceptions[0] from None
        return trio.current_time() - began

    async def _end_early(self) -> None:
        raise DaemonEnded(await self.process.wait(), self.log_tail())

    async def ended(self, seconds: float = END_SECONDS) -> int:
        """Wait until it has ended; gives its exit code, negative for a signal. Raises trio.TooSlowError."""
        with trio.fail_after(seconds):
            return await self.process.wait()

    async def kill(self) -> None:
        """`kill -9`: no warning, no goodbye."""
        self.send(signal.SIGKILL)
        await self.ended()

    async def stop(self) -> int:
        """SIGTERM, and its exit code."""
        self.send(signal.SIGTERM)
        return await self.ended()

    def send(self, number: int) -> None:
        """A signal to the daemon, if it is still there."""
        if self.process.poll() is None:
            os.kill(self.process.pid, number)

    # --- what is seen of it

    @property
    def process(self) -> trio.Process:
        """Its process; the one started last."""
        assert self._process is not None
        return self._process

    @property
    def notices(self) -> Notices:
        """What it tells its service manager."""
        assert self._notices is not None
        return self._notices

    @property
    def pid(self) -> int:
        """Its process id."""
        return self.process.pid

    def writer_pid(self) -> int | None:
        """The process id of its writer, or None if there is none (yet, or any more)."""
        for pid in children_of(self.pid):
            with contextlib.suppress(OSError):
                if b"\0wal\0" in Path(f"/proc/{pid}/cmdline").read_bytes():
                    return pid
        return None

    def log_tail(self, lines: int = 30) -> str:
        """The end of its log."""
        text = self.log.read_text(encoding="utf-8", errors="replace") if self.log.exists() else ""
        return "\n".join(text.splitlines()[-lines:])

    def client(self, timeout_s: float = ANSWER_SECONDS) -> httpx2.AsyncClient:
        """An HTTP client on its unix socket."""
        transport = httpx2.AsyncHTTPTransport(uds=str(self.socket))
        return httpx2.AsyncClient(transport=transport, base_url="http://localhost", timeout=timeout_s)

    async def status_of(self, path: str) -> int:
        """The status of its answer to a GET."""
        async with self.client() as client:
            return (await client.get(path)).status_code

    async def until(self, path: str, status: int) -> None:
        """Wait until its answer to a GET has this status."""
        with trio.fail_after(ANSWER_SECONDS):
            while await self.status_of(path) != status:  # noqa: ASYNC110 - what is told outside is asked for
                await trio.sleep(0.05)

    async def close(self) -> None:
        """Leave nothing behind: kill it if it lives, and wait until its writer has ended after it."""
        if self._process is not None and self._process.poll() is None:
            writer = self.writer_pid()
            await self.kill()
            if writer is not None:
                await exited(writer)
        if self._notices is not None:
            self._notices.close()


def _environment() -> dict[str, str]:
    """Ours without what would move the daemon's folders or configure it."""
    skipped = ("RUNTIMED", "NOTIFY_SOCKET", "WATCHDOG_", "RUNTIME_DIRECTORY", "STATE_DIRECTORY", "CONFIGURATION_")
    kept = {name: value for name, value in os.environ.items() if not name.startswith(skipped)}
    return {**kept, "PYTHONPATH": str(ROOT)}


def children_of(pid: int) -> list[int]:
    try:
        return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
    except OSError:
        return []


async def exited(pid: int) -> None:
    try:
        exited = os.pidfd_open(pid)
    except ProcessLookupError:
        return
    try:
        with trio.fail_after(END_SECONDS):
            await trio.lowlevel.wait_readable(exited)
    finally:
        os.close(exited)


@asynccontextmanager
async def witness(folder: Path) -> AsyncIterator[tuple[Path, Path]]:
    """The witness's process; yields its socket and its file. It ends with this block."""
    address, file = folder / "witness.sock", folder / "witness.jsonl"
    command = [sys.executable, str(HERE / "witness.py"), str(address), str(file)]
    process = await trio.lowlevel.open_process(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert process.stdin is not None
    assert process.stdout is not None
    try:
        with trio.fail_after(READY_SECONDS):
            await process.stdout.receive_some(100)
        yield address, file
    finally:
        with trio.CancelScope(shield=True):
            await process.stdin.aclose()
            await process.wait()
            await process.stdout.aclose()
