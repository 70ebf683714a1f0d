"""Forks: a run that begins with the past of another, and goes its own way from there. Pure.

The order of answers alone decides what code does (see `driver`). So a fork needs the answers that the other run had
got up to a point, each behind the ask that it answers. What was open there is no part of its past: its code asks for
that anew, as this run, live, and so nobody's timer, approval or attempt is shared. A step in flight there is to the
fork as if the process had ended in that attempt: it runs again, or is in doubt. (It may have been given up, with
something that waits for its end; so it cannot be left out.)

Just before the last of those answers the code becomes the fork: what it does from there on goes by the fork's own id,
its chance is its own, and so are the idempotency keys of its steps. Whatever it kept from before stays as it was.
"""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from actors.errors import ForkRefused
from actors.flow.answers import ANSWERS
from wal import records as r
from wal.records import Entry, PastRecord

_UNDOING = (r.RunCancelRequested, r.RunCompensating, r.RunCompleted, r.RunFailed, r.RunCancelled)

_WAITS = frozenset({r.TimerSet, r.TimerFired, r.ApprovalRequested, r.ApprovalDecided})
"""These are taken over where the wait has come to its end."""

_ANSWERED_AT_ONCE = frozenset({r.StateRead, r.StateRefused, r.OutputEmitted, r.ChildStarted})
_MOVERS = _ANSWERED_AT_ONCE | {
    r.StateWritten, r.StepCompleted, r.CompensationCompleted, r.StepFailed, r.StepUnknown, r.StepResolved, r.TimerFired,
    r.ApprovalDecided, r.SignalReceived, r.ChildEnded,
}  # fmt: skip
"""Behind the last of these the code has yet to be heard: what it noted there it notes anew."""
_TAKEN_OVER = _MOVERS | {
    r.StepScheduled, r.StepInterrupted, r.CompensationScheduled, r.CompensationFailed, r.RunRetried, r.ChildCancelled,
    r.PatchMarked, r.AttributesSet, r.CompensationAdded, r.SignalSetAside,
}  # fmt: skip


def recalled(entries: Sequence[Entry]) -> list[PastRecord]:
    """What the code of a run with this history goes through before the run's own records: nothing, but for a fork. In
    it a `RunStarted` that is not the first says which run the code is from there on."""
    if len(entries) < 2:
        return []
    started, forked = entries[0], entries[1].record
    if not isinstance(forked, r.RunForked) or not forked.past:
        return []
    place = max(1, len(forked.past) - 1)
    turn = PastRecord(started.seq, forked.past[-1].at, started.record)
    return [*forked.past[:place], turn, *forked.past[place:]]


def past_of(entries: Sequence[Entry]) -> list[PastRecord]:
    """What a fork takes over from a run with this history, which ends at the point where it forks; the record that the
    history begins with is the first. Raises ForkRefused where the run is being undone or over by then, or waits for a
    child that is its own."""
    own = [PastRecord(entry.seq, entry.at, entry.record) for entry in entries]
    before = recalled(entries)
    told = _timed([*before, *own[1:]] if before else own, len(before) or 1)
    for number, one in enumerate(own):
        if isinstance(one.record, _UNDOING):
            raise ForkRefused(
                f"at record {own[-1].seq} the run was ended or being undone ({one.record.kind} is record {one.seq})",
                hint=_earlier(own, number),
            )
    _refuse_open_children(own)
    attempts = {one.record.key for one in told if isinstance(one.record, r.StepScheduled)}
    ended = {one.record.key for one in told if isinstance(one.record, (r.TimerFired, r.ApprovalDecided))} - {""}
    kept = [one for one in told[1:] if _is_kept(one.record, attempts, ended)]
    while kept and type(kept[-1].record) not in _MOVERS:
        kept.pop()
    first = told[0].record
    if isinstance(first, r.RunContinued):
        first = msgspec.structs.replace(first, children=[])  # they are not the fork's to cancel
    nothing_happened = not kept and not (isinstance(first, r.RunContinued) and first.signals)
    return [] if nothing_happened else [PastRecord(told[0].seq, told[0].at, first), *kept]


def _timed(told: list[PastRecord], place: int) -> list[PastRecord]:
    """The same records, each with the instant that the code knows while it is applied: the newest of the answers so
    far, also of those that are not taken over. Up to `place` they have it already."""
    now, timed = max(one.at for one in told[:place]), told[:place]
    for one in told[place:]:
        if type(one.record) in ANSWERS:
            now = max(now, one.at)
        timed.append(PastRecord(one.seq, now, one.record))
    return timed


def _earlier(own: list[PastRecord], number: int) -> str:
    return f"Fork at record {own[number - 1].seq}, or before." if number else "Fork another run."


def _refuse_open_children(own: list[PastRecord]) -> None:
    ended = {one.record.key for one in own if isinstance(one.record, r.ChildEnded)}
    for number, one in enumerate(own):
        started = one.record
        if isinstance(started, r.ChildStarted) and started.key not in ended:
            raise ForkRefused(
                f"at record {own[-1].seq} child {started.child_id!r} has not ended, and it is the child of one run",
                hint=_earlier(own, number) + " Then the fork starts a child of its own.",
            )


def _is_kept(record: r.Fact, attempts: set[str], ended: set[str]) -> bool:
    kind, key = type(record), getattr(record, "key", "")
    if key in attempts:
        return True  # all of how they went, and that one was given up while it waited for the next
    if kind in _WAITS:
        return key in ended
    if isinstance(record, r.StateWritten) and not key:
        return False  # put from outside
    return kind in _TAKEN_OVER or kind is r.RunStarted
