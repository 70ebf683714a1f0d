"""State words, what a kill costs, and the why line."""

from __future__ import annotations

import pytest

from tests.tui.fake_daemon import NOW, at, run
from tui.states import OPEN_STATUSES, STATES, cost_of_kill, state_of, why, word_of
from wal.run_status import STATUSES
from wal.views import ErrorView

CASES = [
    (run("r", status="queued", waiting_on="queue"), "WAIT", "SAFE"),
    (run("r", status="running"), "RUN", "REDO"),
    (run("r", status="waiting", waiting_on="timer"), "WAIT", "SAFE"),
    (run("r", status="waiting", waiting_on="approval"), "APPR", "SAFE"),
    (run("r", status="waiting", waiting_on="retry"), "RETRY", "SAFE"),
    (run("r", status="paused"), "PAUS", "SAFE"),
    (run("r", status="compensating"), "COMP", "REDO"),
    (run("r", status="blocked", error=ErrorView("outcome_unknown", "", "wire")), "DOUBT", "DOUBT"),
    (run("r", status="blocked", error=ErrorView("code_error", "")), "STUCK", "SAFE"),
    (run("r", status="completed"), "DONE", ""),
    (run("r", status="failed"), "FAIL", ""),
    (run("r", status="cancelled"), "CANC", ""),
]


@pytest.mark.parametrize(("view", "word", "cost"), CASES)
def test_a_run_has_its_word_and_its_cost(view: object, word: str, cost: str) -> None:
    """Each status, with what it waits on and why it is blocked, is one of eleven words; LOST is none of the costs."""
    assert word_of(view) == word  # type: ignore[arg-type]
    assert cost_of_kill(view) == cost  # type: ignore[arg-type]


def test_every_status_has_a_word() -> None:
    """No status of the journal is without a word."""
    assert {run("r", status=status).status for status in STATUSES} == set(STATUSES)
    assert all(state_of(run("r", status=status)) in STATES.values() for status in STATUSES)
    assert all(not state_of(run("r", status=status)).ended for status in OPEN_STATUSES)


def test_an_attempt_in_flight_is_done_again() -> None:
    """A paused run with an attempt under way would make it again."""
    assert cost_of_kill(run("r", status="paused"), in_flight=True) == "REDO"


def test_an_attempt_at_most_once_is_not_done_again() -> None:
    """Whether it happened nobody would know: a person is asked, also of a run that people paused."""
    assert cost_of_kill(run("r", status="paused"), in_flight=True, at_most_once=True) == "DOUBT"
    assert cost_of_kill(run("r", status="completed"), at_most_once=True) == ""


def test_words_differ_without_colours() -> None:
    """Glyph and word tell states apart, in UTF-8 and in ASCII."""
    assert len({state.word for state in STATES.values()}) == 11
    assert all(state.ascii.isascii() and len(state.glyph) == len(state.ascii) == 1 for state in STATES.values())


TIMER = run("r", status="waiting", waiting_on="timer", waiting_until=at(-3600))
RETRY = run("r", status="waiting", waiting_on="retry", waiting_until=at(1))
FAILED = run("r", status="failed", ended_at=at(0), error=ErrorView("Refused", "no"))


@pytest.mark.parametrize(
    ("view", "sentence"),
    [
        (TIMER, "sleeps, until 2026-09-21 15:13:20Z (in 1h)"),
        (run("r", status="waiting", waiting_on="signal"), "waits for a signal, with no time limit"),
        (run("r", status="queued", waiting_on="queue", queue="slow"), "waits in queue slow, with no time limit"),
        (RETRY, "waits to try again, until 2026-09-21 14:13:19Z (due)"),
        (FAILED, "failed at 2026-09-21 14:13:20Z: Refused: no"),
        (run("r", status="running", ago=120), "runs since 2026-09-21 14:12:20Z"),
    ],
)
def test_the_why_line_is_one_sentence(view: object, sentence: str) -> None:
    """Why a run stands where it does, since or until when."""
    assert why(view, NOW) == sentence  # type: ignore[arg-type]


def test_a_doubt_names_the_step() -> None:
    """The step whose outcome nobody knows is named."""
    view = run("r", status="blocked", error=ErrorView("outcome_unknown", "the process ended", "wire_transfer"))
    assert why(view, NOW).startswith("nobody knows whether wire_transfer happened: the process ended")
