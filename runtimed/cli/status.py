"""`runtimed status`: how the daemon is, and whether it takes work."""

from __future__ import annotations

import re
from collections import Counter
from typing import TYPE_CHECKING, Any

import click
import msgspec

from runtimed.cli.options import watch_option, with_shell
from runtimed.cli.shell import Shell
from runtimed.cli.text import cell, fields

if TYPE_CHECKING:
    from runtimed.client import Client
    from wal.errors import RuntimedError

NOT_READY = 75
_RUNS = re.compile(r'^runtimed_runs\{[^}]*status="([a-z]+)"[^}]*\} ([0-9.e+]+)$', re.MULTILINE)
_SEQ = re.compile(r"^runtimed_journal_seq ([0-9.e+]+)$", re.MULTILINE)


@click.command()
@watch_option
@with_shell
def status(shell: Shell, watch: bool) -> int:
    """Show how the daemon is. Ends with 0 if it takes work, 75 if not, 3 if there is none."""
    code = 0

    def once() -> None:
        nonlocal code
        code = _once(shell)

    shell.watch(once, again=watch)
    return code


def _once(shell: Shell) -> int:
    from runtimed.client_errors import DaemonUnreachable

    try:
        body, metrics = shell.ask(_gather)
    except DaemonUnreachable as error:
        _show_file(shell, error)
        raise
    health = msgspec.json.decode(body)
    if shell.output in ("json", "jsonl"):
        shell.print_json(body)
    elif shell.output == "id":
        shell.print(cell(health["status"]))
    else:
        _show(shell, health, metrics)
    return NOT_READY if health["status"] == "fail" else 0


def _show_file(shell: Shell, error: RuntimedError) -> None:
    """With --data-dir: what the file tells of the time before the daemon went down."""
    if shell.options.data_dir is None:
        return
    with shell.file(error) as source:
        seq, counts = source.seq, source.counts()
    standing = "down" if shell.holder is None else "unreachable"
    if shell.output in ("json", "jsonl"):
        shell.print_json(msgspec.json.encode({"status": standing, "seq": seq, "runs": counts}))
    else:
        runs = ", ".join(f"{number} {name}" for name, number in counts.items() if number)
        fields(shell, [("status", standing), ("records", seq), ("runs", runs or None)])


async def _gather(client: Client) -> tuple[bytes, str]:
    """The detail if we have the right to it, else what everybody may see."""
    from runtimed.client_errors import from_problem

    answer = await client.link.fetch("GET", "/health/detail")
    if answer.status in (401, 403):
        answer = await client.link.fetch("GET", "/health/ready")
    if answer.status not in (200, 503) or "problem" in answer.headers.get("content-type", ""):
        raise from_problem(answer.status, answer.headers, answer.body)
    metrics = await client.link.fetch("GET", "/metrics")
    return answer.body, metrics.body.decode("utf-8", "replace") if metrics.status == 200 else ""


def _show(shell: Shell, health: dict[str, Any], metrics: str) -> None:
    runs: Counter[str] = Counter()
    for name, number in _RUNS.findall(metrics):
        runs[name] += int(float(number))
    seq = _SEQ.search(metrics)
    checks = health.get("checks", {})
    actors = [each["status"] for name, listed in checks.items() if name.startswith("actor:") for each in listed]
    words = {"pass": "ready", "warn": "ready, but see below", "fail": "not ready"}
    fields(
        shell,
        [
            ("status", words.get(health["status"], health["status"])),
            ("records", None if seq is None else int(float(seq[1]))),
            ("runs", ", ".join(f"{number} {name}" for name, number in runs.items() if number) or None),
            ("backup", _backup(checks)),
            ("actors", f"{actors.count('pass')} of {len(actors)} up" if actors else None),
            *[("because", reason) for reason in health.get("reasons", [])],
        ],
    )


def _backup(checks: dict[str, Any]) -> str | None:
    """The last backup in words; None where that is not told."""
    listed = checks.get("journal:backup")
    if not listed:
        return None
    age = listed[0].get("observedValue")
    if age is None:
        return "none"
    old = f"{age / 3600:.1f} hours old" if age >= 0 else f"dated {-age / 3600:.1f} hours ahead of the clock"
    return f"{old}: {cell(listed[0].get('output'))}"
