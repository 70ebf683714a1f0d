"""The care for the data in a runtime: backups, retention and the liveness check, when asked and by themselves."""

from __future__ import annotations

import math
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path

import apsw
import pytest
import trio
from msgspec import Raw

from actors import messages as m
from runtimed import (
    App,
    BackupExists,
    BackupRefused,
    Conflict,
    Context,
    InvalidInput,
    JournalError,
    RunEnded,
    RunNotFound,
    care,
    open_runtime,
)
from runtimed.runtime import Runtime
from runtimed.settings import Journal, Settings
from wal import records as r
from wal import retention
from wal.backup import Backup, backups_in
from wal.restore import restore
from wal.verify import verify

app = App("care")


@app.step
async def work(number: int) -> int:
    """Do something."""
    return number * 2


@app.workflow
async def double(ctx: Context, number: int) -> int:
    """Work once, remember it in a state of its own and in one for all."""
    doubled = int(await ctx.step(work, number))
    await ctx.state.put("last", doubled)
    await ctx.global_state.put(f"last-{number}", doubled)
    return doubled


@app.workflow
async def wait(ctx: Context, what: str) -> str:
    """Wait for whatever it is told to."""
    if what == "signal":
        await ctx.signal("go")
    elif what == "timer":
        await ctx.sleep(3_600)
    elif what == "approval":
        await ctx.approval("Ship?")
    elif what == "defect":
        raise KeyError(what)
    return what


@asynccontextmanager
async def opened(folder: Path, **journal: object) -> AsyncIterator[Runtime]:
    settings = Settings(journal=Journal(ballast_bytes=0, disk_free_min_bytes=0, **journal))  # type: ignore[arg-type]
    async with open_runtime(app, folder / "data", settings=settings, writer="inline") as runtime:
        yield runtime


async def until(runtime: Runtime, seen: object) -> None:
    """Wait until `seen()` is true, looking after each record."""
    with trio.fail_after(20.0):
        while not seen():  # type: ignore[operator]
            await runtime.feed.wait_beyond(runtime.feed.seq)


@pytest.mark.trio
@pytest.mark.slow
async def test_a_backup_is_recorded_and_restores(tmp_path: Path) -> None:
    """What is running goes on; the backup is a record, its age is known, also after a restart; restored it is the past
    that it says."""
    async with opened(tmp_path) as runtime:
        assert runtime.care.backup_age_s() is None
        await (await runtime.start(double, 1, id="one")).result()
        done = await runtime.care.backup(str(tmp_path / "one.db"))
        await (await runtime.start(double, 2, id="two")).result()
        age = runtime.statistics().backup_age_seconds
        assert age is not None
        assert 0 <= age < 20
    async with opened(tmp_path) as runtime:
        assert runtime.care.last_backup is not None
        assert runtime.care.last_backup.path == done.path

    put = restore(tmp_path / "one.db", tmp_path / "data", force=True)
    assert put.seq == done.seq
    async with opened(tmp_path) as runtime:
        assert runtime.care.last_backup is None  # it was sent elsewhere, and the past does not know of it
        assert await runtime.handle("one").result() == 2
        with pytest.raises(RunNotFound):
            await runtime.run("two")


@pytest.mark.trio
@pytest.mark.slow
async def test_the_newest_backup_is_known_after_it_was_restored(tmp_path: Path) -> None:
    """A restored past records the backups before it, not itself: the one in the folder counts all the same."""
    async with opened(tmp_path) as runtime:
        await runtime.care.backup(str(tmp_path / "before.db"))
        done = await runtime.care.backup()
    restore(Path(done.path), tmp_path / "data", force=True)
    async with opened(tmp_path) as runtime:
        assert runtime.care.last_backup is not None
        assert runtime.care.last_backup.path == done.path


@pytest.mark.trio
@pytest.mark.slow
async def test_backups_by_themselves(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One each period, the newest kept; what one that was interrupted left is cleared away at the start."""
    monkeypatch.setattr(care, "LOOK_S", 0.02)
    folder = tmp_path / "elsewhere"
    folder.mkdir()
    (folder / "journal.db.part").write_bytes(b"half")
    async with opened(tmp_path, backup_every=0.05, backup_keep=2, backup_dir=str(folder)) as runtime:
        await until(runtime, lambda: runtime.care.last_backup is not None and runtime.feed.seq >= 5)
        with trio.fail_after(20.0):
            while runtime.care._backing_up:  # noqa: ASYNC110 - that one has ended is no event
                await trio.sleep(0.01)
        runtime.care._backing_up = True  # no more: the end would break it off, perhaps before it clears away the oldest
    assert 1 <= len(backups_in(folder)) <= 2
    assert all(verify(one.path).ok for one in backups_in(folder))
    assert not (folder / "journal.db.part").exists()


@pytest.mark.trio
async def test_a_backup_of_the_future_is_none_to_rely_on(tmp_path: Path) -> None:
    """One dated by a clock that was ahead makes no other wait: the next is due, and health says why."""
    async with opened(tmp_path, backup_every=3_600.0) as runtime:
        now_us = runtime.clock.now_us()
        for ahead_s, due in ((-60, False), (-3_601, True), (60, True), (365 * care.DAY_S, True)):
            runtime.care.last_backup = Backup("x.db", 1, 1, 0.0, now_us + ahead_s * 1_000_000)
            assert runtime.care._is_due(math.inf) is due
            age = runtime.statistics().backup_age_seconds
            assert age == pytest.approx(-ahead_s, abs=30.0)
            told = [reason for reason in runtime.health().reasons if "still to come" in reason]
            assert len(told) == (ahead_s > 0)
    async with opened(tmp_path, backup_every=0.0) as runtime:  # none is wanted: nothing to say
        runtime.care.last_backup = Backup("x.db", 1, 1, 0.0, runtime.clock.now_us() + 10**9)
        assert (runtime.care._is_due(math.inf), runtime.care.overdue()) == (False, [])


@pytest.mark.trio
@pytest.mark.slow
async def test_the_last_backup_is_none_of_the_future(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Among those in the folder a copy of a clock that was ahead counts only where there is no other; then one is taken
    at once."""
    monkeypatch.setattr(care, "LOOK_S", 0.02)
    folder = tmp_path / "data" / "backups"
    folder.mkdir(parents=True)
    wrong, right = folder / "journal-29990101T000000Z-9999.db", folder / "journal-20200101T000000Z-5.db"
    wrong.write_bytes(b"of a clock that was ahead")
    async with opened(tmp_path, backup_every=3_600.0) as runtime:
        assert runtime.care.last_backup is not None
        with trio.fail_after(20.0):
            while runtime.care.last_backup.path == str(wrong):  # noqa: ASYNC110 - it is set after its record is told
                await trio.sleep(0.01)
        done = runtime.care.last_backup.path
    async with opened(tmp_path) as runtime:  # the record of it is nearer to now than the copy from the future
        assert runtime.care.last_backup is not None
        assert runtime.care.last_backup.path == done
    (tmp_path / "data" / "journal.db").unlink()
    (folder / Path(done).name).unlink()
    right.write_bytes(b"of a clock that was right")
    async with opened(tmp_path) as runtime:
        assert runtime.care.last_backup is not None
        assert runtime.care.last_backup.path == str(right)


@pytest.mark.trio
@pytest.mark.slow
async def test_a_backup_that_fails_is_told_and_tried_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """By itself it is a remark in the health until one succeeds; asked for, it is an error. The runtime goes on."""
    monkeypatch.setattr(care, "LOOK_S", 0.02)
    blocked = tmp_path / "blocked"
    blocked.write_bytes(b"a file where the folder should be")
    async with opened(tmp_path, backup_every=0.05, backup_dir=str(blocked / "in")) as runtime:
        with trio.fail_after(20.0):
            while "failed" not in runtime.remarks.get("backup", ""):  # noqa: ASYNC110 - a remark has no event
                await trio.sleep(0.01)
        assert any("backup" in reason for reason in runtime.health().reasons)
        assert runtime.health().ready
        with pytest.raises(JournalError, match="cannot be made"):
            await runtime.care.backup()
        blocked.unlink()
        await until(runtime, lambda: runtime.care.last_backup is not None)
        with trio.fail_after(20.0):
            while "backup" in runtime.remarks:  # noqa: ASYNC110 - a remark has no event
                await trio.sleep(0.01)


@pytest.mark.trio
@pytest.mark.slow
async def test_a_backup_that_cannot_be_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A relative path, a file that is there, a second one at the same time, a journal in memory: each in a sentence."""
    (tmp_path / "there.db").write_bytes(b"precious")
    async with opened(tmp_path) as runtime:
        with pytest.raises(InvalidInput, match="absolute"):
            await runtime.care.backup("there.db")
        with pytest.raises(BackupExists, match="overwrites nothing"):
            await runtime.care.backup(str(tmp_path / "there.db"))
        with pytest.raises(BackupRefused, match="No such file"):
            await runtime.care.backup(str(tmp_path / "gone" / "there.db"))
        take, taking, refused = runtime.care._take, trio.Event(), trio.Event()

        async def held(target: Path, *, keep: bool) -> Backup:
            taking.set()
            await refused.wait()
            return await take(target, keep=keep)

        monkeypatch.setattr(runtime.care, "_take", held)
        with trio.fail_after(60.0):
            async with trio.open_nursery() as nursery:
                nursery.start_soon(runtime.care.backup, str(tmp_path / "one.db"))
                await taking.wait()
                with pytest.raises(Conflict, match="being taken"):
                    await runtime.care.backup(str(tmp_path / "two.db"))
                refused.set()
        assert verify(tmp_path / "one.db").ok
    async with open_runtime(app, writer="memory") as runtime:
        with pytest.raises(Conflict, match="in memory"):
            await runtime.care.backup()


@pytest.mark.trio
@pytest.mark.slow
async def test_old_runs_are_forgotten_and_young_and_open_ones_stay(tmp_path: Path) -> None:
    """A dry run says how many and changes nothing; then they are not found, their id can be used again, the global
    state they wrote is kept, and the journal verifies."""
    async with opened(tmp_path) as runtime:
        for number in range(5):
            await (await runtime.start(double, number, id=f"old-{number}")).result()
        await runtime.start(wait, "signal", id="open")
        with pytest.raises(InvalidInput, match="not said"):
            await runtime.care.forget()
        tried = await runtime.care.forget(1e-6, dry_run=True)
        assert (tried.runs, await runtime.status("old-0")) == (5, "completed")
        assert (await runtime.care.forget(3_600)).runs == 0
        done = await runtime.care.forget(1e-6)
        assert (done.runs, done.records) == (tried.runs, tried.records)

        for number in range(5):
            with pytest.raises(RunNotFound):
                await runtime.run(f"old-{number}")
        kept = await runtime.read(lambda reader: reader.state("global", "last-3"))
        assert kept is not None
        assert bytes(kept.value) == b"6"
        assert [run.id for run in (await runtime.runs()).items] == ["open"]
        again = await runtime.start(double, 9, id="old-0")
        assert (again.created, await again.result()) == (True, 18)
        await runtime.signal("open", "go")
        assert await runtime.handle("open").result() == "signal"
    report = verify(tmp_path / "data" / "journal.db")
    assert report.problems == []


@pytest.mark.trio
@pytest.mark.slow
async def test_old_answers_are_forgotten_and_young_ones_given_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What an idempotency key was answered goes with its age, some a commit; a repeat then is a new request."""
    monkeypatch.setattr(retention, "ANSWERS_FORGOTTEN_MAX", 2)

    def keyed(number: int) -> m.StartRuns:
        request = m.RequestKey(principal="uid:1", key=f"k{number}", digest="d")
        items = [m.StartRun(workflow="double", input=Raw(b"%d" % number))]
        return m.StartRuns(items=items, origin=m.Origin(request=request))

    async with opened(tmp_path) as runtime:
        first = [await runtime.ask(keyed(number)) for number in range(5)]
        assert (await runtime.care.forget(1e-6)).answers == 0  # however short runs are kept: answers, for a day
        monkeypatch.setattr(care, "ANSWERS_KEPT_S", 0)
        assert (await runtime.care.forget(3_600)).answers == 0
        assert (await runtime.care.forget(1e-6, dry_run=True)).answers == 5
        assert await runtime.ask(keyed(3)) == first[3]
        assert (await runtime.care.forget(1e-6)).answers == 5
        again = await runtime.ask(keyed(3))
        assert again.items[0].run.id != first[3].items[0].run.id
        assert await runtime.ask(keyed(3)) == again
    assert verify(tmp_path / "data" / "journal.db").problems == []


@pytest.mark.trio
@pytest.mark.slow
async def test_retention_works_by_itself(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With `retention_days` what is older goes without being asked for, at a start and each hour."""
    monkeypatch.setattr(care, "LOOK_S", 0.02)
    async with opened(tmp_path) as runtime:
        for number in range(3):
            await (await runtime.start(double, number, id=f"old-{number}")).result()
    async with opened(tmp_path, retention_days=1e-9) as runtime:
        with trio.fail_after(20.0):
            looked_at = runtime.feed.seq
            while [run.id for run in (await runtime.runs()).items] != ["old-2"]:  # the newest holds the run key
                looked_at = await runtime.feed.wait_beyond(looked_at)
    assert verify(tmp_path / "data" / "journal.db").problems == []


class Shifted:
    """The clock of the system, so many days ahead."""

    def __init__(self, days: float) -> None:
        self.days = days

    def now_us(self) -> int:
        return int((time.time() + self.days * care.DAY_S) * 1_000_000)


@pytest.mark.trio
@pytest.mark.slow
async def test_a_clock_that_has_leapt_forgets_nothing_by_itself(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A clock that goes years ahead, while the daemon runs or before it starts, makes nothing old: health says so until
    it is right again. Smaller leaps, and what is asked for, are not held up."""
    monkeypatch.setattr(care, "LOOK_S", 0.02)
    monkeypatch.setattr(care, "FORGET_EVERY_S", 0.02)
    async with opened(tmp_path) as runtime:
        for number in range(3):
            await (await runtime.start(double, number, id=f"old-{number}")).result()
    clock, settings = Shifted(365), Settings(journal=Journal(ballast_bytes=0, retention_days=90.0))
    async with open_runtime(app, tmp_path / "data", settings=settings, writer="inline", clock=clock) as runtime:
        with trio.fail_after(20.0):
            while "retention" not in runtime.remarks:  # noqa: ASYNC110 - a remark has no event
                await trio.sleep(0.01)
        assert any("so nothing is forgotten" in reason for reason in runtime.health().reasons)
        assert len((await runtime.runs()).items) == 3
        clock.days = 40
        with trio.fail_after(20.0):
            while "retention" in runtime.remarks:  # noqa: ASYNC110 - a remark has no event
                await trio.sleep(0.01)
        clock.days = 80  # by two leaps that are each no more than half of what is kept
        await runtime.care.forget_by_itself()
        clock.days = 365
        with pytest.raises(Conflict, match="so nothing is forgotten"):
            await runtime.care.forget_by_itself()
        assert (await runtime.care.forget(90 * care.DAY_S)).runs == 2


@pytest.mark.trio
@pytest.mark.slow
async def test_what_others_put_into_a_run_is_forgotten_with_it(tmp_path: Path) -> None:
    """No byte of such a value is left in the records or the events, nor does a new run of that id see it, however near
    to the forgetting it is put; a verification of the live journal and one afterwards find all in order."""
    async with opened(tmp_path) as runtime:
        await runtime.start(wait, "signal", id="one")
        for text in (b'"SECRET 1"', b'"SECRET 2"'):
            await runtime.ask(m.PutState(scope="run:one", key="note", value=Raw(text)))
        assert len(await secrets_of(runtime)) == 2
        await runtime.signal("one", "go")
        await runtime.handle("one").result()
        await runtime.start(wait, "signal", id="newest")
        row = await runtime.read(lambda reader: reader.run("one"))
        assert row is not None
        refused: list[Exception] = []

        async def put_late() -> None:
            try:
                await runtime.ask(m.PutState(scope="run:one", key="note", value=Raw(b'"SECRET 3"')))
            except (RunEnded, RunNotFound) as error:
                refused.append(error)

        async with trio.open_nursery() as nursery:
            nursery.start_soon(put_late)
            nursery.start_soon(
                runtime.ask, m.ForgetRuns(runs=[m.Candidate(row.run_key, "one", 0, 1)], older_than=2**62)
            )
            nursery.start_soon(put_late)
        await put_late()
        assert len(refused) == 3
        assert await secrets_of(runtime) == []
        assert verify(tmp_path / "data" / "journal.db").problems == []
        await runtime.start(wait, "signal", id="one")
        assert not await runtime.read(lambda reader: reader.has_state("run:one"))
    assert verify(tmp_path / "data" / "journal.db").problems == []
    connection = apsw.Connection(str(tmp_path / "data" / "journal.db"), flags=apsw.SQLITE_OPEN_READONLY)
    assert list(connection.execute("select seq from records where body like '%SECRET%'")) == []
    connection.close()


async def secrets_of(runtime: Runtime) -> list[bytes]:
    """The events that carry what only others than the run know."""
    events = await runtime.read(lambda reader: reader.events(0, 500))
    return [bytes(event.data) for event in events if b"SECRET" in bytes(event.data)]


@pytest.mark.trio
@pytest.mark.slow
async def test_a_run_in_memory_or_open_is_not_forgotten(tmp_path: Path) -> None:
    """What was chosen is looked at again in the coordinator's turn: an open run stays, whatever the choice said."""
    async with opened(tmp_path) as runtime:
        await (await runtime.start(double, 1, id="over")).result()
        await runtime.start(wait, "signal", id="open")
        await runtime.start(wait, "signal", id="newest")
        rows = [await runtime.read(lambda reader, name=name: reader.run(name)) for name in ("over", "open", "newest")]
        plan = [m.Candidate(row.run_key, row.id, 0, 1) for row in rows if row is not None]
        gone = await runtime.ask(m.ForgetRuns(runs=plan, older_than=2**62))
        assert gone.runs == 1
        assert [run.id for run in (await runtime.runs()).items] == ["newest", "open"]
        assert not await runtime.read(lambda reader: reader.has_state("run:over"))
    assert verify(tmp_path / "data" / "journal.db").problems == []


@pytest.mark.trio
@pytest.mark.slow
async def test_every_open_run_has_a_wake_source_and_a_lost_one_is_told(tmp_path: Path) -> None:
    """P15: runs that wait for whatever there is are no doubt; one whose timer is missing is counted, named, and told
    in the health."""
    async with opened(tmp_path) as runtime:
        for what in ("signal", "timer", "approval", "defect"):
            await runtime.start(wait, what, id=what)
        await runtime.start(wait, "signal", id="paused")
        await runtime.pause("paused")
        later = int((datetime.now(UTC) + timedelta(hours=1)).timestamp() * 1_000_000)
        await runtime.start(double, 1, id="later", start_at=later)
        assert await runtime.care.unwakeable_runs() == []
        assert runtime.statistics().runs_without_wake_source == 0

        writer = runtime.actors.writer
        key = writer.next_run_key()
        first = writer.append(r.RunStarted("lost", "wait", r.Raw(b'"timer"')), key)
        writer.append(r.RunWaiting("timer", later, [r.OpenCallData("0", "timer")]), key, first)
        await writer.wait_durable(writer.seq)
        (doubt,) = await runtime.care.unwakeable_runs()
        assert (doubt.run_id, doubt.why) == ("lost", "it waits for a timer, and there is none")
        assert runtime.statistics().runs_without_wake_source == 1
        assert any("nothing will wake" in reason for reason in runtime.health().reasons)
