"""The fault tests with their larger numbers, and their figures as a table: `python -m bench.chaos [--small]`.

The environment sets single numbers: RUNTIMED_KILLS (P2), RUNTIMED_SEEDS (P14) and RUNTIMED_SEED (where both begin).
What is given after the options goes to pytest, for example `-k kill` to run one of them.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

from bench.figures import RESULTS

ROOT = Path(__file__).resolve().parent.parent
TARGET = RESULTS / "chaos.json"
WIDTH = 100

PROMISES = {
    "P1": "what was acknowledged survives a power cut",
    "P2": "kill -9 at any instant: nothing lost, no step repeated",
    "P3": "killed after every record, the end is the same",
    "P4": "a failing disk or writer stops the daemon",
    "P5": "a full disk refuses intake and heals",
    "P6": "silent corruption is seen before it is used",
    "P8": "clock jumps neither lose nor double a timer",
    "P9": "overload is refused, not suffered",
    "P10": "hostile clients cannot stop it",
    "P11": "a drain ends in time, and behind a balancer no request fails",
    "P12": "an actor's crash restarts just its part",
    "P14": "same seed, same trace",
    "P15": "when faults stop, everything ends",
    "P17": "tampering is seen; a replayed webhook has no second effect",
    "P18": "a backup under load restores to a consistent past",
}


def render(figures: dict[str, dict[str, Any]]) -> str:
    """The table: a promise, what it says, and below it what was measured."""
    lines = []
    for promise in sorted(figures, key=_order):
        lines.append(f"{promise:<6}{PROMISES.get(promise, '')}")
        line = "     "
        for name, value in figures[promise].items():
            part = f" {name.replace('_', ' ')} {_shown(value)} "
            if len(line) + len(part) > WIDTH:
                lines.append(line)
                line = "     "
            line += part
        lines.append(line)
    return "\n".join(lines)


def _order(promise: str) -> tuple[bool, int]:
    number = promise.removeprefix("P")
    return (not number.isdigit(), int(number) if number.isdigit() else 0)


def _shown(value: Any) -> str:
    return f"{value:,}" if isinstance(value, int) else str(value)


def main() -> int:
    """Run the tests marked `chaos`; the exit code is pytest's."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", maxsplit=1)[0])
    parser.add_argument("--small", action="store_true", help="the numbers of `make test`")
    known, more = parser.parse_known_args()
    # With a space instead of "=" pytest would take a file that is there for the place of the tests.
    command = [sys.executable, "-m", "pytest", "-q", "-m", "chaos", f"--figures={TARGET}", *more]
    TARGET.unlink(missing_ok=True)
    # Three minutes are a hang in a small run only: the larger numbers take their time.
    long = [] if known.small else ["--long", "-o", "faulthandler_timeout=14400"]
    ended = subprocess.run([*command, *long], cwd=ROOT, check=False)
    if TARGET.exists():
        results = json.loads(TARGET.read_text(encoding="utf-8"))
        about = f"{results['date']}  {results['machine']}"
        print(f"\n{about}\n\n{render(results['figures'])}\n\nalso in {TARGET.relative_to(ROOT)}")
    return ended.returncode


if __name__ == "__main__":
    sys.exit(main())
