"""What docs/workflows.md teaches is true: its code is one file that runs, and its tests pass as they stand."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

from actors.errors import RunFailed
from runtimed.loading import load_apps
from runtimed.settings import Settings
from runtimed.virtual import VirtualRuntime

pytest_plugins = ["runtimed.testing"]

ROOT = Path(__file__).resolve().parent.parent
PAGE = (ROOT / "docs" / "workflows.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)
TESTS = "# test_flows.py\n"


def write(folder: Path) -> None:
    """The page's code as the files that it says it is."""
    (folder / "flows.py").write_text("\n\n".join(block for block in BLOCKS if not block.startswith(TESTS)))
    (folder / "test_flows.py").write_text("\n".join(block for block in BLOCKS if block.startswith(TESTS)))
    (folder / "conftest.py").write_text('pytest_plugins = ["runtimed.testing"]\n')


@pytest.fixture
def flows(tmp_path: Path) -> Iterator[Any]:
    """The page's workflows as a module."""
    write(tmp_path)
    path = list(sys.path)
    load_apps(["flows.py:app", "flows.py:clock"], tmp_path)
    yield sys.modules["flows"]
    sys.path[:] = path
    del sys.modules["flows"]


async def test_steps_and_their_undoing(runtime: VirtualRuntime, flows: Any) -> None:
    """What was booked stays if all goes well; a failure undoes it; a saga block undoes itself alone."""
    handle = await runtime.start(flows.both_ways, flows.Trip("Rome"), id="rome")
    assert await handle.result() == ["rome/0/0/book", "rome/0/1/book"]
    assert flows.BOOKED == ["train Rome", "hotel Rome"]
    second = await runtime.start(flows.second_best, ["Atlantis", "Oslo"])
    assert await second.result() == "Oslo"
    nowhere = await runtime.start(flows.second_best, ["Atlantis"])
    with pytest.raises(RunFailed, match="everywhere"):
        await nowhere.result()
    assert flows.BOOKED[-1] == "told: sorry"


async def test_transactions(runtime: VirtualRuntime, flows: Any) -> None:
    """A room is taken once a stay, given back if the stay fails, and refused when there is none."""
    assert await (await runtime.start(flows.stay, flows.Trip("Rome", 7))).result() == 3
    for trip in (flows.Trip("Rome", 4), flows.Trip("Atlantis", 2)):
        with pytest.raises(RunFailed):
            await (await runtime.start(flows.stay, trip)).result()
    for room, left in (("room:Rome", 3), ("room:Atlantis", 10)):
        row = await runtime.read(lambda reader, room=room: reader.state("global", room))
        assert row is not None and msgspec.json.decode(row.value) == left


async def test_waiting(runtime: VirtualRuntime, flows: Any) -> None:
    """A signal in time pays the invoice; without one it is overdue after a month."""
    paid, late = await runtime.start(flows.invoice, 100, id="i"), await runtime.start(flows.invoice, 100)
    await runtime.signal("i", "paid", 100)
    assert (await paid.result(), await late.result()) == ("paid", "overdue")


async def test_side_by_side(runtime: VirtualRuntime, flows: Any) -> None:
    """Both bookings, then whichever comes first of a signal and ten minutes."""
    handle = await runtime.start(flows.quickest, "Bern")
    assert await handle.result() == "late"


async def test_children(runtime: VirtualRuntime, flows: Any) -> None:
    """Children one after the other, one of which fails, and children at once."""
    handle = await runtime.start(flows.tour, ["Rome", "Atlantis", "Oslo"], id="t")
    assert await handle.result() == ["Rome", "Oslo"]
    assert (await runtime.run("t:Atlantis")).status == "failed"
    several = await runtime.start(flows.at_once, ["Rome", "Oslo"])
    assert await several.result() == 2


async def test_for_ever_state_and_patches(runtime: VirtualRuntime, flows: Any) -> None:
    """Three days of one run; a count that all runs share; the new branch for a new run."""
    assert await (await runtime.start(flows.daily, 1)).result() == 3
    assert [await (await runtime.start(flows.counted)).result() for _ in range(2)] == [1, 2]
    await (await runtime.start(flows.changed, "Bonn")).result()
    assert flows.BOOKED[-1] == "hotel Bonn"


async def test_by_the_clock(runtime: VirtualRuntime, flows: Any) -> None:
    """The schedule of every hour starts its runs with its input, beside one that is started by hand."""
    await (await runtime.start(flows.look, flows.Trip("Rome"))).result()
    await runtime.advance(2 * 3600)
    page = await runtime.runs(workflow="look")
    assert [run.id.partition(":")[0] for run in page.items][:2] == ["look", "look"]


def test_the_queue_is_a_setting() -> None:
    """The TOML of the page is taken as it stands."""
    (block,) = re.findall(r"```toml\n(.*?)```", PAGE, re.DOTALL)
    settings = msgspec.toml.decode(block, type=Settings)
    assert settings.queues["suppliers"].concurrency == 10


@pytest.mark.slow
def test_the_tests_pass(tmp_path: Path) -> None:
    """The page's own tests, run as a reader would."""
    write(tmp_path)
    command = [sys.executable, "-P", "-m", "pytest", "-q", "-p", "no:cacheprovider", str(tmp_path)]
    environment = {"PYTHONPATH": f"{ROOT}:{tmp_path}", "PATH": "/usr/bin:/bin"}
    done = subprocess.run(
        command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=120, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "2 passed" in done.stdout
