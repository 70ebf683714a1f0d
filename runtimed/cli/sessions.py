"""`runtimed sessions ...`: bounded spans of work by one principal of one tenant."""

from __future__ import annotations

from typing import Any

import click
import msgspec

from runtimed.cli.options import Seconds, key_option, page_options, reason_option, watch_option, with_shell
from runtimed.cli.shell import Shell


@click.group()
def sessions() -> None:
    """Open, look at and close sessions."""


@sessions.command("list")
@click.option("--status", type=click.Choice(["open", "expired", "closed"]), help="Only these.")
@click.option("--tenant", metavar="NAME", help="Only this tenant's.")
@page_options
@watch_option
@with_shell
def list_(shell: Shell, status: str | None, tenant: str | None, watch: bool, **given: Any) -> None:
    """List sessions, newest first."""
    from runtimed.cli.lists import emit_list

    filters = {"status": status, "tenant": tenant}
    shell.watch(
        lambda: emit_list(shell, lambda source, **page: source.sessions(**filters, **page), _show_all, **given),
        again=watch,
    )


def _show_all(shell: Shell, items: list[dict[str, Any]]) -> None:
    from runtimed.cli.text import instant, table

    rows = [
        (each["id"], each["status"], each["tenant"], each["subject"], instant(each["created_at"]), _until(each))
        for each in items
    ]
    if rows:
        table(shell, ["ID", "STATUS", "TENANT", "SUBJECT", "CREATED", "UNTIL"], rows)


def _until(session: dict[str, Any]) -> Any:
    from runtimed.cli.text import instant

    return instant(session["closed_at"] or session["expires_at"])


@sessions.command()
@click.argument("session_id", metavar="ID")
@with_shell
def show(shell: Shell, session_id: str) -> None:
    """Show a session."""
    from runtimed.cli.text import emit_one

    emit_one(shell, shell.read(lambda source: source.session(session_id)), lambda one: _show_one(shell, one))


def _show_one(shell: Shell, session: dict[str, Any]) -> None:
    from runtimed.cli.text import fields

    fields(shell, [(name.replace("_", " "), value) for name, value in session.items()])


@sessions.command("open")
@click.argument("session_id", metavar="[ID]", default=None, required=False)
@click.option("--tenant", metavar="NAME", help="Whose session it is.")
@click.option("--subject", metavar="NAME", help="Who works in it.")
@click.option("--ttl", type=Seconds(0.0, min_open=True), metavar="SECONDS", help="It expires unless touched.")
@click.option("--on-close", type=click.Choice(["cancel", "leave"]), default="leave", help="What becomes of its runs.")
@click.option("--attr", "attributes", multiple=True, metavar="K=V", help="An attribute; may be repeated.")
@reason_option
@key_option
@with_shell
def open_(shell: Shell, session_id: str | None, reason: str | None, **given: Any) -> None:
    """Open a session."""
    from runtimed.cli.inputs import read_pairs
    from runtimed.cli.text import emit_one

    attributes = read_pairs(given.pop("attributes"), "--attr")
    if reason is not None:
        attributes["reason"] = reason
    view = shell.ask(lambda client: client.because(reason).open_session(session_id, attributes=attributes, **given))
    emit_one(shell, msgspec.json.encode(view), lambda one: _show_one(shell, one))


@sessions.command()
@click.argument("ids", metavar="ID...", nargs=-1, required=True)
@reason_option
@with_shell
def close(shell: Shell, ids: tuple[str, ...], reason: str | None) -> int:
    """Close sessions; their runs are cancelled or left, as was said when they were opened."""
    from runtimed.cli.acting import for_each

    return for_each(shell, ids, lambda client, one: client.close_session(one, reason=reason), "closed")


@sessions.command()
@click.argument("ids", metavar="ID...", nargs=-1, required=True)
@reason_option
@with_shell
def touch(shell: Shell, ids: tuple[str, ...], reason: str | None) -> int:
    """Extend sessions by their ttl from now."""
    from runtimed.cli.acting import for_each

    return for_each(shell, ids, lambda client, one: client.because(reason).touch_session(one), "extended")
