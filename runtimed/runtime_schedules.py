"""The verbs about schedules: how they stand, and a run of one now."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING

from actors import messages as m
from actors.errors import ScheduleNotFound
from actors.schedules import PREFIX, ScheduleSpec, key_of, next_tick
from wal.views import ScheduleView, rfc3339

if TYPE_CHECKING:
    from actors.clock import Clock
    from actors.flow.definitions import Registry
    from runtimed.assembly import Actors


class ScheduleVerbs:
    """What `Runtime` has about schedules."""

    actors: Actors
    registry: Registry
    clock: Clock

    def schedules(self) -> list[ScheduleView]:
        """All schedules, by name."""
        return [self.schedule(name) for name in sorted(self.registry.schedules)]

    def schedule(self, name: str) -> ScheduleView:
        """One schedule. Raises ScheduleNotFound."""
        spec = self._spec(name)
        view = self.actors.connectors.view(PREFIX + name)
        held = view.status in ("paused", "quarantined")
        now = datetime.fromtimestamp(self.clock.now_us() / 1e6, UTC)
        tick = None if held else next_tick(spec, now)
        return ScheduleView(
            name=name,
            workflow=spec.workflow,
            status=view.status if held or view.last_error else "ok",
            every=spec.every,
            cron=spec.cron,
            timezone=spec.timezone if spec.cron is not None else None,
            catchup=spec.catchup,
            next_at=None if tick is None else rfc3339(round(tick.timestamp() * 1e6)),
            runs_total=view.records_total,
            last_error=view.last_error,
        )

    def triggered(self, name: str) -> m.StartRun:
        """The run that a schedule starts, for now: its id says that somebody asked. Raises ScheduleNotFound."""
        spec = self._spec(name)
        now = datetime.fromtimestamp(self.clock.now_us() / 1e6, UTC)
        id = f"{name}:asked-{key_of(now)}-{now.microsecond:06d}"
        return m.StartRun(workflow=spec.workflow, input=spec.input, id=id)

    def _spec(self, name: str) -> ScheduleSpec:
        spec = self.registry.schedules.get(name)
        if spec is None:
            raise ScheduleNotFound(f"there is no schedule {name!r}")
        return spec
