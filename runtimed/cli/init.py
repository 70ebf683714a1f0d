"""`runtimed init DIR`: a folder with a first workflow that runs."""

from __future__ import annotations

import os
import shlex
from pathlib import Path

import click

from actors.errors import Conflict, InvalidInput
from runtimed.cli.options import with_shell
from runtimed.cli.shell import Shell
from runtimed.escape import escape

FILES = ("flows.py", "runtimed.toml", "README.md")
_FIRST = Path(__file__).parent / "first"


@click.command()
@click.argument("folder", metavar="DIR", default=".")
@with_shell
def init(shell: Shell, folder: str) -> None:
    """Make DIR a first project: a workflow, its settings, and how to run it."""
    written = write_project(Path(folder))
    for path in written:
        shell.note(f"wrote {path}")
    go = "" if Path(folder).resolve() == Path.cwd() else f"cd {shlex.quote(folder)} && "
    shell.print(escape(f"{go}runtimed serve"))


def write_project(folder: Path) -> list[Path]:
    """Write the files of a first project into a folder, which is made; what is there already is not touched.

    Raises `Conflict` if one of the files exists, and then writes none.
    """
    there = [folder / name for name in FILES if os.path.exists(folder / name)]
    if there:
        raise Conflict(f"{there[0]} exists already; nothing was written", hint="Choose another folder.")
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for name in FILES:
            with (folder / name).open("x", encoding="utf-8") as file:
                file.write((_FIRST / name).read_text(encoding="utf-8"))
    except OSError as error:
        raise InvalidInput(f"{error.filename or folder}: {error.strerror}") from None
    return [folder / name for name in FILES]
