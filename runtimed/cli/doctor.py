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
from runtimed.cli.places import is_closed
from runtimed.cli.settings_options import load_settings, settings_options
from runtimed.cli.shell import Shell
from runtimed.escape import escape
from runtimed.settings import Settings
from wal.errors import RuntimedError

_CHECKS: dict[str, Callable[[Settings], Iterator[Finding]]] = {
    "apps": examinations.apps,
    "data folder": examinations.folder,
    "disk": examinations.disk,
    "daemon": examinations.daemon,
    "open files": examinations.limits,
}
_CHECKS_INSIDE: dict[str, Callable[[Settings], Iterator[Finding]]] = {
    "journal": examinations.journal,
    "access": access,
}
"""Those that look into the data folder."""
_STYLES: dict[str, dict[str, Any]] = {"ok": {"fg": "green"}, "warn": {"fg": "yellow"}, "fail": {"fg": "red"}}


@click.command()
@settings_options
@printing_options
@click.option("--fix", is_flag=True, help="Put right what can be safely: rights of files, what killed processes left.")
def doctor(fix: bool, **given: Any) -> int:
    """Examine this machine and the data folder. Ends with 1 if something is wrong."""
    shell = shell_of(click.get_current_context())
    findings = []
    for finding in examine(given, fix=fix):
        findings.append(finding)
        if shell.output == "jsonl":
            shell.print_json(msgspec.json.encode(finding))
        elif shell.output == "id":
            shell.print(finding.subject)
        elif shell.output == "text":
            _show(shell, finding)
    if shell.output == "json":
        shell.print_json(msgspec.json.encode(findings))
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
    for subject, check in _CHECKS.items():
        yield from _made(subject, check(settings))
    if is_closed(settings.paths.data_dir):
        return  # the folder has its finding; of what we cannot see, nothing is told as if it were not there
    for subject, check in _CHECKS_INSIDE.items():
        yield from _made(subject, check(settings))
    for subject, look in data_findings.CHECKS.items():
        yield from _made(subject, look(settings, fix))


def _made(subject: str, findings: Iterator[Finding]) -> Iterator[Finding]:
    """The findings of one check. What stops it is a finding too, and the checks after it are made all the same: the
    doctor is asked just when something does not work."""
    try:
        yield from findings
    except (OSError, RuntimeError, RuntimedError) as error:  # RuntimeError: a ~ whose home nobody knows
        yield Finding("fail", subject, f"could not be examined: {error}", next=getattr(error, "hint", ""))
