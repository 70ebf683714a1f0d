"""`runtimed token ...`: create, list, revoke. A token is shown once, when it is made."""

from __future__ import annotations

import os
import re
import time
from typing import Any

import click
import msgspec

from actors.errors import InvalidInput
from runtimed.cli.options import reason_option, with_shell
from runtimed.cli.shell import Shell

ROLES = ["viewer", "operator", "approver", "admin"]
_NAME = re.compile(r"[A-Za-z0-9_.-]{1,64}")
SOON_S = 7 * 86_400.0


@click.group()
def token() -> None:
    """Give programs and people elsewhere access over TCP, and take it away.

    A token has a role: viewer, operator, approver or admin, each including those before it. Groups for approvals are
    given to it in the settings, as token:NAME.
    """


@token.command()
@click.argument("name")
@click.option("--role", type=click.Choice(ROLES), required=True, help="What it may do.")
@click.option("--expires", metavar="TIME", help="For how long it counts, such as 12h or 30d; without it for ever.")
@click.option("--save", metavar="FILE", help="Write it into a new file that only you can read, instead of showing it.")
@reason_option
@with_shell
def create(shell: Shell, name: str, role: str, expires: str | None, save: str | None, reason: str | None) -> None:
    """Make a token called NAME and show it, this once."""
    from runtimed.cli.inputs import read_duration

    if not _NAME.fullmatch(name):
        raise InvalidInput(f"{name[:80]!r} is no name for a token: 1 to 64 letters, digits, dots, dashes, underscores")
    seconds = None if expires is None else read_duration(expires, "--expires")
    fd = None if save is None else _new_file(save)
    try:
        made = shell.ask(lambda client: client.create_token(name, role, expires_in=seconds, reason=reason))
    except BaseException:
        if save is not None and fd is not None:
            os.close(fd)
            os.unlink(save)
        raise
    if fd is not None:
        with os.fdopen(fd, "w") as file:
            file.write(made.token + "\n")
    if shell.output in ("json", "jsonl"):
        shown = msgspec.to_builtins(made)
        shell.print_json(msgspec.json.encode(shown | {"token": None} if save else shown))
    elif shell.output == "id":
        shell.print(made.id)
    elif save is None:
        shell.print(made.token)
    until = f" until {made.expires_at}" if made.expires_at else ""
    where = f"it is in {save}" if save else "it is not shown again"
    shell.note(f"{made.id}: {made.name}, {made.role}{until}; {where}")


def _new_file(name: str) -> int:
    try:
        return os.open(name, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise InvalidInput(f"--save {name}: {error.strerror}") from None


@token.command("list")
@with_shell
def list_(shell: Shell) -> None:
    """List all tokens that were ever made, oldest first; from the daemon or, while it is down, the file."""
    from runtimed.cli.text import emit_page

    emit_page(shell, shell.read(lambda source: source.tokens()), lambda rows: _show(shell, rows))


def _show(shell: Shell, rows: list[dict[str, Any]]) -> None:
    from runtimed.cli.text import instant, table

    cells = [
        (r["id"], r["name"], r["role"], r["status"], instant(r["created_at"]), instant(r["expires_at"]),
         instant(r["used_at"])) for r in rows
    ]  # fmt: skip
    if cells:
        table(shell, ["ID", "NAME", "ROLE", "STATUS", "CREATED", "EXPIRES", "LAST USED"], cells)
    soon = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(time.time() + SOON_S))
    for row in rows:
        if row["status"] == "active" and row["expires_at"] is not None and row["expires_at"] < soon:
            shell.note(f"{row['name']} expires within a week")


@token.command()
@click.argument("tokens", metavar="ID...", nargs=-1, required=True)
@reason_option
@with_shell
def revoke(shell: Shell, tokens: tuple[str, ...], reason: str | None) -> int:
    """Make tokens worth nothing, at once; by their ids, or the names of those that count."""
    from runtimed.cli.acting import for_each

    return for_each(shell, tokens, lambda client, one: client.revoke_token(one, reason=reason), "revoked")
