"""The dashboard as a process on a real pseudo-terminal: what it writes is kept, keys and sizes are given to it."""

from __future__ import annotations

import contextlib
import fcntl
import os
import pty
import re
import select
import signal
import struct
import sys
import termios
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent.parent
WAIT_SECONDS = 60.0
ENTER_SCREEN, LEAVE_SCREEN, SHOW_CURSOR = b"\x1b[?1049h", b"\x1b[?1049l", b"\x1b[?25h"


class PtyProcess:
    """A child with a terminal of its own. `output` is all that it wrote to it."""

    def __init__(
        self,
        arguments: Sequence[str],
        *,
        size: tuple[int, int] = (80, 24),
        environ: Mapping[str, str] | None = None,
    ) -> None:
        base = {name: value for name, value in os.environ.items() if name not in _SET_ASIDE}
        environment = {
            **base,
            "TERM": "xterm-256color",
            "COLORTERM": "truecolor",
            "LC_ALL": "C.UTF-8",
            **(environ or {}),
        }
        environment["PYTHONPATH"] = str(ROOT)
        self.output = b""
        self.code: int | None = None
        command, first_size = [sys.executable, "-P", "-m", "tui", *arguments], _size(*size)
        self.pid, self._fd = pty.fork()
        if self.pid == 0:  # only what may follow a fork; the size is there before it is asked for
            fcntl.ioctl(0, termios.TIOCSWINSZ, first_size)
            os.chdir("/")
            os.execve(sys.executable, command, environment)

    def resize(self, columns: int, lines: int) -> None:
        """Another size of the terminal; the child is told."""
        fcntl.ioctl(self._fd, termios.TIOCSWINSZ, _size(columns, lines))

    def send(self, keys: bytes) -> None:
        """Keys."""
        os.write(self._fd, keys)

    def signal(self, number: int) -> None:
        """A signal, if it is still there."""
        if self.poll() is None:
            os.kill(self.pid, number)

    def read(self, seconds: float) -> bool:
        """What it writes within so long; False at the end of the terminal."""
        ready, _, _ = select.select([self._fd], [], [], seconds)
        if not ready:
            return True
        try:
            data = os.read(self._fd, 65_536)
        except OSError:  # the other side is closed
            return False
        self.output += data
        return bool(data)

    def until(self, *texts: str, seconds: float = WAIT_SECONDS) -> None:
        """Wait until it has written all of these since the last `forget`."""
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            if all(text in self.plain for text in texts):
                return
            if not self.read(0.05):
                break
        raise AssertionError(f"{texts} did not come; it wrote:\n{self.plain[-3000:]}")

    def ended(self, seconds: float = WAIT_SECONDS) -> int:
        """Wait until it has ended; its exit code, negative for a signal."""
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            if self.poll() is not None:
                while time.monotonic() < end and self.read(0.02):  # its last words may be on their way
                    pass
                assert self.code is not None
                return self.code
            self.read(0.02)
        raise AssertionError(f"it did not end; it wrote:\n{self.plain[-3000:]}")

    def poll(self) -> int | None:
        """Its exit code; None while it lives."""
        if self.code is None:
            pid, status = os.waitpid(self.pid, os.WNOHANG)
            if pid:
                self.code = os.waitstatus_to_exitcode(status)
        return self.code

    def forget(self) -> None:
        """What it wrote so far does not count."""
        self.output = b""

    def hang_up(self) -> None:
        """The terminal is gone, without a word."""
        os.close(self._fd)
        self._fd = -1

    @property
    def plain(self) -> str:
        """What it wrote, without what moves or colours."""
        return plain(self.output)

    def cpu_seconds(self) -> float:
        """What it has cost so far."""
        fields = Path(f"/proc/{self.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def rss_bytes(self) -> int:
        """What it holds of memory."""
        return int(Path(f"/proc/{self.pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")

    def close(self) -> None:
        """Leave nothing behind."""
        if self.poll() is None:
            os.kill(self.pid, signal.SIGKILL)
            _, status = os.waitpid(self.pid, 0)
            self.code = os.waitstatus_to_exitcode(status)
        if self._fd >= 0:
            with contextlib.suppress(OSError):
                os.close(self._fd)


def _size(columns: int, lines: int) -> bytes:
    """A size as the kernel takes it."""
    return struct.pack("HHHH", lines, columns, 0, 0)


# What tells of the terminal round the tests; the parallel runner sets a size, which would count for more than resizing.
_SET_ASIDE = {
    *("NO_COLOR", "SSH_CONNECTION", "TMUX", "STY", "COLORTERM", "LC_ALL", "LANG", "LC_CTYPE", "TERM"),
    *("COLUMNS", "LINES"),
}
_CONTROL = re.compile(
    rb"\x1b\[[0-9;?<>=]*[ -/]*[@-~]|\x1b[()][A-Z0-9]|\x1b[=>78cDEHM]|\x1bP.*?\x1b\\|\x1b\].*?(?:\x07|\x1b\\)"
)


def plain(output: bytes) -> str:
    """The text between the control sequences."""
    return _CONTROL.sub(b"", output).decode("utf-8", "replace")


@contextmanager
def dashboard_process(*arguments: str, **options: object) -> Iterator[PtyProcess]:
    """A dashboard on a terminal, gone after the block."""
    process = PtyProcess(arguments, **options)  # type: ignore[arg-type]
    try:
        yield process
    finally:
        process.close()
