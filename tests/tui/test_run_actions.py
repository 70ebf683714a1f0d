"""What can be done to runs, when, and what is said of it."""

from __future__ import annotations

import pytest
from msgspec import Raw

from tests.tui.fake_daemon import run
from tests.tui.run_world import doubt_history, forked, record, refund_history
from tui.history_fold import History
from tui.run_actions import ACTIONS, Form, body, command_words, consequences, in_doubt, missing, refusal
from wal.records import Record, RunStarted, SignalReceived, StepScheduled
from wal.views import ErrorView, HistoryRecord

DOUBT = run("c", status="blocked", error=ErrorView("outcome_unknown", "x", "0"))
STUCK = run("s", status="blocked", error=ErrorView("code_error", "x"))


def text(verb: str, records: list[HistoryRecord] | None, status: str = "waiting") -> str:
    history = None
    if records is not None:
        history = History()
        history.append(records)
    lines = consequences(verb, run("7f3a2c", status=status), history)
    return "\n".join("".join(piece.text for piece in line) for line in lines)


@pytest.mark.parametrize("verb", ACTIONS)
def test_nothing_can_be_done_to_a_run_that_has_ended(verb: str) -> None:
    """An ended run refuses every action, and says how it ended."""
    assert refusal(verb, run("r", status="completed")) == "it is completed"


def test_an_action_is_refused_where_it_means_nothing() -> None:
    """Each action says why it cannot be asked of a run as it stands."""
    assert refusal("cancel", run("r", status="compensating"))
    assert refusal("retry", run("r")) and refusal("retry", DOUBT) and not refusal("retry", STUCK)
    assert refusal("resume", run("r")) and not refusal("resume", run("r", status="paused"))
    assert refusal("pause", run("r", status="paused")) and not refusal("pause", run("r"))
    assert refusal("resolve", run("r")) and not refusal("resolve", DOUBT)
    assert not refusal("signal", run("r", status="waiting"))


def test_cancelling_lists_the_undos_newest_first() -> None:
    """The card says what is undone, and in which order, before anything is sent."""
    told = text("cancel", refund_history())
    assert told.index("1  fraud_check") < told.index("2  psp_lookup") < told.index("3  lock_order")


def test_cancelling_says_when_nothing_is_undone() -> None:
    """A run that has not begun, and one without a completed step, undo nothing."""
    assert "nothing is to be undone" in text("cancel", None, "queued")
    assert "No step has completed" in text("cancel", refund_history()[:2])


def test_cancelling_tells_what_is_in_flight_and_what_is_unsure() -> None:
    """An attempt under way settles first; a step of unknown outcome may be undone too."""
    assert "In flight: lock_order, attempt 1" in text("cancel", refund_history()[:2])
    assert "they may have acted): wire_transfer" in text("cancel", doubt_history())


def test_resolving_shows_what_was_sent_and_under_which_key() -> None:
    """Who must say whether it happened sees the arguments and the key to look for outside."""
    told = text("resolve", doubt_history(), "blocked")
    assert '[["DE42",1240],{}]' in told
    assert "7f3a2c/0/0/wire_transfer" in told
    found = History()
    found.append(doubt_history())
    assert in_doubt(found.last) == ("0", "wire_transfer")


def test_a_doubt_that_a_fork_took_over_is_under_the_key_of_its_maker() -> None:
    """The attempt in doubt was made by the other run, and is to be looked for outside under that one's key."""
    wire = StepScheduled("0", "wire", Raw(b"[[],{}]"), at_most_once=True)
    past: list[tuple[int, float, Record]] = [(10, 50, RunStarted("order", "w", Raw(b"null"))), (11, 50, wire)]
    records = [
        record(20, "run_started", 9, workflow="w", id="7f3a2c"),
        forked(21, 9, "order", 11, *past, (12, 40, SignalReceived("go", Raw(b"1")))),
        record(22, "step_unknown", 9, "0", "wire", 1, reason="it was in flight"),
    ]
    told = text("resolve", records, "blocked")
    assert "Key:     order/0/0/wire" in told
    assert "it was not over where this run was forked" in told
    mine = [record(20, "run_started", 9, workflow="w"), forked(21, 9, "order", 11, *past[:1])]
    mine += [record(22, "step_scheduled", 9, "0", "wire", args=None), record(23, "step_unknown", 9, "0", "wire", 1)]
    assert "Key:     7f3a2c/0/0/wire" in text("resolve", mine, "blocked")


@pytest.mark.parametrize(
    ("verb", "form", "says"),
    [
        ("cancel", Form(reason="short"), "a reason of 8"),
        ("cancel", Form(reason="long enough"), ""),
        ("retry", Form(), ""),
        ("signal", Form(), "name is missing"),
        ("signal", Form(name="go", value="now"), "text wants quotes"),
        ("signal", Form(name="go", value='"now"'), ""),
        ("signal", Form(name="go", value="[" * 100_000), "not JSON"),
        ("resolve", Form(reason="long enough"), "choose what happened"),
        ("resolve", Form(reason="long enough", happened="yes", value="{"), "not JSON"),
        ("resolve", Form(reason="long enough", happened="no", value="{"), ""),
    ],
)
def test_what_is_missing_is_said(verb: str, form: Form, says: str) -> None:
    """Submit says what is still wanted, and nothing is sent until it is there."""
    told = missing(ACTIONS[verb], form, 1)
    assert says in told if says else told == ""


def test_many_runs_want_their_number_typed() -> None:
    """A card of several runs wants the number of those that are asked: reflexes do not type it."""
    form = Form(reason="long enough")
    assert "type 3" in missing(ACTIONS["cancel"], form, 3, several=True)
    assert missing(ACTIONS["cancel"], form._replace(confirm="3"), 3, several=True) == ""
    assert "no run" in missing(ACTIONS["cancel"], form, 0, several=True)


def test_bodies_are_those_of_the_contract() -> None:
    """What is sent is what the route takes; a value goes as the JSON that was typed."""
    assert body(ACTIONS["cancel"], Form(reason="why it is"), None) == {"reason": "why it is"}
    assert body(ACTIONS["retry"], Form(), None) == {}
    sent = body(ACTIONS["signal"], Form(name="go", value='{"a":1}'), None)
    assert (sent["name"], bytes(sent["value"])) == ("go", b'{"a":1}')
    sent = body(ACTIONS["resolve"], Form(reason="looked it up", happened="no", value='"x"'), "0")
    assert (sent["call"], sent["happened"], bytes(sent["result"])) == ("0", False, b"null")


def test_the_equal_command_is_shown() -> None:
    """The card says what would do the same at a prompt, quoted for a shell."""
    words = command_words(ACTIONS["cancel"], ["r1"], Form(reason="it's wrong"), None)
    assert " ".join(words) == "runs cancel r1 --reason 'it'\\''s wrong'"
    words = command_words(ACTIONS["pause"], ["r1", "r2"], Form(), None)
    assert " ".join(words) == "runs pause ID --reason '...' # each ID of: r1 r2"
