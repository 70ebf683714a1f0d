"""Command lines as a user runs them who may not look into a folder, also where the tests are root's."""

from __future__ import annotations

import ctypes
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import pytest

ROOT = Path(__file__).parents[2]
NOBODY = 65_534
PR_CAPBSET_DROP, CAP_DAC_OVERRIDE, CAP_DAC_READ_SEARCH = 24, 1, 2
PROGRAM = """
import contextlib, io, json, pathlib, sys
from runtimed.cli import examinations, shell
from runtimed.cli.main import run
shell.SYSTEM_SOCKET = examinations.SYSTEM_SOCKET = pathlib.Path(sys.argv[1])
examinations.ANSWER_SECONDS = 60.0
for words in json.loads(sys.argv[2]):
    out, err = io.TextIOWrapper(io.BytesIO()), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        code = run(words)
    out.flush()
    print(json.dumps([code, out.buffer.getvalue().decode(), err.getvalue()]))
"""


class Done(NamedTuple):
    """What came of one command line."""

    code: int
    out: str
    err: str


@contextmanager
def closed(folder: Path) -> Iterator[None]:
    """The folder as another user's that is open to nobody else."""
    if os.getuid() == 0:
        os.chown(folder, NOBODY, NOBODY)
    folder.chmod(0o700 if os.getuid() == 0 else 0)
    try:
        yield
    finally:
        folder.chmod(0o700)


def as_a_stranger(service: Path, *lines: list[str], env: dict[str, str] | None = None) -> list[Done]:
    """Run these in one process that no rights but a file's own help; `service` is where a service's socket would be."""
    command = [sys.executable, "-P", "-c", PROGRAM, str(service), json.dumps(lines)]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), **(env or {})}
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, check=True, env=environment, preexec_fn=_without_power
        )
    except subprocess.SubprocessError as error:
        if isinstance(error, subprocess.CalledProcessError):
            raise AssertionError(error.stderr) from error
        pytest.skip("this root may not give up its power over others' files")
    return [Done(*json.loads(line)) for line in done.stdout.splitlines()]


def _without_power() -> None:
    """Before exec: root keeps its files, and none of its rights to others' (capabilities(7))."""
    libc = ctypes.CDLL(None)
    if os.getuid() == 0 and any(
        libc.prctl(PR_CAPBSET_DROP, each, 0, 0, 0) for each in (CAP_DAC_OVERRIDE, CAP_DAC_READ_SEARCH)
    ):
        raise OSError("it takes CAP_SETPCAP")
