"""The palette, and its own finds: runs, approvals and connectors that are in memory, by any part of their names."""

from __future__ import annotations

from collections.abc import Iterator
from typing import cast

from rich.text import Text
from textual import events
from textual.command import CommandPalette, DiscoveryHit, Hit, Hits, Provider

from tui.format import safe
from tui.jump import Jump
from tui.work import EndsWork, LeavesOnce

FINDS_MAX = 2_000


class Palette(EndsWork, LeavesOnce, CommandPalette):
    """Textual's palette; its search ends before its parts do, and it leaves where there is no room for its list."""

    def on_resize(self, event: events.Resize) -> None:
        """In a list without a line Textual's palette looks for a line to move to, and breaks."""
        from tui.app import Dashboard

        if cast("Dashboard", self.app).too_small(event.size):
            self.dismiss()


class FindProvider(Provider):
    """Runs, approvals and connectors; choosing one opens it. Names are shown as text, never as markup."""

    async def discover(self) -> Hits:
        """What needs people, before anything is typed."""
        from tui.app import Dashboard

        app = cast("Dashboard", self.app)
        for need in app.model.needs()[:10]:
            where = Jump(f"{need.kind}s", target=need.id)
            yield DiscoveryHit(Text(safe(f"{need.word} {need.what}")), lambda w=where: app.go(w))

    async def search(self, query: str) -> Hits:
        """What matches."""
        from tui.app import Dashboard

        app = cast("Dashboard", self.app)
        matcher = self.matcher(query)
        for name, where in self._things(app):
            score = matcher.match(name)
            if score > 0:
                yield Hit(score, Text(name), lambda w=where: app.go(w))

    @staticmethod
    def _things(app: object) -> Iterator[tuple[str, Jump]]:
        from tui.app import Dashboard

        model = cast("Dashboard", app).model
        for view in list(model.approvals.values())[:FINDS_MAX]:
            yield safe(f"approval {view.id} {view.title}"), Jump("approvals", target=view.id)
        for connector in model.connectors[:FINDS_MAX]:
            yield safe(f"connector {connector.name} {connector.kind}"), Jump("connectors", target=connector.name)
        for run in list(model.runs.values())[:FINDS_MAX]:
            yield safe(f"run {run.id} {run.workflow}"), Jump("runs", target=run.id)
