"""`runtimed records ...`: the record store, where connectors that deliver `records` put what they read."""

from __future__ import annotations

from typing import Any

import click

from runtimed.cli.completing import stream_argument
from runtimed.cli.options import SEQ, watch_option, with_shell
from runtimed.cli.shell import Shell


@click.group()
def records() -> None:
    """Read what connectors have stored, stream by stream."""


@records.command()
@watch_option
@with_shell
def streams(shell: Shell, watch: bool) -> None:
    """List the streams, with how many records each holds."""
    from runtimed.cli.text import emit_page

    def once() -> None:
        emit_page(shell, shell.read(lambda source: source.streams()), lambda items: _show_streams(shell, items), "name")

    shell.watch(once, again=watch)


def _show_streams(shell: Shell, items: list[dict[str, Any]]) -> None:
    from runtimed.cli.text import table

    if items:
        table(shell, ["STREAM", "RECORDS"], [(each["name"], each["records"]) for each in items])


@records.command("list")
@stream_argument
@click.option("--after", type=SEQ, default=0, help="Only changes beyond this seq.")
@click.option("--limit", type=click.IntRange(1, 1_000_000), default=50, show_default=True, help="How many.")
@click.option("--all", "everything", is_flag=True, help="All of them.")
@with_shell
def list_(shell: Shell, stream: str, after: int, limit: int, everything: bool) -> None:
    """List a stream's records in the order of their changes; reading on after the last seq misses nothing."""
    from runtimed.cli.lists import emit_after

    emit_after(
        shell,
        lambda source, **page: source.records(stream, **page),
        _show,
        after=after,
        limit=limit,
        everything=everything,
        id_of="key",
    )


def _show(shell: Shell, items: list[dict[str, Any]]) -> None:
    from runtimed.cli.text import instant, table

    rows = [
        (each["seq"], instant(each["at"]), each["key"], "deleted" if each["deleted"] else None, each["data"])
        for each in items
    ]
    if rows:
        table(shell, ["SEQ", "AT", "KEY", "STATE", "DATA"], rows)
