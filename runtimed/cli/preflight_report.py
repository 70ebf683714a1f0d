"""What the upgrade preflight found, for people and for programs: sums by workflow, and the runs that need something."""

from __future__ import annotations

import re
from collections import Counter
from typing import TYPE_CHECKING, Any

import msgspec

from actors.errors import Conflict
from actors.flow.preflight import BLOCKED, BREAKS, FITS, MENDED, Bounds
from runtimed.cli.errors import PARTLY_DONE
from runtimed.cli.preflight import UNJUDGED, RunVerdict, verdicts
from runtimed.cli.text import cell, table
from runtimed.loading import is_library

if TYPE_CHECKING:
    from actors.flow.definitions import Registry
    from runtimed.cli.shell import Shell
    from wal.queries import Reader

KEPT_MAX = 1_000
"""Runs of each verdict that the JSON document names; `-o jsonl` names all."""
SHOWN_MAX, IDS_MAX = 10, 5
"""Reasons of each verdict that people are told of, and runs for each."""
MEANINGS = {
    BREAKS: "goes on now; this code would block it",
    UNJUDGED: "could not be judged",
    BLOCKED: "blocked now, and stays so with this code",
    MENDED: "blocked now; with this code it can go on",
    FITS: "goes on as before",
}
"""Each verdict in words, in the order in which they are told."""
_ORDER = list(MEANINGS)
_BETWEEN = "; the code now "
_FILE = re.compile(r'^  File "(.+)", line (\d+), in (\S+)$', re.MULTILINE)


class Report:
    """What was found: all of it in sums, and the first runs of each verdict but `fits`."""

    def __init__(self, seq: int) -> None:
        self.seq = seq
        self.sums: Counter[tuple[str, str, str | None]] = Counter()
        self.kept: dict[str, list[RunVerdict]] = {verdict: [] for verdict in _ORDER}

    def add(self, one: RunVerdict) -> None:
        """Take in one more."""
        self.sums[one.workflow, one.verdict, one.code or one.blocked_by] += 1
        if one.verdict != FITS and len(self.kept[one.verdict]) < KEPT_MAX:
            self.kept[one.verdict].append(one)

    def number(self, verdict: str) -> int:
        """How many runs have this verdict."""
        return sum(number for (_, each, _), number in self.sums.items() if each == verdict)

    def rows(self) -> list[tuple[str, str, str | None, int]]:
        """Workflow, verdict, code and number, what is worst first."""
        keys = sorted(self.sums, key=lambda key: (_ORDER.index(key[1]), key[0], key[2] or ""))
        return [(*key, self.sums[key]) for key in keys]

    def as_json(self) -> dict[str, Any]:
        """The document of `-o json`."""
        items = [one for verdict in _ORDER for one in self.kept[verdict]]
        total = self.sums.total()
        return {
            "seq": self.seq,
            "total": total,
            "verdicts": {verdict: self.number(verdict) for verdict in _ORDER},
            "workflows": [
                {"workflow": workflow, "verdict": verdict, "code": code, "runs": number}
                for workflow, verdict, code, number in self.rows()
            ],
            "items": items,
            "more": total - self.number(FITS) - len(items),
        }


def look(shell: Shell, reader: Reader, registry: Registry, bounds: Bounds, seconds: float) -> Report:
    """Judge all open runs; those that are printed one by one are printed here."""
    report = Report(reader.head_seq())
    for one in verdicts(reader, registry, bounds, seconds, shell):
        report.add(one)
        if shell.output == "jsonl":
            shell.print_json(msgspec.json.encode(one))
        elif shell.output == "id" and one.verdict == BREAKS:
            shell.print(cell(one.id))
    return report


def conclude(shell: Shell, report: Report) -> int:
    """The exit code of what was found. Raises `Conflict` if a run would be blocked that is not."""
    total, broken, unjudged = report.sums.total(), report.number(BREAKS), report.number(UNJUDGED)
    if broken:
        hint = "Mend the code, or deploy it once those runs have ended. Nothing was changed."
        raise Conflict(f"this code would block {broken:,} of {total:,} open runs", hint=hint)
    if unjudged:
        shell.note(f"{unjudged:,} of {total:,} open runs could not be judged")
        return PARTLY_DONE
    return 0


def show(shell: Shell, report: Report) -> None:
    """For people: the sums, then what needs something."""
    total = report.sums.total()
    shell.note(f"{total:,} open run{'' if total == 1 else 's'}, up to record {report.seq:,}, met this code:")
    if total:
        rows = [
            (workflow, f"{number:,}", verdict, code, MEANINGS[verdict])
            for workflow, verdict, code, number in report.rows()
        ]
        table(shell, ["WORKFLOW", "RUNS", "VERDICT", "CODE", "EACH"], rows)
    for verdict, kept in report.kept.items():
        if kept:
            _show_all(shell, verdict, kept, report.number(verdict))


def _show_all(shell: Shell, verdict: str, kept: list[RunVerdict], number: int) -> None:
    """What is alike is told once."""
    shell.print("")
    shell.print(shell.style(verdict, bold=True))
    alike: dict[tuple[str | None, ...], list[RunVerdict]] = {}
    for one in kept:
        own = one.id if one.next and one.id in one.next else None
        alike.setdefault((one.workflow, one.code, one.blocked_by, one.call, one.message, own), []).append(one)
    told = list(alike.values())[:SHOWN_MAX]
    for group in told:
        _show_group(shell, group)
    left = number - sum(map(len, told))
    if left:
        shell.print(f"  and {left:,} more; each of them: runtimed check --runs -o jsonl")
    shown = [group[0] for group in told]
    for following in dict.fromkeys(one.next for one in shown if one.next and one.id not in one.next):
        shell.print(f"  next: {cell(following)}")


def _show_group(shell: Shell, group: list[RunVerdict]) -> None:
    one = group[0]
    more = f" and {len(group) - IDS_MAX:,} more" if len(group) > IDS_MAX else ""
    code = one.code or one.blocked_by
    why = f": {cell(code)}" if code else ""
    at = f", call {cell(one.call)}" if one.call else ""
    now = f" (now {cell(one.blocked_by)})" if one.blocked_by and one.blocked_by != code else ""
    shell.print(f"  {', '.join(cell(each.id) for each in group[:IDS_MAX])}{more}{why}{at}{now}")
    if one.message and one.verdict != MENDED:
        for side in cell(one.message).replace(_BETWEEN, "\nthe code now ").split("\n"):
            shell.print(f"    {side}")
    if one.traceback and (place := _place(one.traceback)):
        shell.print(f"    {cell(place)}")
    if one.next and one.id in one.next:
        shell.print(f"    next: {cell(one.next)}")


def _place(traceback: str) -> str | None:
    """Where in the user's own code it was raised, which is not where our `ctx` or a library did."""
    found = [match for match in _FILE.findall(traceback) if not is_library(match[0])]
    return f"{found[-1][0]}:{found[-1][1]}, in {found[-1][2]}" if found else None
