from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest

ROOT = Path(__file__).resolve().parent.parent.parent
PROGRAM = Path(__file__).with_name("idle_connectors.py")
CONNECTORS = 200
OVER_BASE_MAX_BYTES = 60 * 1024**2
CPU_AT_REST_MAX_S = 0.1  # in two seconds; polling once a second each would take more than twice that


def measured(count: int) -> dict[str, Any]:
    done = subprocess.run(
        [sys.executable, "-P", str(PROGRAM), str(count)], env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True, timeout=80, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr.decode()
    found: dict[str, Any] = msgspec.json.decode(done.stdout)
    return found


@pytest.mark.slow
def test_idle_connectors_cost_next_to_nothing(figures: Callable[..., None]) -> None:
    """200 connectors over HTTP that have polled and rest take at most 60 MB more than none, and no CPU."""
    base, full = measured(0), measured(CONNECTORS)
    over = full["resident_bytes"] - base["resident_bytes"]
    figures("idle", connectors=CONNECTORS, over_base_mb=round(over / 1024**2, 1), cpu_s=round(full["cpu_s"], 4))
    assert full["records"] == CONNECTORS
    assert over <= OVER_BASE_MAX_BYTES
    assert full["cpu_s"] <= CPU_AT_REST_MAX_S
