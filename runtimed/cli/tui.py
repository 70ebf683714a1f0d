"""`runtimed tui`: the dashboard, in a process of its own that takes this one's place."""

from __future__ import annotations

import os
import sys

import click

from runtimed.cli.options import with_shell
from runtimed.cli.shell import Shell

AREAS = ("overview", "runs", "approvals", "actors", "connectors", "sessions", "journal", "logs")
"""As in `tui.areas`, which this floor does not import; a test holds them together."""
THEMES = ("dark", "light", "cb", "hc", "ansi")


@click.command()
@click.option("--read-only", is_flag=True, help="Look, and change nothing.")
@click.option("--ascii", "plain", is_flag=True, help="No characters beyond ASCII.")
@click.option(
    "--theme", type=click.Choice(THEMES), help="Its colours; cb is for colour-blind eyes, hc has high contrast."
)
@click.option("--area", type=click.Choice(AREAS), default="overview", show_default=True, help="Where to begin.")
@with_shell
def tui(shell: Shell, read_only: bool, plain: bool, theme: str | None, area: str) -> None:
    """Show the daemon live in the terminal.

    When it is down its file is read instead, and nothing can be changed.
    """
    arguments = [*place(shell), "--area", area]
    arguments += ["--read-only"] * read_only + ["--ascii"] * plain
    arguments += [] if theme is None else ["--theme", f"runtimed-{theme}"]
    arguments += ["--color", "never"] if shell.options.no_color else []
    sys.stdout.flush()
    os.execv(sys.executable, [sys.executable, "-P", "-m", "tui", *arguments])


def place(shell: Shell) -> list[str]:
    """Where the daemon and its journal are, as options of the dashboard; `--place` is what its commands need to say to
    find the same daemon."""
    options = shell.options
    if options.url is not None:
        token = [] if options.token_file is None else ["--token-file", options.token_file]
        return ["--url", options.url, *token, "--place", " ".join(["--url", options.url, *token])]
    arguments = ["--socket", shell.socket()]
    if options.socket is None:
        arguments += ["--journal", str(shell.settings.paths.journal)]
    said = (
        ["--socket", options.socket] if options.socket else ["--data-dir", options.data_dir] if options.data_dir else []
    )
    return [*arguments, "--place", " ".join(said)]
