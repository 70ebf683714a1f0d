"""Fresh ids, ordered by time: version 7 UUIDs (RFC 9562), so that an index on them grows at its edge."""

from __future__ import annotations

import random

from actors.clock import Clock

US_PER_MS = 1_000


class Ids:
    """Makes ids from a clock and dice; both are given, so that a test on virtual time gets the same ids each time."""

    def __init__(self, clock: Clock, dice: random.Random) -> None:
        self._clock, self._dice = clock, dice

    def __call__(self) -> str:
        """One fresh id: 48 bits of milliseconds since the Unix epoch, 74 bits by chance."""
        head, noise = f"{self._clock.now_us() // US_PER_MS:012x}", self._dice.randbytes(10).hex()
        return f"{head[:8]}-{head[8:]}-7{noise[:3]}-{'89ab'[int(noise[3], 16) & 3]}{noise[4:7]}-{noise[7:19]}"
