"""`runtimed version`."""

from __future__ import annotations

import platform

import click
import msgspec

from runtimed.cli.options import with_shell
from runtimed.cli.shell import Shell
from runtimed.version import VERSION


@click.command()
@with_shell
def version(shell: Shell) -> None:
    """Show the version; more with -v or -o json."""
    if shell.output in ("json", "jsonl"):
        shell.print_json(msgspec.json.encode({"version": VERSION, "python": platform.python_version()}))
    else:
        shell.print(VERSION if shell.output == "id" else f"runtimed {VERSION}")
        shell.detail(f"Python {platform.python_version()} on {platform.platform()}")
