from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent.parent


def story_of(module: str, seed: int) -> str:
    """What a demo tells; it has to end well."""
    command = [sys.executable, "-m", module, "--seed", str(seed)]
    ended = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=200, check=False)
    story = ended.stdout + ended.stderr
    assert ended.returncode == 0, story
    assert "WRONG" not in story
    return story


@pytest.mark.slow
def test_the_demo_loses_nothing_and_charges_nobody_twice() -> None:
    """The main job on real input, with four kills in the middle, ends with a table in which every line is right."""
    story = story_of("examples.shop.demo", 11)
    assert story.count("kill -9 after") == 4, story


@pytest.mark.slow
def test_the_sync_loses_nobody_and_mails_nobody_twice() -> None:
    """Customers out of a source that refuses now and then, with a kill while they are read: each has one run and one
    mail, large ones after a person was asked."""
    story = story_of("examples.sync.demo", 7)
    assert story.count("kill -9 after") == 1, story
