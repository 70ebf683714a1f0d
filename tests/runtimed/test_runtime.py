"""The embedded runtime on a real folder: with its writer in a process of its own, over restarts and kills."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import msgspec
import pytest
import trio

from actors.errors import DefinitionError, Overloaded, RunNotFound, StepFailed
from actors.flow.context import Context
from actors.flow.definitions import App, Retry
from runtimed.opening import open_runtime
from runtimed.runtime import Handle, Runtime
from runtimed.settings import Journal as JournalSettings
from runtimed.settings import Limits, Settings
from wal.errors import JournalLocked, JournalRefused, WriterGone
from wal.journal import Journal

pytestmark = pytest.mark.slow
app = App("embedded")
FAST = Retry(max_attempts=2, initial_interval=0.01, jitter=0.0)
CALLS: list[str] = []
ROOT = Path(__file__).resolve().parent.parent.parent


class Order(msgspec.Struct, frozen=True):
    id: str
    cents: int = 0


class Receipt(msgspec.Struct, frozen=True):
    order: Order
    paid: str


@app.step(retry=FAST)
async def charge(order: Order) -> str:
    CALLS.append(order.id)
    return f"paid {order.cents}"


@app.step
def stamp(text: str) -> str:
    return f"{text}!"


@app.workflow
async def checkout(ctx: Context, order: Order) -> Receipt:
    paid = await ctx.step(charge, order)
    await ctx.sleep(0.01)
    return Receipt(order, await ctx.step(stamp, paid))


@app.workflow
async def await_go(ctx: Context) -> str:
    return str(await ctx.signal("go"))


@app.workflow
async def failing(ctx: Context) -> None:
    raise StepFailed("nothing worked")


@pytest.fixture(autouse=True)
def _forget() -> None:
    CALLS.clear()


@pytest.mark.trio
@pytest.mark.parametrize("writer", ["process", "inline"])
async def test_a_run_from_start_to_end(tmp_path: Path, writer: str) -> None:
    """Started by function or by name, it ends with a value of the workflow's own type."""
    async with open_runtime(app, tmp_path, writer=writer) as runtime:
        handle = await runtime.start(checkout, Order("A-1", 990), id="order-1")
        assert (handle.id, repr(handle)) == ("order-1", "<run order-1>")
        assert await handle.result() == Receipt(Order("A-1", 990), "paid 990!")
        assert (await handle.status(), await runtime.status("order-1")) == ("completed", "completed")
        named = await runtime.start("checkout", {"id": "B"})
        assert (await named.result(30)).order == Order("B")
        assert await runtime.handle("order-1").result() == await handle.result()
        page = await runtime.runs(workflow="checkout", limit=10)
        assert [run.id for run in page.items] == [named.id, "order-1"]
        assert (await runtime.history("order-1")).items[0].kind == "run_started"
        with pytest.raises(RunNotFound):
            await runtime.result("nobody")
        waiting = await runtime.start(await_go)
        with trio.fail_after(30):
            while await waiting.status() != "waiting":  # noqa: ASYNC110 - that its call is on disk is no event
                await trio.sleep(0.01)
        with pytest.raises(TimeoutError, match="is waiting"):
            await waiting.result(0.05)


@pytest.mark.trio
@pytest.mark.parametrize("writer", ["process", "inline"])
async def test_it_goes_on_where_it_stopped(tmp_path: Path, writer: str) -> None:
    """A folder opened again has its runs, waiting as they were; what was done is not done again."""
    for number in range(3):
        async with open_runtime(app, tmp_path, writer=writer) as runtime:
            await runtime.start(await_go, id=f"w{number}")
            await (await runtime.start(checkout, Order("A"), id="order")).result()
    async with open_runtime(app, tmp_path, writer=writer) as runtime:
        assert (await runtime.runs(status="waiting")).total == 3
        for number in range(3):
            await runtime.signal(f"w{number}", "go", number)
        assert [await runtime.result(f"w{number}", 30) for number in range(3)] == ["0", "1", "2"]
    assert CALLS == ["A"]


@pytest.mark.trio
async def test_many_runs_at_once(tmp_path: Path) -> None:
    """A few hundred runs side by side all end, each with its own result."""
    async with open_runtime(app, tmp_path) as runtime:
        results: dict[str, Any] = {}

        async def one(number: int) -> None:
            handle: Handle = await runtime.start(checkout, Order(f"{number}", number))
            results[handle.id] = (await handle.result(30)).paid

        async with trio.open_nursery() as nursery:
            for number in range(300):
                nursery.start_soon(one, number)
        assert sorted(results.values()) == sorted(f"paid {number}!" for number in range(300))
        health = runtime.health()
        assert (health.live, health.ready, health.started, health.reasons) == (True, True, True, [])
        figures = runtime.statistics()
        assert figures.runs["checkout", "completed"] == 300
        assert figures.step_attempts_total == {"completed": 600}


@pytest.mark.trio
async def test_one_runtime_a_folder(tmp_path: Path) -> None:
    """A second one is refused at once, and names the first one's pid."""
    async with open_runtime(app, tmp_path, writer="inline"):
        with pytest.raises(JournalLocked, match=str(os.getpid())):
            async with open_runtime(app, tmp_path):
                raise AssertionError("not reached")
    async with open_runtime(app, tmp_path, writer="inline"):
        pass


@pytest.mark.trio
@pytest.mark.parametrize("writer", ["process", "inline"])
async def test_a_foreign_file_is_refused_untouched(tmp_path: Path, writer: str) -> None:
    """A file that is no journal is left as it is, and the folder is free again."""
    (tmp_path / "journal.db").write_bytes(b"not a journal" * 1_000)
    for _ in range(2):
        with pytest.raises(JournalRefused):
            async with open_runtime(app, tmp_path, writer=writer):
                raise AssertionError("not reached")
    assert (tmp_path / "journal.db").read_bytes() == b"not a journal" * 1_000


@pytest.mark.trio
async def test_a_folder_that_cannot_be_made_is_named(tmp_path: Path) -> None:
    """A file in the folder's place is a sentence with the path, and the exit code of a wrong configuration."""
    (tmp_path / "file").write_text("")
    with pytest.raises(JournalRefused, match="file cannot be made: File exists") as refused:
        async with open_runtime(app, tmp_path / "file"):
            raise AssertionError("it opened")
    assert refused.value.exit_code == 78


@pytest.mark.trio
async def test_it_needs_a_folder() -> None:
    """Without a folder there is only memory, and that must be asked for."""
    with pytest.raises(DefinitionError, match="data folder"):
        async with open_runtime(app):
            raise AssertionError("not reached")


@pytest.mark.trio
async def test_a_killed_writer_ends_the_runtime(tmp_path: Path) -> None:
    """When its writer process dies, the runtime ends with WriterGone and acknowledges nothing more."""
    acknowledged: list[str] = []

    async def until_it_is_killed() -> None:
        async with open_runtime(app, tmp_path) as runtime:
            await runtime.start(await_go, id="before")
            os.kill(runtime.actors.writer._link.pid, signal.SIGKILL)  # type: ignore[attr-defined]
            with trio.fail_after(30):
                while True:
                    acknowledged.append((await runtime.start(await_go)).id)

    with pytest.raises(WriterGone):
        await until_it_is_killed()
    async with open_runtime(app, tmp_path, writer="inline") as runtime:
        assert (await runtime.runs()).total >= 1 + len(acknowledged)
        await runtime.signal("before", "go", "still here")
        assert await runtime.result("before", 30) == "still here"


@pytest.mark.trio
async def test_an_error_in_the_block_stops_it_cleanly(tmp_path: Path) -> None:
    """The error of the program that embeds us leaves as itself; the journal was closed in good order."""

    async def go_wrong() -> None:
        async with open_runtime(app, tmp_path) as runtime:
            await runtime.start(await_go)
            raise KeyError("mine")

    with pytest.raises(KeyError, match="mine"):
        await go_wrong()
    with Journal.open(tmp_path / "journal.db") as journal:
        assert journal.head.clean


@pytest.mark.trio
async def test_cancellation_stops_it_cleanly(tmp_path: Path) -> None:
    """Cancelled from outside, it drains and closes its journal all the same."""
    with trio.CancelScope() as scope:
        async with open_runtime(app, tmp_path) as runtime:
            await runtime.start(await_go)
            scope.cancel()
            await trio.sleep_forever()
    assert scope.cancelled_caught
    with Journal.open(tmp_path / "journal.db") as journal:
        assert journal.head.clean


async def _until_ready(runtime: Runtime, ready: bool) -> None:
    with trio.fail_after(30):
        while runtime.health().ready != ready:  # noqa: ASYNC110 - it is measured once a second, and nobody is told
            await trio.sleep(0.01)


@pytest.mark.trio
@pytest.mark.slow
async def test_a_full_disk_is_refused_before_it_is_full(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """P5, three times over: below the watermark new runs are refused, readiness fails and says why, what is there is
    read and goes on; once there is room, work is taken again, without anybody's help."""
    free = 1 << 50
    monkeypatch.setattr("shutil.disk_usage", lambda path: SimpleNamespace(free=free))
    monkeypatch.setattr("runtimed.runtime.WATCH_S", 0.05)
    async with open_runtime(app, tmp_path) as runtime:
        for _ in range(3):
            handle = await runtime.start(await_go)
            free = 1 << 20
            await _until_ready(runtime, False)
            assert runtime.health().reasons == ["the disk is nearly full"]
            assert runtime.health().live
            with pytest.raises(Overloaded, match="nearly full"):
                await runtime.start(await_go)
            assert (await runtime.run(handle.id)).id == handle.id
            await runtime.signal(handle.id, "go", "on")
            assert await handle.result(30) == "on"
            free = 1 << 50
            await _until_ready(runtime, True)


@pytest.mark.trio
async def test_a_start_on_a_full_disk_takes_nothing(tmp_path: Path) -> None:
    """Started where the disk is full already, it is up for reads and refuses new runs from its first moment."""
    settings = Settings(journal=JournalSettings(disk_free_min_bytes=1 << 40))
    async with open_runtime(app, tmp_path, settings=settings) as runtime:
        assert not runtime.health().ready
        with pytest.raises(Overloaded, match="nearly full"):
            await runtime.start(await_go)
        assert (await runtime.runs()).items == []


KILLED = """
    import os, sys, trio
    sys.path.insert(0, {root!r})
    from runtimed import open_runtime
    from tests.runtimed.test_runtime import app, await_go, checkout, Order

    async def main():
        async with open_runtime(app, {folder!r}) as runtime:
            print("ready", flush=True)
            number = 0
            while True:
                await runtime.start(checkout, Order(str(number), number), id=f"r{{number}}")
                print(number, flush=True)
                number += 1

    trio.run(main)
"""


def start_until_killed(folder: Path, count: int) -> list[int]:
    """Have a program start runs until it is killed, once it has said that it was told of so many; the numbers of all
    that it was told of."""
    code = textwrap.dedent(KILLED.format(root=str(ROOT), folder=str(folder)))
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        first = "".join(process.stdout.readline() for _ in range(count))
        process.kill()
        said = (first + process.stdout.read()).split("\n")
    return [int(line) for line in said[:-1]]


@pytest.mark.trio
@pytest.mark.parametrize("count", [10, 50])
async def test_kill_9_loses_no_acknowledged_start(tmp_path: Path, count: int) -> None:
    """Every start that a program was told of before `kill -9` is there afterwards, and all runs end."""
    acknowledged = await trio.to_thread.run_sync(start_until_killed, tmp_path, count)
    assert len(acknowledged) >= count
    async with open_runtime(app, tmp_path) as runtime:
        for number in acknowledged:
            assert (await runtime.result(f"r{number}", 30)).paid == f"paid {number}!"


@pytest.mark.trio
async def test_an_actor_can_be_restarted(tmp_path: Path) -> None:
    """Its parts restart and lose nothing; an unknown path is None."""
    async with open_runtime(app, tmp_path, settings=Settings(limits=Limits(park_after=60.0))) as runtime:
        handles = [await runtime.start(await_go) for _ in range(20)]
        for path in ("root/engine/coordinator", "root/engine/timers", "root/engine/steps", "root/sessions"):
            assert await runtime.restart_actor(path) is not None
            await _up_again(runtime)
        assert await runtime.restart_actor("root/nobody") is None
        for handle in handles:
            await runtime.signal(handle.id, "go", "on")
        assert [await handle.result(30) for handle in handles] == ["on"] * 20


async def _up_again(runtime: Runtime) -> None:
    with trio.fail_after(30):
        while any(actor.status != "up" for actor in runtime.tree()):  # noqa: ASYNC110 - a supervisor tells nobody
            await trio.sleep(0.01)
