"""The testing kit: workflows on virtual time, and a kill after every record. A pytest plugin (PYTEST_DONT_REWRITE).

In a `conftest.py` or a test module::

    pytest_plugins = ["runtimed.testing"]

    async def test_checkout(runtime):                         # on trio, because of the fixture
        handle = await runtime.start(checkout, Order("A-1", 990))
        await runtime.advance(30 * 86400)                     # milliseconds
        await runtime.signal(handle.id, "paid")
        asked = await runtime.asked(handle.id)                # the approval, once the run asks for it
        await runtime.decide(asked.id, approve=True, by="kim", reason="looks fine")
        await runtime.crash()                                 # as by kill -9, and started again
        assert await handle.result() == "shipped"

    @pytest.mark.trio
    async def test_checkout_survives(runtime):
        report = await crash_everywhere(
            checkout, Order("A-1", 990), signals=[SendSignal("paid")], decisions=[SendDecision(by="kim")]
        )
        report.check()

It needs pytest-trio. The mark in the first line keeps pytest from complaining where a test module imports from here
before the plugin is loaded; there are no assertions here to rewrite.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from functools import partial
from typing import Any

import pytest
import trio
import trio.testing

from actors.flow.definitions import App
from runtimed.crash_testing import CrashReport, Cut, SendDecision, SendSignal, crash_everywhere
from runtimed.settings import Settings
from runtimed.virtual import VirtualRuntime

__all__ = [
    "CrashReport",
    "Cut",
    "SendDecision",
    "SendSignal",
    "VirtualRuntime",
    "crash_everywhere",
    "runtime",
    "runtime_app",
    "runtime_settings",
    "virtual_clock",
]


@pytest.fixture
def runtime_app() -> App | Iterable[App]:
    """The apps that `runtime` runs from the start. Override it to start workflows by name, or where a workflow calls
    steps of another app; otherwise the app of a workflow is loaded when that is first started."""
    return ()


@pytest.fixture
def runtime_settings() -> Settings:
    """The settings of `runtime`. Override it to test limits."""
    return Settings()


@pytest.fixture
def virtual_clock() -> trio.testing.MockClock:
    """The clock of virtual time. Every test that uses it, as `runtime` does, runs on trio and on this clock."""
    return trio.testing.MockClock(autojump_threshold=0)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Have pytest-trio run tests on `virtual_clock` if they use it. It finds a clock only in a test's own arguments,
    and to ask every test for one that it does not look at would be a trap."""
    for item in items:
        if "virtual_clock" in getattr(item, "fixturenames", ()):
            item.add_marker(pytest.mark.trio(run=partial(_run, item)), append=False)


def _run(item: pytest.Item, test: Callable[[], Awaitable[Any]], **options: Any) -> Any:
    clock = options.pop("clock") or item.funcargs["virtual_clock"]  # type: ignore[attr-defined]
    return trio.run(test, clock=clock, **options)


@pytest.fixture
async def runtime(
    virtual_clock: trio.testing.MockClock, runtime_app: App | Iterable[App], runtime_settings: Settings
) -> AsyncIterator[VirtualRuntime]:
    """A runtime in memory; see `VirtualRuntime`. Its time passes as soon as nobody has anything to do."""
    apps = [runtime_app] if isinstance(runtime_app, App) else runtime_app
    async with trio.open_nursery() as nursery:
        made = VirtualRuntime(nursery, apps, settings=runtime_settings)
        await made.open()
        yield made
        await made.stop()
