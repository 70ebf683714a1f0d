"""`make screenshots`: live the day, start the real daemon on it, drive the real dashboard, keep what it shows.

Only the host and the person are not this machine's: `host` is an option of the dashboard, and who looks is said by the
picture's own client.
"""

from __future__ import annotations

import asyncio
import shutil
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import NamedTuple

from textual.pilot import Pilot

from bench.daemon import Daemon, running
from bench.pictures.day import write_day
from bench.pictures.svg import picture
from runtimed.client import Client
from runtimed.wire import CallerView
from tui.app import Dashboard, Options

TARGET = Path(__file__).resolve().parent.parent.parent / "docs" / "img"
SMALL, WIDE = (80, 24), (120, 36)
WAIT_SECONDS = 20.0
SETTLE_SECONDS = 0.6  # longer than the rest of the cursor after which a preview is read


class Seen(NamedTuple):
    """Between keys: wait until this word is on the screen."""

    word: str


class Shot(NamedTuple):
    """A picture: its file's name, the terminal's size, the keys that lead there, the words that must be on it."""

    name: str
    size: tuple[int, int]
    keys: Sequence[str | Seen]
    words: Sequence[str]


TO_REFUND = [":", Seen("jump: runs"), *"run refund-991", "enter"]
SHOTS = (
    Shot("overview", WIDE, [], ["Needs you", "refund EUR 1240.00", "DONE"]),
    Shot("runs", SMALL, ["2"], ["refund_saga", "RETRY", "DOUBT"]),
    Shot("run_detail", SMALL, ["2", *TO_REFUND, Seen("fraud_check"), "down"], ["psp_lookup", "TimeoutError"]),
    Shot("approvals", SMALL, ["3"], ["HIGH", "sha256", "decided"]),
    Shot("decision_card", WIDE, ["3", Seen("HIGH"), "enter"], ["payload", "shown escaped", "[Submit]"]),
    Shot("actors", SMALL, ["4"], ["root"]),
    Shot("connectors", SMALL, ["5", Seen("BACKOFF"), "down", "down"], ["1 backoff", "503", "handoff"]),
    Shot("journal", SMALL, ["7"], ["SEQ"]),
)


class Bob(Client):
    """The client of the person on the pictures."""

    async def whoami(self) -> CallerView:
        """What the daemon would say of somebody in the group `ops`."""
        return CallerView(by="uid:1002", level="approver", roles=["ops"], via="bob pts/3 ssh 10.0.4.7")


def screen_text(app: Dashboard) -> str:
    """The words on the screen."""
    return "\n".join("".join(piece.text for piece in strip) for strip in app.screen._compositor.render_strips())


async def _until_seen(app: Dashboard, pilot: Pilot[int], words: Sequence[str]) -> None:
    """Wait for words on the screen. Raises SystemExit with the screen if they do not come."""
    end = time.monotonic() + WAIT_SECONDS
    while time.monotonic() < end:
        await pilot.pause(0.05)
        if all(word in screen_text(app) for word in words):
            return
    raise SystemExit(f"{', '.join(words)} did not come on the screen:\n{screen_text(app)}")


@asynccontextmanager
async def _shown(daemon: Daemon, size: tuple[int, int]) -> AsyncIterator[tuple[Dashboard, Pilot[int]]]:
    app = Dashboard(Options(host="shop"), lambda: Bob(socket=daemon.socket))
    async with app.run_test(size=size) as pilot:
        await _until_seen(app, pilot, ["LIVE"])
        yield app, pilot


async def take(daemon: Daemon, shot: Shot) -> str:
    """One picture, from a dashboard of its own."""
    async with _shown(daemon, shot.size) as (app, pilot):
        for key in shot.keys:
            if isinstance(key, Seen):
                await _until_seen(app, pilot, [key.word])
            else:
                await pilot.press(key)
        await _until_seen(app, pilot, shot.words)
        await pilot.pause(SETTLE_SECONDS)
        return picture(app, f"runtimed tui: {shot.name.replace('_', ' ')}")


async def take_all(daemon: Daemon, names: Sequence[str]) -> None:
    """The pictures of these names, or all."""
    for shot in SHOTS:
        if names and shot.name not in names:
            continue
        svg = await take(daemon, shot)
        (TARGET / f"{shot.name}.svg").write_text(svg, encoding="utf-8")
        print(f"docs/img/{shot.name}.svg  {shot.size[0]}x{shot.size[1]}  {len(svg.encode()):,} bytes", flush=True)


def main() -> int:
    """Pictures of the names given, or all."""
    folder = Path(tempfile.mkdtemp(prefix="shop-"))
    TARGET.mkdir(parents=True, exist_ok=True)
    try:
        data = folder / "data"
        data.mkdir(mode=0o700)
        write_day(data / "journal.db")
        with running(data, "pictures.flows:app", "pictures.sources:app") as daemon:
            asyncio.run(take_all(daemon, sys.argv[1:]))
    finally:
        shutil.rmtree(folder)
    return 0


if __name__ == "__main__":
    sys.exit(main())
