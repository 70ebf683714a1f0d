"""The pictures of the docs: they stand alone, they are used, and the day that they show is the same each time."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from actors.clock import VIRTUAL_START_US
from bench.pictures.__main__ import SHOTS
from bench.pictures.day import lived
from bench.pictures.svg import BYTES_MAX

ROOT = Path(__file__).resolve().parent.parent
PICTURES = sorted((ROOT / "docs" / "img").glob("*.svg"))


def test_each_shot_is_kept_and_shown() -> None:
    """What `make screenshots` draws is in the docs, all of it and nothing else, and the terminal's page shows it."""
    assert {path.stem for path in PICTURES} == {shot.name for shot in SHOTS}
    page = (ROOT / "docs" / "terminal.md").read_text(encoding="utf-8")
    assert [path.name for path in PICTURES if f"(img/{path.name})" not in page] == []


@pytest.mark.parametrize("path", PICTURES, ids=lambda path: path.stem)
def test_a_picture_stands_alone(path: Path) -> None:
    """A picture fetches nothing, runs nothing, names no host, and is small."""
    text = path.read_text(encoding="utf-8")
    assert set(re.findall(r"\w+://[^\s\"'<)]+", text)) == {"http://www.w3.org/2000/svg"}
    assert not re.search(r"<script|@import|url\((?!#)|xlink", text)
    assert path.stat().st_size <= BYTES_MAX


def test_the_day_is_the_same_each_time() -> None:
    """Ids, chance and distances in time do not depend on when or where the pictures are taken."""
    assert lived(VIRTUAL_START_US) == lived(VIRTUAL_START_US)
