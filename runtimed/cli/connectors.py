"""`runtimed connectors ...`: what brings the outside world in; hold it, let it go on, poll now, set its cursor."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click
import msgspec

from runtimed.cli.completing import connector_argument, connector_arguments
from runtimed.cli.options import key_option, reason_option, watch_option, with_shell
from runtimed.cli.shell import Shell

if TYPE_CHECKING:
    from runtimed.cli.source import Source

_ONLY_LIVE = ("errors_total", "polls_total", "failures")
"""What only a running daemon counts: its file would say 0."""


@click.group()
def connectors() -> None:
    """See what brings the outside world in; pause, resume, poll, reset."""


@connectors.command("list")
@watch_option
@with_shell
def list_(shell: Shell, watch: bool) -> None:
    """List connectors and webhooks with where they stand."""
    from runtimed.cli.text import emit_page

    async def read(source: Source) -> tuple[bytes, bool]:
        return await source.connectors(), source.offline

    def once() -> None:
        body, offline = shell.read(read)
        emit_page(shell, body, lambda items: _show_all(shell, items, offline), "name")

    shell.watch(once, again=watch)


def _show_all(shell: Shell, items: list[dict[str, Any]], offline: bool) -> None:
    from runtimed.cli.text import instant, table

    rows = [
        (
            each["name"],
            each["kind"],
            each["status"],
            instant(each["last_poll_at"]),
            instant(each["next_poll_at"]),
            _seconds(each["lag"]),
            each["records_total"],
            each.get("records_15m"),
            None if offline else each["errors_total"],
            each["cursor"],
        )
        for each in items
    ]
    if rows:
        table(
            shell,
            ["NAME", "KIND", "STATUS", "LAST POLL", "NEXT", "LAG", "RECORDS", "NEW/15M", "ERRORS", "CURSOR"],
            rows,
        )


def _seconds(lag: float | None) -> str | None:
    return None if lag is None else f"{lag:.0f}s"


@connectors.command()
@connector_argument
@with_shell
def show(shell: Shell, name: str) -> None:
    """Show a connector: where it stands, why it does not poll now, and what would wake it."""
    from runtimed.cli.text import emit_one
    from runtimed.connector_words import standing
    from wal.views import ConnectorView

    async def read(source: Source) -> tuple[bytes, bool]:
        return await source.connector(name), source.offline

    body, offline = shell.read(read)
    said = standing(msgspec.json.decode(body, type=ConnectorView), offline=offline)
    hidden = _ONLY_LIVE if offline else ()
    emit_one(shell, body, lambda one: _show_one(shell, one, hidden, said), "name")
    if shell.output == "text" and not (shell.options.url or shell.options.socket):  # else the folder is elsewhere
        _show_environment(shell, name)


def _show_environment(shell: Shell, name: str) -> None:
    """What `install` made for the connector, if anything."""
    from runtimed.connectors import installing
    from runtimed.connectors.polls import FOLDER

    try:
        made = installing.installed(shell.settings.paths.data_dir / FOLDER / name)
    except installing.InstallFailed as error:  # perhaps only because the folder is another user's
        shell.note(str(error))
        return
    if made is not None:
        shell.print(f"Its environment, Python {made.python}, installed at {made.installed_at}:")
        _show_installed(shell, msgspec.to_builtins(made))


def _show_one(shell: Shell, connector: dict[str, Any], hidden: tuple[str, ...], said: str) -> None:
    from runtimed.cli.text import cell, fields, instant

    shown = dict(connector, lag=_seconds(connector["lag"]))
    for name in ("last_poll_at", "next_poll_at"):
        shown[name] = instant(connector[name])
    fields(shell, [(name.replace("_", " "), value) for name, value in shown.items() if name not in hidden])
    shell.print(cell(said))


@connectors.command()
@connector_arguments
@reason_option
@with_shell
def pause(shell: Shell, names: tuple[str, ...], reason: str | None) -> int:
    """Hold connectors: they poll no more; where they stand is kept."""
    from runtimed.cli.acting import for_each

    return for_each(shell, names, lambda client, one: client.pause_connector(one, reason=reason), "paused")


@connectors.command()
@connector_arguments
@reason_option
@with_shell
def resume(shell: Shell, names: tuple[str, ...], reason: str | None) -> int:
    """Let paused or quarantined connectors go on from where they stand."""
    from runtimed.cli.acting import for_each

    return for_each(shell, names, lambda client, one: client.resume_connector(one, reason=reason), "resumed")


@connectors.command()
@connector_arguments
@reason_option
@with_shell
def poll(shell: Shell, names: tuple[str, ...], reason: str | None) -> int:
    """Let connectors poll now instead of when they would."""
    from runtimed.cli.acting import for_each

    return for_each(shell, names, lambda client, one: client.poll_connector(one, reason=reason), "is asked to poll")


@connectors.command()
@connector_argument
@click.option(
    "--cursor", metavar="JSON", help="Where to read on from; without it from the beginning. @file, - (stdin)."
)
@click.option("--dry-run", is_flag=True, help="Change nothing; say what would happen.")
@reason_option
@key_option
@with_shell
def reset(shell: Shell, name: str, cursor: str | None, dry_run: bool, reason: str | None, idempotency_key: Any) -> int:
    """Set a connector's cursor. What was delivered is known by its keys, and has no second effect."""
    from runtimed.cli.acting import for_each
    from runtimed.cli.inputs import read_json
    from runtimed.cli.text import emit_one

    value = None if cursor is None else read_json(cursor, "--cursor")
    if not dry_run:
        said = {"reason": reason, "idempotency_key": idempotency_key}
        return for_each(shell, [name], lambda client, one: client.reset_connector(one, value, **said), "reset")
    told = msgspec.json.encode(shell.ask(lambda client: client.preview_reset(name, value)))
    emit_one(shell, told, lambda one: _would(shell, one), "name")
    return 0


@connectors.command()
@click.argument("name")
@click.option("--requirement", "requirements", multiple=True, metavar="PKG==VER",
              help="What to install, again for each; --hash=sha256:... may follow in the same word.")  # fmt: skip
@with_shell
def install(shell: Shell, name: str, requirements: tuple[str, ...]) -> None:
    """Make a virtual environment for a Singer tap or an Airbyte connector; its command is found there first.

    Without --requirement, what was installed before is installed anew."""
    from actors.flow.definitions import NAME
    from runtimed.cli.text import emit_one
    from runtimed.connectors import installing
    from runtimed.connectors.polls import FOLDER

    if not NAME.match(name) or name.startswith("."):
        raise click.BadParameter(f"{name!r} is no connector's name", param_hint="NAME")
    folder = shell.settings.paths.data_dir / FOLDER / name
    before = installing.installed(folder)
    wanted = requirements or (before.requirements if before is not None else ())
    if not wanted:
        raise click.UsageError("nothing was installed for it before: say --requirement PKG==VER")
    made = installing.install(folder, list(wanted), shell.note)
    emit_one(shell, msgspec.json.encode(made), lambda one: _show_installed(shell, one), "environment")


def _show_installed(shell: Shell, made: dict[str, Any]) -> None:
    from runtimed.cli.text import table

    rows = [(each["name"], each["version"], each["licence"], each["record_sha256"][:16]) for each in made["packages"]]
    table(shell, ["PACKAGE", "VERSION", "LICENCE", "HASH"], rows)


def _would(shell: Shell, preview: dict[str, Any]) -> None:
    from runtimed.cli.text import cell

    shell.print(f"A reset of {cell(preview['name'])} would do this; nothing is changed yet:")
    for sentence in preview["would"]:
        shell.print(f"  {cell(sentence)}")
