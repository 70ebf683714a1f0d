"""`runtimed state ...`: versioned values under a scope and a key."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click
import msgspec

from runtimed.cli.options import page_options, reason_option, with_shell
from runtimed.cli.shell import Shell

if TYPE_CHECKING:
    from runtimed.client import Client

scope_argument = click.argument("scope")
expect_option = click.option(
    "--expect-version", type=click.IntRange(0), metavar="N", help="Only over this version; 0: only where none is."
)


@click.group()
def state() -> None:
    """Read and write the versioned state surface.

    A SCOPE is global, tenant:NAME, session:ID or run:ID.
    """


@state.command()
@scope_argument
@click.argument("key")
@with_shell
def get(shell: Shell, scope: str, key: str) -> None:
    """Print a value; with -o json also its version."""
    from runtimed.cli.text import cell, emit_one

    body = shell.read(lambda source: source.state(scope, key))
    emit_one(shell, body, lambda view: shell.print(cell(view["value"])), "key")


@state.command("list")
@scope_argument
@page_options
@with_shell
def list_(shell: Shell, scope: str, **given: Any) -> None:
    """List the values of a scope, by key."""
    from runtimed.cli.lists import emit_list

    emit_list(shell, lambda source, **page: source.states(scope, **page), _show_all, id_of="key", **given)


def _show_all(shell: Shell, items: list[dict[str, Any]]) -> None:
    from runtimed.cli.text import instant, table

    rows = [(each["key"], each["version"], instant(each["updated_at"]), each["value"]) for each in items]
    if rows:
        table(shell, ["KEY", "VERSION", "UPDATED", "VALUE"], rows)


@state.command()
@scope_argument
@click.argument("key")
@click.argument("value")
@expect_option
@reason_option
@with_shell
def put(shell: Shell, scope: str, key: str, value: str, expect_version: int | None, reason: str | None) -> None:
    """Write a VALUE: JSON, @FILE or - for stdin."""
    from runtimed.cli.inputs import read_json
    from runtimed.cli.text import cell, emit_one

    raw = read_json(value, "VALUE")
    view = shell.ask(lambda client: client.because(reason).put_state(scope, key, raw, expect_version=expect_version))
    emit_one(
        shell,
        msgspec.json.encode(view),
        lambda one: shell.print(f"{cell(one['scope'])} {cell(one['key'])}: version {one['version']}"),
        "key",
    )


@state.command()
@scope_argument
@click.argument("key")
@expect_option
@reason_option
@with_shell
def delete(shell: Shell, scope: str, key: str, expect_version: int | None, reason: str | None) -> int:
    """Delete a value."""
    from runtimed.cli.acting import for_each

    async def act(client: Client, one: str) -> Any:
        return await client.because(reason).delete_state(scope, one, expect_version=expect_version)

    return for_each(shell, [key], act, "deleted")
