"""Schedules: runs that begin at times of day. A schedule is a connector whose source is the clock.

So it has what a connector has: a cursor that commits with the runs that it started, keys that make each tick start one
run, a hold that survives restarts, and a place in the tree. Its key is the tick itself (`20261128T060000Z`), so the run
of a tick is found by its id `<schedule>:<tick>`, and a tick that is met twice starts nothing.

What was missed while the daemon was down or the schedule paused is told by `catchup`: `last` runs the latest missed
tick only, `all` runs every one (at most 1,000 of them), `none` goes on with the next.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from datetime import UTC, datetime, timedelta
from typing import Any, Final, Literal
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

import msgspec
from msgspec import Raw

from actors.connector_spec import ConnectorSpec, Deliver, Page, Poll
from actors.errors import DefinitionError
from wal.records import StoredItem

PREFIX: Final = "schedule:"
KIND: Final = "schedule"
TICKS_MAX: Final = 1_000
LOOK_AGAIN_S: Final = 60.0
"""The wall clock may jump: a schedule looks at it at least so often. A look costs a statement."""
EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
LATE_S: Final = 90.0
"""With `catchup = "none"` a tick that is later than this was missed: a look comes at least every minute."""

Catchup = Literal["last", "all", "none"]


class ScheduleSpec(msgspec.Struct, frozen=True, kw_only=True):
    """When a workflow is started: `every` seconds (counted from 1970), or by a `cron` expression in `timezone`."""

    name: str
    workflow: str
    every: float | None = None
    cron: str | None = None
    timezone: str = "UTC"
    input: Raw = Raw(b"null")
    catchup: Catchup = "last"

    @property
    def when(self) -> str:
        """The schedule in words: `every 3600 s`, `0 6 * * * Europe/Berlin`."""
        return f"every {self.every:g} s" if self.every is not None else f"{self.cron} {self.timezone}"


def check(spec: ScheduleSpec) -> None:
    """Raise DefinitionError for a schedule that cannot be."""
    if (spec.every is None) == (spec.cron is None):
        raise DefinitionError(f"schedule {spec.name} needs either every= or cron=")
    if spec.every is not None and not 1.0 <= spec.every <= 366 * 86_400:
        raise DefinitionError(f"schedule {spec.name}: every {spec.every!r} is not 1 second to 366 days")
    if spec.catchup not in ("last", "all", "none"):
        raise DefinitionError(f"schedule {spec.name}: catchup {spec.catchup!r} is not last, all or none")
    if spec.cron is not None:
        _cron(spec, datetime.now(UTC))


def next_tick(spec: ScheduleSpec, after: datetime) -> datetime | None:
    """The first tick later than an instant (UTC); None if there is none any more."""
    if spec.every is not None:
        step = timedelta(seconds=spec.every)
        return EPOCH + ((after - EPOCH) // step + 1) * step
    found = next(_cron(spec, after), None)
    return None if found is None else found.astimezone(UTC)


def ticks_between(spec: ScheduleSpec, after: datetime, until: datetime) -> list[datetime]:
    """The ticks in (after, until], oldest first: at most `TICKS_MAX`, the latest ones."""
    if spec.every is not None:  # so that a long absence costs no walk
        after = max(after, until - TICKS_MAX * timedelta(seconds=spec.every))
    found: list[datetime] = []
    tick = next_tick(spec, after)
    while tick is not None and tick <= until:
        found.append(tick)
        if len(found) > TICKS_MAX:
            found.pop(0)
        tick = next_tick(spec, tick)
    return found


def due_ticks(spec: ScheduleSpec, after: datetime, now: datetime) -> list[datetime]:
    """The ticks to run now, of those since `after`, by the schedule's `catchup`."""
    ticks = ticks_between(spec, after, now)
    if spec.catchup == "all":
        return ticks
    latest = ticks[-1:]
    if spec.catchup == "none":
        return [tick for tick in latest if now - tick <= timedelta(seconds=LATE_S)]
    return latest


def key_of(tick: datetime) -> str:
    """A tick as the key of its run."""
    return f"{tick:%Y%m%dT%H%M%S}Z"


def connector_of(spec: ScheduleSpec, now_us: Callable[[], int]) -> ConnectorSpec:
    """The schedule as a connector: its cursor is the instant (microseconds since 1970) up to which it has looked."""

    async def ticks(poll: Poll[int]) -> AsyncIterator[Page]:
        now = now_us()
        if poll.cursor is None:  # it begins now
            yield Page(cursor=now)
            return
        # Where the clock was set back, what comes by again is known by its key, and the cursor stays where it is.
        is_ahead = poll.cursor > now
        after = instant(now) - timedelta(seconds=LATE_S) if is_ahead else instant(poll.cursor)
        records = [StoredItem(key_of(tick), spec.input) for tick in due_ticks(spec, after, instant(now))]
        if records:
            yield Page(records=records, cursor=None if is_ahead else now)

    def due_us(now: int) -> int | None:
        tick = next_tick(spec, instant(now))
        return None if tick is None else (tick - EPOCH) // timedelta(microseconds=1)

    return ConnectorSpec(
        name=PREFIX + spec.name,
        source=ticks,
        deliver=Deliver("workflow", spec.workflow),
        kind=KIND,
        every=LOOK_AGAIN_S,
        cursor_type=int,
        due_us=due_us,
    )


def instant(us: int) -> datetime:
    """Microseconds since 1970 as a datetime in UTC."""
    return EPOCH + timedelta(microseconds=us)


def _cron(spec: ScheduleSpec, after: datetime) -> Any:
    from cronsim import CronSim, CronSimError  # only for who has a cron expression

    assert spec.cron is not None

    try:
        zone = ZoneInfo(spec.timezone)
    except (ZoneInfoNotFoundError, ValueError, OSError):
        raise DefinitionError(f"schedule {spec.name}: there is no time zone {spec.timezone!r}") from None
    try:
        return CronSim(spec.cron, after.astimezone(zone))
    except CronSimError as error:
        raise DefinitionError(
            f"schedule {spec.name}: cron {spec.cron!r}: {error}",
            hint='Five fields: minute, hour, day, month, weekday; "0 6 * * 1-5" is at six on workdays.',
        ) from None
