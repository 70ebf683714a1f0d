"""Fixtures of the behaviour tests: a world, and a runtime on virtual time in which no run may be lost."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator

import pytest
import trio
import trio.testing

from runtimed.settings import Settings
from runtimed.testing import pytest_collection_modifyitems as pytest_collection_modifyitems
from runtimed.testing import virtual_clock as virtual_clock
from runtimed.virtual import VirtualRuntime
from tests.actors.world import World, new_world, without_wake_source


@pytest.fixture
def world() -> Iterator[World]:
    """The outside world, made anew."""
    yield new_world()
    new_world()


@pytest.fixture
def runtime_settings() -> Settings:
    """The settings of `runtime`; a test module or class may override them."""
    return Settings()


@pytest.fixture
async def runtime(
    virtual_clock: trio.testing.MockClock, runtime_settings: Settings, world: World
) -> AsyncIterator[VirtualRuntime]:
    """A runtime on virtual time. When the test is over, every run that is open must have something that wakes it."""
    async with trio.open_nursery() as nursery:
        made = VirtualRuntime(nursery, settings=runtime_settings)
        await made.open()
        yield made
        lost = await without_wake_source(made)
        await made.stop()
        assert lost == []
