"""`runtimed tui`: where the daemon is, told to the dashboard's process."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner

from runtimed.cli.main import cli
from runtimed.cli.shell import Options, Shell
from runtimed.cli.tui import AREAS as areas_of_the_command
from runtimed.cli.tui import THEMES as themes_of_the_command
from runtimed.cli.tui import place
from tui.areas import AREAS
from tui.launch import THEME_NAMES, parse
from tui.looks import THEMES


@pytest.fixture
def executed(monkeypatch: pytest.MonkeyPatch) -> list[list[str]]:
    """What would take our place."""
    taken: list[list[str]] = []
    monkeypatch.setattr(os, "execv", lambda path, arguments: taken.append([path, *arguments]))
    return taken


def test_the_dashboard_takes_the_commands_place(executed: list[list[str]], tmp_path: Path) -> None:
    """One process, the same Python, nothing of the current folder in its way; with all that it has to know."""
    done = CliRunner().invoke(
        cli, ["tui", "--data-dir", str(tmp_path), "--read-only", "--theme", "cb", "--area", "runs"]
    )
    assert done.exit_code == 0, done.output
    assert executed[0][:5] == [sys.executable, sys.executable, "-P", "-m", "tui"]
    options = parse(executed[0][5:])
    assert options.socket == str(tmp_path / "runtimed.sock")
    assert options.journal == str(tmp_path / "journal.db")
    assert options.place == f"--data-dir {tmp_path}"
    assert (options.read_only, options.theme, options.area, options.color) == (True, "runtimed-cb", "runs", "auto")


def test_a_daemon_elsewhere_is_named_by_its_address() -> None:
    """With --url the token's file goes along, and there is no file to fall back to."""
    shell = Shell(Options(url="https://host:8443", token_file="token"), {})
    options = parse(place(shell))
    assert (options.url, options.token_file, options.journal, options.socket) == (
        "https://host:8443",
        "token",
        None,
        None,
    )
    assert options.place == "--url https://host:8443 --token-file token"


def test_an_unknown_area_is_told(executed: list[list[str]]) -> None:
    """An area that is none is refused before anything starts, with those there are."""
    done = CliRunner().invoke(cli, ["tui", "--area", "nowhere"])
    assert done.exit_code == 2
    assert "overview" in done.output
    assert executed == []
    assert [area.name for area in AREAS] == list(areas_of_the_command)
    assert [f"runtimed-{name}" for name in themes_of_the_command] == list(THEME_NAMES) == list(THEMES)
