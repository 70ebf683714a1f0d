"""The root command: which nouns there are, loaded when they are used, and how errors become exit codes."""

from __future__ import annotations

import importlib
import io
import os
import sys
from collections.abc import Sequence
from typing import Any

import click
from click.shell_completion import CompletionItem

from actors.errors import InvalidInput
from runtimed.cli.errors import INTERRUPTED, PIPE_CLOSED, tell
from runtimed.cli.options import global_options
from runtimed.escape import escape
from runtimed.version import VERSION
from wal.errors import RuntimedError

COMMANDS: dict[str, tuple[str, str]] = {
    "init": ("runtimed.cli.init:init", "Make a folder with a first workflow that runs."),
    "serve": ("runtimed.cli.serve:serve", "Run the daemon in the foreground."),
    "check": ("runtimed.cli.check:check", "Check configuration and apps, and open runs by new code."),
    "status": ("runtimed.cli.status:status", "Show how the daemon is."),
    "tui": ("runtimed.cli.tui:tui", "Show it all live in the terminal."),
    "doctor": ("runtimed.cli.doctor:doctor", "Examine this machine: what is wrong, why, what to do."),
    "demo": ("runtimed.cli.demo:demo", "See it survive kill -9."),
    "version": ("runtimed.cli.version:version", "Show the version."),
    "runs": ("runtimed.cli.runs:runs", "Start, look at, wait for and steer runs."),
    "approvals": ("runtimed.cli.approvals:approvals", "See what waits for people; approve or deny it."),
    "sessions": ("runtimed.cli.sessions:sessions", "Open, look at and close sessions."),
    "state": ("runtimed.cli.state:state", "Read and write the versioned state surface."),
    "connectors": ("runtimed.cli.connectors:connectors", "See what brings the outside world in; steer it."),
    "records": ("runtimed.cli.records:records", "Read what connectors have stored."),
    "token": ("runtimed.cli.token:token", "Give access to programs and people elsewhere; revoke it."),
    "secret": ("runtimed.cli.secret:secret", "Set and rotate what must not be read; values are never shown."),
    "schedules": ("runtimed.cli.schedules:schedules", "See what begins by the clock; pause, resume, run now."),
    "actors": ("runtimed.cli.actors:actors", "Look at the supervision tree; restart a part."),
    "events": ("runtimed.cli.events:events", "Show committed records as they come."),
    "journal": ("runtimed.cli.journal:journal", "Look at the file: sizes, verification, read-only SQL."),
    "completion": ("runtimed.cli.completion:completion", "Print the completion script of a shell."),
}
"""By name: where the command is, and its help, so that `--help` and completion load none of them."""


class Nouns(click.Group):
    """The commands above, imported one by one as they are used."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in COMMANDS:
            return None
        module, _, name = COMMANDS[cmd_name][0].partition(":")
        found: click.Command = getattr(importlib.import_module(module), name)
        return found

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl([(name, text) for name, (_, text) in COMMANDS.items()])

    def shell_complete(self, ctx: click.Context, incomplete: str) -> list[CompletionItem]:
        names = [CompletionItem(name, help=text) for name, (_, text) in COMMANDS.items() if name.startswith(incomplete)]
        return [*names, *click.Command.shell_complete(self, ctx, incomplete)]

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        name = args[0]
        if name not in COMMANDS and not name.startswith("-"):
            import difflib  # only needed to explain a mistake

            near = difflib.get_close_matches(name, COMMANDS, n=1)
            raise click.UsageError(f"no such command {name!r}." + (f" Did you mean {near[0]}?" if near else ""), ctx)
        return super().resolve_command(ctx, args)


@click.group(cls=Nouns, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(VERSION, message=f"runtimed {VERSION}")
@global_options
def cli() -> None:
    """Durable execution for one host.

    Options may stand before the noun or after the verb. Data goes to stdout, everything else to stderr.
    """


def run(arguments: Sequence[str] | None = None) -> int:
    """Run a command line; the exit code."""
    _reopen_closed()
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")  # a terminal that is not UTF-8 is no reason to fail
    try:
        code: Any = cli.main(args=arguments, prog_name="runtimed", standalone_mode=False)
        sys.stdout.flush()
    except RuntimedError as error:
        tell(error)
        return error.exit_code
    except click.exceptions.Exit as exit_:
        return exit_.exit_code
    except click.ClickException as error:
        error.show()
        return error.exit_code
    except (KeyboardInterrupt, click.Abort):
        return INTERRUPTED
    except BrokenPipeError:
        _forget_stdout()  # its reader left, as `head` does: end quietly
        return PIPE_CLOSED
    except OSError as error:
        return _refused(error)
    except UnicodeEncodeError as error:  # bytes of the command line that are no text, on their way to the file
        tell(InvalidInput(f"{error.object[:80]!r} is not text in UTF-8"))
        return InvalidInput.exit_code
    return code if isinstance(code, int) else 0


def _reopen_closed() -> None:
    """What was closed (`>&-`) gives its number to the next file that is opened, which would then get our words. Data
    for nobody is refused, as the kernel refuses it then; remarks are forgotten, and there is nothing to read."""
    for number, name, mode in ((0, "stdin", os.O_RDONLY), (1, "stdout", os.O_RDONLY), (2, "stderr", os.O_WRONLY)):
        if getattr(sys, name) is None:
            opened = os.open(os.devnull, mode)
            if opened != number:
                os.dup2(opened, number)
                os.close(opened)
            setattr(sys, name, open(number, "w" if number else "r", closefd=False))  # noqa: SIM115 - as long as the process


def _refused(error: OSError) -> int:
    """What the system refused, in a sentence: mostly our data, on a disk that is full."""
    told = (
        f"{error.filename}: {error.strerror}" if error.filename else f"what is to be shown cannot be written: {error}"
    )
    click.echo(f"error: {escape(told)}", err=True)
    try:
        sys.stdout.flush()
    except OSError:
        _forget_stdout()
    return RuntimedError.exit_code


def _forget_stdout() -> None:
    """Let nothing more be flushed into what takes nothing."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
