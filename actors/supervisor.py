"""The trio shell of a supervisor: performs what `actors.supervisor_core` decides, and shows the tree.

Lifecycle
---------
- `run` starts the children in order and says `task_status.started()` when all are ready, not before. It returns when
  the supervisor was stopped, and raises `SupervisionFailed` when it gave up; either way after every child has ended.
- A child is stopped by cancelling it. Being cancelled itself, a supervisor still stops its children one by one, in
  reverse order, each within its `shutdown_timeout_s`; then the cancellation goes on its way. So nested supervisors are
  children like any other.
- `stop` may come before `run` (which then returns at once), twice, or after the end: a second one changes nothing.
- A supervisor that has ended may be run again (by the supervisor above); one that was told to stop stays stopped.
- trio cannot kill a task. A child that does not end in time is passed over while the others stop, but `run` returns
  only when it has ended; whoever wants a bound on that must end the process.

What is a crash: any `Exception` out of a child, groups included, and the return of a permanent child. Cancellation is
none. KeyboardInterrupt and SystemExit are nobody's crash: they end the whole tree.
"""

from __future__ import annotations

import logging
import math
import random
from collections.abc import Callable, Iterator
from typing import Any, Final

import msgspec
import trio

from actors.errors import ActorRestarted, Draining, NotFound, SupervisionFailed
from actors.supervisor_core import (
    Action,
    Announce,
    Begin,
    ChildState,
    Ended,
    Event,
    Failure,
    Finish,
    Halt,
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
from actors.supervisor_spec import ChildSpec, SupervisorSpec
from wal.views import ActorView

ERROR_CHARACTERS_MAX: Final = 500

_PHASE_STATUS: Final = {"starting": "restarting", "running": "up"}
_CONDITION_STATUS: Final = {"up": "up", "done": "stopped", "stuck": "failed"}

logger = logging.getLogger(__name__)


class _Child:
    """What the shell keeps of a child over all its lives."""

    __slots__ = ("last_error", "path", "scope", "spec", "starts", "supervisor")

    def __init__(self, spec: ChildSpec, supervisor: Supervisor | None) -> None:
        self.spec = spec
        self.supervisor = supervisor
        self.path = spec.name
        self.scope = trio.CancelScope()
        self.starts = 0
        self.last_error: str | None = None

    def close(self, error: Exception) -> None:
        """Close its mailbox, or those below it."""
        if self.spec.mailbox is not None:
            self.spec.mailbox.close(error)
        if self.supervisor is not None:
            self.supervisor.close_mailboxes(error)


class _Status:
    """The `task_status` of one life."""

    __slots__ = ("_report", "said")

    def __init__(self, report: Callable[[], None]) -> None:
        self._report = report
        self.said = False

    def started(self, value: object = None) -> None:
        """Say that the child is ready; `value` is not used. Raises RuntimeError the second time."""
        if self.said:
            raise RuntimeError("task_status.started() was called twice")
        self.said = True
        self._report()


class Supervisor:
    """Starts, watches, restarts and stops the children of `spec`; see the module's docstring for its lifecycle.

    `chance` gives the jitter of backoffs, uniform in [0, 1). Raises ValueError if a child that is a supervisor goes by
    another name than it has itself, or has a parent already.
    """

    def __init__(self, name: str, spec: SupervisorSpec, *, chance: Callable[[], float] = random.random) -> None:
        self.name = name
        self.spec = spec
        self._parent: Supervisor | None = None
        self._children: list[_Child] = []
        self._chance = chance
        self._state: State = initial(spec)
        self._stop_asked = False
        self._running = False
        self._failure: SupervisionFailed | None = None
        self._status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED
        self._changed = trio.Event()
        self._nursery: trio.Nursery
        for child in spec.children:
            self._adopt(child)
        self._name_paths()

    def as_child(self, **changes: Any) -> ChildSpec:
        """This supervisor as a child of another: permanent, and without limits of time, for its children have theirs.

        `changes` are fields of `ChildSpec`.
        """
        fields: dict[str, Any] = {"start_timeout_s": math.inf, "shutdown_timeout_s": math.inf} | changes
        return ChildSpec(name=self.name, run=self.run, supervisor=self, **fields)

    @property
    def path(self) -> str:
        """The names from the root down to here, joined by slashes."""
        return self.name if self._parent is None else f"{self._parent.path}/{self.name}"

    # --- life -------------------------------------------------------------------------------------------------------

    async def run(self, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Start all children, then keep them running until stopped or cancelled.

        Raises SupervisionFailed when it gives up, with the last crash as its cause, and `trio.BusyResourceError` if it
        is running already. Cancellation stops the children in order first.
        """
        if self._running:
            raise trio.BusyResourceError(f"supervisor {self.path} is running already")
        await trio.lowlevel.checkpoint_if_cancelled()
        self._running, self._failure, self._state = True, None, initial(self.spec)
        try:
            if self._stop_asked:
                task_status.started()
            else:
                await self._run(task_status)
        finally:
            self._running = False
            if self._parent is None:  # nobody will run it again: do not leave askers waiting
                self.close_mailboxes(Draining(f"{self.path} has stopped"))
            if self._failure is not None:
                # Also in place of a cancellation that is on its way: what is fatal must not go under in a stop.
                raise self._failure

    def stop(self) -> None:
        """Ask the supervisor to stop its children and end, now and for good. Does not wait; idempotent."""
        self._stop_asked = True
        if self._running:
            self._handle(Stop())

    async def _run(self, task_status: trio.TaskStatus[None]) -> None:
        async with trio.open_nursery() as outer:
            outer.start_soon(self._heed_cancellation)
            # The shield keeps a cancellation from reaching all children at once: it arrives one by one, in order.
            with trio.CancelScope(shield=True):
                async with trio.open_nursery() as self._nursery:
                    self._status = task_status
                    await self._govern()
            outer.cancel_scope.cancel()

    async def _heed_cancellation(self) -> None:
        try:
            await trio.sleep_forever()
        finally:
            self._handle(Stop())

    async def _govern(self) -> None:
        self._handle(Begin())
        while self._state.phase != "ended":
            self._changed = trio.Event()
            now = trio.current_time()
            # At each turn, and at the instant that `next_due` is asked for: so nothing falls due between the two.
            self._handle(Tick(), now=now)
            with trio.move_on_at(next_due(self._state, now)):
                await self._changed.wait()

    async def _live(self, index: int) -> None:
        """One life of a child, from its start to its end, whichever it is."""
        child = self._children[index]
        status = _Status(lambda: self._handle(Ready(index)))
        error: Exception | None = None
        try:
            with child.scope:
                await child.spec.run(status)
            if not status.said and not child.scope.cancel_called:
                error = RuntimeError(f"{child.path} ended before it was ready")
        except Exception as caught:  # noqa: BLE001 - a supervisor's work: any crash is reported, shown and decided upon
            error = caught
        self._bury(index, error)

    def _bury(self, index: int, error: Exception | None) -> None:
        child = self._children[index]
        if child.spec.mailbox is not None:
            child.spec.mailbox.refuse_unanswered(ActorRestarted(f"{child.path} ended before it answered"))
        if error is not None:
            child.last_error = _describe(error)
        fatal = error is not None and _is_fatal(error, child.spec.fatal)
        self._handle(Ended(index, error is not None, fatal, self._chance()), error)
        if error is not None:
            logger.error("actor %s crashed; it is %s", child.path, self._outlook(index), exc_info=error)

    # --- decisions --------------------------------------------------------------------------------------------------

    def _handle(self, event: Event, error: Exception | None = None, now: float | None = None) -> None:
        """Let the core decide, and do as it says. Synchronous, so events are decided one at a time, as they come."""
        before = self._state
        self._state, actions = decide(before, event, trio.current_time() if now is None else now)
        if self._state.failure is not None and before.failure is None:
            self._failure = self._give_up(self._state.failure, error)
        for index, (old, new) in enumerate(zip(before.children, self._state.children, strict=True)):
            if new.condition == "done" != old.condition and self._state.phase in ("starting", "running"):
                child = self._children[index]
                child.close(Draining(f"{child.path} has ended"))
        for action in actions:
            self._perform(action)
        if self._state is not before:
            self._changed.set()

    def _perform(self, action: Action) -> None:
        match action:
            case Start(index):
                child = self._children[index]
                child.scope = trio.CancelScope()
                child.starts += 1
                if child.spec.mailbox is not None:
                    child.spec.mailbox.reopen()
                self._nursery.start_soon(self._live, index, name=child.path)
            case Halt(index):
                self._children[index].scope.cancel()
            case Announce():
                self._status.started()
            case Finish():
                pass  # _govern sees that the phase is `ended`

    def _give_up(self, failure: Failure, error: Exception | None) -> SupervisionFailed:
        child = self._children[failure.child]
        match failure.cause:
            case "intensity":
                limit = f"the limit is {self.spec.restarts_max} in {self.spec.period_s:g} s"
                what = f"crashed again after {failure.restarts} restarts; {limit}"
            case "start":
                what = "did not start" if error else f"was not ready within {child.spec.start_timeout_s:g} s"
            case "stop":
                what = f"did not end within {child.spec.shutdown_timeout_s:g} s of its cancellation"
            case _:
                what = "failed, and a restart cannot help"
        message = f"{child.path} {what}" + (f": {_describe(error)}" if error else "")
        failed = SupervisionFailed(message, path=child.path, restarts=failure.restarts, fatal=failure.cause == "fatal")
        failed.__cause__ = error
        return failed

    def _outlook(self, index: int) -> str:
        state = self._state.children[index]
        if state.condition == "waiting":
            return f"to be restarted in {max(0.0, state.start_at - trio.current_time()):.1f} s"
        return "not restarted" if self._failure is None else "given up"

    # --- operators --------------------------------------------------------------------------------------------------

    def restart(self, path: str) -> None:
        """Restart the actor at `path`, and whom the strategy restarts along with it; of oneself, all children.

        For operators: it does not count towards the intensity and has no backoff. Does not wait for it to be up again.
        Raises NotFound for an unknown path, and Draining if the actor's supervisor is not running.
        """
        owner, indexes = self._find(path)
        if not owner._running or owner._state.phase not in ("starting", "running"):
            raise Draining(f"{owner.path} is not running")
        owner._handle(RestartAsked(indexes))

    def tree(self) -> list[ActorView]:
        """This supervisor and all below it, each before its children, in the order of their start."""
        failure = self._failure
        status = "failed" if failure else _PHASE_STATUS.get(self._state.phase, "stopped")
        error = str(failure)[:ERROR_CHARACTERS_MAX] if failure else None
        return [ActorView(self.path, status, 0, self.spec.strategy, 0, 0, error), *self._rows()]

    def _rows(self) -> Iterator[ActorView]:
        for child, state in zip(self._children, self._state.children, strict=True):
            yield _view(child, state)
            if child.supervisor is not None:
                yield from child.supervisor._rows()

    def _find(self, path: str) -> tuple[Supervisor, tuple[int, ...]]:
        if path == self.path:
            return self, tuple(range(len(self._children)))
        for index, child in enumerate(self._children):
            if path == child.path:
                return self, (index,)
            if child.supervisor is not None and path.startswith(child.path + "/"):
                return child.supervisor._find(path)
        raise NotFound(f"there is no actor {path[:ERROR_CHARACTERS_MAX]!r}")

    def close_mailboxes(self, error: Exception) -> None:
        """Close every mailbox at and below this supervisor with `error`."""
        for child in self._children:
            child.close(error)

    def _adopt(self, spec: ChildSpec) -> None:
        supervisor = spec.supervisor
        if supervisor is None:
            self._children.append(_Child(spec, None))
            return
        if not isinstance(supervisor, Supervisor) or spec.name != supervisor.name or supervisor._parent is not None:
            raise ValueError(f"child {spec.name!r}: supervisor must be one, be named so and be nobody else's child")
        supervisor._parent = self
        self._children.append(_Child(spec, supervisor))

    def _name_paths(self) -> None:
        for child in self._children:
            child.path = f"{self.path}/{child.spec.name}"
            if child.supervisor is not None:
                child.supervisor._name_paths()


def root_cause(failed: SupervisionFailed) -> BaseException:
    """What the first crash in a chain of escalations was; the failure itself if no exception was at its bottom."""
    cause: BaseException = failed
    while isinstance(cause, SupervisionFailed) and cause.__cause__ is not None:
        cause = cause.__cause__
    return cause


def _view(child: _Child, state: ChildState) -> ActorView:
    status = _CONDITION_STATUS.get(state.condition, "restarting")
    if child.starts == 0 and state.condition == "waiting":
        status = "stopped"
    elif state.condition == "done" and state.crashed:
        status = "failed"
    elif state.condition in ("condemned", "halting") and not state.resumes:
        status = "stopped"
    size = limit = 0
    statistics = {} if child.spec.statistics is None else child.spec.statistics()
    if child.spec.mailbox is not None:
        figures = msgspec.structs.asdict(child.spec.mailbox.statistics())
        size, limit = figures.pop("size"), figures.pop("limit")
        statistics = statistics | figures
    strategy = None if child.supervisor is None else child.supervisor.spec.strategy
    restarts = max(0, child.starts - 1)
    return ActorView(child.path, status, restarts, strategy, size, limit, child.last_error, statistics)


def _leaves(error: BaseException) -> Iterator[BaseException]:
    if isinstance(error, BaseExceptionGroup):
        for part in error.exceptions:
            yield from _leaves(part)
    else:
        yield error


def _is_fatal(error: Exception, fatal: tuple[type[BaseException], ...]) -> bool:
    """Whether any part of the crash is of a fatal kind, or a supervisor below found it fatal already."""
    return any(
        isinstance(leaf, fatal) or (isinstance(leaf, SupervisionFailed) and leaf.fatal) for leaf in _leaves(error)
    )


def _describe(error: Exception) -> str:
    first, *others = _leaves(error)
    more = f" (and {len(others)} more)" if others else ""
    return f"{type(first).__name__}: {first}"[:ERROR_CHARACTERS_MAX] + more
