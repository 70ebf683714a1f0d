"""`runtimed schedules ...`: what begins by the clock; hold it, let it go on, run it now."""

from __future__ import annotations

from typing import Any

import click

from runtimed.cli.completing import schedule_arguments
from runtimed.cli.options import reason_option, watch_option, with_shell
from runtimed.cli.shell import Shell


@click.group()
def schedules() -> None:
    """See what begins by the clock; pause, resume, run now."""


@schedules.command("list")
@watch_option
@with_shell
def list_(shell: Shell, watch: bool) -> None:
    """List schedules with when they start their workflow next."""
    from runtimed.cli.text import emit_page

    def once() -> None:
        body = shell.ask(lambda client: client.link.get("/v1/schedules"))
        emit_page(shell, body, lambda items: _show(shell, items), "name")

    shell.watch(once, again=watch)


def _show(shell: Shell, items: list[dict[str, Any]]) -> None:
    from runtimed.cli.text import instant, table

    rows = [
        (
            each["name"],
            each["workflow"],
            each["status"],
            f"every {each['every']:g} s" if each["every"] is not None else f"{each['cron']} {each['timezone']}",
            instant(each["next_at"]),
            each["runs_total"],
        )
        for each in items
    ]
    if rows:
        table(shell, ["NAME", "WORKFLOW", "STATUS", "WHEN", "NEXT", "RUNS"], rows)


@schedules.command()
@schedule_arguments
@reason_option
@with_shell
def pause(shell: Shell, names: tuple[str, ...], reason: str | None) -> int:
    """Hold schedules: they start nothing until they are resumed."""
    from runtimed.cli.acting import for_each

    return for_each(shell, names, lambda client, one: client.pause_schedule(one, reason=reason), "paused")


@schedules.command()
@schedule_arguments
@reason_option
@with_shell
def resume(shell: Shell, names: tuple[str, ...], reason: str | None) -> int:
    """Let schedules go on; what they missed is told by their catchup."""
    from runtimed.cli.acting import for_each

    return for_each(shell, names, lambda client, one: client.resume_schedule(one, reason=reason), "resumed")


@schedules.command()
@schedule_arguments
@reason_option
@with_shell
def trigger(shell: Shell, names: tuple[str, ...], reason: str | None) -> int:
    """Start the runs of schedules now, beside those that they start by themselves."""
    from runtimed.cli.acting import for_each

    return for_each(shell, names, lambda client, one: client.trigger_schedule(one, reason=reason), "triggered")
