from __future__ import annotations

import os
import subprocess
import sys
from collections import Counter
from collections.abc import Callable

import pytest

from tests.actors.simulation import digest, simulate

SEEDS = int(os.environ.get("RUNTIMED_SEEDS", "0"))
FIRST_SEED = int(os.environ.get("RUNTIMED_SEED", "1"))


@pytest.mark.slow
@pytest.mark.chaos
def test_the_same_seed_gives_the_same_trace(scale: Callable[[int, int], int], figures: Callable[..., None]) -> None:
    """P14, P15: a whole runtime with clients, kills, crashing actors and a jumping clock does exactly the same twice,
    record by record and effect by effect; it keeps its promises meanwhile, and everything ends."""
    seeds = SEEDS or scale(50, 10_000)
    records = 0
    faults: Counter[str] = Counter()
    for seed in range(FIRST_SEED, FIRST_SEED + seeds):
        first, second = simulate(seed), simulate(seed)
        assert first.problems == [], f"seed {seed}, faults {first.faults}"
        different = [(one, other) for one, other in zip(first.trace, second.trace, strict=False) if one != other]
        assert different[:1] == [], f"seed {seed}"
        assert len(first.trace) == len(second.trace)
        records += len(first.trace)
        faults.update(fault.rpartition("/")[2] for fault in first.faults)
    figures("P14", seeds=seeds, trace_lines=records, different=0, **faults)


@pytest.mark.slow
def test_another_process_does_the_same() -> None:
    """Nothing hangs on the process: not on the order of a set, not on an address in memory."""
    seen = set()
    for hash_seed in ("1", "2"):
        command = [sys.executable, "-P", "-m", "tests.actors.simulation", "7"]
        environ = {**os.environ, "PYTHONHASHSEED": hash_seed, "PYTHONPATH": os.pathsep.join(sys.path)}
        seen.add(subprocess.run(command, env=environ, capture_output=True, text=True, check=True).stdout)
    assert seen == {digest(simulate(7).trace)}
