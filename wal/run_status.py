"""A run's status as a pure fold over its records: the one place that says what a record does to it.

Theory of operation
-------------------
A run is in one **phase**. The phase says more than the status that people see, because a fold has no memory but its
state: a run that is blocked while it undoes its steps must go on undoing them afterwards, so `compensating_blocked`
is a phase of its own. Pausing is no phase: a paused run keeps the phase that it has, records still move it, and the
status says `paused` until it is resumed or over.

    queued ──► running ◄──► waiting        compensating ◄──► compensating_waiting
                 ▲ │                            ▲ │
                 │ ▼                            │ ▼
               blocked ──(compensates)──►  compensating_blocked
        ╰───────────────┬──────────────────────────╯
                        ▼
          completed | failed | cancelled

Rule 1: everything that moves a run is in `TRANSITIONS`; a record that is not named for a phase leaves it unchanged.
Rule 2: an ended phase is final. Records may still follow (a late outcome of an attempt); they change nothing here.
Rule 3: a blocked run is moved only by a person's act, by its end, or by new work of its own. What merely arrives (an
interrupted attempt found at a start, a timer that was due) does not unblock it.
Rule 4: a signal for a run that waits for signals makes it run, until the run says that it waits again; so does a
decision. A run that was to be woken by it is then known to be runnable, also by a daemon that is killed in between. (A
run that waits for an approval may wait for a signal too: what is told of it is what people would look for first.)
Rule 5: `waiting_on` and `waiting_until` live as long as the phase that set them; an error lives until the run leaves
the blocked phase that it stands for, or is replaced.

`wal.projections` keeps this state in the row of the run; `wal.verify` computes it anew from the records.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import msgspec

from wal.records import (
    ApprovalDecided,
    ChildEnded,
    CompensationScheduled,
    ErrorData,
    Fact,
    RunBlocked,
    RunCancelled,
    RunCancelRequested,
    RunCompensating,
    RunCompleted,
    RunFailed,
    RunPaused,
    RunResumed,
    RunRetried,
    RunStarted,
    RunWaiting,
    SignalReceived,
    StepInterrupted,
    StepResolved,
    StepScheduled,
    TimerFired,
)

QUEUED = "queued"
RUNNING = "running"
WAITING = "waiting"
BLOCKED = "blocked"
COMPENSATING = "compensating"
COMPENSATING_WAITING = "compensating_waiting"
COMPENSATING_BLOCKED = "compensating_blocked"
COMPLETED = "completed"
FAILED = "failed"
CANCELLED = "cancelled"
PAUSED = "paused"  # a status, not a phase

SHOWN: Mapping[str, str] = {
    QUEUED: QUEUED,
    RUNNING: RUNNING,
    WAITING: WAITING,
    BLOCKED: BLOCKED,
    COMPENSATING: COMPENSATING,
    COMPENSATING_WAITING: COMPENSATING,  # that it undoes things says more than that it waits a moment to do so
    COMPENSATING_BLOCKED: BLOCKED,
    COMPLETED: COMPLETED,
    FAILED: FAILED,
    CANCELLED: CANCELLED,
}
"""Phase -> status, for a run that is not paused."""

ENDED_PHASES = frozenset({COMPLETED, FAILED, CANCELLED})
BLOCKED_PHASES = frozenset({BLOCKED, COMPENSATING_BLOCKED})
COMPENSATING_PHASES = frozenset({COMPENSATING, COMPENSATING_WAITING, COMPENSATING_BLOCKED})
OPEN_STATUSES: tuple[str, ...] = (QUEUED, RUNNING, WAITING, PAUSED, COMPENSATING, BLOCKED)
STATUSES: tuple[str, ...] = (*OPEN_STATUSES, COMPLETED, FAILED, CANCELLED)

_CARRIERS: frozenset[type[Fact]] = frozenset({RunWaiting, RunBlocked, RunFailed, RunCompensating})
"""These tell something new even where they leave the phase as it is."""

_WAITS = frozenset({WAITING, COMPENSATING_WAITING})

_ENDS: Mapping[type[Fact], str] = {RunCompleted: COMPLETED, RunFailed: FAILED, RunCancelled: CANCELLED}

_FORWARD: Mapping[type[Fact], str] = {
    StepScheduled: RUNNING,
    CompensationScheduled: RUNNING,  # an undo within a saga block, while the run itself goes forward
    StepResolved: RUNNING,
    RunRetried: RUNNING,
    RunCancelRequested: RUNNING,
    RunWaiting: WAITING,
    RunBlocked: BLOCKED,
    RunCompensating: COMPENSATING,
    **_ENDS,
}
_BACKWARD: Mapping[type[Fact], str] = {
    StepScheduled: COMPENSATING,
    CompensationScheduled: COMPENSATING,
    StepResolved: COMPENSATING,
    RunRetried: COMPENSATING,
    RunCompensating: COMPENSATING,
    RunWaiting: COMPENSATING_WAITING,
    RunBlocked: COMPENSATING_BLOCKED,
    **_ENDS,
}
_FORWARD_ARRIVALS: Mapping[type[Fact], str] = {
    TimerFired: RUNNING,
    StepInterrupted: RUNNING,
    ApprovalDecided: RUNNING,
    ChildEnded: RUNNING,
}
_BACKWARD_ARRIVALS: Mapping[type[Fact], str] = {
    TimerFired: COMPENSATING,
    StepInterrupted: COMPENSATING,
    ChildEnded: COMPENSATING,
}

TRANSITIONS: Mapping[str, Mapping[type[Fact], str]] = {
    QUEUED: {**_FORWARD, **_FORWARD_ARRIVALS},
    RUNNING: {**_FORWARD, **_FORWARD_ARRIVALS},
    WAITING: {**_FORWARD, **_FORWARD_ARRIVALS, SignalReceived: RUNNING},
    BLOCKED: _FORWARD,
    COMPENSATING: {**_BACKWARD, **_BACKWARD_ARRIVALS},
    COMPENSATING_WAITING: {**_BACKWARD, **_BACKWARD_ARRIVALS},
    COMPENSATING_BLOCKED: _BACKWARD,
    COMPLETED: {},
    FAILED: {},
    CANCELLED: {},
}
"""Phase -> type of record -> phase."""

MOVERS: frozenset[type[Fact]] = frozenset({RunPaused, RunResumed}.union(*TRANSITIONS.values()))
"""The types of record that may change a `RunState`; all others pass it by."""


class RunState(msgspec.Struct, frozen=True, gc=False):
    """What the fold keeps of a run. `waiting_until` is an instant in microseconds; `error` comes without traceback."""

    phase: str
    paused: bool = False
    waiting_on: str | None = None
    waiting_until: int | None = None
    error: ErrorData | None = None

    @property
    def status(self) -> str:
        """The status of the public contract."""
        return PAUSED if self.paused and self.phase not in ENDED_PHASES else SHOWN[self.phase]

    @property
    def ended(self) -> bool:
        """Whether the run is over."""
        return self.phase in ENDED_PHASES


BEGUN = RunState(RUNNING)
ENQUEUED = RunState(QUEUED, False, "queue")


def begin(record: RunStarted) -> RunState:
    """The state of a run with its first record: one with a queue or a later start is queued."""
    if record.start_at is not None:
        return RunState(QUEUED, False, "timer", record.start_at)
    return BEGUN if record.queue is None else ENQUEUED


def advance(state: RunState, record: Fact) -> RunState:
    """The state after one more record; the same object if the record does not concern it."""
    kind = type(record)
    if kind is RunPaused or kind is RunResumed:
        return msgspec.structs.replace(state, paused=kind is RunPaused)
    phase = TRANSITIONS[state.phase].get(kind)
    if kind is SignalReceived and state.waiting_on not in ("signal", "approval"):
        return state  # buffered; whatever the run waits for, it is not this
    if phase is None or (phase == state.phase and kind not in _CARRIERS):
        return state
    on, until = _wait_after(state, phase, record)
    return RunState(phase, state.paused, on, until, _error_after(state, record))


def fold(records: Iterable[Fact]) -> RunState:
    """The state after a run's records, of which the first must be `RunStarted`."""
    remaining = iter(records)
    first = next(remaining)
    if not isinstance(first, RunStarted):
        raise ValueError(f"a run begins with run_started, not with {first.kind}")
    state = begin(first)
    for record in remaining:
        state = advance(state, record)
    return state


def _wait_after(state: RunState, phase: str, record: Fact) -> tuple[str | None, int | None]:
    if isinstance(record, RunWaiting):
        return record.on, record.until
    if phase == state.phase and phase in _WAITS:
        return state.waiting_on, state.waiting_until
    return None, None


def _error_after(state: RunState, record: Fact) -> ErrorData | None:
    match record:
        case RunBlocked():
            return ErrorData(record.code, record.message, record.key or None)
        case RunFailed(error=ErrorData() as error) | RunCompensating(error=ErrorData() as error):
            return ErrorData(error.type, error.message, error.step)
        case RunCompensating() | RunCompleted():
            return None
    return None if state.phase in BLOCKED_PHASES else state.error
