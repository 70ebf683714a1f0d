"""The mark of the run being advanced: code that never yields must not freeze the daemon for ever."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from actors.advance_marker import AdvanceMarker, in_transaction


def die_in(path: Path, run_key: int) -> None:
    """A life of the daemon that ends while it advances this run (the mark simply stays)."""
    AdvanceMarker(path).enter(run_key)


def test_two_deaths_in_one_run_make_it_suspect(tmp_path: Path) -> None:
    """One death may be chance; at the second in a row the run is not advanced any more."""
    path = tmp_path / "advancing"
    assert not AdvanceMarker(path).suspected(7)
    die_in(path, 7)
    once = AdvanceMarker(path)
    assert (once.deaths, once.suspected(7)) == (1, False)
    once.enter(7)
    twice = AdvanceMarker(path)
    assert (twice.deaths, twice.suspected(7), twice.suspected(8)) == (2, True, False)


def test_deaths_in_different_runs_are_chance(tmp_path: Path) -> None:
    """Kills that hit one run and then another accuse nobody."""
    path = tmp_path / "advancing"
    for run_key in (1, 2, 1, 2):
        die_in(path, run_key)
    assert not any(AdvanceMarker(path).suspected(run_key) for run_key in (1, 2))


def test_a_successful_advance_clears_the_suspicion(tmp_path: Path) -> None:
    """A run that yields after a death starts anew."""
    path = tmp_path / "advancing"
    die_in(path, 7)
    marker = AdvanceMarker(path)
    marker.enter(7)
    marker.rest()
    die_in(path, 7)
    assert not AdvanceMarker(path).suspected(7)


def test_a_transaction_is_suspected_beside_its_run(tmp_path: Path) -> None:
    """After a death in it, the run's code is advanced well, which clears nothing; the transaction itself does."""
    path = tmp_path / "advancing"
    for _ in range(2):
        marker = AdvanceMarker(path)
        marker.enter(7)
        marker.rest()
        marker.enter(in_transaction(7))
    marker = AdvanceMarker(path)
    marker.enter(7)
    marker.rest()
    assert marker.suspected(in_transaction(7)) and not marker.suspected(7)
    marker.enter(in_transaction(7))
    marker.rest()
    assert not marker.suspected(in_transaction(7))


def test_a_death_elsewhere_accuses_nobody(tmp_path: Path) -> None:
    """Between two advances nothing is marked."""
    path = tmp_path / "advancing"
    for _ in range(3):
        marker = AdvanceMarker(path)
        marker.enter(7)
        marker.rest()
    assert AdvanceMarker(path).deaths == 0


def test_the_mark_survives_a_kill(tmp_path: Path) -> None:
    """It is there for the next process though nobody flushed or closed anything."""
    path = tmp_path / "advancing"
    code = f"""
import os, signal
from actors.advance_marker import AdvanceMarker
AdvanceMarker(__import__('pathlib').Path({str(path)!r})).enter(7)
os.kill(os.getpid(), signal.SIGKILL)
"""
    for _ in range(2):
        assert subprocess.run([sys.executable, "-c", code], check=False).returncode == -9
    assert AdvanceMarker(path).suspected(7)


def test_without_a_folder_it_is_in_memory() -> None:
    """A runtime without a disk has a mark all the same, that nobody inherits."""
    marker = AdvanceMarker()
    marker.enter(7)
    marker.rest()
    assert not marker.suspected(7)
