"""What a supervisor decides: restart maths, and the order of starts and stops. Pure.

Theory of operation
-------------------
`decide(state, event, now)` returns the next state and the actions to perform. It knows no task, no clock and no
chance: instants come as `now` (seconds of any monotonic clock), jitter as `chance` in the event. The specs are in
`actors.supervisor_spec`; the shell, `actors.supervisor`, performs actions and reports events, and decides nothing.

A child is in one of these conditions. `waiting` and `done` have no task, the others have exactly one, so two lives of
one child never overlap.

    waiting  --Start-->    starting  --Ready-->  up           waits for its turn or for the end of its backoff
    starting, up  ------>  condemned                          is to be halted, when its turn comes
    condemned  --Halt-->   halting  --too late-->  stuck      was cancelled; its task has not ended yet
    any with a task  --Ended-->  waiting | done

The supervisor itself goes through phases: new, starting, running, stopping, ended.

The rules, those of OTP's `supervisor` unless said otherwise:

1. Starts go in the order of the list, one at a time, each when the one before is ready. After that first start,
   children under `one_for_one` are independent of each other; under the other strategies the order goes on to hold.
2. Halts go in reverse order, one at a time, and before any start that the same crash has caused.
3. A child that fails in the first start fails the supervisor: what does not start once is misconfigured, not unlucky.
4. A crash that wants a restart is entered in a list of instants. More than `restarts_max` of them within `period_s`:
   the supervisor gives up, halts all and fails (escalation). A restart asked for by an operator is not entered.
5. `permanent` is restarted always, `transient` after a crash, `temporary` never, also not as part of a group.
6. A child that is done stays done when a neighbour's crash restarts the group: its work is done. OTP runs it again.
7. Restarts wait for a backoff that grows with each crash in a row. OTP has none; but a disk that is full for a second
   should not use up the intensity within a millisecond.
8. A crash that is marked fatal fails the supervisor at once, in a stop too: no restart can cure its cause.
9. Whoever does not end in time when it is halted for a restart fails the supervisor: trio cannot kill a task, and a
   second life beside it would be worse. In a stop, the others are halted all the same.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Final, Literal

import msgspec
from msgspec.structs import replace

from actors.supervisor_spec import SupervisorSpec

Phase = Literal["new", "starting", "running", "stopping", "ended"]
Condition = Literal["waiting", "starting", "up", "condemned", "halting", "stuck", "done"]
Cause = Literal["intensity", "start", "stop", "fatal"]

MIDDLE: Final = 0.5  # the chance that moves a delay neither way
WITH_TASK: Final = frozenset[Condition]({"starting", "up", "condemned", "halting", "stuck"})


class IllegalEvent(AssertionError):
    """The shell reported something that cannot be: a bug in the shell. The state is unchanged."""


# --- events and actions ---------------------------------------------------------------------------------------------


class Begin(msgspec.Struct, frozen=True, gc=False):
    """Start the children."""


class Ready(msgspec.Struct, frozen=True, gc=False):
    """The child said that it is ready."""

    child: int


class Ended(msgspec.Struct, frozen=True, gc=False):
    """The child's task has ended: by an exception (`crashed`), or by returning or being cancelled."""

    child: int
    crashed: bool
    fatal: bool = False
    chance: float = MIDDLE


class Tick(msgspec.Struct, frozen=True, gc=False):
    """Time has passed, perhaps until `next_due`."""


class RestartAsked(msgspec.Struct, frozen=True, gc=False):
    """An operator wants these children restarted, each with whoever the strategy restarts along with it."""

    children: tuple[int, ...]


class Stop(msgspec.Struct, frozen=True, gc=False):
    """The supervisor is to end."""


Event = Begin | Ready | Ended | Tick | RestartAsked | Stop


class Start(msgspec.Struct, frozen=True, gc=False):
    """Begin a life of the child."""

    child: int


class Halt(msgspec.Struct, frozen=True, gc=False):
    """Cancel the child's task."""

    child: int


class Announce(msgspec.Struct, frozen=True, gc=False):
    """All children have been started: the supervisor is ready itself."""


class Finish(msgspec.Struct, frozen=True, gc=False):
    """No child has a task any more: the supervisor ends, by failing if the state holds a failure."""


Action = Start | Halt | Announce | Finish


# --- state ----------------------------------------------------------------------------------------------------------


class ChildState(msgspec.Struct, frozen=True, gc=False):
    """One child at one moment. `resumes` says whether it waits again, or is done, once its task has ended."""

    condition: Condition = "waiting"
    resumes: bool = True
    start_at: float = -math.inf  # waiting: not before this instant
    deadline_at: float = math.inf  # starting: ready by then; halting: ended by then
    up_since: float = math.inf
    streak: int = 0  # crashes in a row
    crashed: bool = False  # how its last life ended


class Failure(msgspec.Struct, frozen=True, gc=False):
    """Why the supervisor gave up: the child, the cause, and the number of restarts within the period."""

    child: int
    cause: Cause
    restarts: int


class State(msgspec.Struct, frozen=True):
    """A supervisor at one moment."""

    spec: SupervisorSpec
    children: tuple[ChildState, ...]
    phase: Phase = "new"
    restarts_at: tuple[float, ...] = ()
    failure: Failure | None = None


def initial(spec: SupervisorSpec) -> State:
    """The state before the start."""
    return State(spec, tuple(ChildState() for _ in spec.children))


def next_due(state: State, now: float) -> float:
    """The next instant at which a `Tick` would change anything; infinity if only other events can."""
    instants = [
        child.start_at if child.condition == "waiting" else child.deadline_at
        for child in state.children
        if child.condition in ("waiting", "starting", "halting")
    ]
    # A start that is due and did not happen waits for its turn, and another event will bring it.
    return min((at for at in instants if at > now), default=math.inf)


def decide(state: State, event: Event, now: float) -> tuple[State, list[Action]]:
    """The next state and the actions to perform, in order. Raises IllegalEvent for what cannot happen."""
    after = _apply(state, event, now)
    return _reconcile(after, now)


# --- events change the state ----------------------------------------------------------------------------------------


def _apply(state: State, event: Event, now: float) -> State:
    match event:
        case Begin():
            return _begin(state)
        case Ready(child):
            return _ready(state, child, now)
        case Ended(child):
            return _ended(state, event, now)
        case Tick():
            return _tick(state, now)
        case RestartAsked(children):
            return _restart_asked(state, children, now)
        case Stop():
            return _stop(state)


def _begin(state: State) -> State:
    if state.phase == "new":
        return replace(state, phase="starting")
    if state.phase == "ended":  # it was stopped before it began
        return state
    raise IllegalEvent(f"began twice, in phase {state.phase}")


def _ready(state: State, index: int, now: float) -> State:
    child = state.children[index]
    if child.condition == "starting":
        return _with(state, index, replace(child, condition="up", up_since=now, deadline_at=math.inf))
    if child.condition in ("condemned", "halting", "stuck"):  # it came too late
        return state
    raise IllegalEvent(f"{state.spec.children[index].name} is ready in condition {child.condition}")


def _ended(state: State, event: Ended, now: float) -> State:
    before = state.children[event.child]
    if before.condition not in WITH_TASK:
        raise IllegalEvent(f"{state.spec.children[event.child].name} ended in condition {before.condition}")
    condition: Condition = "waiting" if before.resumes and state.phase != "stopping" else "done"
    after = replace(before, condition=condition, crashed=event.crashed, deadline_at=math.inf, up_since=math.inf)
    state = _with(state, event.child, after)
    if event.fatal:
        return _fail(state, event.child, "fatal")
    if state.phase == "stopping":
        return state
    if before.condition not in ("starting", "up"):  # it was told to end
        return state
    if before.condition == "starting" and event.crashed and state.phase == "starting":
        return _fail(state, event.child, "start")
    restart = state.spec.children[event.child].restart
    if restart == "permanent" or (restart == "transient" and event.crashed):
        return _crash(state, event.child, before, event.chance, now)
    return _retire(state, event.child)


def _tick(state: State, now: float) -> State:
    for index, child in enumerate(state.children):
        if child.condition not in ("starting", "halting") or child.deadline_at > now:
            continue
        if child.condition == "halting":
            state = _with(state, index, replace(child, condition="stuck", deadline_at=math.inf))
            state = _fail(state, index, "stop") if state.phase != "stopping" else state
        elif state.phase == "starting":
            state = _fail(state, index, "start")
        elif state.spec.children[index].restart == "temporary":
            state = _with(state, index, _condemn(child, resumes=False))
        else:
            state = _crash(state, index, child, MIDDLE, now)  # after such a timeout jitter makes no difference
    return state


def _restart_asked(state: State, indexes: tuple[int, ...], now: float) -> State:
    if state.phase not in ("starting", "running"):
        return state
    for index in indexes:
        state = _restart_group(state, index, start_at=now)
        asked = replace(state.children[index], resumes=True, start_at=now, streak=0)
        if asked.condition == "done":
            asked = replace(asked, condition="waiting")
        state = _with(state, index, asked)
    return state


def _stop(state: State) -> State:
    if state.phase in ("stopping", "ended"):
        return state
    for index, child in enumerate(state.children):
        state = _with(state, index, _condemn(child, resumes=False))
    return replace(state, phase="ended" if state.phase == "new" else "stopping")


def _fail(state: State, index: int, cause: Cause) -> State:
    stopping = _stop(state)
    return replace(stopping, failure=state.failure or Failure(index, cause, len(state.restarts_at)))


def _retire(state: State, index: int) -> State:
    """The child is done; if that was significant, so is the supervisor."""
    state = _with(state, index, replace(state.children[index], condition="done", resumes=False))
    if not state.spec.children[index].significant:
        return state
    significant = (child for child, spec in zip(state.children, state.spec.children, strict=True) if spec.significant)
    enough = state.spec.auto_shutdown == "any_significant" or all(child.condition == "done" for child in significant)
    return _stop(state) if enough else state


def _crash(state: State, index: int, before: ChildState, chance: float, now: float) -> State:
    """A life ended, or is to end, that must be followed by another: within the intensity, after a backoff."""
    spec = state.spec
    recent = tuple(at for at in state.restarts_at if at > now - spec.period_s)
    if len(recent) >= spec.restarts_max:
        return _fail(replace(state, restarts_at=recent), index, "intensity")
    was_stable = now - before.up_since >= spec.period_s
    streak = 1 if was_stable else before.streak + 1
    start_at = now + spec.backoff.delay_s(streak, chance)
    state = _restart_group(replace(state, restarts_at=(*recent, now)), index, start_at)
    return _with(state, index, replace(state.children[index], streak=streak, start_at=start_at))


def _restart_group(state: State, index: int, start_at: float) -> State:
    """Condemn the child and whoever the strategy restarts along with it; done stays done."""
    for member in _group(state.spec, index):
        child, restart = state.children[member], state.spec.children[member].restart
        if child.condition in ("starting", "up"):
            child = _condemn(child, resumes=restart != "temporary")
        state = _with(state, member, replace(child, start_at=max(child.start_at, start_at)))
    return state


def _group(spec: SupervisorSpec, index: int) -> Iterable[int]:
    match spec.strategy:
        case "one_for_one":
            return (index,)
        case "rest_for_one":
            return range(index, len(spec.children))
        case "one_for_all":
            return range(len(spec.children))


def _condemn(child: ChildState, *, resumes: bool) -> ChildState:
    if child.condition == "waiting":
        return child if resumes else replace(child, condition="done", resumes=False)
    condition: Condition = "condemned" if child.condition in ("starting", "up") else child.condition
    return replace(child, condition=condition, resumes=resumes)


def _with(state: State, index: int, child: ChildState) -> State:
    return replace(state, children=(*state.children[:index], child, *state.children[index + 1 :]))


# --- the state asks for actions -------------------------------------------------------------------------------------


def _reconcile(state: State, now: float) -> tuple[State, list[Action]]:
    """Perform what is possible now: halts first, from the end; then starts, from the beginning."""
    actions: list[Action] = []
    state = _halt_next(state, now, actions)
    if state.phase in ("starting", "running"):
        state = _start_next(state, now, actions)
    conditions = {child.condition for child in state.children}
    if state.phase == "starting" and conditions <= {"up", "done"}:
        state = replace(state, phase="running")
        actions.append(Announce())
    if state.phase == "stopping" and conditions <= {"done"}:
        state = replace(state, phase="ended")
        actions.append(Finish())
    return state, actions


def _halt_next(state: State, now: float, actions: list[Action]) -> State:
    if any(child.condition == "halting" for child in state.children):
        return state
    for index in reversed(range(len(state.children))):
        child = state.children[index]
        if child.condition == "condemned":
            actions.append(Halt(index))
            deadline_at = now + state.spec.children[index].shutdown_timeout_s
            return _with(state, index, replace(child, condition="halting", deadline_at=deadline_at))
    return state


def _start_next(state: State, now: float, actions: list[Action]) -> State:
    in_order = state.phase == "starting" or state.spec.strategy != "one_for_one"
    if in_order and any(child.condition in ("condemned", "halting", "stuck") for child in state.children):
        return state
    for index, child in enumerate(state.children):
        if child.condition == "waiting" and child.start_at <= now:
            actions.append(Start(index))
            deadline_at = now + state.spec.children[index].start_timeout_s
            child = replace(child, condition="starting", deadline_at=deadline_at)
            state = _with(state, index, child)
        if in_order and child.condition in ("waiting", "starting"):
            return state
    return state
