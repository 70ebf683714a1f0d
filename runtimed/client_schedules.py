"""The client's verbs for schedules: list, hold, let go, run now."""

from __future__ import annotations

from runtimed.client_link import Link, decode, given, part
from runtimed.wire import AcceptedView, SchedulePage
from wal.views import RunView, ScheduleView


class ScheduleVerbs:
    """Mixed into `Client`; each may raise what that names, and `ScheduleNotFound`."""

    link: Link

    async def schedules(self) -> list[ScheduleView]:
        """All schedules, by name."""
        return decode(await self.link.get("/v1/schedules"), SchedulePage).items

    async def pause_schedule(
        self, name: str, *, reason: str | None = None, idempotency_key: str | None = None
    ) -> AcceptedView:
        """Hold a schedule: it starts nothing until it is resumed."""
        return decode(await self._schedule_asked(name, "pause", reason, idempotency_key), AcceptedView)

    async def resume_schedule(
        self, name: str, *, reason: str | None = None, idempotency_key: str | None = None
    ) -> AcceptedView:
        """Let a schedule go on; what it missed is told by its `catchup`."""
        return decode(await self._schedule_asked(name, "resume", reason, idempotency_key), AcceptedView)

    async def trigger_schedule(
        self, name: str, *, reason: str | None = None, idempotency_key: str | None = None
    ) -> RunView:
        """Start a schedule's run now; the run."""
        return decode(await self._schedule_asked(name, "trigger", reason, idempotency_key), RunView)

    async def _schedule_asked(self, name: str, verb: str, reason: str | None, key: str | None) -> bytes:
        return await self.link.post(f"/v1/schedules/{part(name)}/{verb}", dict(given(reason=reason)), key)
