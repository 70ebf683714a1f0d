"""What `runtimed doctor` finds out about the data: its rights, what was left over, growth, backups, runs, the clock.

Each looks without changing anything; what can be put right safely is, if `fix` says so, and then told as fixed.
"""

from __future__ import annotations

import ctypes
import stat
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from runtimed.cli.examinations import Finding
from runtimed.cli.places import lock_holder
from runtimed.settings import Settings
from wal.errors import JournalLocked, RuntimedError

if TYPE_CHECKING:
    from wal.queries import Reader

PRIVATE = ("journal.db*", "lock", "ballast", "*.key", "secrets*")
FUTURE_S = 5.0
"""A record that was submitted later than now by more than this: the clock has stepped back since."""
OLD_BACKUP_S = 7 * 86_400.0
DAYS_LEFT_MIN = 14.0
YOUNG_S = 86_400.0
"""Of a younger journal no growth a day is told."""
_UNSYNCHRONISED = 5  # TIME_ERROR of adjtimex(2)


def rights(settings: Settings, fix: bool) -> Iterator[Finding]:
    """Nobody else may read the journal: it holds all payloads."""
    folder = settings.paths.data_dir
    if not folder.is_dir():
        return
    open_to: list[Path] = [folder] if folder.stat().st_mode & 0o022 else []
    for pattern in PRIVATE:
        open_to += [path for path in folder.glob(pattern) if path.is_file() and path.stat().st_mode & 0o077]
    if not open_to:
        yield Finding("ok", "rights", "the data is its owner's alone")
        return
    names = ", ".join(sorted(path.name for path in open_to))
    why = "others on this host can read payloads, or replace files"
    if fix and _chmod(open_to):
        yield Finding("ok", "rights", f"fixed: {names} is its owner's alone now", why)
    else:
        yield Finding("fail", "rights", f"open to others: {names}", why, "runtimed doctor --fix, as the owner")


def _chmod(paths: list[Path]) -> bool:
    try:
        for path in paths:
            path.chmod(stat.S_IMODE(path.stat().st_mode) & (0o755 if path.is_dir() else 0o600))
    except OSError:
        return False  # it is told as it is, with what to do
    return True


def leftovers(settings: Settings, fix: bool) -> Iterator[Finding]:
    """Files of processes that were killed, which nobody holds any more."""
    from wal.backup import clean_leftovers, is_held
    from wal.lock import DataFolderLock

    folder = settings.paths.data_dir
    if not folder.is_dir():
        return
    backups = backup_folder(settings)
    parts = [part for place in {folder, backups} for part in place.glob("*.db.part") if not is_held(part)]
    stale: list[Path] = []
    if lock_holder(settings.paths.lock) is None:  # else they are the daemon's own
        stale = [path for path in (settings.paths.socket, folder / "journal.db.new") if path.exists()]
    found = sorted({path.name for path in [*parts, *stale]})
    if not found:
        yield Finding("ok", "leftovers", "none")
        return
    why = "left by a process that was killed; nobody uses it"
    if not fix:
        yield Finding("warn", "leftovers", ", ".join(found), why, "runtimed doctor --fix")
        return
    try:
        with DataFolderLock(folder):  # while we hold it no daemon starts, and none uses what we remove
            for path in stale:
                path.unlink(missing_ok=True)
            for place in {folder, backups}:
                clean_leftovers(place)
    except JournalLocked as error:
        yield Finding("warn", "leftovers", ", ".join(found), str(error), "Try again once the daemon is up or gone.")
        return
    yield Finding("ok", "leftovers", f"fixed: removed {', '.join(found)}", why)


def ballast(settings: Settings, fix: bool) -> Iterator[Finding]:
    """The reserve that lets a full disk be dealt with."""
    wanted, path = settings.journal.ballast_bytes, settings.paths.ballast
    if not wanted or not settings.paths.journal.exists():
        return
    size = path.stat().st_size if path.exists() else 0
    if size >= wanted:
        yield Finding("ok", "ballast", f"{size / 1024**2:.0f} MiB in reserve")
    else:
        why = "it was given up because the disk was full, and comes back once there is room for it twice"
        yield Finding("warn", "ballast", "there is no reserve", why, "Free some space; the daemon makes it again.")


def growth(settings: Settings, fix: bool) -> Iterator[Finding]:
    """How fast the journal grows, and when that fills the disk."""
    with _reader(settings) as reader:
        if reader is None:
            return
        told = reader.statistics()
    age_s = time.time() - told.created_at / 1_000_000
    if age_s < YOUNG_S:
        return
    a_day = told.db_bytes / (age_s / 86_400)
    days = told.disk_free_bytes / max(a_day, 1.0)
    what = f"{a_day / 1024**2:.1f} MiB a day on the whole; at that the disk is full in {days:,.0f} days"
    if days < DAYS_LEFT_MIN:
        why = "then new work is refused"
        yield Finding("warn", "growth", what, why, "Set journal.retention_days, or use a larger disk.")
    else:
        yield Finding("ok", "growth", what)


def backups(settings: Settings, fix: bool) -> Iterator[Finding]:
    """How old the last backup is: that much is lost with the disk."""
    from wal.backup import backups_in, place
    from wal.views import rfc3339

    with _reader(settings) as reader:
        if reader is None or not reader.head_seq():
            return
        recorded = reader.last_backup()
    known = [*backups_in(backup_folder(settings)), *([recorded] if recorded is not None else [])]
    every = settings.journal.backup_every
    go = "runtimed journal backup; by itself with journal.backup_every and journal.backup_dir, on another disk."
    if not known:
        yield Finding("warn", "backup", "there is none", "if the disk is lost, all is", go)
        return
    now = time.time_ns() // 1_000
    last = max(known, key=lambda one: place(one, now))
    age_s = (now - last.at) / 1_000_000
    if age_s < 0:
        what = f"the last one is dated {rfc3339(last.at)}, which is still to come: {last.path}"
        yield Finding("warn", "backup", what, "the clock was ahead: nobody knows how old it is", go)
        return
    what = f"the last one is {age_s / 3600:.1f} hours old, up to record {last.seq}: {last.path}"
    if age_s > (2 * every if every else OLD_BACKUP_S):
        yield Finding("warn", "backup", what, "what came since is lost with the disk", go)
    else:
        yield Finding("ok", "backup", what)


def runs(settings: Settings, fix: bool) -> Iterator[Finding]:
    """Runs that stand still until a person acts, and those that nothing will wake."""
    with _reader(settings) as reader:
        if reader is None:
            return
        blocked = sum(count for (_, status), count in reader.counts().items() if status == "blocked")
        lost = [doubt for doubt in reader.doubts() if not doubt.going_on]  # the others are a running daemon's to judge
    if blocked:
        why = "a defect, or an outcome that nobody knows: they wait for a person"
        yield Finding("warn", "runs", f"{blocked} are blocked", why, "runtimed runs list --status blocked")
    if lost:
        named = "; ".join(f"{doubt.run_id}: {doubt.why}" for doubt in lost[:3])
        why = "a defect of ours: please report it"
        yield Finding("fail", "runs", f"nothing will wake {len(lost)}: {named}", why, "runtimed runs explain ID")
    if not blocked and not lost:
        yield Finding("ok", "runs", "none is blocked, and each open one has something that wakes it")


def clock(settings: Settings, fix: bool) -> Iterator[Finding]:
    """Whether the wall clock is kept right, and has not stepped back behind what was recorded by it."""
    from wal.restore import last_instant

    path = settings.paths.journal
    try:
        ahead_s = last_instant(path) / 1_000_000 - time.time() if path.exists() else 0.0
    except RuntimedError:
        ahead_s = 0.0  # the examination of the journal says what is wrong with it
    if ahead_s > FUTURE_S:
        why = "timers and retention go by the wall clock: what is due is due so much later"
        what = f"it is {ahead_s:.0f} s behind the last record: it has stepped back"
        yield Finding("warn", "clock", what, why, "Set the clock right; have it kept so by NTP.")
    elif _synchronised() is False:
        why = "nothing keeps it right; timers and retention go by it"
        yield Finding("warn", "clock", "not synchronised", why, "Run chrony or systemd-timesyncd.")
    else:
        yield Finding("ok", "clock", time.strftime("%Y-%m-%d %H:%M:%S UTC", time.gmtime()))


def backup_folder(settings: Settings) -> Path:
    """Where backups go that nobody sends elsewhere."""
    named = settings.journal.backup_dir
    return settings.paths.data_dir / ("backups" if named is None else Path(named).expanduser())


def _synchronised() -> bool | None:
    """What the kernel knows of its clock (adjtimex, which changes nothing when it is asked for nothing)."""
    asked = ctypes.create_string_buffer(512)
    try:
        state = int(ctypes.CDLL(None).adjtimex(asked))
    except (AttributeError, OSError):
        return None
    return None if state < 0 else state != _UNSYNCHRONISED


@contextmanager
def _reader(settings: Settings) -> Iterator[Reader | None]:
    """A reader of the journal, or None if there is none or it does not open: another examination tells why."""
    from wal.queries import Reader

    path = settings.paths.journal
    if not path.exists():
        yield None
        return
    try:
        reader = Reader.open(path)
    except RuntimedError:
        yield None
        return
    with reader:
        yield reader


CHECKS: dict[str, Callable[[Settings, bool], Iterator[Finding]]] = {
    "rights": rights,
    "leftovers": leftovers,
    "ballast": ballast,
    "growth": growth,
    "backup": backups,
    "runs": runs,
    "clock": clock,
}
"""By what their findings are about."""
