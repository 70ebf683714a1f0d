"""Other people's code as a child process of one poll: its output in chunks, the end of its stderr, a sure end.

Between us and the command stands `guard.py`, which ends it and all that it started when we close the pipe that is the
guard's standard input, and the kernel closes that pipe whatever way this process dies. There is no nursery and no
scope held open here, because a source that is an async generator may not keep one over its `yield`.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import select
import shutil
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType

import trio

from actors.errors import SourceError, SourceGarbled, SourceRefused
from runtimed.escape import escape

GRACE_S = 5.0
"""From SIGTERM to SIGKILL."""
GUARD_MARGIN_S = 5.0
"""What the guard itself may take beyond the grace before its whole group is killed."""
STDERR_TAIL_BYTES = 4096
STDERR_READS_MAX = 16
"""In one go, so that a child that floods its stderr does not keep the loop."""
CHUNK_BYTES = 256 * 1024
PIPE_BYTES = 1024 * 1024
"""How far a child may be ahead of us: 1 MiB is what the kernel allows anyone (pipe(7), pipe-max-size)."""
GUARD = Path(__file__).with_name("guard.py")
INHERITED = (
    "HTTPS_PROXY", "HTTP_PROXY", "LANG", "NO_PROXY", "SSL_CERT_DIR", "SSL_CERT_FILE", "TZ", "https_proxy", "http_proxy",
    "no_proxy",
)  # fmt: skip
DEFAULT_PATH = "/usr/local/bin:/usr/bin:/bin"


def find_command(command: Sequence[str], folder: Path | None) -> list[str]:
    """The command with its program's whole path: that of the connector's own environment, or of PATH. Raises
    SourceRefused if there is none."""
    if not command:
        raise SourceRefused("no command is given", hint='Say command = ["tap-name"] in the connector\'s table.')
    own = None if folder is None else own_environment(folder) / "bin"
    path = os.pathsep.join([*([] if own is None else [str(own)]), os.environ.get("PATH", DEFAULT_PATH)])
    found = shutil.which(command[0], path=path)
    if found is None:
        raise SourceRefused(
            f"there is no command {command[0]!r}", hint="`runtimed connectors install` makes an environment for it."
        )
    return [os.path.abspath(found), *command[1:]]


def own_environment(folder: Path) -> Path:
    """Where the virtual environment of a connector is, under its folder."""
    return folder / "venv"


def environment(program: str, home: Path, extra: Mapping[str, str]) -> dict[str, str]:
    """What the command finds in its environment: nothing of ours but the way to the network, and `extra`."""
    kept = {name: os.environ[name] for name in INHERITED if name in os.environ}
    path = os.pathsep.join([str(Path(program).parent), os.environ.get("PATH", DEFAULT_PATH)])
    return {"LANG": "C.UTF-8", **kept, "PATH": path, "HOME": str(home), "TMPDIR": str(home), "PYTHONUTF8": "1", **extra}


class Child:
    """A running command. Made by `start`; used as an async context, whose end is the command's end."""

    def __init__(self, process: subprocess.Popen[bytes], name: str, grace_s: float) -> None:
        assert process.stdin is not None and process.stdout is not None and process.stderr is not None
        self._process, self._name, self._grace_s = process, name, grace_s
        self._lifeline, self._out, self._err = process.stdin, process.stdout, process.stderr
        self._exit = os.pidfd_open(process.pid)
        self._tail = b""
        self._waiting = select.epoll()
        for pipe in (self._out, self._err):
            os.set_blocking(pipe.fileno(), False)
            self._waiting.register(pipe.fileno(), select.EPOLLIN)
        self._err_open = True
        with contextlib.suppress(OSError):  # beyond the user's share the kernel refuses; then it is 64 KiB
            fcntl.fcntl(self._out.fileno(), fcntl.F_SETPIPE_SZ, PIPE_BYTES)

    @classmethod
    def start(
        cls, command: Sequence[str], *, environ: Mapping[str, str], folder: Path | None = None, grace_s: float = GRACE_S
    ) -> Child:
        """Start the command, a whole path first, in this folder or else in the daemon's own. Its standard input is
        closed, its session its own."""
        guard = [sys.executable, "-I", "-S", str(GUARD), str(grace_s), *command]
        process = subprocess.Popen(
            guard, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, bufsize=0,
            start_new_session=True, env=dict(environ), cwd=folder,
        )  # fmt: skip
        return cls(process, Path(command[0]).name, grace_s)

    @property
    def pid(self) -> int:
        """The process id of the guard, which is also that of the group."""
        return self._process.pid

    @property
    def stderr_tail(self) -> str:
        """The last that was written to stderr, made harmless, in one line."""
        text = self._tail.decode("utf-8", "replace")
        return escape(" | ".join(line.strip() for line in text.splitlines() if line.strip()))

    async def read(self, wait_s: float) -> bytes | None:
        """The next chunk of output; empty at its end, None if nothing came within `wait_s` seconds."""
        while True:
            await trio.lowlevel.checkpoint()
            self._drain_stderr()
            try:
                return os.read(self._out.fileno(), CHUNK_BYTES)
            except BlockingIOError:
                pass
            with trio.move_on_after(wait_s) as scope:
                await trio.lowlevel.wait_readable(self._waiting.fileno())
            if scope.cancelled_caught:
                return None

    async def ended(self) -> int:
        """Wait for the end; the command's exit code, 128 and more if a signal ended it."""
        while self._process.poll() is None:
            await trio.lowlevel.wait_readable(self._exit)
        self._drain_stderr()
        code = self._process.returncode
        if code < 0:  # the guard was killed: what is left of its group is ours to end
            self._kill_group()
        return code

    async def check_end(self, rest: bytes) -> None:
        """The output has ended, `rest` being what came without a newline: raise SourceError unless that is well."""
        code = await self.ended()
        if code:
            how = f"was ended by signal {abs(code) % 128}" if code < 0 or code > 128 else f"ended with code {code}"
            raise SourceError(self.said(f"{self._name} {how}"))
        if rest.strip():
            raise SourceGarbled(self.said(f"{self._name} ended in the middle of a line of {len(rest):,} bytes"))

    def said(self, what: str) -> str:
        """`what`, with the end of stderr, if there is any."""
        tail = self.stderr_tail
        return f"{what}: {tail}" if tail else what

    async def __aenter__(self) -> Child:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """End the command, with SIGTERM and then SIGKILL, also when cancelled."""
        with trio.CancelScope(shield=True):
            self._lifeline.close()
            with trio.move_on_after(self._grace_s + GUARD_MARGIN_S):
                await self.ended()
            if self._process.returncode is None:
                self._kill_group()
                await self.ended()
        self._waiting.close()
        os.close(self._exit)
        self._out.close()
        self._err.close()

    def _kill_group(self) -> None:
        with contextlib.suppress(ProcessLookupError, PermissionError):  # nobody is left of it
            os.killpg(self._process.pid, signal.SIGKILL)

    def _drain_stderr(self) -> None:
        for _ in range(STDERR_READS_MAX):
            if not self._err_open:
                return
            try:
                chunk = os.read(self._err.fileno(), CHUNK_BYTES)
            except BlockingIOError:
                return
            if not chunk:
                self._err_open = False
                self._waiting.unregister(self._err.fileno())
            self._tail = (self._tail + chunk)[-STDERR_TAIL_BYTES:]
