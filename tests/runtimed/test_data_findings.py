"""What the doctor finds out about the data, and what it puts right."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from runtimed.cli import data_findings as care
from runtimed.cli.doctor import examine
from runtimed.cli.examinations import Finding
from runtimed.settings import Settings, load
from wal import backup
from wal import records as r
from wal.journal import Journal
from wal.lock import DataFolderLock
from wal.records import Entry, OpenCallData

Check = Callable[[Settings, bool], Iterator[Finding]]


def settings_of(folder: Path, **flags: Any) -> Settings:
    return load(None, {"HOME": "/"}, {"daemon.data_dir": str(folder), **flags})


def one(check: Check, settings: Settings, fix: bool = False) -> Finding:
    (finding,) = check(settings, fix)
    return finding


def now_us() -> int:
    return time.time_ns() // 1_000


@pytest.fixture
def folder(short_dir: Path) -> Path:
    """A data folder with a journal in which a run waits for a signal."""
    with Journal.open(short_dir / "journal.db", ballast_bytes=4096) as journal:
        at = now_us()
        journal.commit(
            [
                Entry(1, 1, 0, at, r.RunStarted("one", "shop", r.Raw(b"1"))),
                Entry(2, 1, 1, at, r.RunWaiting("signal", None, [OpenCallData("0", "signal", "go")])),
            ]
        )
    return short_dir


def add(folder: Path, run_key: int, prev_seq: int, record: Any, at: int | None = None) -> None:
    with Journal.open(folder / "journal.db") as journal:
        journal.commit([Entry(journal.head.seq + 1, run_key, prev_seq, now_us() if at is None else at, record)])


def test_rights_that_are_too_wide_are_found_and_put_right(folder: Path) -> None:
    """The folder may not be written by others, its files not read: a failing finding, until it is fixed."""
    settings = settings_of(folder)
    assert one(care.rights, settings).level == "ok"
    folder.chmod(0o777)
    (folder / "journal.db").chmod(0o644)
    found = one(care.rights, settings)
    assert (found.level, "journal.db" in found.what, bool(found.why), "--fix" in found.next) == (
        "fail",
        True,
        True,
        True,
    )
    assert one(care.rights, settings, fix=True).what.startswith("fixed")
    assert (folder.stat().st_mode & 0o777, (folder / "journal.db").stat().st_mode & 0o777) == (0o755, 0o600)
    assert one(care.rights, settings).level == "ok"


def test_leftovers_are_removed_when_nobody_holds_them(folder: Path) -> None:
    """A socket, a half-made journal and a half-made backup: named, and removed; never a running daemon's or what is
    being written."""
    settings = settings_of(folder)
    left = [settings.paths.socket, folder / "journal.db.new", folder / "backups" / "x.db.part"]
    left[2].parent.mkdir()
    for path in left:
        path.write_bytes(b"half")
    with DataFolderLock(folder):
        assert one(care.leftovers, settings).what == "x.db.part"
        assert one(care.leftovers, settings, fix=True).level == "warn"
    with backup.writing(folder / "backups" / "busy.db.part"):
        found = one(care.leftovers, settings)
        assert (found.level, found.what) == ("warn", "journal.db.new, runtimed.sock, x.db.part")
        assert one(care.leftovers, settings, fix=True).what.startswith("fixed")
        assert not any(path.exists() for path in left)
        assert (folder / "backups" / "busy.db.part").exists()
    assert one(care.leftovers, settings).what == "none"


def test_the_age_of_the_last_backup_is_told(folder: Path) -> None:
    """None, a fresh one in the folder, and an old one that only the journal knows of: with what that means."""
    settings = settings_of(folder)
    assert (one(care.backups, settings).level, one(care.backups, settings).what) == ("warn", "there is none")
    add(folder, 0, 0, r.BackupTaken("/elsewhere/x.db", 2), at=now_us() - 10 * 86_400_000_000)
    old = one(care.backups, settings)
    assert (old.level, "240.0 hours old" in old.what, "/elsewhere/x.db" in old.what) == ("warn", True, True)
    (folder / "backups").mkdir()
    backup.take(folder / "journal.db", folder / "backups")
    assert one(care.backups, settings).level == "ok"


def test_a_backup_of_the_future_is_told(folder: Path) -> None:
    """One dated by a clock that was ahead has no age: a warning, unless there is another."""
    settings = settings_of(folder)
    (folder / "backups").mkdir()
    (folder / "backups" / "journal-29990101T000000Z-2.db").write_bytes(b"of a clock that was ahead")
    found = one(care.backups, settings)
    assert (found.level, "2999-01-01" in found.what, "still to come" in found.what) == ("warn", True, True)
    backup.take(folder / "journal.db", folder / "backups")
    found = one(care.backups, settings)
    assert (found.level, "0.0 hours old" in found.what) == ("ok", True)


def test_runs_that_wait_for_a_person_or_for_nothing_are_told(folder: Path) -> None:
    """A blocked run is a warning; one that nothing will wake is a failing finding that names it."""
    settings = settings_of(folder)
    assert one(care.runs, settings).level == "ok"
    add(folder, 1, 2, r.RunBlocked("code_error"))
    blocked = one(care.runs, settings)
    assert (blocked.level, blocked.what) == ("warn", "1 are blocked")
    add(folder, 2, 0, r.RunStarted("lost", "shop", r.Raw(b"1")))
    add(folder, 2, 4, r.RunWaiting("timer", 5, [OpenCallData("0", "timer")]))
    _, lost = care.runs(settings, False)
    assert (lost.level, lost.what) == ("fail", "nothing will wake 1: lost: it waits for a timer, and there is none")


def test_a_clock_that_stepped_back_is_told(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A last record from the future says so; one that nothing synchronises is a warning; else it is in order."""
    settings = settings_of(folder)
    for told, level in ((True, "ok"), (None, "ok"), (False, "warn")):
        monkeypatch.setattr(care, "_synchronised", lambda told=told: told)
        assert one(care.clock, settings).level == level
    add(folder, 0, 0, r.DaemonStopped(), at=now_us() + 3_600_000_000)
    found = one(care.clock, settings)
    assert found.level == "warn"
    assert "behind the last record" in found.what


def test_the_kernel_is_asked_about_its_clock() -> None:
    """The answer is yes, no, or not known; asking changes nothing."""
    assert care._synchronised() in (True, False, None)


def test_growth_and_ballast(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Growth is told of a journal that is old enough, with the days that are left; a ballast that is gone is told."""
    settings = settings_of(folder, **{"journal.ballast_bytes": 4096})
    assert list(care.growth(settings, False)) == []
    real = time.time()
    monkeypatch.setattr("time.time", lambda: real + 10 * 86_400)
    assert one(care.growth, settings).level == "ok"
    monkeypatch.setattr(care, "DAYS_LEFT_MIN", 1e12)
    assert "full in" in one(care.growth, settings).what
    assert one(care.growth, settings).level == "warn"
    assert one(care.ballast, settings).level == "ok"
    settings.paths.ballast.unlink()
    assert one(care.ballast, settings).level == "warn"


def test_a_folder_without_a_journal_has_no_findings(short_dir: Path) -> None:
    """Before the first start there is nothing to be said of data."""
    settings = settings_of(short_dir)
    for check in (care.growth, care.backups, care.runs, care.ballast):
        assert list(check(settings, False)) == []
    assert one(care.clock, settings).subject == "clock"


def test_the_doctor_makes_all_of_them(folder: Path) -> None:
    """Each is among its findings, and a finding that is not ok says why or what to do."""
    found = list(examine({"data_dir": str(folder)}))
    assert {"rights", "leftovers", "backup", "runs", "clock"} <= {finding.subject for finding in found}
    assert all(finding.why or finding.next for finding in found if finding.level != "ok")
