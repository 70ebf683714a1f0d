from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent.parent


@pytest.mark.slow
def test_the_demo_loses_nothing_and_charges_nobody_twice() -> None:
    """The main job on real input, with four kills in the middle, ends with a table in which every line is right."""
    command = [sys.executable, "-m", "examples.shop.demo", "--seed", "11"]
    ended = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=200, check=False)
    story = ended.stdout + ended.stderr
    assert ended.returncode == 0, story
    assert "WRONG" not in story
    assert story.count("kill -9 after") == 4, story
