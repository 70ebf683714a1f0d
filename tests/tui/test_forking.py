"""Where a run can be forked, and what is said of it beforehand."""

from __future__ import annotations

import shlex

import msgspec
import pytest

from actors.errors import ForkRefused
from actors.flow import forks
from tests.actors.flow.harness import entries_of
from tests.actors.flow.world import simulate
from tests.tui.run_world import fork_history, record, refund_history
from tui.forking import ANSWERS, UNDOING, command_words, consequences, refusal
from tui.history_fold import History
from wal.telling import heading, record_data
from wal.views import HistoryRecord

WIRING = [
    record(501, "run_started", 9000, workflow="payout", input=None),
    record(502, "step_scheduled", 9000, "0", "wire_transfer", args=None, at_most_once=True),
]


def history(records: list[HistoryRecord]) -> History:
    found = History()
    found.append(records)
    return found


def told(records: list[HistoryRecord], seq: int) -> str:
    """The sentences with their labels, a line each."""
    found = history(records)
    lines = consequences("7f3a2c", found, seq, found.at(seq))
    return "\n".join(f"{label}|{''.join(piece.text for piece in line)}" for label, line in lines)


def test_what_moves_a_run_is_what_the_daemon_takes_it_to_be() -> None:
    """The card foretells what the daemon decides by the same kinds of record."""
    assert {str(kind.__struct_config__.tag) for kind in forks._MOVERS} == ANSWERS
    assert {str(kind.__struct_config__.tag) for kind in forks._UNDOING} == UNDOING


def test_what_is_taken_over_is_named() -> None:
    """The steps that were done by then, what would be undone newest first, and what is asked for anew."""
    said = told(refund_history(), 10413)
    assert "TAKES OVER|3 steps as done: lock_order, psp_lookup, fraud_check." in said
    assert "ANEW|What was open there it asks for anew, as its own: approval approve_refund." in said
    assert (
        "UNDOES|If it fails or is cancelled it undoes what 7f3a2c did: fraud_check, then psp_lookup, then lock_order."
        in said
    )
    assert "since" not in said
    assert "no step: none was done by then" in told(refund_history(), 10401)


def test_a_step_in_flight_is_made_by_the_fork_too() -> None:
    """Behind the last answer it is no part of the past: the fork makes it as its own."""
    assert "IN FLIGHT|fraud_check: the fork makes it too, as a step of its own." in told(refund_history(), 10410)
    assert "notify is not over: the fork makes it anew.\n|fraud_check: the fork makes it too" in told(
        fork_history(), 10453
    )


@pytest.mark.parametrize(("more", "said"), [
    ([], "it is in doubt in the fork, and a person is asked"),
    ([record(504, "signal_received", 5, None, "go", value=1)], "it is in doubt in the fork, and a person is asked"),
    ([record(503, "step_unknown", 6, "0", "wire_transfer", 1, reason="x")], "it is in doubt in the fork"),
    ([record(503, "step_failed", 6, "0", "wire_transfer", 1, error={"type": "E"}, defect=True),
      record(504, "signal_received", 5, None, "go", value=1)], "in the fork it stands as it does here"),
])  # fmt: skip
def test_a_step_that_runs_at_most_once(more: list[HistoryRecord], said: str) -> None:
    """Its attempt is a part of the past, wherever the fork is, and nobody knows its outcome."""
    assert f"wire_transfer runs at most once: {said}" in told([*WIRING, *more], 504)


@pytest.mark.slow
def test_the_card_refuses_what_the_daemon_does() -> None:
    """At any record of any program the card knows whether the run can be forked there, and where instead."""
    refused = 0
    for seed in range(60):
        world = simulate(seed)
        found = History()
        found.append(HistoryRecord(n, "", *heading(fact), record_data(bytes(msgspec.json.encode(fact)).decode()))
                     for n, (fact, _) in enumerate(world.journal, start=1))  # fmt: skip
        for seq in range(1, len(world.journal) + 1):
            try:
                forks.forked(entries_of(world.journal[:seq]))
                said = ""
            except ForkRefused as error:
                said = (error.hint or "").removeprefix("Fork at ").partition(".")[0]
                refused += 1
            assert refusal(found, seq).endswith(said) and bool(refusal(found, seq)) == bool(said), (seed, seq)
    assert refused > 100


def test_what_the_run_has_undone_since_is_said() -> None:
    """The fork takes it over as done all the same: whoever forks a failed run must know."""
    more = [
        record(10414, "run_compensating", 5, error={"type": "E"}),
        record(10415, "compensation_scheduled", 5, "2!", "forget_check", args=[[], {}]),
        record(10416, "compensation_completed", 4, "2!", "forget_check", 1, result=None),
    ]
    said = told([*refund_history(), *more], 10413)
    assert "7f3a2c has undone fraud_check since: to the fork that is done, and it does it not again." in said


@pytest.mark.parametrize("kind", sorted(UNDOING))
def test_what_is_being_undone_is_forked_before_that(kind: str) -> None:
    """The refusal names the record and how to get before it; before it, there is none."""
    found = history([*refund_history(), record(10414, kind, 5, error={"type": "E"}), record(10415, "run_paused", 4)])
    said = refusal(found, 10415)
    assert said == (
        f"by record 10415 it was over or being undone ({kind} is record 10414); "
        "travel back with , to record 10413, or before"
    )
    assert refusal(found, 10413) == ""


def test_a_child_that_is_not_over_is_not_shared() -> None:
    """While it is open, no; before it was started and after its end, yes."""
    found = history(
        [
            record(1, "run_started", 9, workflow="w", id="r"),
            record(2, "child_started", 8, "0", child_id="r:0", workflow="c"),
            record(3, "run_waiting", 8, on="child", calls=[{"key": "0", "kind": "child", "name": "r:0"}]),
            record(4, "child_ended", 5, "0", child_id="r:0", status="completed"),
        ]
    )
    assert [bool(refusal(found, seq)) for seq in (1, 2, 3, 4)] == [False, True, True, False]
    assert "at record 3 its child r:0 is not over" in refusal(found, 3)
    assert refusal(found, 3).endswith("to record 1, or before")


def test_only_the_round_since_the_code_began_anew_counts() -> None:
    """A child of the round before goes on, and is no part of what a fork takes over."""
    found = history(
        [
            record(1, "run_started", 9, workflow="w", id="r"),
            record(2, "child_started", 8, "0", child_id="r:0", workflow="c"),
            record(3, "run_continued", 5, "1", started={"id": "r", "workflow": "w", "input": None}),
        ]
    )
    assert refusal(found, 2)
    assert refusal(found, 3) == ""


def test_the_equal_command_is_shown() -> None:
    """The card says what would do the same at a prompt, quoted for a shell."""
    assert " ".join(command_words("r1", 7, "", "")) == "runs fork r1 --at 7 --reason '...'"
    words = " ".join(command_words("r1", 7, "r 2", "it's mended"))
    assert shlex.split(words) == ["runs", "fork", "r1", "--at", "7", "--id", "r 2", "--reason", "it's mended"]
