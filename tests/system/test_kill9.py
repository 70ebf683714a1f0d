from __future__ import annotations

import os
import random
import shutil
import signal
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest
import trio

from tests.system.daemon_process import Daemon, witness
from tests.system.findings import Findings
from tests.system.load import Load

KILLS = int(os.environ.get("RUNTIMED_KILLS", "0"))
SEED = int(os.environ.get("RUNTIMED_SEED", "20260301"))
VICTIMS = ("daemon", "daemon", "daemon", "daemon", "writer", "both", "start", "start")
WORK_SECONDS = (0.05, 1.1)  # how long the daemon lives between being ready and being killed
START_SECONDS = (0.05, 0.9)  # how long it lives when it is killed in its start, about the time that a start takes
QUIET_SECONDS = 60.0
EPISODE_KILLS_MAX = 15  # then everything must come to its end, and a new folder begins
ROOMS = ("10000", "25")  # runs that have room in memory, in one episode and in the next
SHOWN_MAX = 10
ENVIRON = {
    "RUNTIMED__LIMITS__PARK_AFTER": "0.2",  # so that runs are parked, woken and replayed all the time
    "RUNTIMED__LIMITS__CRASHED_ATTEMPTS_MAX": "1000",  # an attempt may meet any number of kills here
    "RUNTIMED__JOURNAL__BALLAST_BYTES": "0",
    "RUNTIMED__LOG__LEVEL": "warning",
}


class Killer:
    """Kills the daemon, its writer, or both, at instants that a seed decides, and starts it again."""

    def __init__(self, daemon: Daemon, seed: int) -> None:
        self.daemon = daemon
        self.victims: Counter[str] = Counter()
        self.starts: list[float] = []
        self._chance = random.Random(seed)

    async def start(self) -> None:
        self.starts.append(await self.daemon.start())

    async def kill(self, count: int) -> None:
        """So many kills; the daemon is up before and after."""
        for _ in range(count):
            victim = self._chance.choice(VICTIMS)
            self.victims[victim] += 1
            await trio.sleep(self._chance.uniform(*WORK_SECONDS))
            if victim == "writer":
                await self._kill_writer()
            elif victim == "both":
                self._send(self.daemon.writer_pid())
                await self.daemon.kill()
            else:
                await self.daemon.kill()
            if victim == "start":
                await self.daemon.spawn()
                await trio.sleep(self._chance.uniform(*START_SECONDS))
                if self._chance.random() < 0.3:
                    self._send(self.daemon.writer_pid())
                await self.daemon.kill()
            await self.start()

    async def _kill_writer(self) -> None:
        """A daemon that has lost its writer must end by itself, and not as if all were well."""
        writer = self.daemon.writer_pid()
        assert writer is not None, "a daemon that is ready has a writer"
        self._send(writer)
        code = await self.daemon.ended()
        assert code not in (0, -signal.SIGKILL), self.daemon.log_tail()

    def _send(self, pid: int | None) -> None:
        if pid is None:
            return
        try:
            os.kill(pid, signal.SIGKILL)
        except ProcessLookupError:
            pass  # it has just ended


async def episode(folder: Path, seed: int, kills: int) -> tuple[Counter[str], list[float], list[str]]:
    """So many kills of one daemon, then quiet until all runs have ended: figures, seconds of restarts, problems."""
    await trio.Path(folder).mkdir()
    async with witness(folder) as (address, seen):
        room = {"RUNTIMED__LIMITS__RUNS_ACTIVE_MAX": ROOMS[seed % len(ROOMS)]}
        daemon = Daemon(folder, environ={**ENVIRON, **room, "WITNESS_SOCKET": str(address)})
        killer, load = Killer(daemon, seed), Load(daemon, seed)
        try:
            await killer.start()
            async with trio.open_nursery() as nursery:
                nursery.start_soon(load.work, 4)
                await killer.kill(kills)
                nursery.cancel_scope.cancel()
            quiet = await load.finish(QUIET_SECONDS)
            code = await daemon.stop()
        finally:
            with trio.CancelScope(shield=True):
                await daemon.close()
        assert code == 0, daemon.log_tail()
    found = Findings(daemon.data_dir / "journal.db", seen)
    found.check_all(load.acks)
    figures = Counter({**killer.victims, **found.figures(), "acknowledged": len(load.acks)})
    figures["unanswered"], figures["open"], figures["quiet_ms"] = load.unanswered, found.open_runs, round(quiet * 1_000)
    return figures, killer.starts, found.problems


@pytest.mark.trio
@pytest.mark.slow
@pytest.mark.chaos
async def test_kill_minus_nine_loses_nothing_and_repeats_nothing(
    short_dir: Path, scale: Callable[[int, int], int], figures: Callable[..., None]
) -> None:
    """P2, P15: whatever is killed and whenever, nothing acknowledged is lost, no step runs after its completion was
    recorded, keys are stable, failed runs are undone in order, the journal verifies, and everything ends."""
    kills = KILLS or scale(30, 1_000)
    total: Counter[str] = Counter()
    starts: list[float] = []
    slowest_end_ms = 0
    for number, first in enumerate(range(0, kills, EPISODE_KILLS_MAX)):
        folder = short_dir / str(number)
        done, times, problems = await episode(folder, SEED + number, min(EPISODE_KILLS_MAX, kills - first))
        assert problems == [], f"seed {SEED + number}: {len(problems)} problems, of which {problems[:SHOWN_MAX]}"
        shutil.rmtree(folder)
        slowest_end_ms = max(slowest_end_ms, done.pop("quiet_ms"))
        open_runs = done.pop("open")
        total, starts = total + done, sorted(starts + times)
    seconds = {"restart_p50_s": round(starts[len(starts) // 2], 2), "restart_max_s": round(starts[-1], 2)}
    figures("P2", kills=kills, **total, **seconds, lost=0, repeated=0)
    figures("P15", all_ended_after_s=slowest_end_ms / 1_000, open_runs=open_runs)
