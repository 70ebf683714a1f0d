"""`runtimed approvals ...`: what waits for people, and saying yes or no to it."""

from __future__ import annotations

from typing import Any

import click

from runtimed.cli.completing import approval_argument, complete_runs
from runtimed.cli.options import key_option, page_options, watch_option, with_shell
from runtimed.cli.shell import Shell

STATUSES = ["open", "approved", "refused", "expired", "withdrawn", "all"]

reason_option = click.option("--reason", metavar="TEXT", help="Why; it is recorded with your name.")
data_option = click.option("--data", metavar="JSON", help="What the form asks for: JSON, @FILE or - for stdin.")
hash_option = click.option(
    "--payload-hash",
    metavar="HASH",
    help="The payload you have looked at: its hash, or the first 8 digits of it or more.",
)


@click.group()
def approvals() -> None:
    """See what waits for people; approve or deny it.

    Who decides is the user who runs the command, as the kernel tells the daemon.
    """


@approvals.command("list")
@click.option("--status", type=click.Choice(STATUSES), default="open", show_default=True, help="Only these.")
@click.option("--run", "run_id", metavar="ID", shell_complete=complete_runs, help="Only this run's.")
@page_options
@watch_option
@with_shell
def list_(shell: Shell, status: str, run_id: str | None, watch: bool, **given: Any) -> None:
    """List approvals, newest first."""
    from runtimed.cli.lists import emit_list

    filters = {"status": None if status == "all" else status, "run_id": run_id}
    shell.watch(
        lambda: emit_list(shell, lambda source, **page: source.approvals(**filters, **page), _show_all, **given),
        again=watch,
    )


def _show_all(shell: Shell, items: list[dict[str, Any]]) -> None:
    from runtimed.cli.text import instant, table

    rows = [
        (
            each["id"], each["status"], each["risk"].upper(), each["run_id"], instant(each["requested_at"]),
            instant(each["expires_at"]), f"{_yeses(each)}/{each['quorum']}", each["title"],
        )
        for each in items
    ]  # fmt: skip
    if rows:
        table(shell, ["ID", "STATUS", "RISK", "RUN", "ASKED", "EXPIRES", "VOTES", "WHAT"], rows)


def _yeses(approval: dict[str, Any]) -> int:
    return sum(vote["approve"] for vote in approval["votes"])


@approvals.command()
@approval_argument
@watch_option
@with_shell
def show(shell: Shell, approval_id: str, watch: bool) -> None:
    """Show an approval: what is asked, by whom it may be decided, the votes so far."""
    from runtimed.cli.approval_card import lines
    from runtimed.cli.text import emit_one

    def card(approval: dict[str, Any]) -> None:
        for line in lines(shell, approval):
            shell.print(line)

    shell.watch(
        lambda: emit_one(shell, shell.read(lambda source: source.approval(approval_id)), card),
        again=watch,
    )


@approvals.command()
@approval_argument
@reason_option
@data_option
@hash_option
@click.option("--yes", is_flag=True, help="Do not ask; what is shown is what you approve.")
@key_option
@with_shell
def approve(shell: Shell, approval_id: str, **given: Any) -> None:
    """Say yes to the approval ID.

    Shows it and asks for confirmation; at high risk by the first digits of the payload's hash, and with a --reason. In
    a pipe give --payload-hash, or --yes to approve what is there at that moment.
    """
    from runtimed.cli.deciding import decide

    decide(shell, approval_id, approve=True, **given)


@approvals.command()
@approval_argument
@reason_option
@data_option
@hash_option
@key_option
@with_shell
def deny(shell: Shell, approval_id: str, **given: Any) -> None:
    """Say no to the approval ID; --reason says why. One no refuses, whatever the quorum."""
    from runtimed.cli.deciding import decide

    if not (given["reason"] or "").strip():
        raise click.UsageError("a refusal needs a --reason: those who asked will want to know")
    decide(shell, approval_id, approve=False, yes=True, **given)
