"""The promises of `actors.clock`."""

from __future__ import annotations

import time

import pytest
import trio

from actors.clock import VIRTUAL_START_US, Clock, SystemClock, VirtualClock

YEAR_S = 365 * 86_400


def test_system_clock_tells_microseconds_since_the_epoch() -> None:
    """The system clock lies between two readings of the operating system's."""
    before = time.time_ns()
    now: int = SystemClock().now_us()
    assert before // 1_000 <= now <= time.time_ns() // 1_000


@pytest.mark.trio
async def test_virtual_clock_moves_with_trio(autojump_clock: trio.testing.MockClock) -> None:
    """Under a mock clock a virtual month passes exactly, at no cost."""
    clock: Clock = VirtualClock()
    assert clock.now_us() == VIRTUAL_START_US
    await trio.sleep(30 * 86_400)
    assert clock.now_us() == VIRTUAL_START_US + 30 * 86_400 * 1_000_000


@pytest.mark.trio
@pytest.mark.parametrize("seconds", [3600.0, -3600.0, 10.0 * YEAR_S])
async def test_virtual_clock_jumps(autojump_clock: trio.testing.MockClock, seconds: float) -> None:
    """The wall clock jumps either way, trio's clock does not notice, and both go on from there."""
    clock = VirtualClock(start_us=5_000_000)
    clock.jump(seconds)
    assert clock.now_us() == 5_000_000 + seconds * 1_000_000
    assert trio.current_time() == 0
    await trio.sleep(0.5)
    assert clock.now_us() == 5_500_000 + seconds * 1_000_000
