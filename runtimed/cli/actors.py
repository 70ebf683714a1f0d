"""`runtimed actors ...`: the supervision tree, and restarting a part of it."""

from __future__ import annotations

from typing import Any

import click

from runtimed.cli.options import reason_option, watch_option, with_shell
from runtimed.cli.shell import Shell


@click.group()
def actors() -> None:
    """Look at the supervision tree; restart a part."""


@actors.command()
@watch_option
@with_shell
def tree(shell: Shell, watch: bool) -> None:
    """Show the supervision tree with its figures."""
    from runtimed.cli.text import emit_page

    def once() -> None:
        body = shell.ask(lambda client: client.link.get("/v1/actors"))
        emit_page(shell, body, lambda items: _show(shell, items), "path")

    shell.watch(once, again=watch)


def _show(shell: Shell, items: list[dict[str, Any]]) -> None:
    from runtimed.cli.text import table

    rows = [
        (
            actor["path"],
            actor["status"],
            actor["restarts"],
            f"{actor['mailbox_size']}/{actor['mailbox_limit']}" if actor["mailbox_limit"] else None,
            actor["strategy"],
            actor["last_error"],
        )
        for actor in items
    ]
    if rows:
        table(shell, ["ACTOR", "STATUS", "RESTARTS", "MAILBOX", "STRATEGY", "LAST ERROR"], rows)


@actors.command()
@click.argument("paths", metavar="PATH...", nargs=-1, required=True)
@reason_option
@with_shell
def restart(shell: Shell, paths: tuple[str, ...], reason: str | None) -> int:
    """Restart actors, each with what its supervisor restarts along with it."""
    from runtimed.cli.acting import for_each

    return for_each(shell, paths, lambda client, one: client.restart_actor(one, reason=reason), "restarts")
