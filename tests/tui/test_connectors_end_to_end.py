"""Connectors are looked at and steered in the real dashboard, in front of a real daemon, and read from its file."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from runtimed.client import Client
from tests.tui.driving import Driven
from tests.tui.served import Served
from tui.app import Dashboard, Options
from tui.screens.card_base import DONE, CardBase
from tui.screens.connector_card import ConnectorCard

pytestmark = [pytest.mark.anyio, pytest.mark.slow]


@pytest.fixture
def daemon(short_dir: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Served]:
    monkeypatch.setattr(CardBase, "DEAD_SECONDS", 0.05)
    served = Served(short_dir, "source_flows:app")
    yield served
    served.close()


@asynccontextmanager
async def dashboard(daemon: Served) -> AsyncIterator[Driven]:
    """The real dashboard on the connectors."""
    options = Options(host="here", journal=daemon.journal, area="connectors")
    app = Dashboard(options, lambda: Client(socket=daemon.socket))
    async with app.run_test(size=(120, 30), notifications=True) as pilot:
        yield Driven(app, pilot, None)  # type: ignore[arg-type]


async def submit(shown: Driven, key: str, *texts: str) -> None:
    """Open a card, fill its fields in their order, submit, and leave it when it is done."""
    await shown.press(key)
    await shown.until(lambda: isinstance(shown.app.screen, ConnectorCard) and shown.app.screen.armed)
    for text in texts:
        await shown.press("tab", *[{" ": "space"}.get(char, char) for char in text])
    await shown.press("tab", "enter")
    await shown.until(lambda: isinstance(shown.app.screen, ConnectorCard) and shown.app.screen.phase == DONE)
    await shown.press("escape")


async def test_a_connector_is_held_set_back_and_let_go(daemon: Served) -> None:
    """Each card makes its record, with who the kernel says we are and why; the list follows by itself; after `kill -9`
    the file tells the same."""
    await daemon.start()
    async with dashboard(daemon) as shown:
        await shown.sees("broken", "people", "no route to host")
        await shown.press("j")
        await shown.sees("6 records", "It waits for its time")
        await submit(shown, "z", "audit is on")
        await shown.sees("= PAUSED", "It is paused: a person held it")
        await submit(shown, "C", "4", "two of them again")
        await shown.sees("set by hand 1x")
        await submit(shown, "Z", "audit is over")
        await shown.sees("8 records", "It waits for its time")
        async with Client(socket=daemon.socket) as client:
            view = await client.connector("people")
            assert (bytes(view.cursor), view.generation, view.status) == (b"6", 1, "ok")
            page = await client.records("people")
            assert [record.key for record in page.items] == [str(n) for n in range(6)]
            kinds = {}
            async with client.events() as events:
                async for event in events:
                    kinds[event.kind] = event
                    if event.kind == "connector_resumed":
                        break
        assert b"two of them again" in bytes(kinds["connector_reset"].data)
        assert f"uid:{os.getuid()}".encode() in bytes(kinds["connector_paused"].data)
        daemon.kill()
        await shown.sees("DOWN since", "starting the daemon wakes it", "8 records")
