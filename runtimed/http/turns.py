"""Turns: how many requests begin in one pass of the loop, so that a pass stays short under a flood.

All that is ready runs in one pass, and whoever comes anew waits for its end, several times until its answer: with
hundreds of busy connections that was a tenth of a second and more for a probe. So a request takes a turn before it is
read. There are lanes: kept connections, which are where floods come from, do not stand before those that are new, nor
those of the unix socket before those of TCP.
"""

from __future__ import annotations

from typing import Final

import trio

TURNS_PER_PASS: Final = 8
"""In each lane. At a third of a millisecond a request, a lane makes a pass no longer than some three milliseconds."""


class Turns:
    """Hands out the turns of one lane, in the order of asking. Without a crowd a turn is there at once."""

    def __init__(self, per_pass: int = TURNS_PER_PASS) -> None:
        self._per_pass = self._left = per_pass
        self._waiting = trio.lowlevel.ParkingLot()
        self._wanted = trio.Event()

    async def take(self) -> None:
        """Wait for a turn. One that nobody waits for costs nothing, not even a pass."""
        if self._left > 0 and not self._waiting:
            self._left -= 1
            return
        self._wanted.set()
        await self._waiting.park()

    async def run(self) -> None:
        """Give turns out, so many a pass, until cancelled. Sleeps while there are turns left."""
        while True:
            await self._wanted.wait()
            while self._waiting:
                self._waiting.unpark(count=self._per_pass)
                await trio.lowlevel.checkpoint()
            self._left, self._wanted = self._per_pass, trio.Event()
