"""`runtimed secret ...`: set, list, rotate, delete. A value comes from stdin or a prompt, and is never shown."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Awaitable, Callable
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
import msgspec

from actors.errors import InvalidInput
from runtimed.cli.completing import complete_secrets, secret_argument
from runtimed.cli.options import Seconds, reason_option, with_shell
from runtimed.cli.shell import Shell

if TYPE_CHECKING:
    from runtimed.client import Client
    from runtimed.secret_store import SecretInfo, SecretStore
    from runtimed.wire import SecretView

VALUE_MAX_BYTES = 64 * 1024
GRACE_S = 86_400.0
MASTER = "*"
"""The name under which records tell of a change of the master key."""


@click.group()
def secret() -> None:
    """Set and rotate what must not be read.

    Configuration refers to a secret as secret:NAME. Values are encrypted in a file of the data folder and never shown.
    With --data-dir this works while the daemon is down, too.
    """


@secret.command("set")
@secret_argument
@reason_option
@with_shell
def set_(shell: Shell, name: str, reason: str | None) -> None:
    """Give a secret a value, from stdin or a prompt; the one before counts no more."""
    value = _value()
    view = _change(
        shell, "set", name, reason,
        lambda client: client.set_secret(name, value, reason=reason),
        lambda store: store.check(name, value), lambda store: store.set(name, value),
    )  # fmt: skip
    _show_one(shell, view)


@secret.command("list")
@with_shell
def list_(shell: Shell) -> None:
    """List secrets by name: versions and dates."""
    from runtimed.cli.text import emit_page, instant, table
    from runtimed.client_errors import DaemonUnreachable
    from wal.views import Page

    try:
        items = shell.ask(lambda client: client.secrets())
    except DaemonUnreachable as error:
        items = [_view(each) for each in _store(shell, error).listed()]

    def show(rows: list[dict[str, Any]]) -> None:
        cells = [(r["name"], r["version"], instant(r["changed_at"]), instant(r["former_until"])) for r in rows]
        if cells:
            table(shell, ["NAME", "VERSION", "CHANGED", "FORMER COUNTS UNTIL"], cells)

    emit_page(shell, msgspec.json.encode(Page(items, None, len(items), 0)), show, "name")


@secret.command()
@click.argument("name", required=False, shell_complete=complete_secrets)
@click.option(
    "--grace", type=Seconds(0.0, 86_400.0 * 366), default=GRACE_S, show_default=True, metavar="SECONDS",
    help="How long the former value counts too.",
)  # fmt: skip
@click.option("--master", is_flag=True, help="Change the master key that all secrets are under, instead.")
@reason_option
@with_shell
def rotate(shell: Shell, name: str | None, grace: float, master: bool, reason: str | None) -> None:
    """Give a secret a new value, from stdin or a prompt; the former counts for the grace, too."""
    if master == (name is not None):
        raise click.UsageError("give the NAME of a secret, or --master")
    if name is None:
        count = _change(
            shell, "rotate_master", MASTER, reason,
            lambda client: _number(client, reason),
            lambda store: store.check_master(), lambda store: store.rotate_master(),
        )  # fmt: skip
        _show_master(shell, count)
        return
    value, named = _value(), name
    view = _change(
        shell, "rotate", named, reason,
        lambda client: client.rotate_secret(named, value, grace_s=grace, reason=reason),
        lambda store: _checked(store, named, value), lambda store: store.rotate(named, value, grace),
    )  # fmt: skip
    _show_one(shell, view)


@secret.command()
@secret_argument
@reason_option
@with_shell
def delete(shell: Shell, name: str, reason: str | None) -> None:
    """Forget a secret with all its versions."""
    from runtimed.cli.text import cell

    _change(
        shell, "delete", name, reason,
        lambda client: client.delete_secret(name, reason=reason),
        lambda store: store.info(name), lambda store: store.delete(name),
    )  # fmt: skip
    if shell.output in ("json", "jsonl"):
        shell.print_json(msgspec.json.encode({"name": name}))
    else:
        shell.print(cell(name) if shell.output == "id" else f"{cell(name)}: deleted")


async def _number(client: Client, reason: str | None) -> int:
    return (await client.rotate_master_key(reason=reason)).secrets


def _checked(store: SecretStore, name: str, value: str) -> None:
    store.check(name, value)
    store.info(name)


def _value() -> str:
    """The value: from a prompt without echo on a terminal, else all of stdin less one newline at its end."""
    if sys.stdin.isatty():
        return str(click.prompt("Value", hide_input=True, err=True))
    data = sys.stdin.buffer.read(VALUE_MAX_BYTES + 3)
    data = data.removesuffix(b"\n").removesuffix(b"\r")
    if not 1 <= len(data) <= VALUE_MAX_BYTES:
        raise InvalidInput(f"stdin: the value of a secret is 1 to {VALUE_MAX_BYTES} bytes")
    try:
        return data.decode()
    except UnicodeDecodeError:
        raise InvalidInput("stdin: the value of a secret is text in UTF-8") from None


# --- with the daemon, or on the file ----------------------------------------------------------------------------------


def _change(
    shell: Shell, action: str, name: str, reason: str | None,
    online: Callable[[Client], Awaitable[Any]], check: Callable[[SecretStore], Any],
    offline: Callable[[SecretStore], Any],
) -> Any:  # fmt: skip
    """Have the daemon do it; if it is down and --data-dir is given, do it with its lock and leave the same record."""
    from runtimed.client_errors import DaemonUnreachable

    try:
        return shell.ask(online)
    except DaemonUnreachable as error:
        if shell.holder is not None:
            raise  # a daemon that is up has to do it; the lock below is for one that starts meanwhile
        store = _store(shell, error)
    from wal.lock import DataFolderLock

    store.check_owner()
    with DataFolderLock(shell.settings.paths.data_dir):
        check(store)
        _record(shell, name, action, reason)
        done = offline(store)
    return _view(done) if action in ("set", "rotate") else done


def _store(shell: Shell, error: Exception) -> SecretStore:
    """The store of --data-dir; raises the error without that."""
    from runtimed.secret_store import SecretStore

    folder: Path = shell.settings.paths.data_dir
    if shell.options.data_dir is None or shell.options.url or shell.options.socket:
        if not (shell.options.url or shell.options.socket):
            error.hint = f"{getattr(error, 'hint', '')} With --data-dir {folder} it works on the file."  # type: ignore[attr-defined]
        raise error
    shell.note(f"{shell.absence()}; working on the secrets in {folder}")
    return SecretStore(folder)


def _record(shell: Shell, name: str, action: str, reason: str | None) -> None:
    """What the daemon would have recorded. A journal that was stopped cleanly stays so."""
    from wal import records as r
    from wal.journal import Journal
    from wal.options import JournalOptions

    limits = shell.settings.journal
    options = JournalOptions(ballast_bytes=limits.ballast_bytes, wal_max_bytes=limits.wal_max_bytes)
    with closing(Journal.open(shell.settings.paths.journal, options)) as journal:
        head, at = journal.head, time.time_ns() // 1_000
        changed = r.SecretChanged(name, action, f"uid:{os.getuid()}", reason)
        entries = [r.Entry(head.seq + 1, 0, 0, at, changed)]
        if head.clean:
            entries.append(r.Entry(head.seq + 2, 0, 0, at, r.DaemonStopped("a secret was changed")))
        journal.commit(entries)


def _view(info: SecretInfo) -> SecretView:
    from runtimed.wire import SecretView
    from wal.views import rfc3339

    until = None if info.former_until is None else rfc3339(info.former_until)
    return SecretView(info.name, info.version, rfc3339(info.changed_at) or "", until)


def _show_one(shell: Shell, view: SecretView) -> None:
    from runtimed.cli.text import cell, emit_one, instant

    def show(one: dict[str, Any]) -> None:
        until = one["former_until"]
        rest = f"; the former counts until {instant(until)}" if until else ""
        shell.print(f"{cell(one['name'])}: version {one['version']}{rest}")

    emit_one(shell, msgspec.json.encode(view), show, "name")


def _show_master(shell: Shell, count: int) -> None:
    if shell.output in ("json", "jsonl"):
        shell.print_json(msgspec.json.encode({"secrets": count}))
    elif shell.output == "id":
        shell.print(MASTER)
    else:
        shell.print(f"{count} secrets are under a new master key")
