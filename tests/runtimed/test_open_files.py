"""File descriptors: as many as the daemon wants where it may have them, and what happens when there are none left."""

from __future__ import annotations

import json
import os
import resource
import subprocess
import sys
from pathlib import Path

import pytest

from runtimed import open_files

ROOT = Path(__file__).resolve().parents[2]
NOFILE = resource.RLIMIT_NOFILE


def python(*arguments: str) -> str:
    """What a process of ours prints, which is to end by itself."""
    done = subprocess.run(
        [sys.executable, "-P", *arguments], env={**os.environ, "PYTHONPATH": str(ROOT)}, capture_output=True,
        timeout=60, check=False, text=True,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.slow
def test_a_run_wakes_without_a_file_descriptor(tmp_path: Path) -> None:
    """With all descriptors in use (by idle connections, say) and somebody's long list being read, a run that was put
    away wakes, no actor restarts, and the step that is never repeated is not in doubt."""
    told = json.loads(python("-m", "tests.runtimed.scarce_files", str(tmp_path / "data")))
    assert told == {"runs": {"nap": "completed", "pay": "completed"}, "restarted": [], "failed": ""}


def test_what_is_wanted_and_what_can_be_had() -> None:
    """As many as the unit gives, or more where the connections want more; never beyond the hard limit, never less than
    there were."""
    unlimited = resource.RLIM_INFINITY
    assert open_files.wanted(512) == 2 * 512 + open_files.SPARE
    assert open_files.attainable(1_024, 524_288, 1_152) == open_files.ENOUGH
    assert open_files.attainable(1_024, 524_288, 200_128) == 200_128
    assert open_files.attainable(1_024, 4_096, 200_128) == 4_096
    assert open_files.attainable(1_024, unlimited, 1_152) == open_files.ENOUGH
    assert open_files.attainable(100_000, 524_288, 1_152) == 100_000
    assert open_files.attainable(unlimited, unlimited, 1_152) == unlimited


def test_the_limit_is_raised_to_what_can_be_had() -> None:
    """The soft limit goes up, the hard one stays; where that is refused nothing happens."""
    program = """if True:
        import resource
        from runtimed import open_files
        resource.setrlimit(resource.RLIMIT_NOFILE, (128, 512))
        open_files.raise_limit(512)
        print(*resource.getrlimit(resource.RLIMIT_NOFILE))
        def refused(*_):
            raise ValueError("not allowed to raise maximum limit")
        resource.setrlimit(resource.RLIMIT_NOFILE, (128, 512))
        resource.setrlimit = refused
        open_files.raise_limit(512)
        print(*resource.getrlimit(resource.RLIMIT_NOFILE))
    """
    assert python("-c", program).split() == ["512", "512", "128", "512"]
