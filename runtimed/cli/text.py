"""Data as text: tables, fields and values, all that is from outside escaped by the one sanitiser."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Callable, Sequence
from typing import Any

import msgspec

from runtimed.cli.shell import Shell
from runtimed.escape import escape, shorten, width

Row = Sequence[Any]

_STATUS_STYLES: dict[str, dict[str, Any]] = {
    "failed": {"fg": "red"},
    "blocked": {"fg": "yellow", "bold": True},
    "compensating": {"fg": "yellow"},
    "paused": {"fg": "yellow"},
    "backoff": {"fg": "yellow"},
    "open_breaker": {"fg": "yellow", "bold": True},
    "quarantined": {"fg": "yellow", "bold": True},
    "ok": {"fg": "blue"},
    "polling": {"fg": "blue"},
    "fail": {"fg": "red"},
    "warn": {"fg": "yellow"},
    "running": {"fg": "blue"},
    "waiting": {"fg": "blue"},
    "completed": {"dim": True},
    "cancelled": {"dim": True},
    "closed": {"dim": True},
    "expired": {"dim": True},
}


def cell(value: Any) -> str:
    """A value in one line, escaped; `-` for None."""
    if value is None or value == "":
        return "-"
    if isinstance(value, str):
        return escape(value)
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int | float):
        return str(value)
    return escape(msgspec.json.encode(value).decode("utf-8", "replace"))


def instant(text: str | None) -> str | None:
    """An instant to the second: `2026-01-31T12:00:00Z`."""
    return None if text is None else text.partition(".")[0] + ("Z" if "." in text else "")


def status(shell: Shell, text: str) -> str:
    """A status word in its colour."""
    return shell.style(cell(text), **_STATUS_STYLES.get(text.strip(), {}))


def table(shell: Shell, headings: Sequence[str], rows: Sequence[Row]) -> None:
    """Columns as wide as they need; the last one is cut to the terminal, or left whole where there is none."""
    cells = [[cell(value) for value in row] for row in rows]
    widths = [max(width(row[at]) for row in [list(headings), *cells]) for at in range(len(headings))]
    room = _room(shell, widths)
    for number, row in enumerate([list(headings), *cells]):
        padded = [text + " " * (widths[at] - width(text)) for at, text in enumerate(row[:-1])]
        last = row[-1] if room is None else shorten(row[-1], room)
        if number == 0:
            shell.print(shell.style("  ".join([*padded, last]).rstrip(), bold=True))
            continue
        colored = [_color(shell, headings[at], text) for at, text in enumerate([*padded, last])]
        shell.print("  ".join(colored).rstrip())


def _room(shell: Shell, widths: Sequence[int]) -> int | None:
    """Cells for the last column on a terminal; None off one: what is piped is never cut."""
    if not sys.stdout.isatty():
        return None
    return max(10, shutil.get_terminal_size().columns - sum(widths[:-1]) - 2 * (len(widths) - 1))


def _color(shell: Shell, heading: str, text: str) -> str:
    return shell.style(text, **_STATUS_STYLES.get(text.strip(), {})) if heading == "STATUS" else text


def fields(shell: Shell, pairs: Sequence[tuple[str, Any]]) -> None:
    """Names and values below each other; those without a value are left out."""
    shown = [(name, value) for name, value in pairs if value is not None and value != {} and value != ""]
    longest = max((len(name) for name, _ in shown), default=0)
    for name, value in shown:
        text = status(shell, value) if name == "status" and isinstance(value, str) else cell(value)
        shell.print(f"{shell.style(name.ljust(longest), dim=True)}  {text}")


def emit_page(
    shell: Shell,
    body: bytes,
    show: Callable[[list[dict[str, Any]]], None],
    id_of: str = "id",
    go_on: str = "--cursor",
) -> None:
    """A page in the output that was asked for; `show` prints the text. `go_on` is the option that takes `next`."""
    if shell.output == "json":
        shell.print_json(body)
        return
    page = msgspec.json.decode(body)
    items: list[dict[str, Any]] = page["items"]
    if shell.output == "jsonl":
        for raw in msgspec.json.decode(body, type=_RawPage).items:
            shell.print_json(bytes(raw))
    elif shell.output == "id":
        for item in items:
            shell.print(cell(item.get(id_of)))
    else:
        show(items)
        _say_more(shell, page, len(items), go_on)


def _say_more(shell: Shell, page: dict[str, Any], shown: int, go_on: str) -> None:
    total = page.get("total")
    if page.get("next") is not None:
        of = "" if total is None else f" of {total}"
        shell.note(f"{shown}{of} shown; more with --all, or {go_on} {page['next']}")
    elif shown == 0:
        shell.note("none")


def emit_one(shell: Shell, body: bytes, show: Callable[[dict[str, Any]], None], id_of: str = "id") -> None:
    """One thing in the output that was asked for; `show` prints the text."""
    if shell.output in ("json", "jsonl"):
        shell.print_json(body)
        return
    thing = msgspec.json.decode(body)
    if shell.output == "id":
        shell.print(cell(thing.get(id_of)))
    else:
        show(thing)


class _RawPage(msgspec.Struct):
    items: list[msgspec.Raw]
