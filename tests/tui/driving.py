"""The real dashboard on a terminal that is only in memory, with a fake daemon behind it."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import anyio
from textual.pilot import Pilot

from tests.tui.fake_daemon import NOW, FakeDaemon
from tests.tui.screen_text import screen_text
from tui.app import Dashboard, Options

WAIT_SECONDS = 30.0
NOTE_SECONDS = 12.0
"""A note outlasts a machine that stands still, and is gone before the test is tired of waiting for what it covers."""
TURNS = 4
"""How often each part of the screen takes its turn after a key, which goes from one to the next."""


class Driven:
    """A dashboard that is shown: its app, Textual's pilot, and waiting for what should appear."""

    def __init__(self, app: Dashboard, pilot: Pilot[int], daemon: FakeDaemon) -> None:
        self.app, self.pilot, self.daemon = app, pilot, daemon
        app.NOTIFICATION_TIMEOUT = NOTE_SECONDS  # type: ignore[misc] - a note stays until the test has looked

    @property
    def text(self) -> str:
        """The screen."""
        return screen_text(self.app)

    async def press(self, *keys: str) -> None:
        """Keys, and what follows from them. The pilot's own wait is for 20 ms without work, which a machine that stood
        still gives it as well: what it holds back has its turns besides."""
        for key in keys:
            await self.pilot.press(key)
        for _ in range(TURNS):
            await self.pilot.pause(0.0)
        await self.pilot.pause()

    async def until(self, holds: Callable[[], object]) -> None:
        """Wait until something holds; shows the screen if it does not come to that."""
        with anyio.move_on_after(WAIT_SECONDS):
            while not holds():
                await self.pilot.pause(0.01)
            await self.pilot.pause()
            return
        raise AssertionError(f"it did not come to that; the screen:\n{self.text}")

    async def sees(self, *words: str) -> None:
        """Wait until the screen holds all of these."""
        await self.until(lambda: all(word in self.text for word in words))


@asynccontextmanager
async def driven(
    daemon: FakeDaemon,
    *,
    size: tuple[int, int] = (80, 24),
    connected: bool = True,
    now: Callable[[], int] = lambda: NOW,
    **options: Any,
) -> AsyncIterator[Driven]:
    """The dashboard, shown; connected to the daemon unless said otherwise. Time stands still at `NOW`."""
    app = Dashboard(Options(**{"host": "testhost", **options}), daemon.client, now=now)  # type: ignore[arg-type]
    async with app.run_test(size=size, notifications=True) as pilot:
        shown = Driven(app, pilot, daemon)
        if connected:
            await shown.until(lambda: app.link_state.live and app.model.total == len(daemon.runs))
        yield shown
