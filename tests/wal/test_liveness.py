"""The liveness check: what the journal shows to wake each open run."""

from __future__ import annotations

from typing import Any

import pytest

from wal import records as r
from wal.journal import Journal
from wal.records import OpenCallData

ONE = r.Raw(b"1")
ERROR = r.ErrorData("X")
TIMER, SIGNAL = OpenCallData("0", "timer"), OpenCallData("1", "signal", "go")
APPROVAL, CHILD = OpenCallData("0", "approval", "Ship?"), OpenCallData("0", "child", "c")

AWAKE: dict[str, list[r.Record]] = {
    "a timer": [r.TimerSet("0", 5), r.RunWaiting("timer", 5, [TIMER])],
    "a retry": [r.StepFailed("0", "a", ERROR, retry_at=5), r.RunWaiting("retry", 5, [OpenCallData("0", "step")])],
    "a signal": [r.RunWaiting("signal", None, [SIGNAL])],
    "a signal beside a timer that is gone": [r.RunWaiting("timer", 5, [TIMER, SIGNAL])],
    "an approval": [r.ApprovalRequested("0", "Ship?", "h"), r.RunWaiting("approval", None, [APPROVAL])],
    "a person who paused it": [r.RunWaiting("timer", 5, [TIMER]), r.RunPaused()],
    "a person after a defect": [r.RunBlocked("code_error")],
    "nothing: it is over": [r.RunWaiting("timer", 5, [TIMER]), r.RunCancelled()],
}
ASLEEP: dict[str, tuple[list[r.Record], str]] = {
    "a timer that is not there": ([r.RunWaiting("timer", 5, [TIMER])], "it waits for a timer, and there is none"),
    "a retry without a timer": ([r.RunWaiting("retry", 5, [OpenCallData("0", "step")])], "it waits for a retry"),
    "an approval that was never asked": ([r.RunWaiting("approval", None, [APPROVAL])], "it waits for a approval"),
    "a child that is over": ([r.RunWaiting("child", None, [CHILD])], "it waits for a child"),
    "nothing": ([r.StepScheduled("0", "a", r.Raw(b"[[],{}]"))], "it is running, and nothing of it is under way"),
}


@pytest.mark.parametrize("records", AWAKE.values(), ids=AWAKE.keys())
def test_a_run_with_a_wake_source_is_no_doubt(memory: Journal, log: Any, records: list[r.Record]) -> None:
    """Whatever an open run may wait for is found where it is kept."""
    memory.commit([log.start(1), *(log.add(1, record) for record in records)])
    assert memory.reader().doubts() == []


@pytest.mark.parametrize(("records", "why"), ASLEEP.values(), ids=ASLEEP.keys())
def test_a_run_without_one_is_named(memory: Journal, log: Any, records: list[r.Record], why: str) -> None:
    """A run that nothing will wake is told of, with the reason; one that is going on is left to who has it."""
    memory.commit([log.start(1), *(log.add(1, record) for record in records)])
    (doubt,) = memory.reader().doubts()
    assert (doubt.run_id, doubt.going_on) == ("run-1", "running" in why)
    assert doubt.why.startswith(why)


def test_a_queued_run_needs_its_timer_or_its_queue(memory: Journal, log: Any) -> None:
    """One that begins later has a timer, one of a queue its place; once the timer is gone nothing begins it."""
    memory.commit([log.start(1, start_at=5), log.start(2, queue="slow")])
    assert memory.reader().doubts() == []
    memory._db.execute("delete from timers")
    assert [doubt.why for doubt in memory.reader().doubts()] == ["it is queued, and no timer begins it"]


def test_a_child_that_goes_on_wakes_its_parent(memory: Journal, log: Any) -> None:
    """As long as one of its children is open, a parent that waits for one is no doubt."""
    memory.commit([log.start(1), log.add(1, r.RunWaiting("child", None, [CHILD])), log.start(2, parent_id="run-1")])
    assert [doubt.run_id for doubt in memory.reader().doubts()] == ["run-2"]  # which is going on, in memory
    memory.commit([log.add(2, r.RunCompleted(ONE))])
    assert [doubt.run_id for doubt in memory.reader().doubts()] == ["run-1"]
