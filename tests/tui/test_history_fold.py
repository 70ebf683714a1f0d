"""A run as of any of its records."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import cast

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec import Raw

from runtimed.wire import HistoryPage
from tests.tui.fake_daemon import NOW, at, run
from tests.tui.run_world import doubt_history, fork_history, forked, record, refund_history
from tui.gantt import FAILED, WAIT, WORK
from tui.histories import HELD_BYTES_MAX, HistoryCache
from tui.history_fold import NOT_OVER, History, fold
from tui.model import RunNote
from tui.run_picture import Picture, difference
from tui.run_text import kill_line, note_of
from tui.source import Source
from wal.records import (
    ErrorData,
    Record,
    RunContinued,
    RunStarted,
    SignalReceived,
    StepCompleted,
    StepFailed,
    StepScheduled,
)
from wal.views import HistoryRecord, rfc3339


def history(records: list[HistoryRecord]) -> History:
    found = History()
    found.append(records)
    return found


def test_a_step_that_runs_at_most_once_would_be_a_doubt() -> None:
    """While it is in flight a kill comes to a question to a person, in the picture and in what the list notes of it."""
    records = [
        record(1, "run_started", 9, workflow="payout", input=None),
        record(2, "step_scheduled", 9, "0", "wire", args=None, at_most_once=True),
    ]
    last = fold(records)
    assert note_of(last).once == {"0"}
    for picture, note in ((last, RunNote()), (None, note_of(last))):
        assert kill_line(run("r"), picture, note).startswith("DOUBT: whether wire happened, a person would be asked")
    settled = fold([*records, record(3, "step_completed", 8, "0", "wire", 1, result=None)])
    assert note_of(settled).once == set()
    assert kill_line(run("r"), settled, note_of(settled)).startswith("REDO")


def undo_of(picture: Picture) -> list[str]:
    return [undo.name for undo in picture.to_undo()]


def test_the_last_picture_says_how_the_run_stands() -> None:
    """Attempts, states, what would be undone newest first, and what is waited for: all out of the records."""
    last = history(refund_history()).last
    assert [(call.key, call.name, call.word, len(call.attempts)) for call in last.in_order()] == [
        ("0", "lock_order", "DONE", 1),
        ("1", "psp_lookup", "DONE", 3),
        ("2", "fraud_check", "DONE", 1),
        ("3", "approve_refund", "APPR", 0),
    ]
    assert undo_of(last) == ["fraud_check", "psp_lookup", "lock_order"]
    assert (last.status, last.state.waiting_on) == ("waiting", "approval")
    assert last.in_flight() == []


def test_attempts_tell_when_they_began_ended_and_why() -> None:
    """An attempt ends with its record and the next begins when its timer fired; the backoff lies between."""
    first, second, third = history(refund_history()).last.calls["1"].attempts
    assert [one.outcome for one in (first, second, third)] == ["failed", "failed", "ok"]
    assert first.note == "TimeoutError: psp.example 202"
    assert (second.began - (first.ended or 0)) / 1e6 == 1.0
    assert first.retry_at == second.began


def test_bars_are_work_failure_and_waiting() -> None:
    """Failed attempts, the waits between them, and the one that worked are told apart."""
    inks = [span.ink for span in history(refund_history()).last.calls["1"].spans()]
    assert inks == [FAILED, WAIT, FAILED, WAIT, WORK]


def test_travelling_shows_the_run_as_it_was() -> None:
    """As of a record, later ones are not known: attempt 2 is under way and only the first step can be undone."""
    past = history(refund_history()).at(10406)
    assert [call.word for call in past.in_order()] == ["DONE", "RUN"]
    assert past.calls["1"].attempts[-1].number == 2
    assert undo_of(past) == ["lock_order"]
    assert past.status == "running"


def test_every_picture_of_the_past_is_the_fold_of_what_was_there() -> None:
    """Travelling to a record equals folding the records up to it, for each of them."""
    records = refund_history()
    whole = history(records)
    for place, one in enumerate(records):
        assert whole.at(one.seq) == fold(records[: place + 1])


def test_stepping_goes_record_by_record_and_change_by_change() -> None:
    """Back and forth by records; by changes of state only where status or wait are different."""
    found = history(refund_history())
    assert found.earlier(10413) == 10412
    assert found.earlier(10401) is None
    assert found.later(10412) == 10413
    assert found.later(10413) is None
    assert found.earlier(10413, change=True) == 10401
    assert found.later(10401, change=True) == 10413


def test_what_changed_between_two_records_is_named() -> None:
    """The difference names the call, its states, and what became of the undo list."""
    found = history(refund_history())
    changes = dict(difference(found.at(10410), found.at(10411)))
    assert changes["call 2"] == "fraud_check RUN -> DONE try 1"
    assert changes["undo"] == "psp_lookup lock_order -> fraud_check psp_lookup lock_order"


def test_a_compensation_takes_its_step_off_the_list() -> None:
    """While undoing, what is undone and what is next are told apart, and the undo is a call of its own."""
    more = [
        record(10414, "run_cancel_requested", 5, reason="no"),
        record(10415, "run_compensating", 5),
        record(10416, "compensation_scheduled", 5, "2!", "recheck", args=[[], {}]),
        record(10417, "compensation_completed", 4, "2!", "recheck", 1, result=None),
        record(10418, "compensation_scheduled", 4, "1!", "forget", args=[[], {}]),
    ]
    last = history(refund_history() + more).last
    assert undo_of(last) == ["psp_lookup", "lock_order"]
    assert last.undone == ("recheck",)
    assert [call.name for call in last.in_flight()] == ["forget"]
    assert last.calls["2!"].kind == "undo"
    assert last.status == "compensating"
    assert last.cancel_asked


def test_a_doubt_stays_until_it_is_resolved() -> None:
    """An unknown outcome is DOUBT; resolved as happened it is done and joins what would be undone."""
    found = history(doubt_history())
    assert found.last.calls["0"].word == "DOUBT"
    found.append([record(505, "step_resolved", 10, "0", happened=True, result="w", by="uid:1002", reason="looked")])
    assert found.last.calls["0"].word == "DONE"
    assert found.last.calls["0"].attempts[-1].note == "uid:1002: it happened"
    assert undo_of(found.last) == ["wire_transfer"]


def test_a_signal_ends_the_oldest_wait_of_its_name_or_is_kept() -> None:
    """A wait for a signal begins with the note of waiting; the signal ends it; one that nobody asks for is kept."""
    found = history(
        [
            record(1, "run_started", 50, workflow="deploy", input=None),
            record(2, "run_waiting", 49, on="signal", calls=[{"key": "0", "kind": "signal", "name": "go"}]),
            record(3, "signal_received", 40, None, "other", value=1),
            record(4, "signal_received", 30, None, "go", value="now"),
        ]
    )
    assert found.at(2).calls["0"].open
    assert found.last.calls["0"].word == "DONE"
    assert found.last.calls["0"].data["value"] == "now"
    assert found.last.signals == ("other",)


def test_a_crash_makes_another_attempt() -> None:
    """An attempt that the process's end interrupted is told as such, and the next one is under way."""
    found = history(
        [
            record(1, "run_started", 50, workflow="w", input=None),
            record(2, "step_scheduled", 50, "0", "slow", args=[[], {}], undo="undo_it"),
            record(3, "step_interrupted", 20, "0", "slow", 1),
        ]
    )
    assert [one.outcome for one in found.last.calls["0"].attempts] == ["interrupted", "running"]
    assert found.last.calls["0"].attempts[-1].number == 2


def test_a_run_that_continues_as_new_begins_again() -> None:
    """A second beginning forgets the calls of the first, and counts the generation that keys of attempts carry."""
    found = history([*refund_history(), record(10500, "run_started", 3, workflow="refund_saga", input=None)])
    assert found.last.calls == {}
    assert found.last.generation == 1


def test_records_are_held_once_and_up_to_a_limit() -> None:
    """A page that overlaps changes nothing; beyond the limit the history says that there is more."""
    found = history(refund_history())
    found.append(refund_history())
    assert len(found) == 13
    found.append(record(20_000 + n, "output_emitted", 1, value=n) for n in range(6_000))
    assert len(found) == 5_000
    assert found.truncated


def test_a_fork_begins_with_what_another_run_had_done() -> None:
    """The steps of its past stand there with their instants, names and results, and are undone if it fails; they come
    with the record that holds them, and how the run stands its own records say."""
    found = history(fork_history())
    assert found.at(10449).calls == {}
    taken = found.at(10450)
    assert [(call.key, call.name, call.word, len(call.attempts)) for call in taken.in_order()] == [
        ("0", "lock_order", "DONE", 1), ("1", "psp_lookup", "DONE", 2), ("2", "notify", "RETRY", 1),
    ]  # fmt: skip
    assert rfc3339(taken.calls["0"].closed) == at(1319.6)
    assert taken.calls["1"].data["result"] == {"charge": "ch_91xx"}
    assert (taken.origin, taken.status, taken.input) == (("7f3a2c", 10410), "running", {"order": 991})
    assert undo_of(found.last) == ["psp_lookup", "lock_order"]
    assert [call.name for call in found.last.in_flight()] == ["notify", "fraud_check"]
    assert dict(difference(found.at(10449), taken))["forked from"] == "7f3a2c at record 10410"


def test_what_was_under_way_there_is_not_under_way_in_the_fork() -> None:
    """Its attempt is another run's, and ends with the past; what the fork records of it makes no second one of it."""
    found = history(fork_history())
    assert found.at(10451).in_flight() == []
    left, again = found.last.calls["2"].attempts
    assert (left.number, left.outcome, left.note, left.made_as) == (1, "interrupted", NOT_OVER, "7f3a2c/0")
    assert rfc3339(left.ended) == at(1311.5)
    assert (again.number, again.outcome, again.made_as) == (2, "running", "")


def test_what_was_to_be_tried_again_there_is_tried_by_the_fork() -> None:
    """The fork's own records say so: the attempt that it could not wait for is told as one that was not over."""
    failed = StepFailed("0", "load", ErrorData("E", "m"), 1, NOW)
    found = history(
        [
            record(20, "run_started", 9, workflow="w", id="f", input=None),
            forked(21, 9, "r", 12, *BEGUN, (12, 40, failed)),
            record(22, "step_interrupted", 9, "0", "load", 2),
            record(23, "step_completed", 5, "0", "load", 3, result=None),
        ]
    )
    assert found.at(21).calls["0"].word == "RETRY"
    told = [(one.number, one.outcome, one.made_as) for one in found.last.calls["0"].attempts]
    assert told == [(1, "failed", "r/0"), (2, "interrupted", ""), (3, "ok", "")]


BEGUN: list[tuple[int, float, Record]] = [
    (10, 50, RunStarted("r", "w", Raw(b"null"))),
    (11, 50, StepScheduled("0", "load", Raw(b"null"), at_most_once=True)),
]


def test_a_fork_of_a_fork_knows_whose_attempts_were_whose() -> None:
    """In its past another beginning says whose the records are from there on; nothing that was done is forgotten."""
    past: list[tuple[int, float, Record]] = [
        (9, 50, RunContinued("4", RunStarted("r", "w", Raw(b"null")), 3)),
        (10, 50, StepScheduled("0", "one", Raw(b"null"), undo="not_one")),
        (20, 40, RunStarted("f", "w", Raw(b"null"))),
        (11, 49, StepCompleted("0", "one", Raw(b"1"))),
        (21, 39, StepScheduled("1", "two", Raw(b"null"))),
        (22, 38, StepCompleted("1", "two", Raw(b"2"))),
    ]
    last = history([record(30, "run_started", 9, workflow="w", id="g"), forked(31, 9, "f", 22, *past)]).last
    assert [(call.name, call.word, call.attempts[0].made_as) for call in last.in_order()] == [
        ("one", "DONE", "r/3"), ("two", "DONE", "f/0"),
    ]  # fmt: skip
    assert (undo_of(last), last.generation) == (["one"], 0)


def test_signals_of_the_past_are_not_told_as_kept() -> None:
    """Whether the code had taken them by then, the past does not say; what comes to the fork itself is."""
    past = (*BEGUN, (12, 40, SignalReceived("go", Raw(b"1"))))
    found = history([record(20, "run_started", 9, workflow="w", id="f"), forked(21, 9, "r", 12, *past)])
    assert found.last.signals == ()
    found.append([record(22, "signal_received", 8, None, "more", value=1)])
    assert found.last.signals == ("more",)


def test_a_past_counts_with_what_is_held(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its records and bytes count like others; of one that is too long its first are held, and that is said."""
    own = [record(20, "run_started", 9, workflow="w", id="f"), forked(21, 9, "r", 11, *BEGUN)]
    found = history(own)
    assert [one.seq for one in found.past] == [10, 11]
    assert found.size > 4 * 500 + sum(len(bytes(one.data)) for one in own)
    monkeypatch.setattr("tui.history_fold.RECORDS_MAX", 4)
    found = history(own)
    assert (found.full, found.truncated) == (True, False)
    found.append([record(22, "run_paused", 8)])
    assert (len(found), found.truncated) == (2, True)
    monkeypatch.setattr("tui.history_fold.RECORDS_MAX", 1)
    found = History()
    found.append(own[1:])
    assert ([one.seq for one in found.past], found.truncated) == ([10], True)


def test_a_past_of_a_later_version_is_told_as_far_as_it_says() -> None:
    """A kind that this version does not know stands there with its name."""
    data = {"from_id": "r", "past": [[7, 5, {"kind": "of_a_later_version", "key": "0", "odd": 1}]]}
    found = history([record(20, "run_started", 9, workflow="w", id="f"), record(21, "run_forked", 9, **data)])
    assert [(one.kind, one.call, bytes(one.data)) for one in found.past] == [("of_a_later_version", "0", b'{"odd":1}')]
    assert found.last.calls == {}


KINDS = (
    "run_started", "run_waiting", "run_paused", "run_resumed", "run_blocked", "run_retried", "run_compensating",
    "run_completed", "run_failed", "run_cancelled", "step_scheduled", "step_completed", "step_failed",
    "step_interrupted", "step_unknown", "step_resolved", "compensation_added", "compensation_scheduled",
    "compensation_completed", "compensation_failed", "timer_set", "timer_fired", "timer_cancelled", "signal_received",
    "signal_set_aside", "approval_requested", "approval_voted", "approval_decided", "approval_withdrawn",
    "attributes_set", "output_emitted", "state_written", "run_forked", "of_a_later_version",
)  # fmt: skip
DATA = {
    "on": "timer", "code": "code_error", "error": {"type": "E"}, "calls": [{"key": "0", "kind": "signal"}],
    "past": [[7, 5, {"kind": "step_scheduled", "key": "1", "name": "x"}], [8, 6, {"kind": "step_failed", "key": "1"}]],
}  # fmt: skip


@given(st.lists(st.tuples(st.sampled_from(KINDS), st.sampled_from(["0", "1", "0!", None])), max_size=30))
def test_any_order_of_records_folds(plan: list[tuple[str, str | None]]) -> None:
    """A history that begins in the middle, or holds what this version does not know, is shown as far as it says."""
    records = [record(seq, kind, 100 - seq, call, "x", 1, **DATA) for seq, (kind, call) in enumerate(plan, start=1)]
    last = history(records).last
    for call in last.in_order():
        assert all(span.start <= (span.end or NOW) for span in call.spans())
    assert at(0)


def test_a_step_that_declares_no_undo_is_not_listed() -> None:
    """Only what a compensation was declared for is undone, and only that is told."""
    told = [
        record(1, "run_started", 60, workflow="w"),
        record(2, "step_scheduled", 50, "0", "look", args=[[], {}]),
        record(3, "step_completed", 49, "0", "look", result=1),
        record(4, "step_scheduled", 48, "1", "lock", args=[[], {}], undo="unlock"),
        record(5, "step_completed", 47, "1", "lock", result=1),
    ]
    assert undo_of(history(told).last) == ["lock"]


@pytest.mark.anyio
async def test_histories_are_kept_by_their_bytes() -> None:
    """Many small histories are kept, of large ones those that were read last, and where a run stood in any case."""

    class Reading:
        def __init__(self, size: int) -> None:
            self.size = size

        async def history(self, run_id: str, after: int = 0, limit: int = 200) -> HistoryPage:
            items = [record(1, "run_started", workflow="w", input="x" * self.size)] if after == 0 else []
            return HistoryPage(items=items, next=None, total=None, seq=1)

    source = Reading(100)

    async def ask(work: Callable[[Source], Awaitable[History]]) -> History | None:
        return await work(cast("Source", source))

    cache = HistoryCache(ask)
    for n in range(100):
        await cache.read(f"small{n}", 1)
    assert cache.get("small0") is not None
    source.size = HELD_BYTES_MAX // 3
    for n in range(5):
        await cache.read(f"large{n}", 1)
    assert [n for n in range(5) if cache.get(f"large{n}") is not None] == [3, 4]
    assert cache.get("small0") is None
    assert cache.note("small0", 1) is not None
    source.size = 2 * HELD_BYTES_MAX
    await cache.read("huge", 1)
    assert cache.get("huge") is not None
