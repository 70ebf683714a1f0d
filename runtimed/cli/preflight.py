"""The upgrade preflight: each open run of the journal is replayed with the code that was loaded, and judged."""

from __future__ import annotations

import contextlib
import os
import sys
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Self

import click
import msgspec

from actors.errors import Conflict
from actors.flow.preflight import BLOCKED, BREAKS, MENDED, Bounds, Verdict, judge
from actors.flow.run_info import Hold
from actors.outside_trio import OutsideTrio
from runtimed.cli.time_limit import TimeLimit
from runtimed.cli.waiting import CLEAR, shows_progress
from runtimed.escape import escape
from wal.errors import JournalError
from wal.run_status import OPEN_STATUSES

if TYPE_CHECKING:
    from actors.flow.definitions import Registry
    from runtimed.cli.shell import Shell
    from wal.queries import Reader
    from wal.records import Entry
    from wal.rows import RunRow

UNJUDGED = "unjudged"
"""Its history cannot be read, or it was left out because others of its workflow did not come to a wait."""
STUCK_MAX = 3
"""So many runs of one workflow are waited for in vain; there may be thousands more."""
PATIENCE_SECONDS = 1.0
"""How far it is, is said of what takes longer."""
PAINT_SECONDS = 0.2

ADVICE = {
    "nondeterminism": "Let these runs do what they did: `if ctx.patched(NAME):` the new way, `else:` the old "
    "(docs/workflows.md); or deploy once they have ended.",
    "undecodable": "Let the type still take what is recorded: a new field wants a default, a lost one its place.",
    "unknown_workflow": "Keep this workflow, or bring it back, under this name, until its runs have ended.",
    "code_error": "Mend the code where it raises; -o json has the whole traceback.",
    "stuck": "A workflow may only wait for ctx: slow work belongs in steps. More time: --replay-timeout SECONDS.",
    "compensation_failed": "Keep this step, or bring it back, under this name, until what it undoes is undone.",
    "history_limit": "Raise limits.history_records_max, or go on with ctx.continue_as_new in time.",
    "internal": "Please report this.",
}
"""What to do about each code that may hold a run back."""
RESOLVE = "runtimed runs resolve {} {} --happened|--did-not-happen --reason WHY"


class RunVerdict(msgspec.Struct, frozen=True, kw_only=True):
    """What becomes of a run: `code`, `call` and `message` say what would hold it, `blocked_by` what does now."""

    id: str
    workflow: str
    status: str
    verdict: str
    code: str | None = None
    call: str | None = None
    message: str | None = None
    traceback: str | None = None
    blocked_by: str | None = None
    next: str | None = None


def verdicts(
    reader: Reader, registry: Registry, bounds: Bounds, seconds: float, shell: Shell | None = None
) -> Iterator[RunVerdict]:
    """A verdict on each run that is open, oldest first, with so many seconds for each; one is in memory at a time.

    `shell`, if given, shows on a terminal how far it is. For the main thread. Raises `JournalError` where the list of
    runs cannot be read."""
    look = _Look(reader, registry, bounds, seconds)
    with _Progress(shell, reader) as progress, TimeLimit(seconds, look.give_up) as limit:
        newest, after = reader.newest_run_key(), 0
        while rows := reader.open_runs(after_run_key=after):
            for row in rows:
                after = row.run_key
                if after > newest:  # a daemon may start ever more of them meanwhile
                    return
                found = look.at(row, limit)
                progress.one_more()
                if found is not None:
                    yield found


class _Look:
    """Judges run after run."""

    def __init__(self, reader: Reader, registry: Registry, bounds: Bounds, seconds: float) -> None:
        self._reader, self._registry, self._bounds, self._seconds = reader, registry, bounds, seconds
        self._outside_trio = OutsideTrio()
        self._stuck: Counter[str] = Counter()
        self._row: RunRow | None = None

    def at(self, row: RunRow, limit: TimeLimit) -> RunVerdict | None:
        """The verdict on this run; None if it has ended and was forgotten since it was found open."""
        if self._stuck[row.workflow] >= STUCK_MAX:
            message = f"not replayed: {STUCK_MAX} runs of this workflow did not come to a wait"
            return _unjudged(row, message, ADVICE["stuck"])
        self._row = row
        try:
            entries = self._reader.history(row.run_key, last_seq=row.last_seq)
            found = limit.run(lambda: self._judge(row, entries))
        except (JournalError, RecursionError) as error:
            now = self._reader.run_by_key(row.run_key)
            gone = now is None or now.ended_at is not None
            return None if gone else _unjudged(row, str(error), "runtimed journal verify")
        if found is None:
            self._stuck[row.workflow] += 1
            hold = Hold("stuck", f"its code did not come to a wait within {self._seconds:g} s")
            found = Verdict(BLOCKED if row.blocked else BREAKS, hold)
        return _told(row, found)

    def _judge(self, row: RunRow, entries: Sequence[Entry]) -> Verdict:
        # What such code prints is no data of ours; and trio and anyio fail in it as they would in the daemon.
        with contextlib.redirect_stdout(sys.stderr):
            self._outside_trio.__enter__()
            try:
                return judge(self._registry, entries, blocked=row.blocked, bounds=self._bounds)
            finally:
                self._outside_trio.__exit__()

    def give_up(self) -> None:
        """Code that goes on for ever and swallows whatever would end it: only the end of the process does."""
        assert self._row is not None
        run = escape(f"run {self._row.id} (workflow {self._row.workflow})")
        click.echo(f"error: {run} never comes to a wait, and catches all that would end it", err=True)
        click.echo(" next: Let that workflow catch what it expects, never everything; then check again.", err=True)
        sys.__stdout__.flush()  # type: ignore[union-attr] # what was told of others before
        os._exit(Conflict.exit_code)


def _unjudged(row: RunRow, message: str, following: str) -> RunVerdict:
    return RunVerdict(
        id=row.id, workflow=row.workflow, status=row.status, verdict=UNJUDGED, message=message,
        blocked_by=_blocked_by(row), next=following,
    )  # fmt: skip


def _told(row: RunRow, found: Verdict) -> RunVerdict:
    verdict, hold = found
    return RunVerdict(
        id=row.id,
        workflow=row.workflow,
        status=row.status,
        verdict=verdict,
        code=None if hold is None else hold.code,
        call=None if hold is None else hold.key or None,
        message=None if hold is None else hold.message,
        traceback=None if hold is None else hold.traceback,
        blocked_by=_blocked_by(row),
        next=_next(row, verdict, hold),
    )


def _blocked_by(row: RunRow) -> str | None:
    return row.error.type if row.blocked and row.error is not None else None


def _next(row: RunRow, verdict: str, hold: Hold | None) -> str | None:
    if verdict == MENDED:
        by_itself = _blocked_by(row) == "unknown_workflow"
        return "nothing: it goes on by itself at the start" if by_itself else f"runtimed runs retry {row.id}"
    if hold is None:
        return None
    return RESOLVE.format(row.id, hold.key) if hold.code == "outcome_unknown" else ADVICE.get(hold.code)


class _Progress:
    """A line on stderr that says how far it is, on a terminal, and only if it takes long."""

    def __init__(self, shell: Shell | None, reader: Reader) -> None:
        self._shows = shell is not None and shows_progress(shell)
        self._reader = reader
        self._done = self._total = 0
        self._painted = False
        self._due = time.monotonic() + PATIENCE_SECONDS

    def __enter__(self) -> Self:
        if self._shows:
            counts = self._reader.counts().items()
            self._total = sum(number for (_, status), number in counts if status in OPEN_STATUSES)
        return self

    def __exit__(self, *_: object) -> None:
        if self._painted:
            self._write(CLEAR)

    def one_more(self) -> None:
        """One more run is judged."""
        self._done += 1
        if self._shows and time.monotonic() >= self._due:
            self._due = time.monotonic() + PAINT_SECONDS
            self._painted = True
            self._write(f"{CLEAR}{self._done:,} of {max(self._total, self._done):,} open runs are replayed")

    def _write(self, text: str) -> None:
        sys.stderr.write(text)
        sys.stderr.flush()
