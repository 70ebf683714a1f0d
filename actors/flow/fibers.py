"""Fibers: the small deterministic scheduler in which a workflow and the branches of its groups run.

One queue, first in first out, no clock and no loop: a fiber runs until it awaits a call. The same answers in the same
order therefore give the same calls in the same order, live and in replay.
"""

from __future__ import annotations

import atexit
from collections import deque
from collections.abc import Coroutine
from types import CoroutineType
from typing import Any

from actors.errors import ForeignAwait
from actors.flow.calls import Call, Cancelled, GroupCall, Settle, awaited, close_item

REFUSALS_MAX = 1_000  # calls that a cancelled or closing fiber may make and catch before it is cut off

# Coroutines that ignored being closed. Dropping one would make Python close it again, and complain on stderr; the bound
# is for a program that makes ever more of them, which may well hear of it.
CUT_OFF: deque[CoroutineType[Any, Any, Any]] = deque(maxlen=1_000)

# Taken apart with the interpreter, such code would find the names that it calls gone, catch that, and spin for ever.
atexit.register(CUT_OFF.clear)


class Scope:
    """What a failure undoes together: the whole run, a saga block, or a branch of a race that undoes its losers.

    `unsettled` counts the calls in it, and in what is inside it, whose end it must wait for before it is undone."""

    __slots__ = ("parent", "unsettled")

    def __init__(self, parent: Scope | None = None) -> None:
        self.parent = parent
        self.unsettled = 0


class Fiber:
    """One coroutine being driven: the workflow itself, or a branch of a group."""

    __slots__ = (
        "branch",
        "cancelled",
        "coro",
        "done",
        "group",
        "next_index",
        "path",
        "prefix",
        "refusals",
        "scope",
        "started",
        "wait",
    )

    def __init__(
        self, coro: Coroutine[Any, Any, Any], path: str, scope: Scope, group: Group | None, branch: int
    ) -> None:
        self.coro, self.path, self.scope, self.group, self.branch = coro, path, scope, group, branch
        self.prefix = f"{path}." if path else ""
        self.next_index = 0
        self.wait: Call | Group | Settle | None = None
        self.cancelled: Cancelled | None = None
        self.done = self.started = False
        self.refusals = 0

    def next_key(self) -> str:
        """The key of this fiber's next call."""
        index = self.next_index
        self.next_index = index + 1
        return f"{self.prefix}{index}"


class Group:
    """A gather or race that is open."""

    __slots__ = ("call", "fibers", "left", "outcome", "parent", "results", "winner")

    def __init__(self, call: GroupCall, parent: Fiber) -> None:
        self.call, self.parent = call, parent
        self.fibers: list[Fiber] = []
        self.left = len(call.items)
        self.results: list[Any] = [None] * self.left
        self.outcome: tuple[bool, Any] | None = None  # (raising, value or exception), set by what decided the group
        self.winner = -1


class Scheduler:
    """Runs fibers. A subclass opens and closes leaf calls and is told when the main fiber ends."""

    current: Fiber

    def __init__(self) -> None:
        self._ready: deque[tuple[Fiber, Any, bool]] = deque()
        self._fibers: dict[Fiber, None] = {}

    # --- what a subclass supplies

    def open_leaf(self, call: Call) -> None:
        raise AssertionError("abstract")

    def close_leaf(self, call: Call) -> None:
        raise AssertionError("abstract")

    def settled(self, scope: Scope) -> bool:
        raise AssertionError("abstract")

    def main_ended(self, value: Any, error: BaseException | None) -> None:
        raise AssertionError("abstract")

    def is_failure(self, error: BaseException) -> bool:
        raise AssertionError("abstract")

    # --- running

    def spawn(
        self, coro: Coroutine[Any, Any, Any], path: str, scope: Scope, group: Group | None = None, branch: int = 0
    ) -> Fiber:
        """Make a fiber, to run in its turn."""
        fiber = Fiber(coro, path, scope, group, branch)
        self._fibers[fiber] = None
        self._ready.append((fiber, None, False))
        return fiber

    def resume(self, fiber: Fiber, value: Any = None, *, raising: bool = False) -> None:
        """Queue a fiber with the answer to its wait."""
        fiber.wait = None
        self._ready.append((fiber, value, raising))

    def drain(self) -> None:
        """Run until every fiber waits or has ended. User code runs here and nowhere else."""
        ready = self._ready
        while ready:
            fiber, value, raising = ready.popleft()
            if fiber.done:
                continue
            if fiber.cancelled is not None and not fiber.started:
                _discard(fiber)
                self._ended(fiber, None, fiber.cancelled)
                continue
            fiber.started = True
            self.current = fiber
            try:
                asked = fiber.coro.throw(value) if raising else fiber.coro.send(value)
            except StopIteration as stop:
                self._ended(fiber, stop.value, None)
            except KeyboardInterrupt:
                raise
            except BaseException as error:  # noqa: BLE001 - a user's exception of any kind is data here
                self._ended(fiber, None, error)
            else:
                self._wait(fiber, asked)

    def _wait(self, fiber: Fiber, asked: Any) -> None:
        if isinstance(asked, Call):
            if fiber.cancelled is not None and not asked.shielded:
                self._refuse(fiber, fiber.cancelled)
                return
            if not asked.key:  # a compensation brings its own
                asked.key = fiber.next_key()
            asked.fiber, asked.open = fiber, True
            fiber.wait = asked
            self.open_leaf(asked)
        elif type(asked) is GroupCall:
            if fiber.cancelled is not None:
                asked.close()
                self._refuse(fiber, fiber.cancelled)
                return
            self._open_group(fiber, asked)
        elif type(asked) is Settle:
            fiber.wait = asked
            if self.settled(asked.scope):
                self.resume(fiber)
        else:
            self._refuse(
                fiber,
                ForeignAwait(
                    f"a workflow may await only ctx, and here it awaited something else ({type(asked).__name__})"
                ),
            )

    def _refuse(self, fiber: Fiber, error: BaseException) -> None:
        """Raise at the wait itself; code that goes on catching and calling is cut off."""
        fiber.refusals += 1
        if fiber.refusals > REFUSALS_MAX:
            _discard(fiber)
            self._ended(fiber, None, RuntimeError("the code goes on calling ctx after it was refused; it was cut off"))
        else:
            self.resume(fiber, error, raising=True)

    # --- groups

    def _open_group(self, fiber: Fiber, call: GroupCall) -> None:
        call.key = fiber.next_key()
        group = Group(call, fiber)
        fiber.wait = group
        for branch, item in enumerate(call.items):
            coro = awaited(item) if isinstance(item, (Call, GroupCall)) else item
            scope = Scope(fiber.scope) if call.undo_losers else fiber.scope
            group.fibers.append(self.spawn(coro, f"{call.key}/{branch}", scope, group, branch))
        if not group.left:
            self.resume(fiber, [])

    def _ended(self, fiber: Fiber, value: Any, error: BaseException | None) -> None:
        fiber.done = True
        fiber.wait = None
        self._fibers.pop(fiber, None)
        group = fiber.group
        if group is None:
            self.main_ended(value, error)
            return
        group.left -= 1
        if error is None:
            group.results[fiber.branch] = value
        names = group.call.names
        if group.outcome is None and (names is not None or error is not None):
            group.winner = fiber.branch if error is None else -1
            group.outcome = (True, error) if error is not None else (False, (names[fiber.branch], value))  # type: ignore[index]
            self._cancel_all(group, Cancelled(by_defect=self._is_defect(error)))
        if not group.left:
            if group.call.undo_losers:
                group.call.loser_scopes = [f.scope for f in group.fibers if f.branch != group.winner]
            raising, outcome = group.outcome or (False, group.results)
            self.resume(group.parent, outcome, raising=raising)

    def _is_defect(self, error: BaseException | None) -> bool:
        if isinstance(error, Cancelled):
            return error.by_defect
        return error is not None and not self.is_failure(error)

    def _cancel_all(self, group: Group, reason: Cancelled) -> None:
        for fiber in group.fibers:
            self.cancel(fiber, reason)

    def cancel(self, fiber: Fiber, reason: Cancelled) -> None:
        """Raise Cancelled at a fiber's wait, and at every call it makes from now on. Compensations are spared."""
        if fiber.done or fiber.cancelled is not None:
            return
        fiber.cancelled = reason
        wait = fiber.wait
        if isinstance(wait, Group):
            wait.outcome = wait.outcome or (True, reason)
            self._cancel_all(wait, reason)
        elif isinstance(wait, Call) and not wait.shielded:
            self.close_leaf(wait)
            self.resume(fiber, reason, raising=True)

    # --- closing

    def close_fibers(self) -> bool:
        """Close every coroutine, newest first; the user's `finally` blocks run. False if one had to be cut off."""
        self._ready.clear()
        clean = True
        for fiber in reversed(list(self._fibers)):
            self.current = fiber
            clean = _discard(fiber) and clean
            fiber.done = True
        self._fibers.clear()
        return clean


def _discard(fiber: Fiber) -> bool:
    """Close a fiber's coroutine, and what was handed in for one that was never started. False if it had to be cut off:
    code that catches everything and goes on calling cannot be ended, only kept from running again."""
    chain = _awaiting(fiber.coro)
    try:
        fiber.coro.close()
    except KeyboardInterrupt:
        raise
    except BaseException:  # noqa: BLE001 - see below
        # What a user's `finally` raises while its fiber is put away concerns nobody: nothing is recorded, and the same
        # code runs again when the run is woken. "Ignored GeneratorExit" is the cut-off.
        clean = False
    else:
        clean = True
    if not fiber.started and fiber.group is not None:
        close_item(fiber.group.call.items[fiber.branch])
    CUT_OFF.extend(coro for coro in chain if coro.cr_frame is not None)
    return clean


def _awaiting(coro: Any) -> list[CoroutineType[Any, Any, Any]]:
    """A coroutine and those that it awaits, outermost first."""
    chain = []
    while isinstance(coro, CoroutineType):
        chain.append(coro)
        coro = coro.cr_await
    return chain
