"""The daemon as a process of its own, and what the kernel says about it: time to ready, CPU, memory."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

HERE = Path(__file__).resolve().parent
READY_SECONDS_MAX = 60.0
STOP_SECONDS_MAX = 30.0
PROBE = b"GET /health/ready HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"
TICKS = os.sysconf("SC_CLK_TCK")


def _ready(path: Path) -> bool:
    with socket.socket(socket.AF_UNIX) as probe:
        probe.settimeout(5.0)
        try:
            probe.connect(str(path))
            probe.sendall(PROBE)
            return b" 200 " in probe.recv(200)
        except OSError:
            return False


class Daemon:
    """`runtimed serve` on the bench's workflows, or on other `apps` (MODULE:NAME) of this folder."""

    def __init__(self, data_dir: Path, *apps: str) -> None:
        self.data_dir, self.apps = data_dir, apps or ("workflows:app",)
        self.socket = data_dir / "runtimed.sock"
        self.process: subprocess.Popen[bytes] | None = None

    def start(self) -> float:
        """Start it; returns the seconds until it says that it is ready."""
        command = [sys.executable, "-P", "-m", "runtimed", "serve", "--data-dir", str(self.data_dir)]
        command += [word for app in self.apps for word in ("--app", app)]
        environment = {key: value for key, value in os.environ.items() if key != "RUNTIME_DIRECTORY"}
        with Path(f"{self.data_dir}.log").open("ab") as log:
            began = time.perf_counter()
            self.process = subprocess.Popen(
                command, cwd=HERE, env=environment, stdin=subprocess.DEVNULL, stdout=log, stderr=log
            )
        while time.perf_counter() - began < READY_SECONDS_MAX:
            if _ready(self.socket):
                return time.perf_counter() - began
            if self.process.poll() is not None:
                break
            time.sleep(0.005)
        raise SystemExit(f"the daemon did not get ready; its log:\n{Path(f'{self.data_dir}.log').read_text()[-3000:]}")

    def stop(self, number: int = signal.SIGTERM) -> None:
        """Send a signal and wait; one that does not end is killed."""
        if self.process is None or self.process.poll() is not None:
            return
        self.process.send_signal(number)
        try:
            self.process.wait(STOP_SECONDS_MAX)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()

    def pids(self) -> list[int]:
        """The daemon and its children (the writer)."""
        assert self.process is not None
        pid = self.process.pid
        children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
        return [pid, *map(int, children)]

    def cpu_seconds(self) -> float:
        """CPU time used so far, of all its processes."""
        total = 0
        for pid in self.pids():
            fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
            total += int(fields[11]) + int(fields[12])
        return total / TICKS

    def rss_mb(self) -> float:
        """Resident memory of all its processes, shared pages counted in each, in MB (10^6)."""
        total = 0
        for pid in self.pids():
            for line in Path(f"/proc/{pid}/status").read_text().splitlines():
                if line.startswith("VmRSS:"):
                    total += int(line.split()[1]) * 1024
        return total / 1e6


@contextmanager
def running(data_dir: Path, *apps: str) -> Iterator[Daemon]:
    """A daemon that is ready inside the block and gone after it."""
    daemon = Daemon(data_dir, *apps)
    try:
        daemon.start()
        yield daemon
    finally:
        daemon.stop()
