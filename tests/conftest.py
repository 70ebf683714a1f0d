"""What all tests share: deterministic Hypothesis, short folders for unix sockets, the larger numbers of `make chaos`.

A fault test takes its counts from `scale(pr, long)` and leaves its figures with `figures("P1", cuts=5000, lost=0)`;
mark it `@pytest.mark.chaos`. `make test` runs it with the first number, `make chaos` with the second.
"""

from __future__ import annotations

import json
import os
import platform
import shutil
import signal
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, settings

# A shell that starts us in the background has us ignore Ctrl-C, and so would everything that a test starts.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)


ROOT = Path(__file__).resolve().parent.parent

# The same examples at each run: a red test is red for everybody. `--long` searches on, with fresh ones.
settings.register_profile("house", derandomize=True, deadline=None, database=None, print_blob=True)
settings.register_profile(
    "long", max_examples=5_000, deadline=None, print_blob=True, suppress_health_check=[HealthCheck.too_slow]
)

FIGURES = pytest.StashKey[dict[str, dict[str, Any]]]()


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add the two options that `make chaos` uses."""
    parser.addoption("--long", action="store_true", help="run fault tests with their larger numbers")
    parser.addoption("--figures", type=Path, default=None, metavar="FILE", help="write the figures of fault tests here")


def pytest_configure(config: pytest.Config) -> None:
    """Choose the Hypothesis profile and start an empty table of figures."""
    settings.load_profile("long" if config.getoption("--long") else "house")
    config.stash[FIGURES] = {}


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_auto_num_workers(config: pytest.Config) -> int:
    """Half as many workers again as there are cores: nearly half of the time of a worker is waiting."""
    cores = len(os.sched_getaffinity(0))
    return cores + cores // 2


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Workers take the longest files first, so that none is still at one when the others have nothing left to do.

    Long are the fault tests, which repeat themselves, and then the files that have many slow tests. Within a file the
    order stays, and so does that of the files when there are no workers.
    """
    if "PYTEST_XDIST_WORKER" not in os.environ:
        return
    slow = Counter(item.path for item in items if item.get_closest_marker("slow"))
    faults = {item.path for item in items if item.get_closest_marker("chaos")}
    items.sort(key=lambda item: (item.path not in faults, -slow[item.path]))


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    """Print the figures that fault tests left, and write them where `--figures` says."""
    table = config.stash[FIGURES]
    if not table:
        return
    terminalreporter.section("figures")
    for promise, figures in sorted(table.items()):
        terminalreporter.write_line(f"{promise:<5} " + "  ".join(f"{name}={value}" for name, value in figures.items()))
    target: Path | None = config.getoption("--figures")
    if target is not None:
        target.parent.mkdir(parents=True, exist_ok=True)
        about = {
            "date": datetime.now(UTC).isoformat(timespec="seconds"),
            "machine": f"{platform.platform()}, {os.cpu_count()} cores, Python {platform.python_version()}",
        }
        target.write_text(json.dumps({**about, "figures": table}, indent=2) + "\n", encoding="utf-8")


def pytest_sessionfinish(session: pytest.Session) -> None:
    """A worker of several hands its figures to whoever prints them."""
    handed = getattr(session.config, "workeroutput", None)
    if handed is not None:
        handed["figures"] = session.config.stash[FIGURES]


@pytest.hookimpl(optionalhook=True)
def pytest_testnodedown(node: Any, error: object) -> None:
    """Take the figures of a worker; one that crashed has none."""
    for promise, figures in getattr(node, "workeroutput", {}).get("figures", {}).items():
        node.config.stash[FIGURES].setdefault(promise, {}).update(figures)


@pytest.fixture(scope="session")
def scale(pytestconfig: pytest.Config) -> Callable[[int, int], int]:
    """`scale(pr, long)`: how often a fault test repeats itself in this run."""
    long = bool(pytestconfig.getoption("--long"))
    return lambda pr_count, long_count: long_count if long else pr_count


@pytest.fixture(scope="session")
def figures(pytestconfig: pytest.Config) -> Callable[..., None]:
    """`figures(promise, **named_values)`: what a fault test measured, for the table at the end of the run."""

    def note(promise: str, **values: Any) -> None:
        pytestconfig.stash[FIGURES].setdefault(promise, {}).update(values)

    return note


@pytest.fixture
def short_dir() -> Iterator[Path]:
    """An empty folder with a short path: the path of a unix socket has room for about 100 bytes, `tmp_path` may not."""
    folder = Path(tempfile.mkdtemp(prefix="rtd-"))
    yield folder
    patience_ends = time.monotonic() + 30.0
    while folder.exists():
        try:
            shutil.rmtree(folder)
        except OSError:  # a writer whose daemon was killed may be closing its journal yet: files come and go
            if time.monotonic() > patience_ends:
                raise
