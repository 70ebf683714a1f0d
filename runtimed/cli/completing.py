"""Completion of ids: what the daemon (or the file) has, asked quickly, and in silence if nobody answers."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any

import click
import msgspec
from click.shell_completion import CompletionItem

from runtimed.cli.options import shell_of
from runtimed.cli.shell import Shell
from runtimed.escape import escape
from wal.errors import RuntimedError

if TYPE_CHECKING:
    from runtimed.cli.source import Source

ITEMS_MAX = 200
TIMEOUT_SECONDS = 1.0
HELP_CHARACTERS_MAX = 60


def _complete(
    context: click.Context,
    incomplete: str,
    fetch: Callable[[Source], Awaitable[bytes]],
    describe: Callable[[Any], str],
    id_of: str = "id",
) -> list[CompletionItem]:
    """The ids of a page that begin with what is typed, each with a word about it."""
    return _offer(context, incomplete, lambda shell: shell.read(fetch), describe, id_of)


def _offer(
    context: click.Context,
    incomplete: str,
    page: Callable[[Shell], bytes],
    describe: Callable[[Any], str],
    id_of: str,
) -> list[CompletionItem]:
    try:
        options = msgspec.structs.replace(shell_of(context).options, timeout=TIMEOUT_SECONDS, quiet=True)
        items = msgspec.json.decode(page(Shell(options)))["items"]
    except (RuntimedError, OSError, msgspec.DecodeError):
        return []  # in the middle of a command line there is nowhere to tell an error
    return [
        CompletionItem(each[id_of], help=escape(describe(each))[:HELP_CHARACTERS_MAX])
        for each in items
        if each[id_of].startswith(incomplete)
    ]


def complete_runs(context: click.Context, parameter: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """Ids of the newest runs."""
    return _complete(
        context,
        incomplete,
        lambda source: source.runs(limit=ITEMS_MAX),
        lambda run: f"{run['workflow']}, {run['status']}",
    )


def complete_approvals(context: click.Context, parameter: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """Ids of approvals that are open."""
    return _complete(
        context,
        incomplete,
        lambda source: source.approvals(status="open", limit=ITEMS_MAX),
        lambda approval: str(approval["title"]),
    )


def complete_connectors(context: click.Context, parameter: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """Names of connectors and webhooks."""
    return _complete(
        context,
        incomplete,
        lambda source: source.connectors(),
        lambda connector: f"{connector['kind']}, {connector['status']}",
        "name",
    )


def complete_streams(context: click.Context, parameter: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """Names of the record store's streams."""
    return _complete(
        context, incomplete, lambda source: source.streams(), lambda stream: f"{stream['records']} records", "name"
    )


def complete_secrets(context: click.Context, parameter: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """Names of secrets, of a daemon that is up."""

    def page(shell: Shell) -> bytes:
        return msgspec.json.encode({"items": shell.ask(lambda client: client.secrets())})

    return _offer(context, incomplete, page, lambda secret: f"version {secret['version']}", "name")


def complete_schedules(context: click.Context, parameter: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """Names of schedules, of a daemon that is up."""

    def page(shell: Shell) -> bytes:
        return msgspec.json.encode({"items": shell.ask(lambda client: client.schedules())})

    return _offer(context, incomplete, page, lambda schedule: f"{schedule['workflow']}, {schedule['status']}", "name")


run_argument = click.argument("run_id", metavar="ID", shell_complete=complete_runs)
run_arguments = click.argument("ids", metavar="ID...", nargs=-1, required=True, shell_complete=complete_runs)
approval_argument = click.argument("approval_id", metavar="ID", shell_complete=complete_approvals)
connector_argument = click.argument("name", metavar="NAME", shell_complete=complete_connectors)
connector_arguments = click.argument(
    "names", metavar="NAME...", nargs=-1, required=True, shell_complete=complete_connectors
)
schedule_arguments = click.argument(
    "names", metavar="NAME...", nargs=-1, required=True, shell_complete=complete_schedules
)
stream_argument = click.argument("stream", metavar="STREAM", shell_complete=complete_streams)
secret_argument = click.argument("name", metavar="NAME", shell_complete=complete_secrets)
