"""Wall-clock time behind one small protocol, so that tests can jump it.

Durations inside the process are measured by trio's clock; the wall clock is for instants that are written down
(timers, expiries, `created_at`). It may jump in either direction at any moment, and every user must bear that.
"""

from __future__ import annotations

import time
from typing import Protocol

import trio

US_PER_S = 1_000_000
VIRTUAL_START_US = 1_767_225_600 * US_PER_S  # 2026-01-01T00:00:00Z: any fixed instant will do, a round one reads well


class Clock(Protocol):
    """Tells the wall-clock time."""

    def now_us(self) -> int:
        """The instant now, in integer microseconds since the Unix epoch (UTC). It may go backwards."""


class SystemClock:
    """The clock of the operating system."""

    __slots__ = ()

    def now_us(self) -> int:
        """The instant now, in integer microseconds since the Unix epoch (UTC)."""
        return time.time_ns() // 1_000


class VirtualClock:
    """A wall clock that moves with trio's clock, and jumps when told to: under `trio.testing.MockClock` it is exact.

    It may be made anywhere; reading it needs a running trio loop.
    """

    __slots__ = ("_offset_us",)

    def __init__(self, start_us: int = VIRTUAL_START_US) -> None:
        self._offset_us = start_us

    def now_us(self) -> int:
        """The instant now, in integer microseconds since the Unix epoch (UTC)."""
        return self._offset_us + round(trio.current_time() * US_PER_S)

    def jump(self, seconds: float) -> None:
        """Set the wall clock forward (or back, if negative) by `seconds`; trio's clock does not notice."""
        self._offset_us += round(seconds * US_PER_S)
