"""The step runner: attempts of steps, one each in its turn, and how each ended, as a value.

`async def` steps run on trio in worker tasks; `def` steps in threads with a limiter of their own. A worker takes
attempt after attempt from one queue. It wakes a second worker before it starts one while others wait, so nothing waits
behind an attempt that blocks; yet a burst of attempts that do not block is run by one worker, without a task each
(5 microseconds), a cancel scope each (4), or a switch.

An attempt always ends with an outcome, also when it is not wanted any more: what it did may have to be undone. A thread
cannot be stopped. One that is not wanted is given a grace to end by itself, then its outcome is unknown; one that
timed out may still be running when the next attempt starts.
"""

from __future__ import annotations

import contextvars
import math
import time
import types
from collections import deque
from collections.abc import Callable, Coroutine, Generator, Mapping
from typing import Any, Literal

import msgspec
import trio
from msgspec import Raw

from actors.current_step import CURRENT, CurrentStep
from actors.flow.calls import PLAIN_BYTES_MAX, AttemptCall, check_payload
from actors.flow.definitions import Step
from actors.flow.descriptions import TOLD_CHARS_MAX, told, unfit
from actors.gil_gate import GilGate
from actors.statistics import StepStatistics
from wal.records import ErrorData

Outcome = Literal["completed", "failed", "timed_out", "heartbeat_lost", "cancelled", "unknown", "defect"]
IDLE_WORKERS_MAX = 64
RUNS_BEFORE_CHECKPOINT = 32
NOT_STARTED = "it was not started"
ERROR_NAMES = {"timed_out": "TimeoutError", "cancelled": "Cancelled", "unknown": "Unknown"}
NO_KEYWORDS: Mapping[str, Any] = {}
encode = msgspec.json.encode


class Attempt:
    """One try of a step: what to run, and, when it has ended, how. Mutable while it runs; never shared."""

    __slots__ = (
        "arg_count",
        "args",
        "attempt",
        "call_key",
        "cause",
        "current",
        "ended_at",
        "error",
        "outcome",
        "result",
        "run_key",
        "scope",
        "started_at",
        "step",
        "unwanted",
        "workflow",
    )

    def __init__(self, run_key: int, workflow: str, call: AttemptCall, current: CurrentStep) -> None:
        self.run_key, self.workflow, self.call_key = run_key, workflow, call.key
        self.step, self.args, self.arg_count, self.current = call.step, call.args, call.arg_count, current
        self.attempt = current.attempt
        self.scope: trio.CancelScope | None = None
        self.unwanted = False
        self.outcome: Outcome = "unknown"
        self.result: Raw | None = None
        self.error: ErrorData | None = None
        self.cause: BaseException | None = None  # the exception itself, for the retry policy
        self.started_at = self.ended_at = 0.0


@types.coroutine
def _go_on_in_context(
    context: contextvars.Context, coro: Coroutine[Any, Any, Any], trap: Any
) -> Generator[Any, Any, Any]:
    """Await `coro`, which has come to its first trap, with its own context variables, so that what a step sets is not
    seen by the next one."""
    try:
        while True:
            try:
                answer = yield trap
            except BaseException as error:  # noqa: BLE001 - whatever it is, the coroutine is to have it
                trap = context.run(coro.throw, error)
            else:
                trap = context.run(coro.send, answer)
    except StopIteration as stop:
        return stop.value


async def _in_context(context: contextvars.Context, coro: Coroutine[Any, Any, Any]) -> Any:
    """Await `coro` with its own context variables. Many steps end without waiting: those cost no generator."""
    try:
        trap = context.run(coro.send, None)
    except StopIteration as stop:
        return stop.value
    return await _go_on_in_context(context, coro, trap)


class StepRunnerStatistics(msgspec.Struct, frozen=True):
    """Attempts running, attempts waiting for a place, and `def` steps in threads."""

    running: int
    waiting: int
    threads: int


class StepRunner:
    """Runs attempts; `ended(attempt)` is called in the loop as each ends."""

    def __init__(
        self,
        *,
        steps_max: int,
        threads_max: int,
        cancel_grace_s: float,
        payload_max_bytes: int,
        gate: GilGate,
        statistics: StepStatistics,
    ) -> None:
        self._steps_max, self._grace_s, self._payload_max_bytes = steps_max, cancel_grace_s, payload_max_bytes
        self._limiter = trio.CapacityLimiter(threads_max)
        self._gate, self._statistics = gate, statistics
        self._queue: deque[Attempt] = deque()
        self._idle: list[trio.lowlevel.Task] = []
        self._waking = False
        self._workers = self._running = 0
        self._nursery: trio.Nursery | None = None
        self._base = contextvars.copy_context()
        self.ended: Callable[[Attempt], None] = lambda attempt: None

    # --- plain calls

    def start(self, attempt: Attempt) -> None:
        """Run an attempt as soon as there is a place."""
        self._queue.append(attempt)
        if not self._waking:
            self._wake_one()

    def unwanted(self, attempt: Attempt) -> None:
        """Cancel an attempt; its outcome is told all the same."""
        if attempt.unwanted:
            return
        attempt.unwanted = True
        attempt.current.unwanted = True
        scope = attempt.scope
        if scope is None:
            if attempt in self._queue:
                self._queue.remove(attempt)
                self._end(attempt, "cancelled", NOT_STARTED)
        elif attempt.step.is_async:
            scope.cancel()
        else:
            scope.deadline = min(scope.deadline, trio.current_time() + self._grace_s)

    def transact(self, attempt: Attempt, transaction: Any) -> None:
        """Run a transaction here and now, to its end; it goes by the loop's own state and cannot wait. How it ended is
        in the attempt, and told to nobody else: whoever calls this records it."""
        if attempt.unwanted:
            self._end(attempt, "cancelled", NOT_STARTED)
            return
        attempt.started_at = time.perf_counter()
        given = self._arguments(attempt)
        if given is None:
            return
        context = self._base.copy()
        context.run(CURRENT.set, attempt.current)
        try:
            value = context.run(attempt.step.fn, transaction, *given[0], **given[1])
        except KeyboardInterrupt:
            raise
        except BaseException as error:  # noqa: BLE001 - SystemExit and the like are the step's too
            self._raised(attempt, error)
            return
        self._completed(attempt, value)

    def statistics(self) -> StepRunnerStatistics:
        """The figures of this moment."""
        return StepRunnerStatistics(self._running, len(self._queue), int(self._limiter.borrowed_tokens))

    @property
    def busy(self) -> bool:
        """Whether any attempt runs or waits."""
        return bool(self._queue or self._running)

    # --- the actor

    async def run(self, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Serve until cancelled; attempts in flight are then abandoned, as by a crash."""
        self._base = contextvars.copy_context()  # what is set round the runtime is seen in its steps
        self._queue.clear()
        self._idle.clear()
        self._workers = self._running = 0
        self._waking = False
        async with trio.open_nursery() as nursery:
            self._nursery = nursery
            try:
                task_status.started()
                await trio.sleep_forever()
            finally:
                self._nursery = None

    def _wake_one(self) -> None:
        if self._waking:
            return
        if self._idle:
            self._waking = True
            trio.lowlevel.reschedule(self._idle.pop())
        elif self._nursery is not None and self._workers < self._steps_max:
            self._waking = True
            self._workers += 1
            self._nursery.start_soon(self._work, name="actors.step_runner.worker")

    async def _work(self) -> None:
        self._waking = False
        try:
            while await self._serve():
                pass
        finally:
            self._workers -= 1

    async def _serve(self) -> bool:
        """Run attempts until one dirties the cancel scope; False when this worker is not needed any more."""
        attempt: Attempt | None = None
        with trio.CancelScope() as scope:
            in_a_row = 0
            while True:
                if not self._queue:
                    if len(self._idle) >= IDLE_WORKERS_MAX:
                        return False
                    await self._park()
                    in_a_row = 0
                    continue
                if in_a_row >= RUNS_BEFORE_CHECKPOINT:
                    self._wake_one()
                    in_a_row = 0
                    await trio.lowlevel.checkpoint()
                    continue
                in_a_row += 1
                attempt = self._queue.popleft()
                if self._queue:
                    self._wake_one()
                await self._attempt(attempt, scope)
                # Only `unwanted` cancels the scope, and what is bounded sets its deadline. Asking the scope itself
                # makes it look at the clock, for each attempt.
                marked = attempt.unwanted or scope.deadline != math.inf
                attempt = None
                if marked:
                    break
        if attempt is not None:  # its scope was cancelled, and the cancellation arrived here
            self._cancelled(attempt)
        return True

    async def _park(self) -> None:
        task = trio.lowlevel.current_task()
        self._idle.append(task)

        def leave(_: object) -> trio.lowlevel.Abort:
            if task in self._idle:
                self._idle.remove(task)
            return trio.lowlevel.Abort.SUCCEEDED

        await trio.lowlevel.wait_task_rescheduled(leave)
        self._waking = False

    # --- one attempt

    async def _attempt(self, attempt: Attempt, scope: trio.CancelScope) -> None:
        step = attempt.step
        self._running += 1
        attempt.scope = scope
        attempt.started_at = time.perf_counter()
        if step.timeout is not None:
            scope.deadline = trio.current_time() + step.timeout
            attempt.current.deadline = time.time() + step.timeout
        try:
            given = self._arguments(attempt)
            if given is None:
                return
            args, kwargs = given
            context = self._base.copy()
            context.run(CURRENT.set, attempt.current)
            try:
                if step.heartbeat_timeout is not None:
                    value = await self._watched(attempt, context, args, kwargs)
                elif step.is_async:
                    value = await _in_context(context, step.fn(*args, **kwargs))
                else:
                    value = await self._in_thread(step, context, args, kwargs)
            except Exception as error:  # noqa: BLE001 - what a step raises is data
                self._raised(attempt, error)
                return
            except BaseExceptionGroup as group:
                rest = group.split(trio.Cancelled)[1]
                if rest is None:
                    raise
                self._raised(attempt, rest)
                return
            except (trio.Cancelled, KeyboardInterrupt, GeneratorExit):
                raise
            except BaseException as error:  # noqa: BLE001 - SystemExit, another library's cancellation: the step's
                self._raised(attempt, error)
                return
            self._completed(attempt, value)
        finally:
            attempt.scope = None
            self._running -= 1

    def _arguments(self, attempt: Attempt) -> tuple[Any, Mapping[str, Any]] | None:
        """What to call the step with; None if it does not fit, with which the attempt has ended."""
        signature = attempt.step.signature
        try:
            if attempt.arg_count >= 0:
                return signature.positional_decoder(attempt.arg_count).decode(attempt.args)[0], NO_KEYWORDS
            return signature.decode(attempt.args)
        except Exception as error:  # noqa: BLE001 - a type's own check may raise anything
            self._end(attempt, "defect", f"the arguments do not fit: {unfit(error)}", error)
            return None

    async def _in_thread(self, step: Step, context: contextvars.Context, args: Any, kwargs: Any) -> Any:
        with self._gate:
            return await trio.to_thread.run_sync(
                lambda: context.run(step.fn, *args, **kwargs), abandon_on_cancel=True, limiter=self._limiter
            )

    async def _watched(self, attempt: Attempt, context: contextvars.Context, args: Any, kwargs: Any) -> Any:
        """The same under a heartbeat timeout: a second scope whose deadline each heartbeat moves."""
        step, limit = attempt.step, attempt.step.heartbeat_timeout
        assert limit is not None
        token = trio.lowlevel.current_trio_token()
        with trio.CancelScope(deadline=trio.current_time() + limit) as watch:

            def beat() -> None:
                watch.deadline = trio.current_time() + limit

            # From a thread the loop has to be told; on the loop the deadline moves at once.
            attempt.current.on_heartbeat = beat if step.is_async else lambda: token.run_sync_soon(beat, idempotent=True)
            if step.is_async:
                return await _in_context(context, step.fn(*args, **kwargs))
            return await self._in_thread(step, context, args, kwargs)
        raise HeartbeatLost(f"no heartbeat within {limit} s")

    def _completed(self, attempt: Attempt, value: Any) -> None:
        try:
            data = encode(value)
            if len(data) > PLAIN_BYTES_MAX:
                check_payload(data, self._payload_max_bytes, f"the result of {attempt.step.name}")
            attempt.step.signature.result.decode(data)  # what cannot be read back must not be recorded
        except Exception as error:  # noqa: BLE001 - what a step raises is data
            # Mended code may run again what may; of what must not, only a person can say what it did.
            outcome: Outcome = "unknown" if attempt.step.delivery == "at_most_once" else "defect"
            self._end(attempt, outcome, f"the result of {attempt.step.name} cannot be recorded: {told(error)}", error)
            return
        attempt.result = Raw(data)
        self._end(attempt, "completed")

    def _raised(self, attempt: Attempt, error: BaseException) -> None:
        outcome: Outcome = "heartbeat_lost" if isinstance(error, HeartbeatLost) else "failed"
        if attempt.unwanted:
            outcome = "cancelled"
        self._end(attempt, outcome, told(error), error)

    def _cancelled(self, attempt: Attempt) -> None:
        if not attempt.unwanted:
            self._end(attempt, "timed_out", f"no result within {attempt.step.timeout} s")
        elif attempt.step.is_async:
            self._end(attempt, "cancelled", "it was cancelled")
        else:
            self._end(attempt, "unknown", f"its thread did not end within {self._grace_s} s after it was cancelled")

    def _end(self, attempt: Attempt, outcome: Outcome, message: str = "", error: BaseException | None = None) -> None:
        attempt.outcome, attempt.cause = outcome, error
        attempt.ended_at = time.perf_counter()
        if outcome != "completed":
            kind = ERROR_NAMES.get(outcome) or type(error).__name__
            attempt.error = ErrorData(kind, message[:TOLD_CHARS_MAX], attempt.step.name)
        started = attempt.started_at or attempt.ended_at
        self._statistics.observe(attempt.workflow, attempt.step.name, outcome, attempt.ended_at - started)
        if not attempt.step.transaction:
            self.ended(attempt)


class HeartbeatLost(Exception):
    """A step with a heartbeat timeout was silent for too long."""
