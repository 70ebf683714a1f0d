"""The table at the end of a demo: what happened, held against what had to happen."""

from __future__ import annotations

from typing import NamedTuple


class Row(NamedTuple):
    """One line of the table; `right` is None where there is nothing to judge."""

    label: str
    value: str
    note: str = ""
    right: bool | None = None


def exactly(label: str, count: int, expected: int, note: str = "") -> Row:
    """A count that has to be this one."""
    right = count == expected
    return Row(label, f"{count:,}", note if right else f"expected {expected:,}  {note}".rstrip(), right)


def render(rows: list[Row]) -> str:
    """The table as text for a terminal or a file."""
    marks = {True: "ok", False: "WRONG", None: ""}
    return "\n".join(f"  {row.label:<24}{row.value:>10}  {marks[row.right]:<6}{row.note}".rstrip() for row in rows)
