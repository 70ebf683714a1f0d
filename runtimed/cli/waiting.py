"""Waiting for a run on a terminal: a line on stderr that says what it does meanwhile, gone when it has ended."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

import anyio

from runtimed.cli.shell import Shell
from runtimed.cli.text import cell, instant
from runtimed.escape import shorten
from wal.errors import RuntimedError

if TYPE_CHECKING:
    from runtimed.client import Client
    from wal.views import RunDetail

LOOK_SECONDS = 1.0
LINE_CELLS_MAX = 79
CLEAR = "\r\x1b[K"


async def wait(shell: Shell, client: Client, run_id: str) -> bytes:
    """The run's result as JSON; raises what `Client.wait` raises. The line is only painted where it has changed."""
    if not shows_progress(shell):
        return await client.wait(run_id, timeout=shell.options.timeout)
    outcome: bytes | RuntimedError
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(_tell, client, run_id)
        try:
            outcome = await client.wait(run_id, timeout=shell.options.timeout)
        except RuntimedError as error:  # raised below: out of here it would come in a group
            outcome = error
        finally:
            tasks.cancel_scope.cancel()
            sys.stderr.write(CLEAR)
            sys.stderr.flush()
    if isinstance(outcome, RuntimedError):
        raise outcome
    return outcome


def shows_progress(shell: Shell) -> bool:
    """Whether stderr is a terminal that a line may be painted over on."""
    return sys.stderr.isatty() and not shell.options.quiet and shell.environ.get("TERM", "dumb") != "dumb"


async def _tell(client: Client, run_id: str) -> None:
    told = ""
    while True:
        try:
            line = _line(await client.run(run_id))
        except RuntimedError as error:
            line = f"{cell(run_id)}: {cell(str(error))}; asking again"
        if line != told:
            sys.stderr.write(CLEAR + shorten(line, LINE_CELLS_MAX))
            sys.stderr.flush()
            told = line
        await anyio.sleep(LOOK_SECONDS)


def _line(run: RunDetail) -> str:
    line = f"{cell(run.id)} of {cell(run.workflow)}: {run.status}"
    if run.waiting_on is not None:
        line += f" for {cell(run.waiting_on)}"
    if run.waiting_until is not None:
        line += f" until {instant(run.waiting_until)}"
    return f"{line} (record {run.seq}); Ctrl-C stops waiting, not the run"
