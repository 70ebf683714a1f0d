"""The promises of `actors.supervisor_core`."""

from __future__ import annotations

import math
from typing import Any

import hypothesis.strategies as st
import pytest
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from actors.supervisor_core import (
    WITH_TASK,
    Action,
    Announce,
    Begin,
    Ended,
    Event,
    Failure,
    Finish,
    Halt,
    IllegalEvent,
    Ready,
    RestartAsked,
    Start,
    State,
    Stop,
    Tick,
    decide,
    initial,
    next_due,
)
from actors.supervisor_spec import Backoff, ChildSpec, SupervisorSpec

FLAT = Backoff(initial_s=1.0, factor=1.0, max_s=1.0, jitter=0.0)


async def run(task_status: object) -> None:
    """A child whose life is played by the test."""


def spec(*restarts: Any, **fields: Any) -> SupervisorSpec:
    children = [{"restart": one} if isinstance(one, str) else one for one in restarts]
    made = tuple(ChildSpec(name=f"c{n}", run=run, **child) for n, child in enumerate(children))
    return SupervisorSpec(children=made, **({"backoff": FLAT} | fields))


def play(state: State, *events: tuple[float, Event]) -> tuple[State, list[Action]]:
    """Decide on events in a row; all their actions."""
    actions: list[Action] = []
    for now, event in events:
        state, more = decide(state, event, now)
        actions += more
    return state, actions


def running(made: SupervisorSpec) -> State:
    """A supervisor whose children have all been started at instant 0."""
    state, _ = decide(initial(made), Begin(), 0)
    for child in range(len(made.children)):
        state, _ = decide(state, Ready(child), 0)
    assert state.phase == "running"
    return state


def conditions(state: State) -> list[str]:
    return [child.condition for child in state.children]


CRASH, RETURN = True, False
PPP = ("permanent",) * 3


# --- start and stop -------------------------------------------------------------------------------------------------


def test_starts_in_order_each_when_the_one_before_is_ready() -> None:
    """Children start in the order of the list, one at a time, and the supervisor is ready when the last one is."""
    state, actions = play(initial(spec(*PPP)), (0, Begin()), (1, Ready(0)), (2, Ready(1)), (3, Ready(2)))
    assert actions == [Start(0), Start(1), Start(2), Announce()]
    assert state.phase == "running"


def test_no_children_is_a_supervisor_too() -> None:
    """Without children it is ready at once and ends at once."""
    assert play(initial(spec()), (0, Begin()), (1, Stop()))[1] == [Announce(), Finish()]


def test_stops_in_reverse_order_each_when_the_one_after_has_ended() -> None:
    """Children are halted in reverse, one at a time, and then the supervisor ends without a failure."""
    stop = [(1.0, Stop()), (2.0, Ended(2, False)), (3.0, Ended(1, False)), (4.0, Ended(0, False))]
    state, actions = play(running(spec(*PPP)), *stop)
    assert actions == [Halt(2), Halt(1), Halt(0), Finish()]
    assert (state.phase, state.failure) == ("ended", None)


def test_stop_during_the_start_halts_what_has_been_started() -> None:
    """A stop in the middle of the start begins nothing more and halts what has a task."""
    begun = [(0.0, Begin()), (1.0, Ready(0)), (2.0, Stop()), (3.0, Ended(1, False)), (4.0, Ended(0, False))]
    _, actions = play(initial(spec(*PPP)), *begun)
    assert actions == [Start(0), Start(1), Halt(1), Halt(0), Finish()]


def test_stop_before_start_and_twice() -> None:
    """A stop before the start ends it, a beginning after that begins nothing, and a second stop changes nothing."""
    state, actions = play(initial(spec(*PPP)), (0, Stop()), (1, Begin()), (2, Stop()))
    assert (state.phase, actions) == ("ended", [])
    state, _ = decide(running(spec(*PPP)), Stop(), 1)
    assert decide(state, Stop(), 2) == (state, [])


def test_crash_during_a_stop_is_not_restarted() -> None:
    """Whoever ends by itself while the others are being stopped stays ended."""
    stop = [(1.0, Stop()), (1.0, Ended(0, CRASH)), (2.0, Ended(2, False)), (3.0, Ended(1, CRASH))]
    state, actions = play(running(spec(*PPP)), *stop)
    assert actions == [Halt(2), Halt(1), Finish()]
    assert state.failure is None


def test_overdue_child_is_passed_over_in_a_stop() -> None:
    """A child that does not end in time does not keep the others from being halted, but the end waits for it."""
    made = spec({"shutdown_timeout_s": 5.0}, {"shutdown_timeout_s": 7.0})
    state, _ = decide(running(made), Stop(), 10)
    assert next_due(state, 10) == 17
    state, actions = play(state, (17, Tick()), (18, Ended(0, False)))
    assert actions == [Halt(0)]
    assert conditions(state) == ["done", "stuck"]
    assert decide(state, Ended(1, False), 99)[1] == [Finish()]


def test_failed_first_start_fails_the_supervisor() -> None:
    """What does not start once is not tried again: the others are halted and the failure names the child."""
    begun = [(0.0, Begin()), (1.0, Ready(0)), (2.0, Ended(1, CRASH)), (3.0, Ended(0, False))]
    state, actions = play(initial(spec(*PPP)), *begun)
    assert actions == [Start(0), Start(1), Halt(0), Finish()]
    assert state.failure == Failure(1, "start", 0)


def test_start_is_bounded_in_time() -> None:
    """A child that is not ready in time fails the first start; later it counts as a crash and is halted."""
    made = spec({"start_timeout_s": 9.0})
    state, _ = decide(initial(made), Begin(), 0)
    assert next_due(state, 0) == 9
    state, actions = play(state, (9, Tick()), (9, Ended(0, False)))
    assert (actions, state.failure) == ([Halt(0), Finish()], Failure(0, "start", 0))

    state, _ = play(running(made), (10, Ended(0, CRASH)), (11, Tick()))
    state, actions = play(state, (20, Tick()), (20, Ended(0, False)), (20.5, Tick()), (21, Tick()))
    assert actions == [Halt(0), Start(0)]
    assert len(state.restarts_at) == 2


def test_late_temporary_start_is_not_tried_again() -> None:
    """A temporary child that an operator asked back and that is not ready in time is halted for good."""
    made = spec({"restart": "temporary", "start_timeout_s": 9.0})
    state, _ = play(running(made), (1, Ended(0, CRASH)), (2, RestartAsked((0,))))
    state, actions = play(state, (11, Tick()), (11, Ended(0, False)))
    assert (actions, conditions(state), state.restarts_at) == ([Halt(0)], ["done"], ())


def test_late_ready_is_ignored() -> None:
    """A child that says it is ready after it was condemned stays condemned."""
    state, _ = play(initial(spec("permanent")), (0, Begin()), (1, Stop()), (2, Ready(0)))
    assert conditions(state) == ["halting"]


# --- restarts -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("restart", "crashed", "restarted"),
    [
        ("permanent", CRASH, True),
        ("permanent", RETURN, True),
        ("transient", CRASH, True),
        ("transient", RETURN, False),
        ("temporary", CRASH, False),
        ("temporary", RETURN, False),
    ],
)
def test_who_is_restarted(restart: str, crashed: bool, restarted: bool) -> None:
    """Permanent: always; transient: after a crash; temporary: never."""
    state, actions = play(running(spec(restart)), (10, Ended(0, crashed)), (11, Tick()))
    assert actions == ([Start(0)] if restarted else [])
    assert len(state.restarts_at) == restarted


@pytest.mark.parametrize(
    ("strategy", "halted", "started"),
    [("one_for_one", [], [1]), ("rest_for_one", [2], [1, 2]), ("one_for_all", [2, 0], [0, 1, 2])],
)
def test_whom_a_crash_restarts_along(strategy: str, halted: list[int], started: list[int]) -> None:
    """The strategy's group is halted in reverse, then, after the backoff, started in order."""
    state, actions = decide(running(spec(*PPP, strategy=strategy)), Ended(1, CRASH), 10)
    for child in halted:
        assert actions == [Halt(child)]
        state, actions = decide(state, Ended(child, False), 10)
    assert actions == []
    assert next_due(state, 10) == 11
    state, actions = decide(state, Tick(), 11)
    for child in started:
        assert actions == [Start(child)]
        state, actions = decide(state, Ready(child), 11)
    assert conditions(state) == ["up"] * 3
    assert len(state.restarts_at) == 1


def test_temporary_child_is_not_restarted_with_its_group() -> None:
    """A temporary child that a neighbour's crash halts is gone for good."""
    made = spec("permanent", "temporary", strategy="one_for_all")
    state, actions = play(running(made), (1, Ended(0, CRASH)), (1, Ended(1, False)), (2, Tick()), (3, Ready(0)))
    assert actions == [Halt(1), Start(0)]
    assert conditions(state) == ["up", "done"]


def test_done_stays_done_in_a_group() -> None:
    """A transient child whose work is done is not run again because a neighbour crashed."""
    made = spec("permanent", "transient", strategy="one_for_all")
    state, actions = play(running(made), (1, Ended(1, RETURN)), (2, Ended(0, CRASH)), (3, Tick()))
    assert actions == [Start(0)]
    assert conditions(state) == ["starting", "done"]


def test_second_crash_while_the_group_is_down() -> None:
    """A neighbour that crashes by itself while it is condemned is not counted and is restarted with the group."""
    state, actions = play(
        running(spec(*PPP, strategy="one_for_all")),
        (10, Ended(0, CRASH)),
        (10, Ended(1, CRASH)),
        (10, Ended(2, False)),
        (11, Tick()),
    )
    assert actions == [Halt(2), Start(0)]
    assert state.restarts_at == (10,)


def test_one_for_one_restarts_are_independent() -> None:
    """Under one_for_one nobody waits for a neighbour's backoff."""
    state, _ = decide(running(spec("permanent", "permanent")), Ended(1, CRASH), 10)
    state, _ = decide(state, Ended(0, CRASH), 10.5)
    state, actions = decide(state, Tick(), 11)
    assert actions == [Start(1)]
    assert next_due(state, 11) == 11.5


def test_backoff_grows_with_crashes_in_a_row_and_is_forgiven() -> None:
    """Each crash in a row waits longer; after a period without one the row begins anew."""
    made = spec("permanent", backoff=Backoff(initial_s=1, factor=3, max_s=9, jitter=0), restarts_max=9, period_s=60)
    state, now, delays = running(made), 100.0, []
    for up_s in (1, 1, 1, 1, 60):
        state, _ = decide(state, Ended(0, CRASH), now)
        delays.append(next_due(state, now) - now)
        now += delays[-1]
        state, _ = play(state, (now, Tick()), (now, Ready(0)))
        now += up_s
    state, _ = decide(state, Ended(0, CRASH), now)
    assert [*delays, next_due(state, now) - now] == [1, 3, 9, 9, 9, 1]


def test_jitter_comes_with_the_event() -> None:
    """The core rolls no dice: the chance in the event moves the delay."""
    made = spec("permanent", backoff=Backoff(initial_s=1, factor=1, max_s=2, jitter=0.5))
    for chance, due in ((0.0, 10.5), (0.5, 11.0), (0.75, 11.25)):
        state, _ = decide(running(made), Ended(0, CRASH, chance=chance), 10)
        assert next_due(state, 10) == due


def crash_at(state: State, now: float) -> State:
    state, _ = decide(state, Ended(0, CRASH), now)
    if state.phase == "running":
        state, _ = play(state, (now + 1, Tick()), (now + 1, Ready(0)))
    return state


def test_intensity_exceeded_escalates() -> None:
    """One crash more than `restarts_max` within the period halts all and fails, with who and how often."""
    state = running(spec("permanent", "permanent", restarts_max=3, period_s=60))
    for now in (100, 110, 120):
        state = crash_at(state, now)
        assert state.failure is None
    state, actions = play(state, (130, Ended(0, CRASH)), (131, Ended(1, False)))
    assert actions == [Halt(1), Finish()]
    assert state.failure == Failure(0, "intensity", 3)


def test_intensity_forgets_after_the_period() -> None:
    """Crashes that lie a period apart never escalate."""
    state = running(spec("permanent", restarts_max=1, period_s=60))
    for now in (100, 160, 220, 280):
        state = crash_at(state, now)
    assert state.failure is None
    assert crash_at(state, 339.9).failure == Failure(0, "intensity", 1)


def test_no_restarts_allowed() -> None:
    """With `restarts_max` 0 the first crash escalates."""
    assert crash_at(running(spec("permanent", restarts_max=0)), 1).failure == Failure(0, "intensity", 0)


def test_intensity_is_shared_by_the_children() -> None:
    """The limit is the supervisor's, not each child's."""
    state = running(spec("permanent", "permanent", restarts_max=1))
    state, _ = play(state, (1, Ended(0, CRASH)), (2, Ended(1, CRASH)))
    assert state.failure == Failure(1, "intensity", 1)


def test_fatal_crash_escalates_at_once() -> None:
    """A crash that no restart can cure fails the supervisor, in the middle of a stop too; the first failure stays."""
    state, actions = decide(running(spec("permanent", "temporary")), Ended(1, CRASH, fatal=True), 1)
    assert (actions, state.failure) == ([Halt(0)], Failure(1, "fatal", 0))
    assert decide(state, Ended(0, CRASH, fatal=True), 2)[0].failure == Failure(1, "fatal", 0)
    state, _ = play(running(spec("permanent")), (1, Stop()), (2, Ended(0, CRASH, fatal=True)))
    assert (state.phase, state.failure) == ("ended", Failure(0, "fatal", 0))


def test_child_that_does_not_end_for_its_restart_fails_the_supervisor() -> None:
    """No second life beside one that does not end: the supervisor gives up instead."""
    made = spec("permanent", {"shutdown_timeout_s": 5.0}, strategy="one_for_all")
    state, actions = play(running(made), (10, Ended(0, CRASH)), (15, Tick()))
    assert (actions, state.failure) == ([Halt(1)], Failure(1, "stop", 1))
    assert conditions(state) == ["done", "stuck"]


# --- operators, significance ----------------------------------------------------------------------------------------


def test_restart_by_an_operator_is_not_counted() -> None:
    """It halts and starts at once, with the strategy's group, without backoff and without a mark."""
    state, actions = play(
        running(spec(*PPP, strategy="rest_for_one")),
        (10, RestartAsked((1,))),
        (10, Ended(2, False)),
        (10, Ended(1, False)),
        (10, Ready(1)),
        (10, Ready(2)),
    )
    assert actions == [Halt(2), Halt(1), Start(1), Start(2)]
    assert (conditions(state), state.restarts_at) == (["up"] * 3, ())


def test_operator_cuts_a_backoff_short_and_wakes_what_is_done() -> None:
    """Asked for, a child in its backoff starts now, and one that is done starts again."""
    _, actions = play(running(spec("permanent")), (10, Ended(0, CRASH)), (10.1, RestartAsked((0,))))
    assert actions == [Start(0)]
    _, actions = play(running(spec("temporary")), (10, Ended(0, CRASH)), (20, RestartAsked((0,))))
    assert actions == [Start(0)]


def test_operator_cannot_restart_what_is_stopping() -> None:
    """A restart asked for during a stop changes nothing."""
    state, _ = decide(running(spec("permanent")), Stop(), 1)
    assert decide(state, RestartAsked((0,)), 2) == (state, [])


@pytest.mark.parametrize(("auto", "ends_after"), [("any_significant", 1), ("all_significant", 2)])
def test_significant_children_end_the_supervisor(auto: str, ends_after: int) -> None:
    """When any, or all, significant children are done, the supervisor stops the rest and ends well."""
    significant = {"restart": "transient", "significant": True}
    state = running(spec("permanent", significant, significant, auto_shutdown=auto))
    for done, child in enumerate((2, 1), start=1):
        state, _ = decide(state, Ended(child, RETURN), done)
        assert (state.phase == "stopping") == (done >= ends_after)
        if state.phase == "stopping":
            break
    assert state.failure is None


# --- what cannot be -------------------------------------------------------------------------------------------------


def test_impossible_events_are_refused() -> None:
    """What the shell must never report raises, and the state stays as it was."""
    up = running(spec("permanent"))
    ended, _ = play(up, (1, Stop()), (2, Ended(0, False)))
    for state, event in ((up, Begin()), (up, Ready(0)), (ended, Ended(0, False)), (ended, Ready(0))):
        with pytest.raises(IllegalEvent):
            decide(state, event, 3)


class AnySupervisor(RuleBasedStateMachine):
    """Any spec under any events that trio could bring, beside a model that knows only tasks and instants."""

    @initialize(
        restarts=st.lists(st.sampled_from(["permanent", "transient", "temporary"]), max_size=4),
        strategy=st.sampled_from(["one_for_one", "rest_for_one", "one_for_all"]),
        restarts_max=st.integers(0, 4),
    )
    def begin(self, restarts: list[str], strategy: str, restarts_max: int) -> None:
        children = [{"restart": one, "start_timeout_s": 8.0, "shutdown_timeout_s": 4.0} for one in restarts]
        made = spec(*children, strategy=strategy, restarts_max=restarts_max, period_s=30.0)
        self.state, self.now = initial(made), 0.0
        self.tasks: set[int] = set()
        self.halted: set[int] = set()
        self.in_reverse: list[int] = []  # halts of the stop under way
        self.crashes: list[float] = []
        self.finished = False
        self.decide(Begin())

    def decide(self, event: Event) -> None:
        assert not self.finished or isinstance(event, Stop | RestartAsked | Tick)
        before = self.state
        self.state, actions = decide(before, event, self.now)
        for action in actions:
            assert not self.finished
            match action:
                case Start(child):
                    assert child not in self.tasks, "two lives at once"
                    assert self.state.phase in ("starting", "running")
                    if self.state.phase == "starting" or self.state.spec.strategy != "one_for_one":
                        assert all(one.condition in ("up", "done") for one in self.state.children[:child])
                    self.tasks.add(child)
                case Halt(child):
                    assert child in self.tasks - self.halted
                    if self.state.phase == "stopping":
                        assert all(child < other for other in self.in_reverse), "not in reverse order"
                        self.in_reverse.append(child)
                    self.halted.add(child)
                case Announce():
                    assert self.state.phase == "running"
                    assert before.phase in ("new", "starting")
                case Finish():
                    assert not self.tasks
                    self.finished = True

    @precondition(lambda self: any(child.condition == "starting" for child in self.state.children))
    @rule(data=st.data())
    def ready(self, data: st.DataObject) -> None:
        starting = [n for n, child in enumerate(self.state.children) if child.condition == "starting"]
        self.decide(Ready(data.draw(st.sampled_from(starting))))

    @precondition(lambda self: self.tasks)
    @rule(data=st.data(), crashed=st.booleans())
    def ended(self, data: st.DataObject, crashed: bool) -> None:
        child = data.draw(st.sampled_from(sorted(self.tasks)))
        before = self.state.children[child]
        if before.condition == "starting":
            crashed = True  # the shell says so: to return before being ready is a crash
        self.tasks.discard(child)
        self.halted.discard(child)
        phase = self.state.phase
        self.decide(Ended(child, crashed))
        restart = self.state.spec.children[child].restart
        wants = restart == "permanent" or (restart == "transient" and crashed)
        if phase == "running" and before.condition in ("starting", "up") and wants:
            self.entered(child)

    def entered(self, child: int) -> None:
        """A crash that wants a restart has been decided upon: compare with a count of our own."""
        recent = [at for at in self.crashes if at > self.now - 30.0]
        if len(recent) >= self.state.spec.restarts_max:
            assert self.state.failure == Failure(child, "intensity", len(recent))
        else:
            assert self.state.failure is None
            self.crashes.append(self.now)

    @rule()
    def wait(self) -> None:
        due = next_due(self.state, self.now)
        if due == math.inf:
            return
        assert due > self.now
        late = [
            n for n, one in enumerate(self.state.children) if one.condition == "starting" and one.deadline_at <= due
        ]
        phase, temporary = self.state.phase, [c.restart == "temporary" for c in self.state.spec.children]
        self.now = due
        self.decide(Tick())
        for child in late:
            if phase == "running" and not temporary[child] and self.state.failure is None:
                self.entered(child)
        assert next_due(self.state, self.now) > self.now
        assert decide(self.state, Tick(), self.now) == (self.state, []), "a second tick has nothing to do"

    @precondition(lambda self: self.state.children)
    @rule(data=st.data())
    def restart(self, data: st.DataObject) -> None:
        self.decide(RestartAsked((data.draw(st.integers(0, len(self.state.children) - 1)),)))

    @precondition(lambda self: self.state.phase == "running")
    @rule(one_in_four=st.integers(0, 3))
    def stop(self, one_in_four: int) -> None:
        if not one_in_four:
            self.decide(Stop())

    @invariant()
    def conditions_are_true(self) -> None:
        """Who has a task in the state has one, at most one is being halted, and a phase says what it says."""
        state = self.state
        assert {n for n, child in enumerate(state.children) if child.condition in WITH_TASK} == self.tasks
        assert sum(child.condition == "halting" for child in state.children) <= 1
        if state.phase in ("stopping", "ended"):
            assert not any(child.condition in ("waiting", "starting", "up") for child in state.children)
        assert (state.phase == "ended") == self.finished
        assert state.failure is None or state.phase in ("stopping", "ended")
        stalled = any(child.condition == "waiting" for child in state.children) and not self.tasks
        assert not stalled or next_due(state, self.now) < math.inf, "somebody waits and nothing will wake him"

    @invariant()
    def impossible_events_are_refused(self) -> None:
        """Nobody without a task can be ready or end."""
        for n, child in enumerate(self.state.children):
            if child.condition not in WITH_TASK:
                for event in (Ready(n), Ended(n, True)):
                    with pytest.raises(IllegalEvent):
                        decide(self.state, event, self.now)


TestAnySupervisor = pytest.mark.slow(AnySupervisor.TestCase)
