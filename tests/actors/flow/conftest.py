"""Puts away the flows that a test made, as a coordinator would, so that none of their coroutines outlives it."""

from __future__ import annotations

import gc
import sys
from collections.abc import Iterator

import pytest

from actors.flow.fibers import CUT_OFF
from tests.actors.flow import harness


@pytest.fixture(autouse=True)
def put_flows_away(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Close every flow; code that was cut off is dropped without the complaint that Python makes of it."""
    yield
    while harness.FLOWS:
        harness.FLOWS.pop().close()
    if CUT_OFF:
        monkeypatch.setattr(sys, "unraisablehook", lambda _: None)
        CUT_OFF.clear()
        gc.collect()
