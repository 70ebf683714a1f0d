"""`runtimed secret`: values from stdin or a prompt alone, with the daemon and without it."""

from __future__ import annotations

import json
import os
import pty
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from runtimed.secret_store import SecretStore
from wal.lock import DataFolderLock
from wal.queries import Reader

ROOT = Path(__file__).resolve().parents[2]
CANARY = "canary-33bb"


def runtimed(folder: Path, *words: str, stdin: bytes = b"") -> subprocess.CompletedProcess[bytes]:
    """The command line on a data folder."""
    command = [sys.executable, "-P", "-m", "runtimed", "secret", *words, "--data-dir", str(folder)]
    environ = {**os.environ, "PYTHONPATH": str(ROOT)}
    return subprocess.run(command, input=stdin, capture_output=True, env=environ, timeout=60, check=False)


def changes(folder: Path) -> list[dict[str, Any]]:
    """What the journal says of changes of secrets."""
    with Reader.open(folder / "journal.db") as reader:
        events = [each for each in reader.events(0) if each.kind == "secret_changed"]
        return [json.loads(bytes(each.data)) | {"name": each.name} for each in events]


@pytest.mark.slow
def test_without_a_daemon_the_file_is_changed_under_its_lock(short_dir: Path) -> None:
    """With --data-dir and no daemon each verb works on the file, leaves a record with who and why, and the journal
    stays as cleanly stopped as it was; no output shows a value."""
    steps = [
        (("set", "a", "--reason", "first"), CANARY.encode() + b"\n"),
        (("rotate", "a", "--grace", "60"), f"{CANARY}-2\n".encode()),
        (("set", "b"), b"two\r\n"),
        (("rotate", "--master"), b""),
        (("delete", "b", "--reason", "unused"), b""),
        (("list", "-o", "json"), b""),
    ]
    for words, value in steps:
        done = runtimed(short_dir, *words, stdin=value)
        assert done.returncode == 0, done.stderr
        assert CANARY.encode() not in done.stdout + done.stderr
    listed = json.loads(done.stdout)["items"]
    assert [(each["name"], each["version"]) for each in listed] == [("a", 2)]
    assert SecretStore(short_dir, environ={}).active("a") == (f"{CANARY}-2", CANARY)
    told = changes(short_dir)
    assert [(each["action"], each.get("reason")) for each in told] == [
        ("set", "first"), ("rotate", None), ("set", None), ("rotate_master", None), ("delete", "unused"),
    ]  # fmt: skip
    assert runtimed(short_dir, "rotate", "--master", "-o", "id").stdout == b"*\n"
    assert {each["by"] for each in told} == {f"uid:{os.getuid()}"}
    assert CANARY.encode() not in (short_dir / "journal.db").read_bytes()
    with Reader.open(short_dir / "journal.db") as reader:
        assert reader.events(0)[-1].kind == "daemon_stopped"


@pytest.mark.slow
def test_refusals_have_their_codes(short_dir: Path) -> None:
    """No daemon and no --data-dir is 3, so is one that is up elsewhere, an unknown name 4, a bad value or name 2;
    nothing is recorded then."""
    assert runtimed(short_dir, "set", "a", stdin=b"\n").returncode == 2
    assert runtimed(short_dir, "set", "a b", stdin=b"v").returncode == 2
    assert runtimed(short_dir, "set", "a", stdin=b"\xff").returncode == 2
    assert runtimed(short_dir, "rotate", "a", stdin=b"v").returncode == 4
    assert runtimed(short_dir, "delete", "a").returncode == 4
    assert runtimed(short_dir, "rotate").returncode == 2
    with DataFolderLock(short_dir):  # somebody is up, though not at the folder's socket
        beside = runtimed(short_dir, "set", "a", stdin=b"v")
    assert (beside.returncode, f"pid {os.getpid()} holds" in beside.stderr.decode()) == (3, True)
    assert not (short_dir / "journal.db").exists()
    command = [sys.executable, "-P", "-m", "runtimed", "secret", "list", "--socket", str(short_dir / "none.sock")]
    environ = {**os.environ, "PYTHONPATH": str(ROOT)}
    assert subprocess.run(command, capture_output=True, env=environ, timeout=60, check=False).returncode == 3


@pytest.mark.slow
def test_on_a_terminal_the_value_is_not_echoed(short_dir: Path) -> None:
    """A prompt asks, what is typed does not show, and it is what is set."""
    main, side = pty.openpty()
    command = [sys.executable, "-P", "-m", "runtimed", "secret", "set", "a", "--data-dir", str(short_dir)]
    environ = {**os.environ, "PYTHONPATH": str(ROOT)}
    process = subprocess.Popen(command, stdin=side, stdout=side, stderr=side, start_new_session=True, env=environ)
    os.close(side)
    seen = b""
    while b"Value" not in seen:
        seen += os.read(main, 1000)
    os.write(main, CANARY.encode() + b"\n")
    while True:
        try:
            data = os.read(main, 1000)
        except OSError:  # the other side has closed: Linux says EIO
            break
        if not data:
            break
        seen += data
    assert process.wait(30) == 0, seen
    os.close(main)
    assert CANARY.encode() not in seen
    assert SecretStore(short_dir, environ={}).get("a") == CANARY


def test_a_value_is_never_an_argument(short_dir: Path) -> None:
    """Other users see arguments: a value there is refused as one word too many."""
    done = runtimed(short_dir, "set", "a", CANARY)
    assert done.returncode == 2
    assert not (short_dir / "secrets.json").exists()
