"""Care for the data while the daemon runs: backups, retention, the liveness check; when asked, and by itself.

A backup is taken by a process of its own (`wal.backup`): neither the writer nor the loop waits for it. What goes wrong
by itself is a remark in the health, and is tried again; nothing here ends the daemon.
"""

from __future__ import annotations

import logging
import math
import os
import subprocess
import sys
from collections.abc import Awaitable, Callable
from functools import partial
from pathlib import Path
from typing import Any

import msgspec
import trio

from actors import messages as m
from actors.clock import Clock
from actors.errors import Conflict, InvalidInput
from actors.journal_link import import_path
from actors.saga_coordinator import SagaCoordinator
from actors.wal_writer import WalWriter
from runtimed.settings import Journal
from wal import records as r
from wal.backup import Backup, Refusal, backups_in, clean_leftovers, place
from wal.errors import JournalError, RuntimedError, error_of
from wal.liveness import Doubt
from wal.queries import Reader
from wal.rows import AnswersPlan, Plan
from wal.views import rfc3339

log = logging.getLogger("runtimed.care")

FOLDER_NAME = "backups"
LOOK_S = 5.0
"""How often it is looked whether something is due."""
FORGET_EVERY_S = 3_600.0
LIVENESS_EVERY_S = 300.0
RETRY_S = 300.0
"""A backup that failed is tried again after this, or when the next is due if that is sooner."""
DAY_S = 86_400
ANSWERS_KEPT_S = DAY_S
"""A first answer is kept so long however short the runs are kept: whoever did not hear it asks again within hours."""
NEVER = -math.inf


class Swept(msgspec.Struct, frozen=True):
    """What retention forgot, or would forget: runs that ended before an instant (microseconds), their records, and the
    first answers that were given before it."""

    runs: int
    records: int
    older_than: int
    dry_run: bool
    answers: int = 0


class Care:
    """See the module. `journal` is the file, None for a journal in memory, which needs no care but liveness."""

    def __init__(
        self,
        *,
        journal: Path | None,
        settings: Journal,
        clock: Clock,
        writer: WalWriter,
        coordinator: SagaCoordinator,
        read: Callable[[Callable[[Any], Any]], Awaitable[Any]],
        ask: Callable[[m.Message], Awaitable[Any]],
        remarks: dict[str, str],
    ) -> None:
        self._journal, self._settings, self._clock = journal, settings, clock
        self._writer, self._coordinator = writer, coordinator
        self._read, self._ask, self._remarks = read, ask, remarks
        self._backing_up = False
        self._began_after = writer.seq  # the last record of the life before this one
        self._known_us = 0  # how far the clock was known to be when retention last looked by itself
        self.last_backup: Backup | None = None
        self.unwakeable: int | None = None
        """How many open runs nothing will wake, as of the last look; None before the first."""

    # --- backups

    @property
    def folder(self) -> Path | None:
        """Where backups go that are not sent elsewhere."""
        if self._journal is None:
            return None
        named = self._settings.backup_dir
        return self._journal.parent / FOLDER_NAME if named is None else self._journal.parent / Path(named).expanduser()

    def backup_age_s(self) -> float | None:
        """Seconds since the last backup; None if there was none. Less than 0 if the clock was ahead when it was taken
        (or has stepped back since): how old it is, nobody knows."""
        last = self.last_backup
        return None if last is None else (self._clock.now_us() - last.at) / 1_000_000

    def overdue(self) -> list[str]:
        """A sentence if backups are wanted and the last is older than two of their periods, or of unknown age."""
        every, age, last = self._settings.backup_every, self.backup_age_s(), self.last_backup
        if every <= 0 or last is None or age is None or 0 <= age <= 2 * every:
            return []
        if age < 0:
            return [f"the last backup is dated {rfc3339(last.at)}, which is still to come: nobody knows how old it is"]
        return [f"the last backup is {age / 3600:.1f} hours old, and one is wanted every {every / 3600:.1f}"]

    async def backup(self, path: str | None = None) -> Backup:
        """Take a backup to a file or into a folder, by default into the one of the settings; it is recorded. Raises
        InvalidInput for a relative path, Conflict while another is taken, and what `wal.backup.take` raises."""
        if self._journal is None or self.folder is None:
            raise Conflict("a journal in memory has no backup")
        if path is not None and not Path(path).is_absolute():
            raise InvalidInput(
                f"path: {path[:200]!r} is not absolute", hint="The daemon has a current folder of its own."
            )
        if self._backing_up:
            raise Conflict("a backup is being taken", hint="Wait for it; `runtimed status` tells of the last one.")
        self._backing_up = True
        try:
            if path is None:
                _make_folder(self.folder)
            done = await self._take(Path(path) if path is not None else self.folder, keep=path is None)
        finally:
            self._backing_up = False
        seq = self._writer.append(r.BackupTaken(done.path, done.seq, done.size_bytes, done.seconds))
        self._writer.cut()
        await self._writer.wait_durable(seq)
        self.last_backup = done
        self._remarks.pop("backup", None)
        log.info("backup of %d records to %s in %.1f s", done.seq, done.path, done.seconds)
        return done

    async def _take(self, target: Path, *, keep: bool) -> Backup:
        arguments = [str(self._journal), str(target), str(self._settings.backup_keep if keep else 0)]
        arguments.append(str(self._settings.disk_free_min_bytes))
        environ = {**os.environ, "PYTHONPATH": os.pathsep.join(import_path())}
        ended = await trio.run_process(  # it is killed if we are cancelled; the next one clears away what it left
            [sys.executable, "-P", "-m", "wal.backup", *arguments],
            stdin=subprocess.DEVNULL, capture_stdout=True, capture_stderr=True, check=False, start_new_session=True,
            env=environ,
        )  # fmt: skip
        try:
            if ended.returncode == 0:
                return msgspec.json.decode(ended.stdout, type=Backup)
            refusal = msgspec.json.decode(ended.stdout, type=Refusal)
        except msgspec.MsgspecError:
            said = ended.stderr.decode("utf-8", "replace").strip().splitlines()
            raise JournalError(f"the backup ended with {ended.returncode}: {said[-1] if said else 'no word'}") from None
        error = error_of(refusal.code, refusal.message)
        error.hint = refusal.hint or error.hint
        raise error

    # --- retention

    async def forget(self, older_than_s: float | None = None, *, dry_run: bool = False, by: str | None = None) -> Swept:
        """Forget the runs that ended, and the first answers that were given, so many seconds ago, or as many as the
        settings keep; some a commit. Answers are kept for a day at least. Raises InvalidInput where neither says how
        many."""
        age_s, now = self.age_s(older_than_s), self._clock.now_us()
        older_than = now - int(age_s * 1_000_000)
        runs = records = 0
        after: int | None = 0
        while after is not None:
            plan = await self._read(partial(_forgettable, older_than, after, now))
            if plan.runs:
                gone = len(plan.runs)
                if not dry_run:
                    command = m.ForgetRuns(runs=plan.runs, older_than=older_than, origin=m.Origin(by=by))
                    gone = (await self._ask(command)).runs
                runs, records = runs + gone, records + sum(run.records for run in plan.runs)
            after = plan.next
        answers = await self._forget_answers(now - int(max(age_s, ANSWERS_KEPT_S) * 1_000_000), now, dry_run=dry_run)
        if (runs or answers) and not dry_run:
            log.info("forgot %d runs and %d first answers from before %s", runs, answers, rfc3339(older_than))
        return Swept(runs, records, older_than, dry_run, answers)

    async def _forget_answers(self, older_than: int, now: int, *, dry_run: bool) -> int:
        answers, after = 0, 0
        while True:
            plan: AnswersPlan = await self._read(partial(_forgettable_answers, older_than, after, now))
            answers += len(plan.seqs)
            if plan.seqs and not dry_run:
                seq = self._writer.append(r.AnswersForgotten(plan.seqs, older_than))
                self._writer.cut()
                await self._writer.wait_durable(seq)
            if plan.next is None:
                return answers
            after = plan.next

    async def forget_by_itself(self) -> None:
        """Forget what the settings say, without being asked. Raises Conflict where the clock went on, since the last
        look or the last record before this daemon, by more than half of what is kept (and by more than a day): it may
        be ahead then, and all there is would seem old. A clock that is still so at the next start is believed."""
        age_s, now, known = self.age_s(None), self._clock.now_us(), self._known_us
        if now - known > max(age_s / 2, DAY_S) * 1_000_000:
            raise Conflict(
                f"the clock says {rfc3339(now)}, and when last looked at {rfc3339(known)}, so nothing is forgotten: "
                "if it is right, restart the daemon or run `runtimed journal gc`"
            )
        self._known_us = now
        await self.forget()

    def age_s(self, older_than_s: float | None) -> float:
        """How long ago a run must have ended, by default as the settings say. Raises InvalidInput if neither does."""
        age_s = self._settings.retention_days * DAY_S if older_than_s is None else older_than_s
        if age_s <= 0:
            raise InvalidInput(
                "how old a run must be is not said", hint="Say it, or set journal.retention_days; nothing is forgotten."
            )
        return age_s

    # --- liveness

    async def unwakeable_runs(self) -> list[Doubt]:
        """The open runs that nothing will wake. Looked at twice: what is on its way to the journal is no doubt."""
        found: list[Doubt] = await self._doubts()
        if found:
            await self._writer.wait_durable(self._writer.seq)
            keys = {doubt.run_key for doubt in found}
            found = [doubt for doubt in await self._doubts() if doubt.run_key in keys]
        self.unwakeable = len(found)
        if found:
            self._remarks["liveness"] = f"nothing will wake {len(found)} runs, among them {found[0].run_id}"
        else:
            self._remarks.pop("liveness", None)
        return found

    async def _doubts(self) -> list[Doubt]:
        found = await self._read(lambda reader: reader.doubts())
        return [doubt for doubt in found if not self._coordinator.moves(doubt.run_key)]

    # --- by itself

    async def run(self, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Do what is due, until cancelled. The last backup is known once it has started."""
        if self._journal is None or self.folder is None:
            task_status.started()
            return
        self.last_backup = await self._read(lambda reader: reader.last_backup())
        before = await self._read(lambda reader: reader.instant(self._began_after))
        self._known_us = self._clock.now_us() if before is None else before
        await self._look_into(self.folder)
        task_status.started()
        forgot_at = looked_at = failed_at = NEVER
        while True:
            now = trio.current_time()
            if now - looked_at >= LIVENESS_EVERY_S:
                looked_at = now
                await self._by_itself("liveness check", self.unwakeable_runs)
            if self._settings.retention_days > 0 and now - forgot_at >= FORGET_EVERY_S:
                forgot_at = now
                await self._by_itself("retention", self.forget_by_itself)
            if self._is_due(now - failed_at):
                failed_at = now
                await self._by_itself("backup", self.backup)
            await trio.sleep(LOOK_S)

    async def _look_into(self, folder: Path) -> None:
        """Clear away what an interrupted backup left, and find the last one: after a restore no record names the
        newest. One of the future, of a clock that was ahead, is the last only where there is no other."""
        try:
            for part in await trio.to_thread.run_sync(clean_leftovers, folder):
                log.info("removed %s, which a backup that was interrupted had left", part)
            there = await trio.to_thread.run_sync(backups_in, folder)
        except OSError as error:
            self._remarks["backup"] = f"the backups in {folder} cannot be looked at: {error.strerror}"
            return
        known = there if self.last_backup is None else [self.last_backup, *there]
        now = self._clock.now_us()
        self.last_backup = max(known, key=lambda one: place(one, now), default=None)

    def _is_due(self, since_try_s: float) -> bool:
        every, age = self._settings.backup_every, self.backup_age_s()
        fresh = age is not None and 0 <= age < every
        due = every > 0 and not self._backing_up and not fresh
        return due and since_try_s >= min(every, RETRY_S)

    async def _by_itself(self, what: str, work: Callable[[], Awaitable[Any]]) -> None:
        """Do something nobody asked for: an error is told in the health until it succeeds."""
        try:
            await work()
        except (RuntimedError, OSError) as error:  # an OSError is of starting a process
            log.warning("%s failed: %s", what, error)
            self._remarks[what] = f"the last {what} failed: {error}"
        else:
            self._remarks.pop(what, None)


def _forgettable(older_than: int, after: int, now: int, reader: Reader) -> Plan:
    return reader.forgettable(older_than, after, now)


def _forgettable_answers(older_than: int, after: int, now: int, reader: Reader) -> AnswersPlan:
    return reader.forgettable_answers(older_than, after, now)


def _make_folder(folder: Path) -> None:
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as error:
        raise JournalError(f"the folder {folder} cannot be made: {error.strerror}") from error
