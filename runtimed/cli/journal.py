"""`runtimed journal ...`: the file itself, read-only, beside a live daemon or without one."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click
import msgspec

from actors.errors import InvalidInput, NotFound
from runtimed.cli.options import with_shell
from runtimed.cli.shell import Shell


@click.group()
def journal() -> None:
    """Look at the file: sizes, verification, read-only SQL.

    The file is that of --data-dir or of the settings here; a daemon may be running on it.
    """


def _path(shell: Shell) -> Path:
    if shell.options.url or shell.options.socket:
        raise InvalidInput("this reads the file: name its folder with --data-dir, not a socket or URL")
    path = shell.settings.paths.journal
    if not path.exists():
        raise NotFound(f"there is no journal at {path}", hint="Name its folder with --data-dir.")
    return path


@journal.command()
@with_shell
def stats(shell: Shell) -> None:
    """Show sizes and counts."""
    from runtimed.cli.text import emit_one, fields
    from wal.queries import Reader
    from wal.views import rfc3339

    path = _path(shell)
    with Reader.open(path) as reader:
        told = msgspec.structs.asdict(reader.statistics())
    told |= {"path": str(path), "created_at": rfc3339(told["created_at"])}
    emit_one(
        shell,
        msgspec.json.encode(told),
        lambda one: fields(shell, [(name.replace("_", " "), _human(name, value)) for name, value in one.items()]),
        "seq",
    )


def _human(name: str, value: Any) -> Any:
    if not name.endswith("_bytes") or name == "page_bytes":
        return value
    size = float(value)
    for unit in ("B", "KiB", "MiB", "GiB"):
        if size < 1024 or unit == "GiB":
            return f"{value} B" if unit == "B" else f"{size:.1f} {unit}"
        size /= 1024
    return value


@journal.command()
@with_shell
def verify(shell: Shell) -> None:
    """Check structure, digests and derived tables against the records. Ends with 78 if something is wrong."""
    from runtimed.cli.text import emit_one
    from wal.errors import JournalCorrupt
    from wal.verify import verify as check

    report = check(_path(shell))
    emit_one(
        shell,
        msgspec.json.encode(report),
        lambda one: shell.print(f"{one['records']} records were read, up to {one['seq']}"),
        "seq",
    )
    if report.ok:
        shell.note("all of it is as it was written")
    else:
        for problem in report.problems:
            shell.note(f"  {problem}")
        raise JournalCorrupt(f"{report.path} is damaged: {report.problems[0]}", hint="Restore the last backup.")


@journal.command()
@click.option("--after", type=click.IntRange(0), default=0, help="Begin after this record.")
@click.option("--limit", type=click.IntRange(1, 1_000_000), default=50, show_default=True, help="How many.")
@click.option("--all", "everything", is_flag=True, help="All of it.")
@with_shell
def audit(shell: Shell, **given: Any) -> None:
    """Show who changed what, from where and why, oldest first; from the daemon or, while it is down, the file."""
    from runtimed.cli.lists import emit_after

    emit_after(shell, lambda source, **page: source.audit(**page), _show_audit, **given)


def _show_audit(shell: Shell, items: list[dict[str, Any]]) -> None:
    from runtimed.cli.text import instant, table

    rows = [
        (one["seq"], instant(one["at"]), one["by"], one["action"], one["target"], one["via"], one["reason"])
        for one in items
    ]
    if rows:
        table(shell, ["SEQ", "AT", "BY", "ACTION", "TARGET", "VIA", "REASON"], rows)


@journal.command()
@click.argument("statement", metavar="SQL")
@click.option("--limit", type=click.IntRange(1, 1_000_000), default=1_000, show_default=True, help="How many rows.")
@with_shell
def sql(shell: Shell, statement: str, limit: int) -> None:
    """Run SQL on the file; it cannot change anything. SQL may be @FILE or - for stdin."""
    from runtimed.cli.text import cell, table
    from wal.adhoc import query

    answer = query(_path(shell), _statement(statement), rows_max=limit)
    rows = [dict(zip(answer.columns, row, strict=True)) for row in answer.rows]
    if shell.output == "json":
        shell.print_json(msgspec.json.encode(rows))
    elif shell.output == "jsonl":
        for row in rows:
            shell.print_json(msgspec.json.encode(row))
    elif shell.output == "id":
        for cells in answer.rows:
            shell.print(cell(cells[0]))
    elif answer.columns:
        table(shell, answer.columns, answer.rows)
    if answer.more:
        shell.note(f"only the first {limit} rows; more with --limit")


def _statement(text: str) -> str:
    from runtimed.cli.inputs import read_text

    return read_text(text, "SQL")
