"""The fold from a run's records to its status."""

from __future__ import annotations

import itertools
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec import Raw

from wal import records as r
from wal.records import RECORD_TYPES, ErrorData, Fact
from wal.run_status import (
    ENDED_PHASES,
    MOVERS,
    OPEN_STATUSES,
    SHOWN,
    STATUSES,
    TRANSITIONS,
    RunState,
    advance,
    begin,
    fold,
)

ONE = Raw(b"1")
ERROR = ErrorData("ValueError", "no", "charge")
STARTED = r.RunStarted("a", "shop", ONE)
MOVES: dict[type[Fact], Fact] = {
    r.StepScheduled: r.StepScheduled("0", "charge", ONE),
    r.CompensationScheduled: r.CompensationScheduled("0!", "refund", ONE),
    r.StepResolved: r.StepResolved("0", True),
    r.StepInterrupted: r.StepInterrupted("0", "charge"),
    r.TimerFired: r.TimerFired("0"),
    r.SignalReceived: r.SignalReceived("go", ONE),
    r.ApprovalDecided: r.ApprovalDecided("0", True),
    r.ChildEnded: r.ChildEnded("0", "order-1:0", "completed", ONE),
    r.RunRetried: r.RunRetried(),
    r.RunCancelRequested: r.RunCancelRequested("enough"),
    r.RunWaiting: r.RunWaiting("signal", 5),
    r.RunBlocked: r.RunBlocked("code_error", "TypeError", "0"),
    r.RunCompensating: r.RunCompensating(ERROR),
    r.RunPaused: r.RunPaused(),
    r.RunResumed: r.RunResumed(),
    r.RunCompleted: r.RunCompleted(ONE),
    r.RunFailed: r.RunFailed(ERROR),
    r.RunCancelled: r.RunCancelled("enough"),
}
M = MOVES


def test_the_table_is_whole() -> None:
    """Every phase has a row and a status, every arrow leads to a phase, every mover has its example here."""
    assert set(TRANSITIONS) == set(SHOWN)
    assert {phase for row in TRANSITIONS.values() for phase in row.values()} <= set(SHOWN)
    assert set(SHOWN.values()) | {"paused"} == set(STATUSES)
    assert set(MOVES) == MOVERS
    assert set(RECORD_TYPES) >= MOVERS


@pytest.mark.parametrize(("phase", "kind"), list(itertools.product(TRANSITIONS, MOVES)))
def test_each_cell_of_the_table(phase: str, kind: type[Fact]) -> None:
    """One record moves a run as the table says, paused or not; what is shown follows from phase and pause alone."""
    for paused in (False, True):
        on = "signal" if phase == "waiting" else None
        before = RunState(phase, paused, on, error=ERROR if "blocked" in phase else None)
        after = advance(before, MOVES[kind])

        if kind in (r.RunPaused, r.RunResumed):
            assert (after.phase, after.paused) == (phase, kind is r.RunPaused)
        else:
            assert (after.phase, after.paused) == (TRANSITIONS[phase].get(kind, phase), paused)
        assert after.ended == (after.phase in ENDED_PHASES)
        assert after.status == ("paused" if after.paused and not after.ended else SHOWN[after.phase])


@pytest.mark.parametrize("phase", sorted(ENDED_PHASES))
def test_the_end_is_final(phase: str) -> None:
    """What is recorded after the end of a run changes nothing of its state but the pause."""
    for kind in MOVES.keys() - {r.RunPaused, r.RunResumed}:
        state = RunState(phase)
        assert advance(state, MOVES[kind]) is state


@pytest.mark.parametrize(
    ("story", "status", "waiting_on"),
    [
        ([STARTED], "running", None),
        ([r.RunStarted("a", "shop", ONE, start_at=5)], "queued", "timer"),
        ([r.RunStarted("a", "shop", ONE, queue="slow")], "queued", "queue"),
        ([r.RunStarted("a", "shop", ONE, queue="slow"), r.TimerFired("")], "running", None),
        ([STARTED, M[r.RunWaiting]], "waiting", "signal"),
        ([STARTED, M[r.RunWaiting], M[r.SignalReceived]], "running", None),
        ([STARTED, M[r.RunWaiting], M[r.SignalReceived], M[r.RunWaiting]], "waiting", "signal"),
        ([STARTED, r.RunWaiting("timer", 9), M[r.SignalReceived]], "waiting", "timer"),
        ([STARTED, M[r.RunWaiting], M[r.RunPaused], M[r.SignalReceived], M[r.RunResumed]], "running", None),
        ([STARTED, M[r.RunWaiting], M[r.StepScheduled]], "running", None),
        ([STARTED, M[r.RunWaiting], M[r.RunPaused]], "paused", "signal"),
        ([STARTED, M[r.RunWaiting], M[r.RunPaused], M[r.RunResumed]], "waiting", "signal"),
        ([STARTED, M[r.RunPaused], M[r.RunCancelRequested]], "paused", None),
        ([STARTED, M[r.RunPaused], M[r.RunCompleted]], "completed", None),
        ([STARTED, M[r.RunBlocked]], "blocked", None),
        ([STARTED, M[r.RunBlocked], M[r.TimerFired]], "blocked", None),
        ([STARTED, M[r.RunBlocked], M[r.StepInterrupted]], "blocked", None),
        ([STARTED, M[r.RunBlocked], M[r.RunRetried]], "running", None),
        ([STARTED, M[r.RunBlocked], M[r.RunCancelRequested]], "running", None),
        ([STARTED, M[r.RunCompensating], M[r.CompensationScheduled]], "compensating", None),
        ([STARTED, M[r.RunCompensating], r.RunWaiting("retry", 9)], "compensating", "retry"),
        ([STARTED, M[r.RunCompensating], M[r.RunBlocked]], "blocked", None),
        ([STARTED, M[r.RunCompensating], M[r.RunBlocked], M[r.RunRetried]], "compensating", None),
        ([STARTED, M[r.RunCompensating], M[r.RunBlocked], M[r.RunCancelRequested]], "blocked", None),
        ([STARTED, M[r.RunCompensating], M[r.RunFailed]], "failed", None),
        ([STARTED, M[r.RunCompensating], M[r.RunCancelled]], "cancelled", None),
    ],
)
def test_stories(story: list[Fact], status: str, waiting_on: str | None) -> None:
    """Lives of runs as people would tell them, and the status that they see at the end."""
    state = fold(story)
    assert (state.status, state.waiting_on) == (status, waiting_on)


def test_what_is_wrong_is_told_as_long_as_it_is() -> None:
    """A block shows its code, message and call; leaving it clears that; a failure shows its cause to the end."""
    blocked = fold([STARTED, M[r.RunBlocked]])
    freed = advance(blocked, M[r.RunRetried])
    undoing = advance(freed, M[r.RunCompensating])
    failed = advance(undoing, r.RunFailed(ErrorData("X", "m", "s", "a long traceback")))

    assert blocked.error == ErrorData("code_error", "TypeError", "0")
    assert freed.error is None
    assert undoing.error == ERROR
    assert failed.error == ErrorData("X", "m", "s")
    assert advance(blocked, r.RunCompensating()).error is None


def test_a_run_begins_with_its_start() -> None:
    """A history without its beginning is not folded into a guess."""
    with pytest.raises(ValueError, match="run_paused"):
        fold([r.RunPaused()])
    assert begin(STARTED).status == "running"


@given(st.lists(st.sampled_from(list(MOVES.values())), max_size=40))
def test_any_order_of_records_gives_a_status(story: list[Any]) -> None:
    """No order of records breaks the fold: the status is one of the contract's, a wait is told only by a state that
    waits, and an error only by one that has something wrong."""
    state = fold([STARTED, *story])

    assert state.status in STATUSES
    assert state.ended == (state.status not in OPEN_STATUSES)
    if state.waiting_on is not None:
        assert state.phase in {"waiting", "compensating_waiting", "queued"}
    if state.phase in {"blocked", "compensating_blocked", "failed"}:
        assert state.error is not None
    if state.phase in {"queued", "running", "waiting", "completed"}:
        assert state.error is None
