"""The feed: how far the journal is durable, and a way to wait for more.

Nothing is queued for anyone: a follower that is told of progress reads the journal from where it stands, a page at a
time. So a slow follower costs nothing, misses nothing, and can resume after any break.
"""

from __future__ import annotations

import trio


class Feed:
    """The durable high-water mark. `seq` is the last record that is on disk."""

    def __init__(self, seq: int = 0) -> None:
        self.seq = seq
        self._closed = False
        self._followers = trio.lowlevel.ParkingLot()

    def publish(self, seq: int) -> None:
        """Everything up to `seq` is on disk."""
        self.seq = seq
        if self._followers:
            self._followers.unpark_all()

    async def wait_beyond(self, seq: int) -> int:
        """Wait until more than `seq` is durable; gives the new mark. At the end of the runtime it returns at once,
        with the mark unchanged. Cancellation: nothing is lost."""
        while self.seq <= seq and not self._closed:
            await self._followers.park()
        return self.seq

    @property
    def closed(self) -> bool:
        """Whether there will be no more."""
        return self._closed

    def close(self) -> None:
        """The runtime is stopping: wake every follower."""
        self._closed = True
        self._followers.unpark_all()
