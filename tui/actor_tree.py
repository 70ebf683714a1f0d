"""The supervision tree as rows: folded branches, what a restart takes along, figures in words. Pure."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Any, NamedTuple

from wal.views import ActorView

ROOT_DEPTH = 0
NOT_RESTARTED = ("root", "root/journal")
"""What is restarted with the daemon only; the daemon refuses it too."""


class Row(NamedTuple):
    """An actor with its place: how deep, whether it has children, whether they are folded away."""

    actor: ActorView
    depth: int
    parent: bool
    folded: bool


def rows_of(actors: Sequence[ActorView], folded: Collection[str], *, flat: bool = False) -> list[Row]:
    """The rows to show. `flat` shows all by their whole paths, the ones that are not up and those with most restarts
    first."""
    if flat:
        worst = sorted(actors, key=lambda actor: (actor.status == "up", -actor.restarts, actor.path))
        return [Row(actor, ROOT_DEPTH, False, False) for actor in worst]
    parents = {actor.path.rpartition("/")[0] for actor in actors}
    rows: list[Row] = []
    hidden = ""
    for actor in actors:
        if hidden and actor.path.startswith(hidden + "/"):
            continue
        is_folded = actor.path in folded and actor.path in parents
        hidden = actor.path if is_folded else ""
        rows.append(Row(actor, actor.path.count("/"), actor.path in parents, is_folded))
    return rows


def restarted_with(actors: Sequence[ActorView], path: str) -> list[str]:
    """Whom a restart of `path` restarts, itself first: by the strategy of its supervisor, with all below each."""
    parent, _, _ = path.rpartition("/")
    siblings = [actor.path for actor in actors if actor.path.rpartition("/")[0] == parent and actor.path != parent]
    strategy = next((actor.strategy for actor in actors if actor.path == parent), None)
    if path not in siblings:
        return []
    chosen = [path]
    if strategy == "one_for_all":
        chosen += [one for one in siblings if one != path]
    elif strategy == "rest_for_one":
        chosen += siblings[siblings.index(path) + 1 :]
    found: list[str] = []
    for one in chosen:
        found += [actor.path for actor in actors if actor.path == one or actor.path.startswith(one + "/")]
    return found


def figures_of(statistics: dict[str, Any]) -> list[tuple[str, str]]:
    """An actor's own figures, the simple ones; histograms as their count and mean."""
    found: list[tuple[str, str]] = []
    for name, value in statistics.items():
        if isinstance(value, dict):
            count, total = value.get("count"), value.get("total")
            if isinstance(count, (int, float)) and isinstance(total, (int, float)) and count:
                found.append((name, f"{count:g} of {total / count:.3g} on average"))
        elif value is not None and not isinstance(value, (list, tuple)):
            found.append((name, f"{value:g}" if isinstance(value, float) else str(value)))
    return found
