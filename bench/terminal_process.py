"""The dashboard on a pseudo-terminal that counts: bytes written to it, when a key was painted, CPU and memory."""

from __future__ import annotations

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
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
SEEN_SECONDS_MAX = 20.0
END_SECONDS_MAX = 5.0
QUIET_SECONDS = 0.04
"""A frame is over when nothing has been written for so long; the time of its last byte counts."""
PAINT_BYTES_MIN = 32
"""Less is the cursor being put away before a frame, and nothing that anybody sees."""
TICKS = os.sysconf("SC_CLK_TCK")
_LEFT_OUT = {"NO_COLOR", "SSH_CONNECTION", "TMUX", "STY"}
_CONTROL = re.compile(
    rb"\x1b\[[0-9;?<>=]*[ -/]*[@-~]|\x1b[()][A-Z0-9]|\x1b[=>78cDEHM]|\x1bP.*?\x1b\\|\x1b\].*?(?:\x07|\x1b\\)"
)


class Terminal:
    """A dashboard of the daemon at `socket`, on a terminal of this size. `wrote` counts the bytes written to it."""

    def __init__(self, socket: Path, size: tuple[int, int], area: str = "overview") -> None:
        environment = {name: value for name, value in os.environ.items() if name not in _LEFT_OUT}
        environment |= {
            "TERM": "xterm-256color",
            "COLORTERM": "truecolor",
            "LC_ALL": "C.UTF-8",
            "PYTHONPATH": str(ROOT),
        }
        command = [sys.executable, "-P", "-m", "tui", "--socket", str(socket), "--area", area]
        window = struct.pack("HHHH", size[1], size[0], 0, 0)
        self.wrote = 0
        self._recent = b""
        self.began = time.perf_counter()
        self.pid, self._fd = pty.fork()
        if self.pid == 0:
            fcntl.ioctl(2, termios.TIOCSWINSZ, window)
            os.execve(command[0], command, environment)

    def read(self, seconds: float) -> bool:
        """Take what is written within so long; whether there was anything."""
        if not select.select([self._fd], [], [], seconds)[0]:
            return False
        with suppress(OSError):  # its side is closed: nothing more will come
            data = os.read(self._fd, 1 << 16)
            self.wrote += len(data)
            self._recent += data
            return bool(data)
        return False

    def forget(self) -> None:
        """What was written so far is not looked at any more."""
        self._recent = b""

    def press(self, key: str) -> None:
        """A key, or several."""
        os.write(self._fd, key.encode())

    def until(self, *words: str) -> float:
        """Wait until all words have been written since `forget`; the instant. Raises SystemExit if they do not come."""
        end = time.perf_counter() + SEEN_SECONDS_MAX
        while time.perf_counter() < end:
            if self.read(0.05) and all(word in self.text for word in words):
                return time.perf_counter()
        raise SystemExit(f"the dashboard did not show {words}; it wrote:\n{self.text[-3000:]}")

    @property
    def text(self) -> str:
        """What was written since `forget`, without what moves and colours."""
        return _CONTROL.sub(b"", self._recent).decode("utf-8", "replace")

    def paint_seconds(self, key: str) -> float:
        """From a key to the last byte of the frame that answers it."""
        self.settle(quiet=0.2)
        began = time.perf_counter()
        before = self.wrote
        self.press(key)
        while self.wrote - before < PAINT_BYTES_MIN:
            if not self.read(SEEN_SECONDS_MAX):
                raise SystemExit(f"the dashboard painted nothing for the key {key!r}")
        last = time.perf_counter()
        while self.read(QUIET_SECONDS):
            last = time.perf_counter()
        return last - began

    def settle(self, quiet: float = 0.3, most: float = 3.0) -> None:
        """Wait until nothing has been written for so long, at most `most` seconds."""
        end = time.perf_counter() + most
        while self.read(quiet) and time.perf_counter() < end:
            pass

    def cpu_seconds(self) -> float:
        """CPU time used so far."""
        fields = Path(f"/proc/{self.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / TICKS

    def rss_mb(self) -> float:
        """Resident memory in MB (10^6)."""
        return int(Path(f"/proc/{self.pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 1e6

    def close(self) -> None:
        """End it as a lost connection would, and by force if that is not enough."""
        with suppress(ProcessLookupError):
            os.kill(self.pid, signal.SIGTERM)
        end = time.perf_counter() + END_SECONDS_MAX
        while not os.waitpid(self.pid, os.WNOHANG)[0]:
            self.read(0.02)  # it wants to leave its terminal in order
            if time.perf_counter() > end:
                os.kill(self.pid, signal.SIGKILL)
                os.waitpid(self.pid, 0)
                break
        os.close(self._fd)


@contextmanager
def shown(socket: Path, size: tuple[int, int], area: str = "overview") -> Iterator[Terminal]:
    """A dashboard that shows the daemon live inside the block, and is gone after it."""
    terminal = Terminal(socket, size, area)
    try:
        terminal.until("READY", "LIVE")
        yield terminal
    finally:
        terminal.close()


class Watched:
    """What terminals cost from here on: percent of a core, and bytes a second, for each of them."""

    def __init__(self, terminals: list[Terminal]) -> None:
        self._terminals = terminals
        self._before = [(each.cpu_seconds(), each.wrote) for each in terminals]
        self._began = time.perf_counter()

    def during(self, seconds: float, meanwhile: Callable[[], None] = lambda: None) -> list[tuple[float, float]]:
        """Take what they write for so long; (percent, bytes a second) of each."""
        while time.perf_counter() - self._began < seconds:
            for each in self._terminals:
                each.read(0.02)
            meanwhile()
        took = time.perf_counter() - self._began
        return [
            (100 * (each.cpu_seconds() - cpu) / took, (each.wrote - wrote) / took)
            for each, (cpu, wrote) in zip(self._terminals, self._before, strict=True)
        ]
