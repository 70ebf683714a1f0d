"""What a run's state is called on screen, what a kill would cost it, and why it waits: pure, from the run's view."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

from tui.format import age, micros, stamp
from wal.views import RunView


class State(NamedTuple):
    """A state as it is shown: a word of at most five letters, a glyph, its ASCII stand-in, and a look."""

    word: str
    glyph: str
    ascii: str
    look: str
    ended: bool = False


_ALL = (
    State("RUN", "o", "o", "ok"),
    State("WAIT", "z", "z", "ok"),
    State("APPR", "?", "?", "need"),
    State("RETRY", "~", "~", "warn"),
    State("STUCK", "~", "~", "warn"),
    State("COMP", "<", "<", "warn"),
    State("PAUS", "=", "=", "warn"),
    State("DOUBT", "%", "%", "need"),
    State("DONE", "✓", "+", "dim", ended=True),
    State("FAIL", "✗", "x", "bad", ended=True),
    State("CANC", "-", "-", "dim", ended=True),
)
STATES: Mapping[str, State] = {state.word: state for state in _ALL}
"""By word, in the order in which they are listed."""

_BY_STATUS = {
    "queued": "WAIT",
    "running": "RUN",
    "waiting": "WAIT",
    "paused": "PAUS",
    "compensating": "COMP",
    "blocked": "STUCK",
    "completed": "DONE",
    "failed": "FAIL",
    "cancelled": "CANC",
}
_BY_WAIT = {"approval": "APPR", "retry": "RETRY"}
OUTCOME_UNKNOWN = "outcome_unknown"

OPEN_STATUSES = ("queued", "running", "waiting", "paused", "compensating", "blocked")
ENDED_STATUSES = ("completed", "failed", "cancelled")
STATUSES_OF_WORD: Mapping[str, tuple[str, ...]] = {
    "RUN": ("running",),
    "WAIT": ("queued", "waiting"),
    "APPR": ("waiting",),
    "RETRY": ("waiting",),
    "STUCK": ("blocked",),
    "COMP": ("compensating",),
    "PAUS": ("paused",),
    "DOUBT": ("blocked",),
    "DONE": ("completed",),
    "FAIL": ("failed",),
    "CANC": ("cancelled",),
}
"""The statuses that a word's runs have; where several words share one, the rows say which."""


def word_of(run: RunView) -> str:
    """The word of a run's state."""
    if run.status == "waiting":
        return _BY_WAIT.get(run.waiting_on or "", "WAIT")
    if run.status == "blocked" and run.error is not None and run.error.type == OUTCOME_UNKNOWN:
        return "DOUBT"
    return _BY_STATUS.get(run.status, "STUCK")


def state_of(run: RunView) -> State:
    """A run's state as it is shown."""
    return STATES[word_of(run)]


def cost_of_kill(run: RunView, in_flight: bool = False, at_most_once: bool = False) -> str:
    """What `kill -9` now would cost this run: SAFE (it goes on where it is), REDO (an attempt is made again with the
    same idempotency key), DOUBT (a person is asked, as of a call in flight that may run `at_most_once`); empty for one
    that has ended. Nothing is ever LOST."""
    if run.status in ENDED_STATUSES:
        return ""
    if at_most_once or word_of(run) == "DOUBT":
        return "DOUBT"
    return "REDO" if in_flight or run.status in ("running", "compensating") else "SAFE"


_WAITS = {
    "timer": "sleeps",
    "signal": "waits for a signal",
    "approval": "waits for people to decide",
    "child": "waits for another run",
    "retry": "waits to try again",
    "queue": "waits in queue",
}


def why(run: RunView, now: int, names: str = "") -> str:
    """One sentence: why the run stands where it does, since when, and what changes it by itself. `names` says what it
    waits for, if that is known."""
    since = f" since {stamp(run.updated_at)}"
    if run.status in ENDED_STATUSES:
        return _ended(run)
    if run.status == "blocked":
        return _blocked(run) + since
    if run.status == "paused":
        return "a person paused it" + since + "; `runs resume` lets it go on"
    if run.status == "compensating":
        return "undoes its completed steps, last first" + (f" ({names})" if names else "") + since
    if run.status == "running":
        return ("runs " + names if names else "runs") + since
    return _waiting(run, now, names)


def _waiting(run: RunView, now: int, names: str) -> str:
    what = _WAITS.get(run.waiting_on or "", "waits")
    if run.waiting_on == "queue" and run.queue:
        what += f" {run.queue}"
    if names:
        what += f": {names}"
    at = micros(run.waiting_until)
    if at is None:
        return f"{what}, with no time limit"
    left = (at - now) / 1e6
    return f"{what}, until {stamp(run.waiting_until)}" + (f" (in {age(left)})" if left > 0 else " (due)")


def _blocked(run: RunView) -> str:
    error = run.error
    if error is None:
        return "blocked: a person must act"
    if error.type == OUTCOME_UNKNOWN:
        return f"nobody knows whether {error.step or 'a step'} happened: {error.message}"
    return f"blocked, {error.type}: {error.message}"


def _ended(run: RunView) -> str:
    at = stamp(run.ended_at)
    if run.status == "completed":
        return f"completed at {at}"
    if run.status == "cancelled":
        return f"cancelled at {at}"
    error = run.error
    return f"failed at {at}" + (f": {error.type}: {error.message}" if error is not None else "")
