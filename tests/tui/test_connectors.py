"""The connectors: an empty list that says why."""

from __future__ import annotations

import pytest

from tests.tui.driving import driven
from tests.tui.people_world import PeopleDaemon

pytestmark = pytest.mark.anyio


async def test_an_empty_list_says_why() -> None:
    """No app declares a connector: said in words, with what follows from it."""
    async with driven(PeopleDaemon(), area="connectors") as shown:
        await shown.sees("0 connectors", "none configured: no app declares one, so nothing polls")
