"""The gate that lets threads run beside a busy loop."""

from __future__ import annotations

import statistics
import time

import pytest
import trio

from actors.gil_gate import GilGate


class CountingGate(GilGate):
    """Counts the polls at which it yielded."""

    def __init__(self) -> None:
        super().__init__()
        self.yielded = 0

    def before_io_wait(self, timeout: float) -> None:
        self.yielded += 1
        super().before_io_wait(timeout)


@pytest.mark.trio
async def test_it_yields_only_while_a_thread_works() -> None:
    """An idle gate costs nothing; while work is outstanding each poll gives threads their turn."""
    gate = CountingGate()
    for _ in range(10):
        await trio.lowlevel.checkpoint()
    assert gate.yielded == 0
    with gate, gate:
        for _ in range(10):
            await trio.lowlevel.checkpoint()
    assert gate.yielded >= 10
    before = gate.yielded
    await trio.lowlevel.checkpoint()
    assert gate.yielded == before


@pytest.mark.slow
@pytest.mark.trio
async def test_a_thread_starts_soon_beside_a_saturated_loop() -> None:
    """A thread is heard within a fraction of a second, though a task spins in slices the whole time."""
    gate = GilGate()

    async def spin() -> None:
        while True:
            until = time.perf_counter() + 0.0001
            while time.perf_counter() < until:
                pass
            await trio.lowlevel.checkpoint()

    async with trio.open_nursery() as nursery:
        nursery.start_soon(spin)
        took = []
        with gate:
            for _ in range(11):
                began = time.perf_counter()
                await trio.to_thread.run_sync(int)
                took.append(time.perf_counter() - began)
        nursery.cancel_scope.cancel()
    assert statistics.median(took) < 0.1  # it takes a few ms; without the gate 0.1 s to over a second
