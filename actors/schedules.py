"""Schedules: runs that begin at times of day. A schedule is a connector whose source is the clock.

So it has what a connector has: a cursor that commits with the runs that it started, keys that make each tick start one
run, a hold that survives restarts, and a place in the tree. Its key is the tick itself (`20261128T060000Z`), so the run
of a tick is found by its id `<schedule>:<tick>`, and a tick that is met twice starts nothing.

What was missed while the daemon was down or the schedule paused is told by `catchup`: `last` runs the latest missed
tick only, `all` runs every one (at most 1,000 of them), `none` goes on with the next.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterator
from datetime import UTC, datetime, timedelta
from itertools import count, takewhile
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
LOOK_BACK: Final = timedelta(hours=1)
LATE_S: Final = 90.0
"""With `catchup = "none"` a tick that is later than this was missed: a look comes at least every minute."""

_FIELDS: Final = 'Five fields: minute, hour, day, month, weekday; "0 6 * * 1-5" is at six on workdays.'

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
    return next(_ticks_after(spec, after), None)


def _ticks_after(spec: ScheduleSpec, after: datetime) -> Iterator[datetime]:
    if spec.every is not None:
        step = timedelta(seconds=spec.every)
        yield from (EPOCH + number * step for number in count((after - EPOCH) // step + 1))
    # In the hour that comes twice a time of day is found that has been: CronSim knows the first of the two only.
    yield from (tick for found in _cron(spec, after) if (tick := found.astimezone(UTC)) > after)


def ticks_between(spec: ScheduleSpec, after: datetime, until: datetime, at_most: int = TICKS_MAX) -> list[datetime]:
    """The ticks in (after, until], oldest first: at most so many, the latest ones. A long absence costs no walk: it is
    looked back upon in steps that double."""
    if spec.every is not None:
        return _ticks(spec, max(after, until - at_most * timedelta(seconds=spec.every)), until)[-at_most:]
    back = LOOK_BACK
    while True:
        begin = after if until - after <= back else until - back
        found = _ticks(spec, begin, until)
        if begin == after or len(found) >= at_most:
            return found[-at_most:]
        back *= 2


def _ticks(spec: ScheduleSpec, after: datetime, until: datetime) -> list[datetime]:
    return list(takewhile(lambda tick: tick <= until, _ticks_after(spec, after)))


def due_ticks(spec: ScheduleSpec, after: datetime, now: datetime) -> list[datetime]:
    """The ticks to run now, of those since `after`, by the schedule's `catchup`."""
    if spec.catchup == "all":
        return ticks_between(spec, after, now)
    latest = ticks_between(spec, after, now, 1)
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
    if len(spec.cron.split()) != 5:
        raise DefinitionError(f"schedule {spec.name}: cron {spec.cron!r}: expected five fields", hint=_FIELDS)
    try:
        zone = ZoneInfo(spec.timezone)
    except (ZoneInfoNotFoundError, ValueError, OSError):
        raise DefinitionError(f"schedule {spec.name}: there is no time zone {spec.timezone!r}") from None
    try:
        return CronSim(spec.cron, after.astimezone(zone))
    except CronSimError as error:
        raise DefinitionError(f"schedule {spec.name}: cron {spec.cron!r}: {error}", hint=_FIELDS) from None
