"""Upgrade preflight: what becomes of an open run if this code takes over. Its history goes in, a verdict comes out.

The flow is driven as the saga engine drives it when it loads a run, up to where that would record something; then it is
read off how the run stands. Nothing is recorded, so this is as pure as the rest of the core.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final, NamedTuple

import msgspec

from actors.flow.context import Context
from actors.flow.definitions import Registry, is_missing
from actors.flow.driver import Flow
from actors.flow.forks import story_of
from actors.flow.run_info import History, Hold
from actors.flow.saga_core import UNDO_MARK
from wal import records as r
from wal.errors import JournalCorrupt
from wal.records import Entry

FITS: Final = "fits"
"""It goes on as before; one that has not begun can begin."""
BREAKS: Final = "breaks"
"""It goes on now, and this code would block it."""
MENDED: Final = "mended"
"""It is blocked now; with this code a retry lets it go on (or the start by itself, where its workflow is back)."""
BLOCKED: Final = "blocked"
"""It is blocked now, and stays so with this code."""

_SETTLING = (
    r.StepCompleted, r.StepFailed, r.StepInterrupted, r.StepUnknown, r.StepResolved,
    r.CompensationCompleted, r.CompensationFailed,
)  # fmt: skip


class Bounds(msgspec.Struct, frozen=True):
    """The limits of the runtime that a run may run into."""

    payload_max_bytes: int = 2 << 20
    history_records_max: int = 50_000


class Verdict(NamedTuple):
    """One of the verdicts above, and what holds the run: then, or for `mended` now, None if nothing does."""

    verdict: str
    hold: Hold | None = None


def judge(registry: Registry, entries: Sequence[Entry], *, blocked: bool, bounds: Bounds) -> Verdict:
    """The verdict on a run by its whole history; `blocked` says whether it is so now.

    Runs the workflow's code, and closes it again. Raises JournalCorrupt for what is no history of a run.
    """
    story = story_of(entries, _begun_at(entries))
    flow = Flow(
        registry.workflows.get(story.info.workflow),
        story.info,
        registry.steps,
        payload_max_bytes=bounds.payload_max_bytes,
        history=History.of(story.facts),
        workflows=registry.workflows,
    )
    try:
        flow.begin(Context(flow, _unheard), story.at)
        for one in story.past:
            flow.recall(one.record, one.at)
        for entry in entries[1:]:
            flow.apply(entry.record, entry.at)
        flow.end_replay()
        return _blocked_now(flow, entries[-1].at, bounds) if blocked else _going_on_now(flow, story.facts, bounds)
    finally:
        flow.close()


def _begun_at(entries: Sequence[Entry]) -> int:
    """When the code of a run began, by its records, as `SagaEngine.loaded` finds it; or can begin, where it has not."""
    first = entries[0].record if entries else None
    if not isinstance(first, (r.RunStarted, r.RunContinued)):
        raise JournalCorrupt(f"a history does not begin with {first.kind if first is not None else 'nothing'}")
    at = entries[0].at
    if isinstance(first, r.RunStarted) and (first.start_at is not None or first.queue is not None):
        fired = (entry.at for entry in entries if type(entry.record) is r.TimerFired and not entry.record.key)
        # One that has not begun begins at its instant, or by and by: not before what it was told already.
        at = next(fired, max(first.start_at or at, entries[-1].at))
    return at


def _unheard(level: int, message: str, args: tuple[Any, ...], extra: dict[str, Any]) -> None:
    """What the run logs was logged when it was live."""


def _going_on_now(flow: Flow, story: Sequence[r.Fact], bounds: Bounds) -> Verdict:
    hold = flow.halted or _beyond(flow, bounds)
    if hold is None:
        hold = next((one for key, one in flow.holds.items() if not _says_so(story, key)), None) or _missing(flow, story)
    return Verdict(FITS) if hold is None else Verdict(BREAKS, hold)


def _says_so(story: Sequence[r.Fact], key: str) -> bool:
    """Whether the records themselves put this call before a person, whatever the code: that is about to be recorded, or
    will be when the run is resumed."""
    settling = (fact for fact in reversed(story) if isinstance(fact, _SETTLING) and fact.key == key)
    last = next(settling, None)
    if isinstance(last, (r.StepFailed, r.CompensationFailed)):
        return last.retry_at is None and not last.cancelled
    return isinstance(last, r.StepUnknown)


def _blocked_now(flow: Flow, at: int, bounds: Bounds) -> Verdict:
    """What a person's retry would come to, which is refused while the outcome of a call is unknown."""
    held = flow.hold
    flow.apply(r.RunRetried(), at)
    left = flow.hold or _beyond(flow, bounds) or _missing(flow)
    return Verdict(MENDED, held) if left is None else Verdict(BLOCKED, left)


def _missing(flow: Flow, story: Sequence[r.Fact] = ()) -> Hold | None:
    """What a run comes to that is undone without its code, where what undoes is gone as well."""
    undo = flow.missing_undo()
    if undo is None or _says_so(story, key := undo.key + UNDO_MARK):
        return None
    name, error = undo.step.name, is_missing(undo.step.name)
    return Hold("compensation_failed", f"{name}: {type(error).__name__}: {error}", key)


def _beyond(flow: Flow, bounds: Bounds) -> Hold | None:
    """What the engine meets when it takes what the code asks for: too long a history, or code that awaits nothing."""
    if flow.holds or flow.ended or flow.continued is not None:
        return None
    if flow.asks:
        too_long = flow.records >= bounds.history_records_max and not flow.cancel_requested
        return Hold("history_limit", f"more than {bounds.history_records_max} records in one run") if too_long else None
    if flow.open_calls() or flow.in_flight():
        return None
    return Hold("internal", "nothing is in flight and nothing is awaited; please report this")
