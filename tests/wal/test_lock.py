"""The two locks."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from wal.errors import JournalError, JournalLocked
from wal.lock import DataFolderLock, FileLock, WriterLock

HOLDER = """
import os, sys
from pathlib import Path
from wal.lock import DataFolderLock
lock = DataFolderLock(Path(sys.argv[1]))
print("held", flush=True)
sys.stdin.read()
"""


def test_a_second_daemon_fails_at_once_and_names_the_first(tmp_path: Path) -> None:
    """The folder has one daemon; the next is told by whom it is held, exit code 75."""
    with DataFolderLock(tmp_path) as lock:
        with pytest.raises(JournalLocked, match=rf"daemon \(pid {os.getpid()}\)") as caught:
            DataFolderLock(tmp_path)
        assert caught.value.exit_code == 75
        assert lock.path.read_text() == f"{os.getpid()}\n"
    DataFolderLock(tmp_path).release()


def test_a_lock_is_released_once_and_its_file_stays(tmp_path: Path) -> None:
    """Releasing twice does not release another's lock; a removed file would let two in."""
    lock = DataFolderLock(tmp_path)
    lock.release()
    with DataFolderLock(tmp_path):
        lock.release()
        with pytest.raises(JournalLocked):
            DataFolderLock(tmp_path)
    assert (tmp_path / "lock").exists()


@pytest.mark.slow
def test_a_killed_daemon_leaves_no_lock_behind(tmp_path: Path) -> None:
    """The lock ends with its process, also by kill -9; its file and its stale pid do not matter."""
    root = str(Path(__file__).resolve().parent.parent.parent)
    process = subprocess.Popen(
        [sys.executable, "-P", "-c", HOLDER, str(tmp_path)],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, env={**os.environ, "PYTHONPATH": root},
    )  # fmt: skip
    with process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"held\n"
        with pytest.raises(JournalLocked, match=str(process.pid)):
            DataFolderLock(tmp_path)
        process.send_signal(signal.SIGKILL)
        process.wait(30)

    DataFolderLock(tmp_path).release()


def test_the_writers_lock_is_waited_for(tmp_path: Path) -> None:
    """A writer that ends soon is waited for, so that a restart right after a kill succeeds."""
    first = WriterLock(tmp_path / "journal.db", wait_seconds=0)
    timer = threading.Timer(0.05, first.release)
    timer.start()
    WriterLock(tmp_path / "journal.db", wait_seconds=30).release()
    timer.join()


def test_a_place_where_nothing_can_be_written_is_an_error(tmp_path: Path) -> None:
    """A missing folder is told as what it is."""
    with pytest.raises(JournalError, match="cannot be opened"):
        FileLock(tmp_path / "nowhere" / "lock")
