"""`runtimed journal ...`: the file itself, beside a live daemon or without one; its backups, and what it forgets."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Any

import click
import msgspec

from actors.errors import InvalidInput, NotAllowed, NotFound
from runtimed.cli.options import SEQ, with_shell
from runtimed.cli.places import is_closed
from runtimed.cli.shell import Shell
from wal.errors import RuntimedError

_AGE = re.compile(r"(\d+(?:\.\d+)?)([smhdw])")
_UNIT_S = {"s": 1, "m": 60, "h": 3_600, "d": 86_400, "w": 604_800}


@click.group()
def journal() -> None:
    """Look at the file, check it, back it up, restore it, let it forget old runs.

    The file is that of --data-dir or of the settings here; a daemon may be running on it.
    """


def _path(shell: Shell) -> Path:
    if shell.options.url or shell.options.socket:
        raise InvalidInput("this reads the file: name its folder with --data-dir, not a socket or URL")
    path = shell.settings.paths.journal
    return _readable(path, f"there is no journal at {path}", "Name its folder with --data-dir.")


def _there(file: Path) -> Path:
    return _readable(file, f"there is no file {file}", "Name one that `runtimed journal backup` has made.")


def _readable(file: Path, missing: str, hint: str) -> Path:
    if is_closed(file):
        raise NotAllowed(f"{file} is not readable for this user", hint="Run as its owner.")
    if not os.path.exists(file):
        raise NotFound(missing, hint=hint)
    return file


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
@click.argument("file", required=False, type=click.Path(path_type=Path))
@with_shell
def verify(shell: Shell, file: Path | None) -> None:
    """Check structure, digests and derived tables against the records. Ends with 78 if something is wrong.

    FILE is a backup, for example; without it, the journal of the data folder is checked.
    """
    from runtimed.cli.text import emit_one
    from wal.errors import JournalCorrupt
    from wal.verify import verify as check

    report = check(_path(shell) if file is None else _there(file))
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
@click.option("--after", type=SEQ, default=0, help="Begin after this record.")
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
@click.argument("target", required=False)
@click.option("--reason", help="Why, for the audit.")
@with_shell
def backup(shell: Shell, target: str | None, reason: str | None) -> None:
    """Take a verified backup: to the file TARGET, into the folder TARGET, or where the settings say.

    A running daemon takes it, beside its work, and records it. Without one it is taken from the file of --data-dir.
    """
    from runtimed.cli.text import emit_one
    from runtimed.client_errors import DaemonUnreachable

    path = None if target is None else str(Path(target).absolute())
    try:
        view = shell.ask(lambda client: client.backup(path, reason=reason), patient=True)
    except DaemonUnreachable as error:
        view = _backup_of_file(shell, path, error)
    emit_one(
        shell,
        msgspec.json.encode(view),
        lambda one: shell.print(f"{one['path']}: {_human('_bytes', one['size_bytes'])}, up to record {one['seq']}"),
        "path",
    )
    shell.note("verified and on disk")


def _backup_of_file(shell: Shell, path: str | None, error: RuntimedError) -> Any:
    from runtimed.care import FOLDER_NAME
    from runtimed.wire import BackupView
    from wal.backup import take
    from wal.views import rfc3339

    if shell.holder is not None:  # whoever is up has to do it: beside them nothing would record it
        raise error
    with shell.file(error):
        source = shell.settings.paths.journal
    told = shell.settings.journal
    if path is None:
        folder = source.parent / (FOLDER_NAME if told.backup_dir is None else Path(told.backup_dir).expanduser())
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        done = take(source, folder, keep=told.backup_keep)
    else:
        done = take(source, Path(path))
    return BackupView(done.path, done.seq, done.size_bytes, done.seconds, rfc3339(done.at) or "")


@journal.command()
@click.argument("file", type=click.Path(path_type=Path))
@click.option("--force", is_flag=True, help="Move a journal that is there aside; it is not deleted.")
@with_shell
def restore(shell: Shell, file: Path, force: bool) -> None:
    """Make the backup FILE the journal of the data folder, once it was verified. The daemon must be stopped.

    Name the folder with --data-dir, or it is that of the settings here.
    """
    from runtimed.cli.text import emit_one, instant
    from wal.restore import restore as put_back
    from wal.views import rfc3339

    if shell.options.url or shell.options.socket:
        raise InvalidInput("this writes the file: name its folder with --data-dir, not a socket or URL")
    done = put_back(_there(file), shell.settings.paths.data_dir, force=force, stale=("advancing",))
    told = msgspec.structs.asdict(done) | {"at": rfc3339(done.at) if done.at else None}
    emit_one(
        shell,
        msgspec.json.encode(told),
        lambda one: shell.print(
            f"{one['path']} now goes up to record {one['seq']}, of {instant(one['at']) or 'no time'}"
        ),
        "path",
    )
    if done.aside is not None:
        shell.note(f"the journal from before is {done.aside}")
    shell.note("what was acknowledged after that record is not in it; start the daemon when you are ready")


@journal.command()
@click.option("--older-than", "age", metavar="AGE", help="How old what goes must be: 30d, 12h; or the settings'.")
@click.option("--dry-run", is_flag=True, help="Only say what would be forgotten.")
@click.option("--reason", help="Why, for the audit.")
@with_shell
def gc(shell: Shell, age: str | None, dry_run: bool, reason: str | None) -> None:
    """Forget ended runs: their inputs, results and histories go, for ever; their digests stay, so that the rest can be
    verified. The first answers to idempotency keys that are as old go too. A running daemon does it."""
    from runtimed.cli.text import emit_one, instant

    older_than = None if age is None else _seconds(age)
    view = shell.ask(lambda client: client.forget_runs(older_than, dry_run=dry_run, reason=reason), patient=True)
    did = "would be forgotten" if view.dry_run else "are forgotten"
    emit_one(
        shell,
        msgspec.json.encode(view),
        lambda one: shell.print(
            f"{one['runs']} runs with {one['records']} records and {one['answers']} first answers to idempotency keys "
            f"{did}: from before {instant(one['older_than'])}"
        ),
        "runs",
    )


def _seconds(age: str) -> float:
    match = _AGE.fullmatch(age.strip())
    if match is None:
        raise InvalidInput(f"--older-than {age!r} is no age", hint="A number and s, m, h, d or w: 30d, 12h.")
    return float(match[1]) * _UNIT_S[match[2]]


@journal.command()
@click.argument("statement", metavar="SQL")
@click.option("--limit", type=click.IntRange(1, 1_000_000), default=1_000, show_default=True, help="How many rows.")
@with_shell
def sql(shell: Shell, statement: str, limit: int) -> None:
    """Run SQL on the file; it cannot change anything. SQL may be @FILE or - for stdin. --timeout bounds it."""
    from runtimed.cli.text import cell, table
    from wal.adhoc import query

    answer = query(_path(shell), _statement(statement), rows_max=limit, seconds=shell.options.timeout)
    twice = sorted({name for name in answer.columns if answer.columns.count(name) > 1})
    if twice and shell.output in ("json", "jsonl"):
        raise InvalidInput(
            f"several columns are called {twice[0]!r}, and a JSON object holds one", hint="Name them: AS."
        )
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
