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
from runtimed.cli.options import shell_of
from runtimed.cli.settings_options import load_settings, settings_options
from runtimed.cli.shell import Shell
from runtimed.escape import escape
from runtimed.settings import Settings
from wal.errors import RuntimedError

_STYLES: dict[str, dict[str, Any]] = {"ok": {"fg": "green"}, "warn": {"fg": "yellow"}, "fail": {"fg": "red"}}


@click.command()
@settings_options
@click.option("-o", "--output", type=click.Choice(["text", "json"]), default="text", help="How it is printed.")
@click.option("--json", "as_json", is_flag=True, help="The same as -o json.")
@click.option("--fix", is_flag=True, help="Put right what can be safely: rights of files, what killed processes left.")
def doctor(output: str, as_json: bool, fix: bool, **given: Any) -> int:
    """Examine this machine and the data folder. Ends with 1 if something is wrong."""
    shell = shell_of(click.get_current_context())
    findings = list(examine(given, fix=fix))
    if as_json or output == "json" or shell.output == "json":
        shell.print_json(msgspec.json.encode(findings))
    else:
        for finding in findings:
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
        yield Finding("fail", "settings", str(error), "the daemon will not start", error.hint)
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
