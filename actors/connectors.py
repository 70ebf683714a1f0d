"""The directory of connectors: their pollers, how each stands, and the one place that wakes them."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from actors.connector_poller import ConnectorPoller, Tools
from actors.connector_spec import ConnectorSpec
from actors.errors import ConnectorHeld, ConnectorNotFound, Draining
from actors.schedules import KIND
from actors.supervisor import Supervisor
from actors.supervisor_spec import ChildSpec, SupervisorSpec
from wal.intake import ConnectorRow
from wal.views import ConnectorView, rfc3339

RESTARTS_MAX = 20
POLLER_SHUTDOWN_S = 30.0
"""A source that stops a process of its own may take this long to end."""


class Connectors:
    """All connectors of a runtime, by name. Its supervisor restarts each for itself: a crash touches no sibling."""

    def __init__(
        self,
        specs: Mapping[str, ConnectorSpec],
        tools: Tools,
        make: Callable[[ConnectorSpec, Tools], ConnectorPoller] = ConnectorPoller,
    ) -> None:
        self.specs, self._tools = specs, tools
        self.pollers = {name: make(spec, tools) for name, spec in specs.items()}

    def supervisor(self) -> Supervisor:
        """The supervisor of the pollers, a child each. A crash of a source's code is no crash of its poller, which
        judges it; what is left over are defects of ours, and more than a few in a minute end the runtime."""
        children = tuple(
            ChildSpec(
                name=name,
                run=poller.run,
                shutdown_timeout_s=POLLER_SHUTDOWN_S,
                statistics=poller.statistics,
            )
            for name, poller in self.pollers.items()
        )
        return Supervisor("connectors", SupervisorSpec(children=children, restarts_max=RESTARTS_MAX))

    # --- what people ask

    def views(self) -> list[ConnectorView]:
        """All of them, by name, as they stand now."""
        rows = {row.name: row for row in self._tools.reader.connectors()} if self.pollers else {}
        return [self._view(name, rows.get(name) or ConnectorRow(name)) for name in sorted(self.pollers)]

    def view(self, name: str) -> ConnectorView:
        """One of them. Raises ConnectorNotFound."""
        self._find(name)
        return self._view(name, self._tools.reader.connector(name))

    def figures(self) -> tuple[dict[str, float], dict[str, int], dict[str, int]]:
        """For metrics: lags in seconds, records taken, and polls that failed, by name."""
        views = [view for view in self.views() if view.kind != KIND]
        lags = {view.name: view.lag for view in views if view.lag is not None}
        records = {view.name: view.records_total for view in views}
        return lags, records, {view.name: view.errors_total for view in views}

    def quarantined(self) -> list[str]:
        """The names of those that stand still because their code crashed again and again."""
        return [name for name, poller in self.pollers.items() if poller.standing.held == "quarantined"]

    async def poll_now(self, name: str) -> ConnectorView:
        """Have it poll now; returns when that has begun. Raises ConnectorNotFound, ConnectorHeld, Draining."""
        poller = self._find(name)
        if poller.standing.held is None and not poller.draining:
            await poller.poll_now().wait()
        if poller.standing.held is not None:  # before, or by somebody who was quicker
            raise ConnectorHeld(f"connector {name!r} is {poller.standing.held}: it does not poll")
        if poller.draining:
            raise Draining("the runtime is stopping")
        return self.view(name)

    # --- what the runtime tells

    def changed(self, name: str) -> None:
        """The journal says something new of a connector: it was held, let go, or reset."""
        poller = self.pollers.get(name)
        if poller is not None:
            poller.wake()

    def drain(self) -> None:
        """Poll no more, and break off what is under way."""
        for poller in self.pollers.values():
            poller.drain()

    async def wait_idle(self) -> None:
        """Wait until no poll is under way."""
        for poller in self.pollers.values():
            await poller.idle.wait()

    def _find(self, name: str) -> ConnectorPoller:
        poller = self.pollers.get(name)
        if poller is None:
            raise ConnectorNotFound(f"there is no connector {name!r}")
        return poller

    def _view(self, name: str, row: ConnectorRow) -> ConnectorView:
        poller = self.pollers[name]
        standing, now = poller.standing, self._tools.clock.now_us()
        status = row.status if row.status != "running" else standing.status
        since = poller.caught_up_us
        return ConnectorView(
            name=name,
            kind=poller.spec.kind,
            status=status,
            cursor=row.cursor,
            lag=None if since is None else max(0.0, (now - since) / 1e6),
            last_poll_at=rfc3339(poller.last_poll_us),
            next_poll_at=None if row.status != "running" else rfc3339(poller.next_poll_us),
            last_error=poller.last_error or row.view().last_error,
            records_total=row.records,
            errors_total=poller.errors_total,
            deliver=str(poller.spec.deliver),
            generation=row.generation,
            repeated_total=row.repeated,
            refused_total=row.refused,
            polls_total=poller.polls_total,
            failures=standing.failures,
            records_15m=poller.lately.total(now),
        )
