"""A figure, the table of all figures, and the file that keeps them."""

from __future__ import annotations

import os
import platform
import sys
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

import msgspec

RESULTS = Path(__file__).resolve().parent / "results"


class Figure(msgspec.Struct, frozen=True):
    """One measured value. `at_least` or `at_most` is what was aimed at, where there is an aim."""

    name: str
    value: float
    unit: str
    at_least: float | None = None
    at_most: float | None = None
    note: str = ""

    @property
    def reached(self) -> bool | None:
        """Whether the aim was reached; None without one."""
        if self.at_least is not None:
            return self.value >= self.at_least
        return None if self.at_most is None else self.value <= self.at_most


class Results(msgspec.Struct, frozen=True):
    """What one benchmark found, with what is needed to find it again."""

    bench: str
    date: str
    machine: str
    command: str
    figures: list[Figure]


def percentile(values: Sequence[float], share: float) -> float:
    """The value below which `share` (0 to 1) of `values` lie; no interpolation."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))]


def machine() -> str:
    """Cores, memory, kernel and Python: what a figure depends on, and nothing that names the machine."""
    gib = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    kernel = f"{platform.system()} {platform.release()} {platform.machine()}"
    return f"{os.cpu_count()} cores, {gib:.0f} GiB, {kernel}, Python {platform.python_version()}"


def keep(bench: str, figures: list[Figure]) -> Path:
    """Write the figures of one benchmark to `bench/results/<bench>.json`."""
    command = " ".join(["python", "-m", "bench", *sys.argv[1:]])
    results = Results(bench, datetime.now(UTC).isoformat(timespec="seconds"), machine(), command, figures)
    RESULTS.mkdir(exist_ok=True)
    target = RESULTS / f"{bench}.json"
    target.write_bytes(msgspec.json.format(msgspec.json.encode(results), indent=2) + b"\n")
    return target


def _number(value: float) -> str:
    if value >= 1_000:
        return f"{value:,.0f}"
    return f"{value:.1f}" if value >= 10 else f"{value:.3f}"


def _aim(figure: Figure) -> str:
    if figure.at_least is not None:
        return f">= {_number(figure.at_least)}"
    return "" if figure.at_most is None else f"<= {_number(figure.at_most)}"


def render(figures: list[Figure]) -> str:
    """The table for a terminal."""
    marks = {True: "ok", False: "MISSED", None: ""}
    lines = [
        f"  {figure.name:<52}{_number(figure.value):>10} {figure.unit:<9}{_aim(figure):>12}  "
        f"{marks[figure.reached]:<7}{figure.note}".rstrip()
        for figure in figures
    ]
    return "\n".join(lines)
