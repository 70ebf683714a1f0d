"""What the tests of connectors share: patience with children that the machine holds up, and no server of names."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import trio

from runtimed.connectors.child import Child

PATIENCE_S = 30.0


@pytest.fixture(autouse=True)
def _patient_with_guards(monkeypatch: pytest.MonkeyPatch) -> None:
    """A guard that is held up is not killed before it has ended what it guards."""
    for module in ("child", "singer", "airbyte"):
        monkeypatch.setattr(f"runtimed.connectors.{module}.GUARD_MARGIN_S", PATIENCE_S)


@pytest.fixture
def silent_from(monkeypatch: pytest.MonkeyPatch) -> Callable[[Path], None]:
    """`silent_from(file)`: that nothing comes of a child counts from when it has left this file, its last act, on; so
    a child that is slow to begin is not taken for one that hangs."""

    def silent_from(left: Path) -> None:
        read = Child.read

        async def patient(child: Child, wait_s: float) -> bytes | None:
            while True:
                said_all = await trio.Path(left).exists()  # before the read, for what it said is in the pipe by then
                chunk = await read(child, wait_s)
                if chunk is not None or said_all:
                    return chunk

        monkeypatch.setattr(Child, "read", patient)

    return silent_from
