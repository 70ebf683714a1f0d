"""`runtimed doctor`: examines the machine and the data folder; each finding says what, why, and what to do."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import click
import msgspec

from runtimed.cli import data_findings, examinations
from runtimed.cli.access_examination import access
from runtimed.cli.examinations import Finding
from runtimed.cli.options import printing_options, shell_of
from runtimed.cli.settings_options import load_settings, settings_options
from runtimed.cli.shell import Shell
from runtimed.escape import escape
from runtimed.settings import Settings
from wal.errors import RuntimedError

_STYLES: dict[str, dict[str, Any]] = {"ok": {"fg": "green"}, "warn": {"fg": "yellow"}, "fail": {"fg": "red"}}


@click.command()
@settings_options
@printing_options
@click.option("--fix", is_flag=True, help="Put right what can be safely: rights of files, what killed processes left.")
def doctor(fix: bool, **given: Any) -> int:
    """Examine this machine and the data folder. Ends with 1 if something is wrong."""
    shell = shell_of(click.get_current_context())
    findings = list(examine(given, fix=fix))
    if shell.output == "json":
        shell.print_json(msgspec.json.encode(findings))
    for finding in [] if shell.output == "json" else findings:
        if shell.output == "jsonl":
            shell.print_json(msgspec.json.encode(finding))
        elif shell.output == "id":
            shell.print(finding.subject)
        else:
            _show(shell, finding)
    return 1 if any(finding.level == "fail" for finding in findings) else 0


def _show(shell: Shell, finding: Finding) -> None:
    level = shell.style(finding.level.ljust(4), **_STYLES[finding.level])
    shell.print(f"{level}  {finding.subject:<11} {escape(finding.what)}")
    for label, text in (("why", finding.why), ("next", finding.next)):
        if text:
            shell.print(f"{'':18}{label}: {escape(text)}")


def examine(given: dict[str, Any], *, fix: bool = False) -> Iterator[Finding]:
    """All findings; one that cannot be made is a failing one."""
    yield examinations.python()
    yield examinations.packages()
    yield examinations.sqlite()
    try:
        settings = load_settings(os.environ, Path.cwd(), given)
    except RuntimedError as error:
        why = "the daemon will not start; one that runs keeps the settings that it has"
        yield Finding("fail", "settings", str(error), why, error.hint)
        return
    yield Finding("ok", "settings", str(settings.paths.config or "defaults; no file"))
    checks: list[Callable[[Settings], Iterator[Finding]]] = [
        examinations.apps,
        examinations.folder,
        examinations.disk,
        examinations.daemon,
        examinations.journal,
        examinations.limits,
        access,
    ]
    for check in checks:
        yield from check(settings)
    for look in data_findings.CHECKS:
        yield from look(settings, fix)
