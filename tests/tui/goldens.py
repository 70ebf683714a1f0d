"""Whole screens as text files: what a screen must look like, cell for cell.

`UPDATE_GOLDENS=1` writes them anew; the difference is then looked at before it is committed.
"""

from __future__ import annotations

import os
from pathlib import Path

FOLDER = Path(__file__).resolve().parent / "golden"


def check(name: str, shown: str) -> None:
    """Hold a screen against the file of this name."""
    path = FOLDER / f"{name}.txt"
    if os.environ.get("UPDATE_GOLDENS"):
        FOLDER.mkdir(exist_ok=True)
        path.write_text(shown + "\n", encoding="utf-8")
    assert shown.splitlines() == path.read_text(encoding="utf-8").splitlines(), f"{name} looks different"
