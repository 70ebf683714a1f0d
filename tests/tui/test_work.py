"""Workers of a screen: none of them finds the screen half taken down."""

from __future__ import annotations

import asyncio

import pytest
from textual.app import App, ComposeResult
from textual.screen import Screen
from textual.widgets import Static

from tui.work import EndsWork, begin

pytestmark = pytest.mark.anyio


class Part(Static):
    gone: asyncio.Event

    def on_unmount(self) -> None:
        """The worker waits for just this instant."""
        self.gone.set()


class Slow(Static):
    async def on_unmount(self) -> None:
        """Another part takes its time to go: the screen is there all the while, with half of its parts."""
        await asyncio.sleep(0.05)


class Working(EndsWork, Screen[None]):
    def __init__(self) -> None:
        super().__init__()
        self.gone, self.came_back = asyncio.Event(), False

    def compose(self) -> ComposeResult:
        """A part that the worker looks for, and one that holds up the end."""
        part = Part(id="part")
        part.gone = self.gone
        yield part
        yield Slow()

    def on_mount(self) -> None:
        """Begin the work."""
        begin(self, self.work, group="work")

    async def work(self) -> None:
        """Come back when the part has gone, and look for it."""
        await self.gone.wait()
        self.came_back = True
        self.query_one("#part")


@pytest.mark.parametrize("way", ["left", "popped"])
async def test_work_ends_before_the_parts_of_its_screen(way: str) -> None:
    """Left in the middle of a read, by the end of the app or of the screen: the worker does not come back to a screen
    without parts, which would end the app with an error."""
    app: App[None] = App()
    async with app.run_test() as pilot:
        screen = Working()
        await app.push_screen(screen)
        await pilot.pause()
        if way == "popped":
            await app.pop_screen()
            await pilot.pause()
    assert screen.gone.is_set()
    assert not screen.came_back
