"""The world round one run, by chance: answers, retries, late completions, pauses, parking, crashes, deployments.

It does what a coordinator does, in the same order: journal first, then act; an effect is let go once its records are
durable; a crash keeps a prefix that holds all of what is durable. Each figure it draws comes from one seeded generator.
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable
from typing import Any, TypeVar

from actors.errors import ForkRefused
from actors.flow.calls import AttemptCall, State, TimerCall
from actors.flow.driver import Flow
from actors.flow.forks import forked
from actors.flow.saga_core import UNDO_MARK
from tests.actors.flow.harness import FLOWS, Run, drive, entries_of, raw, snapshot
from tests.actors.flow.programs import Maker, Node, changed, program
from tests.actors.flow.undo_check import check_undoing
from wal import records as r
from wal.records import PastRecord

ACTIONS_MAX = 150
FINISH_MAX = 2_000
BUGS = frozenset(range(1_000))
AnyWorld = TypeVar("AnyWorld", bound="World")


class Effect:
    """An attempt that was let go, or will be when its records are durable."""

    def __init__(self, call: AttemptCall, seq: int) -> None:
        self.key, self.name, self.args = call.key, call.name, bytes(call.args)
        self.attempt, self.seq, self.undoes = call.attempt, seq, call.key.endswith(UNDO_MARK)


class World(Run):
    """A run of a random program in a random world."""

    def __init__(self, seed: int, rng: random.Random | None = None) -> None:
        self.rng = rng or random.Random(seed)
        self.counts: Counter[str] = Counter()
        self.pending: list[Effect] = []
        self.running: dict[str, Effect] = {}
        self.acted: dict[str, Effect] = {}  # the effects that the outside has seen, by key
        self.let_go: set[tuple[str, str, bytes, int]] = set()
        self.durable = 1
        self.mode = "live"  # or withheld: asks are not taken; or deferred: answers are not applied
        self.deferred: list[tuple[r.Fact, int]] = []
        self.was_halted = self.was_codeless = self.was_redeployed = False
        self.value = 0
        self.code: Node = Maker(self.rng).program()
        self.before: Node | None = None  # the code of the last deployment, while the new one contradicts the records
        super().__init__(program, extra=(self.code, frozenset()))

    # --- the coordinator's part

    def take(self) -> None:
        flow = self.flow
        if self.mode == "live":
            self.take_asks()
        for call in flow.starts:
            self.pending.append(Effect(call, len(self.journal)))
        flow.starts.clear()
        flow.drops.clear()
        if flow.halted is not None and not self.was_halted:
            self.was_halted = True

    def tell(self, fact: r.Fact) -> None:
        self.record(fact)
        if self.mode == "deferred":
            self.deferred.append((fact, self.now))
            return
        self.flow.apply(fact, self.now)
        self.take()

    def record(self, fact: r.Fact) -> None:
        if self.rng.random() < 0.02:
            self.now -= self.rng.randint(1, 10_000_000)  # the wall clock was set back
        super().record(fact)

    def sync(self) -> None:
        """Some of what was submitted is durable now; its effects start."""
        self.durable = self.rng.choice((len(self.journal), self.rng.randint(self.durable, len(self.journal))))
        for effect in [one for one in self.pending if one.seq <= self.durable]:
            self.pending.remove(effect)
            self.running[effect.key] = effect
            self.acted[effect.key] = effect
            attempt = (effect.key, effect.name, effect.args, effect.attempt)
            assert attempt not in self.let_go, f"{attempt} was let go again"
            self.let_go.add(attempt)
            assert self.scheduled(effect), f"effect {effect.key} was let go without its record"

    def scheduled(self, effect: Effect) -> bool:
        wanted = (effect.key, effect.name, effect.args)
        return any(
            isinstance(fact, r.StepScheduled) and (fact.key, fact.name, bytes(fact.args)) == wanted
            for fact, _ in self.whole
        )

    def wake(self, *, crashed: bool) -> None:
        """A fresh flow over the journal, in this process or in the next."""
        self.flow.close()
        self.deferred.clear()
        if crashed:
            self.running.clear()
            self.pending.clear()
        if self.mode == "deferred":
            self.mode = "withheld"
        self.flow = self.replay()
        self.was_codeless |= self.flow._codeless
        self.interrupt_attempts()
        self.take()

    def interrupt_attempts(self) -> None:
        alive = self.running.keys() | {effect.key for effect in self.pending}
        flow = self.flow
        for call in flow.in_flight() if flow.halted is None else ():
            if call.key in alive:
                continue
            if call.open and call.step.delivery == "at_least_once":
                fact: r.Fact = r.StepInterrupted(call.key, call.name, call.attempt)
            else:
                fact = r.StepUnknown(call.key, call.name, call.attempt, "the process ended")
            self.record(fact)
            flow.apply(fact, self.now)

    # --- what may happen

    def act(self) -> None:
        choices: list[tuple[float, Callable[[], None]]] = [
            (6 if self.pending else 1, self.sync), (1.5, self.send_signal), (0.15, self.cancel_it),
            (0.4 if self.mode == "live" else 2, self.pause_or_resume), (0.5, self.crash_it), (0.5, self.park_it),
        ]  # fmt: skip
        if self.running:
            choices.append((9, self.end_an_attempt))
        if self.mode != "deferred" and self.flow.halted is None and self.timers():
            choices.append((4, self.fire_a_timer))
        if self.mode != "deferred" and self.flow.children:
            choices.append((4, self.end_a_child))
        if self.flow.hold is not None and self.mode != "deferred":
            choices.append((5, self.see_to_the_hold))
        self.rng.choices([one for _, one in choices], [weight for weight, _ in choices])[0]()

    def end_an_attempt(self) -> None:
        effect = self.running.pop(self.rng.choice(list(self.running)))
        call = self.flow.calls.get(effect.key)
        closed = isinstance(call, AttemptCall) and not call.open
        if closed:
            self.counts["outcomes after close"] += 1
            how = self.rng.choice(("completed", "completed", "cancelled", "cancelled", "unknown", "failed"))
        elif effect.undoes:
            how = self.rng.choices(("completed", "retried", "failed", "defect"), (80, 10, 6, 4))[0]
        elif effect.name == "once":
            how = self.rng.choices(("completed", "failed", "unknown", "defect"), (80, 8, 9, 3))[0]
        else:
            how = self.rng.choices(("completed", "retried", "failed", "defect"), (80, 12, 5, 3))[0]
        self.counts[how] += 1
        self.tell(self.outcome(effect, how))

    def outcome(self, effect: Effect, how: str) -> r.Fact:
        self.value += 1
        if how == "completed":
            done = r.CompensationCompleted if effect.undoes else r.StepCompleted
            return done(effect.key, effect.name, raw(self.value), effect.attempt)
        if how == "unknown":
            return r.StepUnknown(effect.key, effect.name, effect.attempt)
        failed = r.CompensationFailed if effect.undoes else r.StepFailed
        at = self.now + 5_000_000 if how == "retried" else None
        error = r.ErrorData("Boom", str(self.value))
        return failed(effect.key, effect.name, error, effect.attempt, at, how == "cancelled", how == "defect")

    def followed(self, fact: r.Fact) -> None:
        """Now and then a child is refused at once: its id is taken."""
        if isinstance(fact, r.ChildStarted) and self.rng.random() < 0.15:
            self.counts["refused children"] += 1
            told = r.ChildEnded(fact.key, fact.child_id, "refused", error=r.ErrorData("IdConflict", "taken"))
            self.record(told)
            self.flow.apply(told, self.now)

    def end_a_child(self) -> None:
        self.counts["children"] += 1
        key, (child, cancelled) = self.rng.choice(list(self.flow.children.items()))
        self.value += 1
        if cancelled and self.rng.random() < 0.7:
            self.tell(r.ChildEnded(key, child.child_id, "cancelled"))
        elif self.rng.random() < 0.8:
            self.tell(r.ChildEnded(key, child.child_id, "completed", raw(self.value)))
        else:
            error = r.ErrorData("Boom", str(self.value))
            self.tell(r.ChildEnded(key, child.child_id, "failed", error=error))

    def timers(self) -> list[str]:
        return [
            call.key for call in self.flow.calls.values()
            if (isinstance(call, TimerCall) and call.open and call.state is State.ACTIVE) or call.state is State.BACKOFF
        ]  # fmt: skip

    def fire_a_timer(self) -> None:
        self.counts["timers"] += 1
        self.tell(r.TimerFired(self.rng.choice(self.timers())))

    def send_signal(self) -> None:
        self.counts["signals"] += 1
        self.value += 1
        name = self.rng.choice("stn")
        wrong = name == "n" and self.rng.random() < 0.3
        self.tell(r.SignalReceived(name, raw("no number" if wrong else self.value)))

    def cancel_it(self) -> None:
        self.counts["cancellations"] += 1
        fact = r.RunCancelRequested()
        if self.flow.halted is None or self.mode == "deferred":
            self.tell(fact)
        else:
            self.record(fact)
            self.wake(crashed=False)

    def pause_or_resume(self) -> None:
        self.counts["pauses"] += 1
        if self.mode == "live":
            self.mode = self.rng.choice(("withheld", "deferred"))
            return
        self.mode = "live"
        flow = self.flow
        for fact, at in self.deferred:  # all that is recorded is applied before anything is asked
            flow.apply(fact, at)
        self.deferred.clear()
        if flow.halted is not None and flow.cancel_requested:
            self.wake(crashed=False)
        else:
            self.take()

    def crash_it(self) -> None:
        self.counts["crashes"] += 1
        keep = self.rng.randint(self.durable, len(self.journal))
        self.counts["records lost"] += len(self.journal) - keep
        del self.journal[keep:]
        self.durable = keep
        if self.rng.random() < 0.06:
            self.redeploy()
        elif self.before is not None and self.rng.random() < 0.5:
            self.bring_back()
        self.wake(crashed=True)
        if self.before is not None and self.flow.halted is None and not self.flow._codeless:
            self.before = None  # the new code fits its records so far: it is the code now
        self.compare()

    def redeploy(self) -> None:
        self.counts["deployments"] += 1
        self.was_redeployed = True
        code, mended = self.extra
        self.before = self.before or code
        self.extra = (changed(self.rng, code), mended)

    def bring_back(self) -> None:
        self.extra = (self.before, self.extra[1])
        self.before = None

    def park_it(self) -> None:
        if self.running or self.pending or self.mode == "deferred":
            return
        self.counts["parkings"] += 1
        before, was_codeless = all_that_counts(self.flow), self.flow._codeless
        self.wake(crashed=False)
        if self.comparable(self.flow._codeless, was_codeless):
            assert all_that_counts(self.flow) == before

    def see_to_the_hold(self) -> None:
        self.counts["holds"] += 1
        unknown = [key for key, hold in self.flow.holds.items() if hold.code == "outcome_unknown"]
        if unknown:
            self.value += 1
            self.tell(r.StepResolved(self.rng.choice(unknown), self.rng.random() < 0.5, raw(self.value)))
        elif self.flow.halted is None:
            self.tell(r.RunRetried())
        elif self.flow.cancel_requested:
            self.wake(crashed=False)
        elif self.before is None and self.flow.halted.code == "nondeterminism":
            # A `finally` or a compensation acted on the way out of a bug: mended code does not come that way.
            self.counts["mended code contradicted"] += 1
            self.cancel_it()
        elif self.before is not None and self.rng.random() < 0.5:
            self.cancel_it()
        else:
            if self.before is not None:
                self.bring_back()
            self.extra = (self.extra[0], BUGS)
            self.record(r.RunRetried())
            self.wake(crashed=False)

    # --- what must hold

    def compare(self) -> None:
        """A flow that is replayed from the journal is the live one, and every effect is the same call in it."""
        if self.mode == "deferred":
            return
        again = self.replay()
        if self.comparable(again._codeless, self.flow._codeless):
            assert all_that_counts(again) == all_that_counts(self.flow)
        for effect in self.acted.values():
            assert self.scheduled(effect)
            call = again.calls.get(effect.key)
            if isinstance(call, AttemptCall) and again.halted is None:
                assert (call.name, bytes(call.args)) == (effect.name, effect.args)
        self.put_away(again)

    def comparable(self, codeless: bool, was_codeless: bool) -> bool:
        """A halted run that was cancelled begins to be undone in replay, and asks for what is not recorded as it stands
        then."""
        return codeless == was_codeless and (self.mode == "live" or not codeless)

    def check_prefixes(self, count: int) -> None:
        """No prefix of the journal contradicts the code that wrote it."""
        for upto in self.rng.sample(range(1, len(self.journal) + 1), min(count, len(self.journal))):
            flow = drive(self.workflow, self.steps, self.journal[:upto], extra=self.extra)
            assert flow.halted is None, (upto, flow.halted)
            self.put_away(flow)

    @property
    def whole(self) -> list[tuple[r.Fact, int]]:
        """All that has been done and undone as the run's own."""
        return self.journal

    def put_away(self, flow: Flow) -> None:
        flow.close()
        FLOWS.remove(flow)

    # --- from begin to end

    def live(self) -> None:
        for _ in range(self.rng.randint(5, ACTIONS_MAX)):
            if self.flow.ended:
                break
            self.act()
            if self.rng.random() < 0.15:
                self.compare()
        self.finish()

    def finish(self) -> None:
        """When the faults stop, everything ends."""
        for _ in range(FINISH_MAX):
            if self.flow.ended:
                return
            if self.mode != "live":
                self.pause_or_resume()
            elif self.flow.hold is not None:
                self.see_to_the_hold()
            elif self.pending:
                self.durable = len(self.journal)
                self.sync()
            elif self.running:
                effect = self.running.pop(next(iter(self.running)))
                self.tell(self.outcome(effect, "completed"))
            elif self.timers():
                self.fire_a_timer()
            elif self.flow.children:
                self.end_a_child()
            else:
                self.value += 1
                names = [call.name for call in self.flow.open_calls() if call.kind == "signal"]
                assert names, f"nothing to wait for: {self.flow.open_calls()}"
                self.tell(r.SignalReceived(self.rng.choice(names), raw(self.value)))
        raise AssertionError(f"the run does not end: {self.open} {self.flow.hold}")


def all_that_counts(flow: Flow) -> dict[str, Any]:
    """What live and replay must agree on. Where no code is left, nobody takes a signal, and a child that ended in the
    meantime need not be cancelled."""
    found = snapshot(flow)
    if flow._codeless:
        found["signals"] = {}
        found["asks"] = [
            repr(ask) for ask in flow.asks if not isinstance(ask, r.ChildCancelled) or ask.key in flow.children
        ]
    return found


class Gone(World):
    """A world in which the workflow is taken away and the run cancelled, at some point; its steps stay."""

    def live(self) -> None:
        for _ in range(self.rng.randint(5, 60)):
            if not self.flow.ended:
                self.act()
        if self.mode != "live":
            self.pause_or_resume()
        if self.flow.ended:
            return
        self.workflow, self.was_redeployed = None, True
        self.wake(crashed=True)
        for _ in range(self.rng.randint(5, ACTIONS_MAX)):
            if self.flow.ended:
                return
            self.act()
            self.compare()
        self.finish()

    def see_to_the_hold(self) -> None:
        if self.flow.halted is not None and not self.flow.cancel_requested:
            self.cancel_it()
        else:
            super().see_to_the_hold()

    def redeploy(self) -> None:
        """It stays away."""

    def bring_back(self) -> None:
        """It stays away."""


class Forked(World):
    """A world in which the run is left, at some point, for a fork of it at some record. `past` is what that takes over,
    None where the run would have none of it."""

    past: list[PastRecord] | None = None

    def live(self) -> None:
        for _ in range(self.rng.randint(5, 80)):
            if not self.flow.ended:
                self.act()
        for _ in range(self.rng.choice((1, 1, 2))):  # a fork of a fork as well
            self.fork_it()
            for _ in range(self.rng.randint(5, 60)):
                if not self.flow.ended:
                    self.act()
                    self.compare()
        if not self.flow.ended:
            self.finish()

    def fork_it(self) -> None:
        upto = self.rng.randint(1, len(self.journal))
        try:
            past = forked(entries_of(self.journal[:upto])).past
        except ForkRefused:
            self.counts["refused forks"] += 1
            return
        before, self.past = self.trace_before(past), past
        again = drive(self.workflow, self.steps, self.journal[:upto], extra=self.extra)
        halted = again.halted
        self.put_away(again)
        for table in (self.running, self.pending, self.acted, self.let_go, self.deferred):
            table.clear()
        self.mode, self.was_codeless = "live", False
        self.fork(upto)
        self.durable = 2
        assert self.flow.halted is None or halted, self.flow.halted
        if self.flow.halted is None:
            assert self.trace[: len(before)] == before
        self.take()

    def trace_before(self, past: list[PastRecord]) -> list[Any]:
        """What the code of the run that was forked saw, up to the last that the fork takes over."""
        last = past[-1].record if past else None
        upto = next((number for number, (fact, _) in enumerate(self.journal) if fact is last), 0)
        if not upto:  # nothing, or a fork of a fork that has done nothing of its own
            return []
        flow = drive(self.workflow, self.steps, self.journal[:upto], extra=self.extra)
        trace = list(flow.context.trace)
        self.put_away(flow)
        return trace

    @property
    def whole(self) -> list[tuple[r.Fact, int]]:
        return [*((one.record, one.at) for one in self.past or ()), *self.journal]


def simulate(seed: int, rng: random.Random | None = None, kind: type[AnyWorld] = World) -> AnyWorld:  # type: ignore[assignment]
    """One random program in one random world, checked to its end."""
    world = kind(seed, rng)
    try:
        world.live()
        world.compare()
        if not (world.was_redeployed or world.was_codeless):
            world.check_prefixes(6)
        check_undoing(world)
    finally:
        while FLOWS:
            FLOWS.pop().close()
    return world
