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
from typing import NamedTuple

import msgspec

from actors.errors import ForkRefused
from actors.flow.answers import ANSWERS
from actors.flow.run_info import History, RunInfo, info_of
from wal import records as r
from wal.records import Entry, PastRecord

_UNDOING = (r.RunCancelRequested, r.RunCompensating, r.RunCompleted, r.RunFailed, r.RunCancelled)

_WAITS = frozenset({r.TimerSet, r.TimerFired, r.ApprovalRequested, r.ApprovalDecided})
"""These are taken over where the wait has come to its end."""

_MOVERS = frozenset({
    r.StateRead, r.StateRefused, r.StateWritten, r.OutputEmitted, r.ChildStarted, r.ChildEnded, r.StepCompleted,
    r.CompensationCompleted, r.StepFailed, r.StepUnknown, r.StepResolved, r.TimerFired, r.ApprovalDecided,
    r.SignalReceived,
})  # fmt: skip
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
    started, second = entries[0], entries[1].record
    if not isinstance(second, r.RunForked) or not second.past:
        return []
    place = max(1, len(second.past) - 1)
    turn = PastRecord(started.seq, second.past[-1].at, started.record)
    return [*second.past[:place], turn, *second.past[place:]]


class Story(NamedTuple):
    """What the code of a run begins as and when, the past of a fork that it recalls then, and the facts of both."""

    info: RunInfo
    at: int
    past: Sequence[PastRecord]
    facts: Sequence[r.Fact]


def story_of(entries: Sequence[Entry], begun_at: int) -> Story:
    """The story of a run with this history, whose code began at that instant unless it is a fork."""
    past = recalled(entries)
    first, at = (past[0].record, past[0].at) if past else (entries[0].record, begun_at)
    assert isinstance(first, (r.RunStarted, r.RunContinued)), first
    return Story(info_of(first), at, past[1:], [*(one.record for one in past), *(entry.record for entry in entries)])


def forked(entries: Sequence[Entry]) -> r.RunForked:
    """The record of a fork of a run with this history, which ends at the point where it forks; what the history begins
    with is the first of its past. Raises ForkRefused where the run is being undone or over by then, or waits for a
    child that is its own."""
    own = [PastRecord(entry.seq, entry.at, entry.record) for entry in entries]
    _refuse(own)
    before = recalled(entries)
    told = _timed([*before, *own[1:]], len(before)) if before else _timed(_begun(own), 1)
    attempts = {one.record.key for one in told if isinstance(one.record, r.StepScheduled)}
    ended = {one.record.key for one in told if isinstance(one.record, (r.TimerFired, r.ApprovalDecided))} - {""}
    kept = [one for one in told[1:] if _is_kept(one.record, attempts, ended)]
    while kept and not _says_something(kept[-1].record):
        kept.pop()
    begins, first = own[0].record, told[0].record
    assert isinstance(begins, (r.RunStarted, r.RunContinued)), begins
    from_id = begins.id if isinstance(begins, r.RunStarted) else begins.started.id
    if isinstance(first, r.RunContinued):
        first = msgspec.structs.replace(first, children=[])  # they are not the fork's to cancel
    if not kept and not (isinstance(first, r.RunContinued) and first.signals):
        return r.RunForked(from_id, own[-1].seq)
    past = [PastRecord(told[0].seq, told[0].at, first), *kept]
    return r.RunForked(from_id, own[-1].seq, past, reached=_reached(told, kept))


def _begun(own: list[PastRecord]) -> list[PastRecord]:
    """The same records, the first with the instant at which the code began: that of a run which waited for its time, or
    in a queue, came later than its start."""
    started = own[0].record
    if not isinstance(started, r.RunStarted) or (started.start_at is None and started.queue is None):
        return own
    fired = (one.at for one in own if type(one.record) is r.TimerFired and not one.record.key)
    return [PastRecord(own[0].seq, next(fired, own[-1].at), started), *own[1:]]


def _timed(told: list[PastRecord], place: int) -> list[PastRecord]:
    """The same records, each with the instant that the code knows while it is applied: the newest of the answers so
    far, also of those that are not taken over. Up to `place` they have it already."""
    now, timed = max(one.at for one in told[:place]), told[:place]
    for one in told[place:]:
        if type(one.record) in ANSWERS:
            now = max(now, one.at)
        timed.append(PastRecord(one.seq, now, one.record))
    return timed


def _reached(told: list[PastRecord], kept: list[PastRecord]) -> dict[str, int]:
    """How far the fibers had come by the last record that is kept, where what is kept does not show it: the code that
    is played up to there must find the same passed as the other run did (see `patched`)."""
    upto = next((number for number, one in enumerate(told, start=1) if kept and one is kept[-1]), 0)
    shown = History.of([one.record for one in kept]).furthest
    whole = History.of([one.record for one in told[:upto]]).furthest
    return {fiber: index for fiber, index in whole.items() if index > shown.get(fiber, -1)}


def _refuse(own: list[PastRecord]) -> None:
    place, children, upto = 0, dict[tuple[str, str], str](), own[-1].seq
    for number, one in enumerate(own):
        record = one.record
        if isinstance(record, _UNDOING):
            said = f"at record {upto} the run was ended or being undone ({record.kind} is record {one.seq})"
            raise ForkRefused(said, hint=f"Fork at record {own[place].seq}, or before.")
        if isinstance(record, r.ChildStarted):
            children[record.key, record.child_id] = record.child_id
        elif isinstance(record, r.ChildEnded):  # of those of an earlier round the keys may be the same
            children.pop((record.key, record.child_id), None)
        if not children:
            place = number
    for child_id in children.values():
        raise ForkRefused(
            f"at record {upto} child {child_id!r} has not ended, and it is the child of one run",
            hint=f"Fork at record {own[place].seq}, or before. Then the fork starts a child of its own.",
        )


def _says_something(record: r.Fact) -> bool:
    """Whether a past may end with this record: an ask that got no answer is asked anew. But an attempt that may have
    been made, and is to be made at most once, is in doubt and not the fork's to make."""
    return type(record) in _MOVERS or (isinstance(record, r.StepScheduled) and record.at_most_once)


def _is_kept(record: r.Fact, attempts: set[str], ended: set[str]) -> bool:
    kind, key = type(record), getattr(record, "key", "")
    if key in attempts:
        return True  # all of how they went, and that one was given up while it waited for the next
    if kind in _WAITS:
        return key in ended
    if isinstance(record, r.StateWritten) and not key:
        return False  # put from outside
    return kind in _TAKEN_OVER or kind is r.RunStarted
