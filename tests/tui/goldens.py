"""Whole screens as text files: what a screen must look like, cell for cell.

`UPDATE_GOLDENS=1` writes them anew; the difference is then looked at before it is committed.
"""

from __future__ import annotations

import os
from pathlib import Path

import anyio

from tests.tui.driving import Driven

SETTLE_SECONDS = 30.0
FOLDER = Path(__file__).resolve().parent / "golden"


async def check(name: str, shown: Driven) -> None:
    """Hold a screen against the file of this name, once it has come to rest."""
    path = FOLDER / f"{name}.txt"
    if os.environ.get("UPDATE_GOLDENS"):
        FOLDER.mkdir(exist_ok=True)
        await shown.pilot.pause(0.5)
        path.write_text(shown.text + "\n", encoding="utf-8")
    wanted = path.read_text(encoding="utf-8").splitlines()
    with anyio.move_on_after(SETTLE_SECONDS):  # the last key's effect may still be on its way to the screen
        while shown.text.splitlines() != wanted:
            await shown.pilot.pause(0.02)
    assert shown.text.splitlines() == wanted, f"{name} looks different"
