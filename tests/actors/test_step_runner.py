"""The step runner: every attempt ends with an outcome, a place for each in its turn, nothing shared between them."""

from __future__ import annotations

import contextvars
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import msgspec
import pytest
import trio
from msgspec import Raw

from actors.current_step import CurrentStep, current_step
from actors.flow.calls import StepCall
from actors.flow.definitions import App, Step
from actors.flow.run_info import RunInfo
from actors.statistics import StepStatistics
from actors.step_runner import Attempt, StepRunner
from runtimed.virtual import HoldingGate

app = App("runner")
GATES: dict[str, trio.Event] = {}
SEEN: list[Any] = []
VARIABLE: contextvars.ContextVar[str] = contextvars.ContextVar("variable", default="unset")


@app.step
async def echo(value: int, *, twice: bool = False) -> int:
    return value * 2 if twice else value


@app.step
async def waiting(name: str) -> str:
    SEEN.append(name)
    await GATES.setdefault(name, trio.Event()).wait()
    return name


@app.step
async def colouring(colour: str) -> str:
    before = VARIABLE.get()
    VARIABLE.set(colour)
    await trio.lowlevel.checkpoint()
    return f"{before} {VARIABLE.get()}"


@app.step
async def saving_itself() -> str:
    try:
        await trio.sleep_forever()
    except trio.Cancelled:
        return "finished all the same"
    raise AssertionError("not reached")


@app.step
async def failing_late() -> None:
    try:
        await trio.sleep_forever()
    finally:
        raise OSError("while cancelled")


@app.step(timeout=1.0)
async def too_long() -> None:
    await trio.sleep_forever()


@app.step(timeout=10.0)
async def with_own_scope() -> str:
    with trio.move_on_after(1) as scope:
        await trio.sleep_forever()
    return f"moved on: {scope.cancelled_caught}"


@app.step
async def in_a_nursery() -> None:
    async with trio.open_nursery() as nursery:
        nursery.start_soon(trio.sleep_forever)
        raise OSError("one of several")


@app.step
async def leaving() -> None:
    raise SystemExit(3)


@app.step
def plain(text: str) -> str:
    return f"{text} attempt {current_step().attempt}"


def attempt_of(step: Step, *args: Any, key: str = "0", **kwargs: Any) -> Attempt:
    call = StepCall(step, Raw(msgspec.json.encode((args, kwargs))), -1 if kwargs else len(args))
    call.key = key
    info = RunInfo("r", "flow", Raw(b"null"))
    return Attempt(1, "flow", call, CurrentStep("step", step.name, 1, key, info))


class Ends:
    """Collects the attempts that ended, and waits for them."""

    def __init__(self, runner: StepRunner) -> None:
        self.runner, self.ended = runner, list[Attempt]()
        self._more = trio.Event()
        runner.ended = self.note

    def note(self, attempt: Attempt) -> None:
        self.ended.append(attempt)
        self._more.set()

    async def wait(self, *attempts: Attempt) -> list[tuple[str, Any]]:
        """Wait until these have ended and tell how, in their order."""
        with trio.fail_after(60):
            while not set(attempts) <= set(self.ended):
                self._more = trio.Event()
                await self._more.wait()
        return [told(attempt) for attempt in attempts]

    async def run(self, *attempts: Attempt) -> list[tuple[str, Any]]:
        for attempt in attempts:
            self.runner.start(attempt)
        return await self.wait(*attempts)


def told(attempt: Attempt) -> tuple[str, Any]:
    if attempt.result is not None:
        return attempt.outcome, msgspec.json.decode(attempt.result)
    assert attempt.error is not None
    return attempt.outcome, f"{attempt.error.type}: {attempt.error.message}"


@asynccontextmanager
async def running(**changes: Any) -> AsyncIterator[Ends]:
    GATES.clear()
    SEEN.clear()
    options: dict[str, Any] = {
        "steps_max": 100, "threads_max": 4, "cancel_grace_s": 0.05, "payload_max_bytes": 1_000, "gate": HoldingGate(),
        "statistics": StepStatistics(),
    }  # fmt: skip
    runner = StepRunner(**{**options, **changes})
    async with trio.open_nursery() as nursery:
        await nursery.start(runner.run)
        yield Ends(runner)
        nursery.cancel_scope.cancel()


@pytest.mark.trio
async def test_arguments_and_results_make_the_round_trip(autojump_clock: trio.testing.MockClock) -> None:
    """Positional and keyword arguments are decoded to their types; the result is JSON, decodable to its own."""
    async with running() as ends:
        assert await ends.run(attempt_of(echo, 2), attempt_of(echo, 2, twice=True)) == [
            ("completed", 2),
            ("completed", 4),
        ]
        ((outcome, text),) = await ends.run(attempt_of(echo, "two"))
        assert outcome == "defect" and "do not fit" in text
        assert await ends.run(attempt_of(plain, "thread")) == [("completed", "thread attempt 1")]


@pytest.mark.trio
async def test_nothing_waits_behind_an_attempt_that_blocks(autojump_clock: trio.testing.MockClock) -> None:
    """A burst of attempts of which some block: the others all end, and those end when they can."""
    async with running() as ends:
        attempts = [attempt_of(waiting, f"w{i}", key=f"{i}") if i % 3 == 0 else attempt_of(echo, i) for i in range(90)]
        for attempt in attempts:
            ends.runner.start(attempt)
        await ends.wait(*(attempt for i, attempt in enumerate(attempts) if i % 3))
        assert (ends.runner.statistics().running, ends.runner.busy) == (30, True)
        for event in GATES.values():
            event.set()
        assert {outcome for outcome, _ in await ends.wait(*attempts)} == {"completed"}
        assert not ends.runner.busy


@pytest.mark.trio
async def test_places_are_bounded_and_taken_in_turn(autojump_clock: trio.testing.MockClock) -> None:
    """No more than `steps_max` run at once; the rest begin in the order in which they were started."""
    async with running(steps_max=2) as ends:
        attempts = [attempt_of(waiting, f"w{i}", key=f"{i}") for i in range(6)]
        for attempt in attempts:
            ends.runner.start(attempt)
        for done in range(6):
            await trio.testing.wait_all_tasks_blocked()
            assert sorted(SEEN) == [f"w{i}" for i in range(min(done + 2, 6))]
            assert ends.runner.statistics().waiting == max(0, 4 - done)
            GATES[f"w{done}"].set()
            await ends.wait(attempts[done])


@pytest.mark.trio
async def test_attempts_share_no_context(autojump_clock: trio.testing.MockClock) -> None:
    """What one attempt sets in a context variable, the next one on the same task does not see."""
    async with running() as ends:
        colours = ["red", "green", "blue"]
        told = await ends.run(*(attempt_of(colouring, colour) for colour in colours))
        assert told == [("completed", f"unset {colour}") for colour in colours]
        assert VARIABLE.get() == "unset"


@pytest.mark.trio
async def test_an_unwanted_attempt_tells_how_it_ended(autojump_clock: trio.testing.MockClock) -> None:
    """Cancelled, finished all the same, failed on its way out, or never begun: each has its outcome."""
    async with running(steps_max=3) as ends:
        attempts = [attempt_of(step) for step in (saving_itself, failing_late)]
        attempts += [attempt_of(waiting, "w"), attempt_of(echo, 1)]
        for attempt in attempts:
            ends.runner.start(attempt)
        await trio.testing.wait_all_tasks_blocked()
        for attempt in reversed(attempts):
            ends.runner.unwanted(attempt)
            ends.runner.unwanted(attempt)
        assert await ends.wait(*attempts) == [
            ("completed", "finished all the same"), ("cancelled", "Cancelled: while cancelled"),
            ("cancelled", "Cancelled: it was cancelled"), ("cancelled", "Cancelled: it was not started"),
        ]  # fmt: skip


@pytest.mark.trio
async def test_an_unwanted_attempt_disturbs_no_other(autojump_clock: trio.testing.MockClock) -> None:
    """After a cancellation or a timeout, the same workers run others as if nothing had been."""
    async with running(steps_max=1) as ends:
        for round_ in range(5):
            hanging = attempt_of(waiting, f"w{round_}")
            ends.runner.start(hanging)
            await trio.testing.wait_all_tasks_blocked()
            ends.runner.unwanted(hanging)
            assert await ends.run(attempt_of(too_long)) == [("timed_out", "TimeoutError: no result within 1.0 s")]
            assert await ends.run(attempt_of(echo, round_)) == [("completed", round_)]


@pytest.mark.trio
async def test_a_steps_own_scopes_and_nurseries_are_its_own(autojump_clock: trio.testing.MockClock) -> None:
    """A step may use all of trio; what leaves it is a failure, groups and SystemExit included."""
    async with running() as ends:
        attempts = [attempt_of(step) for step in (with_own_scope, in_a_nursery, leaving)]
        results = await ends.run(*attempts)
        assert results[0] == ("completed", "moved on: True")
        assert results[1][0] == "failed" and isinstance(attempts[1].cause, ExceptionGroup)
        assert results[2] == ("failed", "SystemExit: 3")


@pytest.mark.trio
async def test_many_attempts_in_a_row_leave_others_their_turn() -> None:
    """A long burst of attempts that never wait does not keep the loop for itself."""
    async with running() as ends:
        turns = 0
        for i in range(1_000):
            ends.runner.start(attempt_of(echo, i))
        while len(ends.ended) < 1_000:
            await trio.lowlevel.checkpoint()
            turns += 1
        assert turns >= 5
