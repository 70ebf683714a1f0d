"""Screens as text that somebody has looked at: `RUNTIMED_GOLDEN=write` writes them anew, to be looked at again."""

from __future__ import annotations

import os
from pathlib import Path

FOLDER = Path(__file__).parent / "goldens"


def check_golden(name: str, text: str) -> None:
    """The text is what the file of this name holds."""
    path = FOLDER / f"{name}.txt"
    if os.environ.get("RUNTIMED_GOLDEN") == "write":
        FOLDER.mkdir(exist_ok=True)
        path.write_text(text + "\n", encoding="utf-8")
    assert path.exists(), f"there is no golden {name}; RUNTIMED_GOLDEN=write makes one"
    assert text + "\n" == path.read_text(encoding="utf-8")
