"""A fault at every await point of an actor: the means by which its supervision is proved.

`Fault` wraps a child's `run`. It drives the coroutine itself, counts its await points (the moments at which it hands
itself to trio and an error might come back) and at the n-th lets one come, once, in whichever life of the actor it is:

- `before`: the wait is called off as trio calls one off for a cancellation, and the error is raised in its place.
- `after`: the wait runs its course, and the error is raised instead of its result. So too where a wait cannot be called
  off. (A nursery that waits for its tasks takes the error as it takes a cancellation.)

No fault comes where trio promises its own primitives that none will: in a shielded checkpoint that is not part of
`checkpoint()`, and after a wait that has handed something over (a lock, an item of a channel, a thread's result). It
would prove nothing but that a broken promise breaks things. Tasks that the actor starts in nurseries of its own belong
to it: their await points are counted and struck like its own.
"""

from __future__ import annotations

import types
from collections.abc import Awaitable, Callable, Generator, Iterator
from pathlib import PurePath
from typing import Any, Literal

import trio
from trio._core import _run
from trio._core._traps import CancelShieldedCheckpoint, WaitTaskRescheduled

Run = Callable[..., Awaitable[object]]
Strike = Literal["before", "after"]

HANDING_OVER = {"_parking_lot.py", "_sync.py", "_channel.py", "_threads.py"}


class InjectedFault(Exception):
    """The error that strikes."""


class Fault:
    """Wraps `run` so that its await point number `at` (from 1, counted over all lives) fails. With 0 none ever does.

    `points` is the number of await points so far; `struck` says whether the fault has come.
    """

    def __init__(self, run: Run, at: int, strike: Strike = "before") -> None:
        self._run = run
        self._at = at
        self._strike = strike
        self.points = 0
        self.struck = False

    async def run(self, *arguments: Any) -> None:
        """What to put in the place of the wrapped `run`."""
        inner = _InnerTasks(trio.lowlevel.current_task(), self._drive_inner)
        trio.lowlevel.add_instrument(inner)
        try:
            await self._drive(self._run(*arguments))
        finally:
            trio.lowlevel.remove_instrument(inner)

    async def _drive_inner(self, coroutine: Any) -> Any:
        return await self._drive(coroutine)

    @types.coroutine
    def _drive(self, coroutine: Any) -> Generator[Any, Any, Any]:
        resume: Callable[[Any], Any] = coroutine.send
        what: Any = None
        while True:
            try:
                trap = resume(what)
            except StopIteration as stop:
                return stop.value
            due = self._is_due(coroutine, trap)
            if due and self._strike == "before" and self._call_off(trap):
                resume, what = coroutine.throw, self._fault()
                continue
            due = due and not self.struck and not _keeps_its_promise(coroutine)
            try:
                resume, what = coroutine.send, (yield trap)
            except BaseException as error:  # noqa: BLE001 - handed on, into the coroutine
                resume, what = coroutine.throw, error
            else:
                if due:
                    resume, what = coroutine.throw, self._fault()

    def _is_due(self, coroutine: Any, trap: object) -> bool:
        if trap is CancelShieldedCheckpoint and not any(code is CHECKPOINT for code in _stack(coroutine)):
            return False
        self.points += 1
        return self.points == self._at

    def _call_off(self, trap: object) -> bool:
        """Call a wait off, as trio does for a cancellation; False if it cannot be. A nursery takes the fault itself."""
        if isinstance(trap, WaitTaskRescheduled):

            def raise_cancel() -> None:
                raise self._fault()

            return trap.abort_func(raise_cancel) is trio.lowlevel.Abort.SUCCEEDED
        return trap is CancelShieldedCheckpoint

    def _fault(self) -> InjectedFault:
        self.struck = True
        return InjectedFault(f"at point {self.points}, {self._strike}")


class _InnerTasks(trio.abc.Instrument):
    """Has the coroutines of all tasks below `root` driven by `drive`; trio has not begun them when it tells of them."""

    def __init__(self, root: trio.lowlevel.Task, drive: Callable[[Any], Any]) -> None:
        self._root = root
        self._drive = drive

    def task_spawned(self, task: trio.lowlevel.Task) -> None:
        nursery = task.parent_nursery
        while nursery is not None:
            if nursery.parent_task is self._root:
                task.coro = self._drive(task.coro)
                return
            nursery = nursery.parent_task.parent_nursery


CHECKPOINT = trio.lowlevel.checkpoint.__code__


def _keeps_its_promise(coroutine: Any) -> bool:
    """Whether the wait must not end with an error of ours: an item would be lost, or a nursery left half closed."""
    for code in _stack(coroutine):
        path = PurePath(code.co_filename)
        if "trio" in path.parts and path.name in HANDING_OVER and code.co_qualname != "Event.wait":
            return True
        if code.co_qualname == "Nursery._nested_child_finished":
            return True
    return False


def _stack(awaited: Any) -> Iterator[types.CodeType]:
    """The code of whatever is suspended in `awaited`, outermost first."""
    while awaited is not None:
        code = getattr(awaited, "cr_code", None) or getattr(awaited, "gi_code", None)
        if code is not None:
            yield code
        awaited = getattr(awaited, "cr_await", None) or getattr(awaited, "gi_yieldfrom", None)


def every_point(scenario: Callable[[Callable[[Run], Fault]], Awaitable[None]], points_max: int = 1_000) -> int:
    """Run `scenario` again and again, each time on a new virtual clock and with the fault one await point further on,
    both before and after the wait, until there is no such point any more. Returns the number of points.

    The scenario gets a function that wraps the `run` under test, to be called once; it makes the actors, drives them
    through their work, and asserts what must hold whatever happens.
    """
    for at in range(1, points_max + 1):
        faults = [_strike_once(scenario, at, "before"), _strike_once(scenario, at, "after")]
        if all(fault.points < at for fault in faults):
            return at - 1
    raise AssertionError(f"still going after {points_max} points")


def _strike_once(scenario: Callable[[Callable[[Run], Fault]], Awaitable[None]], at: int, strike: Strike) -> Fault:
    faults: list[Fault] = []

    def wrap(run: Run) -> Fault:
        faults.append(Fault(run, at, strike))
        return faults[-1]

    _run._r.seed(at)  # trio rolls dice for the order within a batch of tasks; the same for all who run this
    try:
        trio.run(scenario, wrap, clock=trio.testing.MockClock(autojump_threshold=0))
    except BaseException as error:
        error.add_note(f"the fault was at point {at}, {strike}")
        raise
    (fault,) = faults
    return fault
