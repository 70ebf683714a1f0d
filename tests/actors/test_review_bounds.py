"""What is bounded, and what must not wait behind a bound: timers of runs that are held back, batches, open files."""

from __future__ import annotations

import gc
import os
import subprocess
from collections import Counter
from pathlib import Path
from typing import Any

import msgspec
import pytest
import trio.testing
from trio._core._run import GLOBAL_RUN_CONTEXT

from actors import history_loader, timers
from actors import messages as m
from actors.due_window import DueWindow
from actors.flow.context import Context
from actors.flow.definitions import App
from runtimed.opening import open_runtime
from runtimed.readers import Readers
from runtimed.settings import Limits, Settings
from runtimed.virtual import VirtualRuntime
from tests.actors.world import World
from wal.errors import JournalError, JournalRefused
from wal.records import Entry

app = App("bounds")
KIB = 1024
LARGE = 200 * KIB
PAGE = 3


@app.step
async def takes(data: str) -> int:
    return len(data)


@app.workflow
async def naps(ctx: Context, seconds: float) -> None:
    await ctx.sleep(seconds)


@app.workflow
async def emits(ctx: Context) -> None:
    await ctx.sleep(1)
    for _ in range(20):
        await ctx.emit("x" * LARGE)


@app.workflow
async def writes(ctx: Context) -> None:
    await ctx.sleep(1)
    for number in range(20):
        await ctx.state.put(f"k{number}", "x" * LARGE)


@app.workflow
async def reads(ctx: Context) -> None:
    await ctx.global_state.put("k", "x" * LARGE)
    await ctx.sleep(1)
    for _ in range(20):
        await ctx.global_state.get("k")


@app.workflow
async def gathers(ctx: Context) -> None:
    await ctx.sleep(1)
    await ctx.gather(*[ctx.step(takes, "x" * LARGE) for _ in range(20)])


@app.workflow
async def adds(ctx: Context) -> None:
    await ctx.sleep(1)
    for number in range(20):
        ctx.add_compensation(takes, "x" * LARGE)
        ctx.set_attributes(**{f"a{number}": "x" * LARGE})


class TestTimers:
    async def test_overdue_timers_of_paused_runs_hide_no_others(
        self, runtime: VirtualRuntime, world: World, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """However many paused runs are overdue, others' timers fire, and theirs do once they are resumed."""
        monkeypatch.setattr(timers, "PAGE_ROWS", PAGE)
        paused = [(await runtime.start(naps, 60.0)).id for _ in range(2 * PAGE)]
        for run_id in paused:
            await runtime.pause(run_id)
        later = [await runtime.start(naps, 100.0 + number) for number in range(2 * PAGE)]
        await runtime.restart()
        await runtime.advance(300)
        assert {await runtime.status(handle.id) for handle in later} == {"completed"}
        assert {await runtime.status(run_id) for run_id in paused} == {"paused"}
        for run_id in paused:
            await runtime.resume(run_id)
        for run_id in paused:
            await runtime.result(run_id, 10)

    def test_a_reload_keeps_what_is_due_and_not_durable(self) -> None:
        """An entry that was set while the window waited to be read again, and that is due already, stays in it."""
        window = DueWindow(1)
        window.load([(10, 1, "a")], more=True, durable_seq=5)
        assert window.pop_due(10) == [(10, 1, "a")]
        window.add(6, (3, 2, "b"))
        window.load([(20, 3, "c")], more=True, durable_seq=5)
        assert window.pop_due(30) == [(3, 2, "b"), (20, 3, "c")]
        window.load([(3, 2, "b")], more=False, durable_seq=6)
        assert window.pop_due(30) == [(3, 2, "b")]


class TestBatches:
    @pytest.fixture
    def runtime_settings(self) -> Settings:
        return Settings(limits=Limits(batch_bytes_max=500 * KIB))

    @pytest.mark.parametrize("workflow", [emits, writes, reads, gathers, adds])
    async def test_no_batch_outgrows_its_bound_by_more_than_a_payload(
        self, runtime: VirtualRuntime, world: World, workflow: Any
    ) -> None:
        """Whatever a run records in one go, a batch stays near its bound in bytes: a frame over the protocol's limit
        would end the daemon, and at every start anew."""
        handle = await runtime.start(workflow)
        sizes: list[int] = []
        commit = runtime.disk.commit

        async def measured(entries: list[Entry]) -> None:
            sizes.append(len(msgspec.json.encode(entries)))
            await commit(entries)

        runtime.disk.commit = measured  # type: ignore[method-assign]
        await handle.result(10)
        assert sum(sizes) > 20 * LARGE
        assert max(sizes) < 2 * 500 * KIB


def open_files() -> Counter[str]:
    """What this process has open, the folder that says so itself left out."""
    folder = Path("/proc/self/fd")
    found = [os.readlink(path) for path in folder.iterdir() if path.is_symlink()]
    return Counter(name for name in found if not name.endswith("/fd"))


def instruments() -> int:
    """How many instruments watch the loop."""
    return len(GLOBAL_RUN_CONTEXT.runner.instruments.get("_all", ()))


def children() -> set[str]:
    """The processes that this one has started and not waited for."""
    command = ["ps", "--ppid", str(os.getpid()), "-o", "pid=,comm="]
    told = subprocess.run(command, capture_output=True, text=True, check=False).stdout
    return {line for line in told.splitlines() if not line.endswith(" ps")}


def left_behind(files: Counter[str], processes: set[str]) -> list[str]:
    """What is there now and was not then; what others left before may go meanwhile."""
    return [*(open_files() - files), *(children() - processes)]


class TestLeaks:
    @pytest.mark.slow
    @pytest.mark.trio
    async def test_a_runtime_leaves_nothing_behind(self, tmp_path: Path) -> None:
        """Opened and left again, a runtime leaves no file, process or instrument behind."""
        async with open_runtime(app, tmp_path / "warm"):
            pass
        gc.collect()
        files, processes = open_files(), children()
        watching = instruments()
        async with open_runtime(app, tmp_path / "data") as runtime:
            await (await runtime.start(naps, 0.0)).result(60)
        gc.collect()
        assert left_behind(files, processes) == []
        assert instruments() == watching

    @pytest.mark.trio
    async def test_a_start_that_fails_leaves_nothing_behind(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Whichever stage of the start fails, the lock is given up and nothing is left open."""
        gc.collect()
        files, processes = open_files(), children()
        watching = instruments()
        with monkeypatch.context() as patch:
            patch.setattr(Readers, "__init__", _fails)
            with pytest.raises(JournalError, match="as asked"):
                async with open_runtime(app, tmp_path, writer="inline"):
                    pytest.fail("it was to fail")
        assert instruments() == watching
        async with open_runtime(app, tmp_path, writer="inline"):
            pass  # neither lock is held any more
        foreign = tmp_path / "foreign"
        foreign.mkdir()
        (foreign / "journal.db").write_bytes(b"not a journal" * 1_000)
        with pytest.raises(JournalRefused):
            async with open_runtime(app, foreign):
                pytest.fail("it was to fail")
        gc.collect()
        assert left_behind(files, processes) == []


def _fails(*_: object) -> None:
    raise JournalError("as asked")


class TestRoom:
    @pytest.fixture
    def runtime_settings(self) -> Settings:
        return Settings(limits=Limits(runs_active_max=5))

    async def test_runs_started_one_by_one_stay_within_the_room(self, runtime: VirtualRuntime, world: World) -> None:
        """However runs are started, no more of those that wait stay in memory than there is room for."""
        for _ in range(20):
            await runtime.start(naps, 60.0)
        await trio.testing.wait_all_tasks_blocked()
        assert runtime.actors.coordinator.statistics().active <= 5
        await runtime.advance(61)
        assert {run.status for run in (await runtime.runs()).items} == {"completed"}


class TestLoading:
    async def test_long_histories_are_loaded_one_by_one(
        self, runtime: VirtualRuntime, world: World, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """What is in memory at once is bounded in records; all the runs that wake together go on."""
        monkeypatch.setattr(history_loader, "LOAD_RECORDS", 1)
        handles = [await runtime.start(naps, 60.0) for _ in range(20)]
        await runtime.crash()
        await runtime.advance(61)
        assert {await runtime.status(handle.id) for handle in handles} == {"completed"}


class TestSessions:
    async def test_an_ended_sessions_runs_are_cancelled_though_the_coordinator_crashed_over_it(
        self, runtime: VirtualRuntime, world: World, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """That a session has ended is told again to a coordinator that crashed when it was told first."""
        await runtime.ask(m.OpenSession(id="s", on_close="cancel"))
        handle = await runtime.start(naps, 3600.0, session_id="s")

        def crashes(*_: object) -> None:
            monkeypatch.undo()
            raise RuntimeError("a bug")

        handlers: dict[Any, Any] = runtime.actors.coordinator._commands.handlers
        monkeypatch.setitem(handlers, m.SessionEnded, crashes)
        await runtime.ask(m.CloseSession(id="s"))
        await runtime.advance(10)
        assert await handle.status() == "cancelled"
