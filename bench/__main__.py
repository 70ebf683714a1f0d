"""Run the benchmarks (all, or those named), print one table, keep the figures in `bench/results/`.

A benchmark is never a test: it prints what it measured and what was aimed at, and ends with 0 either way.
"""

from __future__ import annotations

import importlib
import os
import shutil
import sys
import tempfile
from pathlib import Path

from bench.figures import Figure, keep, machine, render

BENCHES = ["steps", "saturated", "intake", "access", "connectors", "restart", "preflight", "terminal", "probes", "care"]


def run(name: str) -> list[Figure]:
    """One benchmark in a folder of its own, on the disk that the checkout is on (a RAM disk would prove nothing)."""
    folder = Path(tempfile.mkdtemp(prefix=".bench-", dir=Path.cwd()))
    try:
        figures: list[Figure] = importlib.import_module(f"bench.{name}").measure(folder)
    finally:
        shutil.rmtree(folder)
    return figures


def main() -> int:
    """Run what is named on the command line, or all."""
    names = sys.argv[1:] or BENCHES
    if unknown := set(names) - set(BENCHES):
        print(f"unknown: {', '.join(sorted(unknown))}; there are: {', '.join(BENCHES)}", file=sys.stderr)
        return 2
    print(machine(), flush=True)
    for name in names:
        figures = run(name)
        kept = keep(name, figures)
        print(f"\n{name} ({os.path.relpath(kept)})\n{render(figures)}", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
