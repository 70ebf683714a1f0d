"""Where `:` goes: an area, with a filter or a thing in it. Pure."""

from __future__ import annotations

from typing import NamedTuple

from tui.areas import AREAS


class Jump(NamedTuple):
    """An area; a filter to set there, or something to open."""

    area: str
    filter: str | None = None
    target: str | None = None


_SHORT = {
    "a": "approvals",
    "r": "runs",
    "j": "journal",
    "l": "logs",
    "s": "sessions",
    "c": "connectors",
    "o": "overview",
}
_THINGS = {
    "run": "runs",
    "approval": "approvals",
    "a": "approvals",
    "seq": "journal",
    "actor": "actors",
    "session": "sessions",
    "connector": "connectors",
}


def parse_jump(text: str) -> Jump | None:
    """`runs st:fail`, `run 7f3`, `a 812`, `seq 10440`, `logs`, `3`; None for what is no place."""
    word, _, rest = text.strip().removeprefix(":").strip().partition(" ")
    word, rest = word.lower(), rest.strip()
    if rest and word in _THINGS:
        return Jump(_THINGS[word], target=rest.removeprefix("#"))
    names = {area.name: area.name for area in AREAS} | {str(area.number): area.name for area in AREAS} | _SHORT
    area = names.get(word) or next((area.name for area in AREAS if len(word) >= 2 and area.name.startswith(word)), None)
    return None if area is None else Jump(area, filter=rest or None)
