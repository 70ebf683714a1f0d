"""The flow: one run as a pure function from records to calls.

Two kinds of record. *Answers* come from outside (a step completed, a timer fired, a signal, a cancellation) and are
applied in their order; each lets the code advance until every fiber waits. *Asks* come out of the code (a step is
scheduled, a timer set, an output emitted, the run completed): they queue in `asks`, in order. Live, the coordinator
takes an ask, records it, and tells the flow. In replay the next recorded ask must be the head of that queue, so that
any difference between the code and its records is seen where it is, with both sides named.

The order of answers alone decides everything; where the asks stand between them does not. That is why a run may be
paused, parked or blocked with answers arriving all the while, and go on later as if nothing had been.
"""

from __future__ import annotations

from collections.abc import Callable
from hashlib import blake2b
from typing import Any

from msgspec import Raw

from actors.errors import Nondeterminism
from actors.flow.answers import AnsweredRun
from actors.flow.calls import (
    AttemptCall,
    Call,
    Cancelled,
    ContinueCall,
    EmitCall,
    GroupCall,
    Settle,
    State,
    StateCall,
    TimerCall,
    UndoCall,
    encode,
    payload,
)
from actors.flow.child import ChildResultCall, ChildStartCall
from actors.flow.definitions import Step
from actors.flow.descriptions import describe, error_data, in_words, same_fact, unfit
from actors.flow.fibers import Scope
from actors.flow.run_info import Hold, info_of
from actors.flow.saga_core import UNDO_MARK, Undo
from wal import records as r

LISTED_MAX = 100
"""A run that waits for more calls than this does not name all of them each time."""


def _digest(calls: list[r.OpenCallData]) -> str:
    """Of calls with their kinds and names, in their order; to tell two lists apart, not to keep anything secret."""
    return blake2b(encode(calls), digest_size=16).hexdigest()


class Flow(AnsweredRun):
    """One run. `begin()`, then `apply(record, at)` for each answer; `asks` is what it wants recorded."""

    # --- driving

    def begin(self, context: Any, at: int) -> None:
        """Run the code to its first waits. `context` is the ctx object that it gets."""
        self.now_us, self.context = at, context
        if self.workflow is None:
            self.halted = Hold("unknown_workflow", f"no workflow {self.info.workflow!r} is registered")
            return
        try:
            value = self.workflow.input.decode(self.info.input)
        except Exception as error:  # noqa: BLE001 - a type's own check may raise anything
            self.halted = Hold("undecodable", f"the input does not decode any more: {unfit(error)}")
            return
        self._main = self.spawn(self._run(value), "", self._root)
        self._variables.run(self.drain)

    def apply(self, record: r.Fact, at: int) -> None:
        """Take in the next record of the run: an answer, or in replay also an ask that was recorded."""
        self.records += 1
        handler = self._answers.get(type(record))
        if handler is not None and at > self.now_us:
            self.now_us = at
        if self.halted is not None:
            self._apply_halted(record)
        elif handler is not None:
            if type(record) is not r.RunRetried:
                self._last_waiting = None
            try:
                handler(self, record)
            except Nondeterminism as error:
                self._misfit(error, record)
            if self.halted is None:
                if self._at_rest:
                    self._wake_settlers()
                self._variables.run(self.drain)
        elif type(record) is r.RunWaiting:
            self._last_waiting = record
            self._named.update(call.key for call in record.calls)
        elif type(record) is r.StateWritten and not record.key:
            pass  # put from outside: what the code reads of it has a record of its own
        elif type(record) not in self._ignored:
            self._match(record)

    def recall(self, record: r.Fact, at: int) -> None:
        """`apply` for a record of the past that a fork has taken over. What was asked beside it may not have been, and
        stays asked, so that the ask which this record is need not be the first."""
        if type(record) is r.RunStarted:
            self._turn = info_of(record)
            return
        self.now_us = max(self.now_us, at)
        ask = None
        if type(record) not in self._answers:
            ask = next((ask for ask in self.asks if self._is(ask, record)), None)
            if ask is not None:
                self.asks.remove(ask)
                self.asks.appendleft(ask)
        self._become(ask)
        self.apply(record, at)

    def _misfit(self, error: Nondeterminism, record: r.Fact) -> None:
        """An answer to nothing that the code asks."""
        if self._codeless:  # of an attempt that outlived the code which made it
            self._undo.fold(record)
        else:
            self._contradiction(str(error), record)

    def scheduled(self, ask: AttemptCall) -> None:
        """`recorded` for the one that comes most often."""
        self.records += 1
        ask.state = State.ACTIVE
        if ask.unsettling:
            self.unsettle(ask.scope)
        ask.first_at = self.now_us
        self.starts.append(ask)

    def continuation(self, ask: ContinueCall) -> r.RunContinued:
        """The record with which the code begins anew."""
        info = self.info
        started = r.RunStarted(
            info.id,
            info.workflow,
            ask.input,
            session_id=info.session_id,
            tenant=info.tenant,
            classification=info.classification,
            trace_id=info.trace_id,
            traceparent=info.traceparent,
            parent_id=info.parent_id,
            parent_call=info.parent_call,
        )
        signals = {name: list(values) for name, values in self._signals.items() if values}
        children = [*self.left_behind, *(child.child_id for child, _ in self.children.values())]
        return r.RunContinued(ask.key, started, info.generation + 1, signals, children)

    def recorded(self, ask: Call | r.Fact, fact: r.Fact) -> None:
        """What was taken from `asks` is recorded as `fact`: mark it, and answer those that need nothing else."""
        if isinstance(ask, AttemptCall):
            self.scheduled(ask)
            return
        self.records += 1
        if isinstance(ask, TimerCall):
            ask.state = State.ACTIVE
        elif isinstance(ask, EmitCall):
            self._answer(ask, None)
            self._variables.run(self.drain)
        elif isinstance(ask, ContinueCall):
            assert isinstance(fact, r.RunContinued)
            self.continued = fact
        elif isinstance(ask, ChildStartCall):
            assert isinstance(fact, r.ChildStarted)
            self.children[ask.key] = (fact, False)
            self._answer(ask, ask.make_handle(ask))
            self._variables.run(self.drain)
        elif isinstance(ask, StateCall):
            self._state_answered(ask, fact)
            self._variables.run(self.drain)
        elif isinstance(ask, r.RunCompensating):
            self.compensating = True
        elif isinstance(ask, (r.RunCompleted, r.RunFailed, r.RunCancelled)):
            self.ended = True

    def close(self) -> bool:
        """Put the run away: its coroutines are closed and nothing is recorded. False if one had to be cut off."""
        self.closing = True
        return self._variables.run(self.close_fibers)

    def _match(self, record: r.Fact) -> None:
        if not self.asks:
            self._contradiction(f"recorded: {describe(record)}; the code makes no such call", record)
            return
        ask = self.asks[0]
        if not self._is(ask, record):
            self._contradiction(f"recorded: {describe(record)}; the code now makes: {describe(ask)}", record)
            return
        self._last_waiting = None
        self.asks.popleft()
        self.records -= 1
        self.recorded(ask, record)

    @staticmethod
    def _is(ask: Call | r.Fact, record: r.Fact) -> bool:
        """Whether a record is what this ask would be recorded as."""
        return ask.matches(record) if isinstance(ask, Call) else same_fact(ask, record)

    def end_replay(self) -> None:
        """The history is at its end: what is asked now is new. Cancelling a run whose code halted begins here."""
        self.replaying = False
        self.starts.clear()
        self.drops.clear()
        waiting = self._last_waiting
        if waiting is not None and self.halted is None and not self._waits_as(waiting):
            recorded, now = in_words(waiting.calls, waiting.more), in_words(self.open_calls())
            self._halt(Hold("nondeterminism", f"recorded: waiting for {recorded}; the code now waits for: {now}"))
        self.unwind_if_cancelled()

    def unwind_if_cancelled(self) -> None:
        """Cancelling a run whose code cannot go on: undo what the records say was done."""
        if self.halted is not None and self.cancel_requested and not self.ended:
            self._unwind_without_code()

    # --- the run itself

    def is_failure(self, error: BaseException) -> bool:
        assert self.workflow is not None
        return isinstance(error, self.workflow.fails_on)

    def main_ended(self, value: Any, error: BaseException | None) -> None:
        if error is not None and self.cancel_requested and not self._unwinding:
            # Whatever the code does about its cancellation, a bug or being cut off included, it was to be undone.
            self._main = self.spawn(self._unwind(None), "", self._root)
        elif error is not None and self.halted is None:
            data = error_data(error, with_traceback=True)
            self._halt(Hold("code_error", f"{data.type}: {data.message}", "", data.traceback))

    async def _run(self, value: Any) -> None:
        workflow = self.workflow
        assert workflow is not None
        error: r.ErrorData | None = None
        try:
            result = await (workflow.fn(self.context, value) if workflow.takes_input else workflow.fn(self.context))
        except Cancelled as cancelled:
            if not self.cancel_requested:
                raise RuntimeError("Cancelled left the workflow, but nobody asked for that") from cancelled
        except Exception as failure:
            if not self.is_failure(failure):
                raise
            error = error_data(failure)
        else:
            if not self.cancel_requested:
                encoded = payload(result, self.payload_max_bytes, "the result")
                await self.settle(self._root)
                if not self.cancel_requested:
                    self.asks.append(r.RunCompleted(encoded))
                    return
        await self._unwind(None if self.cancel_requested else error)

    async def _unwind(self, error: r.ErrorData | None) -> None:
        self._unwinding = True
        if self._undo or not self.settled(self._root):
            self.compensating = True
            self.asks.append(r.RunCompensating(error))
        await self.compensate(self._root)
        self.asks.append(r.RunFailed(error) if error is not None else r.RunCancelled())

    def _unwind_without_code(self) -> None:
        """Undo what the records say was done, for a cancelled run whose code cannot be replayed."""
        self.halted = None
        self._codeless = True
        self.close()
        self.closing = False
        self._undo.give_up()
        self._disown_all()
        children = [ask for ask in self.asks if isinstance(ask, r.ChildCancelled)]
        begun = [c for c in self.calls.values() if isinstance(c, UndoCall) and c.state is not State.NEW]
        self.starts = [call for call in self.starts if call in begun]
        held = {call.key: self.holds[call.key] for call in begun if call.key in self.holds}
        for table in (self.asks, self.notes, self.calls, self.holds, self._settlers, self._at_rest):
            table.clear()
        self._root = Scope()  # in which nothing is in flight
        self._signal_waits.clear()
        self._child_waits.clear()
        self.asks.extend(children)
        self.holds.update(held)
        for key, (started, _) in self.children.items():  # what was built on a step goes before the step, here too
            wait = ChildResultCall(None, key, started.child_id, owns=True)
            wait.key, wait.scope, wait.state, wait.open = key, self._root, State.ACTIVE, False
            self.calls[key] = wait
            self.unsettle(self._root)
            self._child_waits[key].append(wait)
        self._main = self.spawn(self._unwind_cancelled(begun), "", self._root)
        self._variables.run(self.drain)

    async def _unwind_cancelled(self, begun: list[UndoCall]) -> None:
        while begun or self._undo or not self.settled(self._root):  # an attempt in flight still may add to it
            if not self.compensating:
                self.compensating = True
                self.asks.append(r.RunCompensating())
            if begun:  # they go on where they stand, and come before what was not begun
                await GroupCall(begun, None)
                begun = []
            await self.compensate(self._root)
        self.asks.append(r.RunCancelled())

    async def settle_all(self) -> None:
        """Wait until no attempt of the run is in flight."""
        await self.settle(self._root)

    async def settle(self, scope: Scope) -> None:
        """Wait until no attempt of this scope is in flight."""
        if not self.settled(scope):
            self._settlers.setdefault(scope, []).append((next(self._turns), self.current))
            await Settle(scope)

    async def compensate(self, scope: Scope) -> None:
        """Undo what was completed in a scope, newest first, each for good before the next."""
        await self.settle(scope)
        for undo in self._undo.newest_first(scope):
            await UndoCall(undo.step, undo.args, undo.key, undo.key + UNDO_MARK)

    # --- what the coordinator and ctx ask

    @property
    def hold(self) -> Hold | None:
        """Why the run stands still, or None."""
        return self.halted or next(iter(self.holds.values()), None)

    def hold_call(self, key: str, hold: Hold) -> None:
        """The coordinator withholds the next attempt of a call until a person lets it go on."""
        call = self.calls[key]
        assert isinstance(call, AttemptCall)
        self._hold(call, hold)

    @property
    def alive(self) -> bool:
        """Whether there is code to close."""
        return bool(self._fibers)

    def missing_undo(self) -> Undo | None:
        """What is to be undone next of all that is undone without the run's code, and whose step nobody has registered:
        there the run will be held. With its code it has the steps that its code names."""
        if not self._codeless:
            return None
        return next((undo for undo in self._undo.newest_first() if undo.step.name not in self.steps), None)

    def is_held(self, key: str) -> bool:
        return key in self.holds

    def held_keys(self) -> list[str]:
        """The calls that wait for a person."""
        return list(self.holds)

    def in_flight(self) -> list[AttemptCall]:
        """The calls whose attempt may be running."""
        return [c for c in self.calls.values() if isinstance(c, AttemptCall) and c.state is State.ACTIVE]

    def open_calls(self) -> list[r.OpenCallData]:
        """What the run waits for, as data."""
        return [
            r.OpenCallData(c.key, c.kind, c.name)
            for c in self.calls.values()
            if c.open or isinstance(c, ChildResultCall)  # one that was left waits for the child's end all the same
        ]

    def waiting(
        self, calls: list[r.OpenCallData], on: str, until: int | None, said: r.RunWaiting | None
    ) -> r.RunWaiting | None:
        """The record of what the run waits for, given its open calls, or None if that is just what it `said` last. To
        name very many calls anew whenever one of them is answered would make a journal that grows with their square."""
        if len(calls) <= LISTED_MAX:
            record = r.RunWaiting(on, until, calls)
            self._named.update(call.key for call in calls)
            return None if record == said else record
        digest = _digest(calls)
        if said is not None and (said.on, said.until, said.digest) == (on, until, digest):
            return None
        kinds: set[str] = set()
        listed = []
        for call in calls:
            if call.key not in self._named or call.kind not in kinds:
                listed.append(call)
                kinds.add(call.kind)
                self._named.add(call.key)
        return r.RunWaiting(on, until, listed, len(calls) - len(listed), digest)

    def _waits_as(self, waiting: r.RunWaiting) -> bool:
        """Whether the code waits for just what was recorded."""
        calls = self.open_calls()
        return waiting.calls == calls if waiting.digest is None else waiting.digest == _digest(calls)

    def patched(self, patch_id: str) -> bool:
        """The version branch; see `Context.patched`."""
        if patch_id in self._patches:
            return True
        fiber = self.current
        if self.replaying and self._history.has_passed(fiber.path, fiber.next_index):
            return False
        self._patches.add(patch_id)
        self.notes.append(r.PatchMarked(patch_id))
        return True

    def note(self, fact: Callable[[str], r.Fact]) -> str:
        """Ask for a record that belongs to no wait; returns its key."""
        key = self.current.next_key()
        self.asks.append(fact(key))
        return key

    def add_undo(self, step: Step, args: Raw) -> None:
        """Put an undo on the current scope's stack."""
        key = self.note(lambda made: r.CompensationAdded(made, step.name, args))
        self._undo.add(key, step, args, self.current.scope)
