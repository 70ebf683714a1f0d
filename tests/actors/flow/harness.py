"""Drives one run by hand: what the coordinator does, synchronously, with the test as the outside world.

A `Run` owns a journal (a list of facts with their instants) and the live flow. Each verb records an answer, applies it
and takes what the code asks for, so the journal is always one that a coordinator could have written. `check()` replays
every prefix of it: a test that ends with `check()` is a test of replay too.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec
from msgspec import Raw

from actors.flow.calls import AttemptCall, Call, StateCall, StateGet, StatePut, TimerCall, UndoCall
from actors.flow.context import Context
from actors.flow.definitions import Retry, Step, Workflow
from actors.flow.driver import Flow
from actors.flow.forks import forked, recalled
from actors.flow.run_info import History, Hold, RunInfo
from wal import records as r
from wal.records import Entry

Journal = list[tuple[r.Fact, int]]
ONCE = Retry(max_attempts=1)
EPOCH_US = 1_700_000_000_000_000
TICK_US = 1_000
FLOWS: list[Flow] = []  # all that a test made, to be put away at its end
TAKES_MAX = 10_000  # asks in a row: code that emits for ever must not hang a test


def raw(value: Any) -> Raw:
    return Raw(msgspec.json.encode(value))


class Traced(Context):
    """A ctx that also lets the code under test write down what it saw; each flow has a trace of its own."""

    def __init__(self, flow: Flow, logged: list[str]) -> None:
        super().__init__(flow, lambda level, message, args, extra: logged.append(message % args))
        self.trace: list[Any] = []
        self.extra: Any = None

    def saw(self, *what: Any) -> None:
        if not self._flow.closing:
            self.trace.append(what if len(what) > 1 else what[0])


def drive(
    workflow: Workflow | None, steps: Mapping[str, Step], journal: Journal, *, live: bool = False, extra: Any = None,
    logged: list[str] | None = None,
) -> Flow:  # fmt: skip
    """A flow that has taken in a journal. `live` leaves its history open, as at the start of a run."""
    past = recalled(entries_of(journal[:2]))
    begun_at = past[0].at if past else journal[0][1]
    started = past[0].record if past else journal[0][0]
    assert isinstance(started, r.RunStarted)
    info = RunInfo(
        started.id, started.workflow, started.input, session_id=started.session_id, tenant=started.tenant,
        trace_id=started.trace_id,
    )  # fmt: skip
    history = None if live else History.of([*(one.record for one in past), *(fact for fact, _ in journal)])
    flow = Flow(workflow, info, steps, history=history, workflows={} if workflow is None else workflow.app.workflows)
    FLOWS.append(flow)
    ctx = Traced(flow, [] if logged is None else logged)
    ctx.extra = extra
    flow.begin(ctx, begun_at)
    for one in past[1:]:
        flow.recall(one.record, one.at)
    for fact, at in journal[1:]:
        flow.apply(fact, at)
    return flow


def entries_of(journal: Journal) -> list[Entry]:
    """The records of a run as a reader gives them; their seqs count from 1."""
    return [Entry(number, 1, number - 1, at, fact) for number, (fact, at) in enumerate(journal, start=1)]  # type: ignore[arg-type]


class Run:
    """A run with its journal, driven by hand."""

    def __init__(
        self, workflow: Workflow, given: Any = None, *, id: str = "run-1", extra: Any = None,
        session_id: str | None = None, tenant: str | None = None, begin: bool = True,
    ) -> None:  # fmt: skip
        self.workflow: Workflow | None = workflow
        self.steps = workflow.app.steps
        self.extra = extra
        self.now = EPOCH_US
        self.logged: list[str] = []
        self.started: list[tuple[str, str, int]] = []  # (key, step, attempt) of every effect that was let go
        self.dropped: list[str] = []
        started = r.RunStarted(id, workflow.name, raw(given), session_id=session_id, tenant=tenant)
        self.journal: Journal = [(started, self.now)]
        self.flow = drive(workflow, self.steps, self.journal, live=True, extra=extra, logged=self.logged)
        if begin:
            self.take()

    # --- the coordinator's part

    def record(self, fact: r.Fact) -> None:
        self.now += TICK_US
        self.journal.append((fact, self.now))

    def take(self) -> None:
        """Record what the code asks for, and let go what may start then."""
        self.take_asks()
        flow = self.flow
        self.started += [(call.key, call.name, call.attempt) for call in flow.starts]
        self.dropped += [call.key for call in flow.drops]
        flow.starts.clear()
        flow.drops.clear()

    def take_asks(self) -> None:
        """Record what the code asks for. A flow that halted is asked nothing."""
        flow = self.flow
        for _ in range(TAKES_MAX):
            if flow.halted is None:
                while flow.notes:
                    self.record(flow.notes.pop(0))
            if flow.halted is not None or not flow.asks:
                break
            ask = flow.asks.popleft()
            fact = self.fact_of(ask)
            self.record(fact)
            flow.recorded(ask, fact)
            self.followed(fact)
        else:
            raise AssertionError("the code asks without end")

    def followed(self, fact: r.Fact) -> None:
        """What the outside says at once to a fact, before the next ask is taken."""

    def fact_of(self, ask: Call | r.Fact) -> r.Fact:
        if isinstance(ask, StateCall):
            return self.answer_state(ask)
        fact = ask.fact(self.now) if isinstance(ask, Call) else ask
        assert fact is not None
        return fact

    def answer_state(self, ask: StateCall) -> r.Fact:
        found = self.stored(ask.scope_name, ask.item)
        exists, version = found is not None and not found.deleted, found.version if found else 0
        if isinstance(ask, StateGet):
            value = found.value if found is not None and exists else raw(None)
            return r.StateRead(ask.key, ask.scope_name, ask.item, exists, value, version if exists else 0)
        assert isinstance(ask, StatePut)
        current = version if exists else 0
        if ask.expect_version is not None and ask.expect_version != current:
            return r.StateRefused(ask.key, ask.scope_name, ask.item, ask.expect_version, current)
        value = ask.value if ask.value is not None else raw(None)
        return r.StateWritten(ask.key, ask.scope_name, ask.item, version + 1, value, ask.value is None)

    def stored(self, scope: str, item: str) -> r.StateWritten | None:
        for fact, _ in reversed(self.journal):
            if isinstance(fact, r.StateWritten) and (fact.scope, fact.name) == (scope, item):
                return fact
        return None

    def tell(self, fact: r.Fact) -> None:
        """Record an answer, apply it, take what the code asks for then."""
        self.record(fact)
        self.flow.apply(fact, self.now)
        self.take()

    # --- the outside world

    def call(self, which: str) -> Any:
        """The call of this key, or the only one of this name."""
        if which in self.flow.calls:
            return self.flow.calls[which]
        named = [call for call in self.flow.calls.values() if call.name == which]
        assert len(named) == 1, f"{which!r} is not one of {list(self.flow.calls.values())}"
        return named[0]

    def complete(self, which: str, value: Any = None) -> None:
        call = self.call(which)
        kind = r.CompensationCompleted if isinstance(call, UndoCall) else r.StepCompleted
        self.tell(kind(call.key, call.name, raw(value), call.attempt))

    def fail(self, which: str, kind: str = "Boom", *, retry_in: float | None = None, **more: Any) -> None:
        """A failed attempt: final, or with a retry after so many seconds. `more`: cancelled, defect."""
        call = self.call(which)
        fact = r.CompensationFailed if isinstance(call, UndoCall) else r.StepFailed
        at = None if retry_in is None else self.now + round(retry_in * 1e6)
        self.tell(fact(call.key, call.name, r.ErrorData(kind, "it broke"), call.attempt, at, **more))

    def interrupt(self, which: str) -> None:
        call = self.call(which)
        self.tell(r.StepInterrupted(call.key, call.name, call.attempt))

    def unknown(self, which: str) -> None:
        call = self.call(which)
        self.tell(r.StepUnknown(call.key, call.name, call.attempt))

    def resolve(self, which: str, happened: bool, result: Any = None) -> None:
        self.tell(r.StepResolved(self.call(which).key, happened, raw(result)))

    def fire(self, which: str) -> None:
        """A timer is due: that of a sleep, of a wait with a timeout, or of the next attempt."""
        call = self.call(which)
        if isinstance(call, TimerCall):
            assert call.due_at is not None
            self.now = max(self.now, call.due_at)
        self.tell(r.TimerFired(call.key))

    def signal(self, name: str, value: Any = None) -> None:
        self.tell(r.SignalReceived(name, raw(value)))

    def cancel(self) -> None:
        """Cancel the run; where its code had halted, from the records."""
        if self.flow.halted is None:
            self.tell(r.RunCancelRequested())
        else:
            self.record(r.RunCancelRequested())
            self.resume()

    def retry(self) -> None:
        """Let a blocked run try again; where its code had halted, by a new replay."""
        if self.flow.halted is None:
            self.tell(r.RunRetried())
        else:
            self.record(r.RunRetried())
            self.resume()

    # --- being put away, and coming back

    def fork(self, upto: int | None = None, id: str = "fork-1") -> None:
        """From here on the run is a fork of what it was at its first records. Raises ForkRefused."""
        entries = entries_of(self.journal[:upto])
        started = self.journal[0][0]
        assert isinstance(started, r.RunStarted)
        record = forked(entries)
        self.flow.close()
        self.journal = []
        self.record(msgspec.structs.replace(started, id=id))
        self.record(record)
        self.flow = self.replay()
        self.interrupt_attempts()

    def replay(self, upto: int | None = None) -> Flow:
        """A fresh flow that has taken in the journal (or its first records) and stands where the code is at its end."""
        flow = drive(self.workflow, self.steps, self.journal[:upto], extra=self.extra, logged=self.logged)
        flow.end_replay()
        return flow

    def resume(self) -> None:
        """Go on in the same process with a fresh replay: after parking, a retry, or a cancellation of halted code."""
        self.flow.close()
        self.flow = self.replay()
        self.take()

    def crash(self, keep: int | None = None) -> None:
        """The process dies; the journal keeps its first `keep` records (all of them if None); a new one starts."""
        self.flow.close()
        if keep is not None:
            del self.journal[keep:]
        self.flow = self.replay()
        self.interrupt_attempts()
        self.take()

    def interrupt_attempts(self) -> None:
        """What a new process records of the attempts that were in flight when the last one died."""
        flow = self.flow
        if flow.halted is not None:
            return
        for call in flow.in_flight():
            if call.open and call.step.delivery == "at_least_once":
                fact: r.Fact = r.StepInterrupted(call.key, call.name, call.attempt)
            else:
                fact = r.StepUnknown(call.key, call.name, call.attempt, "the process ended")
            self.record(fact)
            flow.apply(fact, self.now)

    # --- what a test looks at

    @property
    def trace(self) -> list[Any]:
        return list(self.flow.context.trace)

    @property
    def open(self) -> list[str]:
        return [f"{call.kind} {call.key} {call.name}".strip() for call in self.flow.open_calls()]

    @property
    def hold(self) -> Hold:
        hold = self.flow.hold
        assert hold is not None, f"the run is not held; it waits for {self.open}"
        return hold

    @property
    def kinds(self) -> list[str]:
        return [fact.kind for fact, _ in self.journal]

    def facts(self, kind: type[r.Fact]) -> list[Any]:
        return [fact for fact, _ in self.journal if type(fact) is kind]

    @property
    def undone(self) -> list[str]:
        """The steps that compensations were called for, in their order: `name(arguments)`."""
        found = []
        for fact in self.facts(r.CompensationScheduled):
            args, kwargs = msgspec.json.decode(fact.args)
            found.append(f"{fact.name}({', '.join([*map(repr, args), *(f'{k}={v!r}' for k, v in kwargs.items())])})")
        return found

    @property
    def end(self) -> str:
        """How the run ended: the last record's kind, with the error's type or the result."""
        last = self.journal[-1][0]
        if isinstance(last, r.RunCompleted):
            return f"completed {bytes(last.result).decode()}"
        if isinstance(last, r.RunFailed):
            return f"failed {last.error.type}"
        return "cancelled" if isinstance(last, r.RunCancelled) else "open"

    def finish_undo(self) -> None:
        """Let each compensation succeed until the run asks for no more."""
        for _ in range(1_000):
            calls = [call for call in self.flow.calls.values() if isinstance(call, UndoCall)]
            if not calls:
                return
            self.complete(calls[0].key)
        raise AssertionError("compensations without end")

    def check(self) -> None:
        """Every prefix of the journal replays, and the whole of it gives the flow that is live now."""
        for upto in range(1, len(self.journal)):
            halted = drive(self.workflow, self.steps, self.journal[:upto], extra=self.extra).halted
            assert halted is None or self.flow.halted is not None, f"record {upto}: {halted}"
        assert snapshot(self.replay()) == snapshot(self.flow)


def snapshot(flow: Flow) -> dict[str, Any]:
    """All that live and replay must agree on."""
    halted = flow.halted
    return {
        "trace": list(flow.context.trace),
        "open": [(c.key, c.kind, c.name) for c in flow.open_calls()],
        "attempts": {
            c.key: (c.state, c.open, c.attempt, c.interruptions, c.first_at, bytes(c.args))
            for c in flow.calls.values()
            if isinstance(c, AttemptCall)
        },
        "undo": [(u.key, u.step.name, bytes(u.args)) for u in flow._undo.newest_first()],
        "halted": (halted.code, halted.message, halted.key) if halted else None,
        "holds": {key: hold.code for key, hold in flow.holds.items()},
        "asks": [repr(ask) if isinstance(ask, Call) else msgspec.json.encode(ask) for ask in flow.asks],
        "children": {key: (child.child_id, cancelled) for key, (child, cancelled) in flow.children.items()},
        "ended": flow.ended,
        "compensating": flow.compensating,
        "signals": {name: [bytes(v) for v in queue] for name, queue in flow._signals.items() if queue},
        "now": flow.now_us,
    }
