"""The model: a snapshot and events folded, and what follows from them."""

from __future__ import annotations

import pytest

from tests.tui.fake_daemon import NOW, approval, at, event, run
from tui.model import APPROVALS, COUNTS, EVENTS, RUNS, RUNS_HELD_MAX, SESSIONS, Model
from wal.views import ActorView, ErrorView


@pytest.fixture
def model() -> Model:
    one = Model()
    one.put_runs([run("r2", ago=5), run("r1", ago=60)], complete=True)
    one.put_counts({"running": 2})
    one.seq = 10
    return one


def test_a_run_starts_works_waits_and_ends(model: Model) -> None:
    """The events of a run's life move its state, its counts and its step, without asking the daemon again."""
    change = model.apply(event(11, "run_started", "r3", id="r3", workflow="refund"))
    assert (change.topics, change.runs) == ({EVENTS, RUNS, COUNTS}, {"r3"})
    assert not change.ask_runs
    model.apply(event(12, "step_scheduled", "r3", call="1", name="lock", args=[]))
    assert model.note("r3").in_flight == {"1"}
    model.apply(
        event(13, "step_failed", "r3", call="1", name="lock", attempt=1, error={"type": "Busy"}, retry_at=at(-5))
    )
    assert (model.note("r3").step, model.note("r3").attempt, model.note("r3").in_flight) == ("lock", 2, frozenset())
    calls = [{"key": "1", "kind": "retry", "name": "lock"}]
    model.apply(event(14, "run_waiting", "r3", on="retry", until=at(-5), calls=calls))
    assert (model.runs["r3"].status, model.runs["r3"].waiting_on, model.runs["r3"].waiting_until) == (
        "waiting",
        "retry",
        at(-5),
    )
    model.apply(event(15, "timer_fired", "r3", call="1"))
    model.apply(event(16, "step_completed", "r3", call="1", name="lock", attempt=2, result=1))
    assert model.runs["r3"].status == "running"
    model.apply(event(17, "run_completed", "r3", result=None, ago=0.0))
    assert (model.runs["r3"].status, model.runs["r3"].ended_at, model.runs["r3"].seq) == ("completed", at(0), 17)
    assert model.counts == {"running": 2, "completed": 1, "waiting": 0}
    assert model.seq == 17


def test_an_event_is_folded_once(model: Model) -> None:
    """What a view already holds, and what was read before the snapshot, changes nothing but the lists."""
    assert model.apply(event(9, "run_completed", "r1")).topics == {EVENTS}
    model.put_run(run("r1", status="completed", seq=20))
    model.apply(event(15, "run_failed", "r1", error={"type": "X"}))
    assert model.runs["r1"].status == "completed"
    assert model.put_run(run("r1", status="running", seq=19)).topics == frozenset()
    assert model.runs["r1"].status == "completed"


def test_what_the_events_do_not_tell_is_asked_for(model: Model) -> None:
    """A run not held, and one whose view does not say in which direction it goes, are asked for; approvals and sessions
    are asked for whole."""
    assert model.apply(event(11, "step_scheduled", "unknown", call="1", name="x")).ask_runs == {"unknown"}
    model.put_run(run("unknown", status="waiting", seq=11))
    assert model.counts == {"running": 2}  # what was asked for is not new: its count is in the figures
    model.apply(event(12, "run_paused", "r1"))
    assert model.runs["r1"].status == "paused"
    assert model.apply(event(13, "run_resumed", "r1")).ask_runs == {"r1"}
    assert model.apply(event(14, "approval_requested", "r2", call="3", title="?")).ask == {APPROVALS}
    assert model.apply(event(15, "session_opened", None, id="s")).ask == {SESSIONS}


def test_a_record_of_a_newer_daemon_is_no_reason_to_break(model: Model) -> None:
    """What cannot be read makes its run be asked for."""
    change = model.apply(event(11, "run_waiting", "r1", on=7))
    assert change.ask_runs == {"r1"}
    assert model.apply(event(12, "something_new", "r2", x=1)).runs == {"r2"}


def test_words_are_counted(model: Model) -> None:
    """Runs by word; those beyond what is held by their status's plainest word."""
    model.put_runs(
        [
            run("a", status="waiting", waiting_on="retry"),
            run("b", status="waiting", waiting_on="approval"),
            run("c", status="blocked", error=ErrorView("outcome_unknown", "")),
        ],
        complete=True,
    )
    model.put_counts({"waiting": 10, "blocked": 1, "completed": 7})
    words = model.words()
    assert (words["RETRY"], words["APPR"], words["WAIT"], words["DOUBT"], words["STUCK"], words["DONE"]) == (
        1,
        1,
        8,
        1,
        0,
        7,
    )
    assert model.open_total() == 11


def test_the_meter_counts_every_open_run(model: Model) -> None:
    """SAFE, REDO and DOUBT sum up to the open runs, also those that are not held; LOST is 0."""
    doubt = run("c", status="blocked", error=ErrorView("outcome_unknown", ""))
    model.put_runs([run("a"), run("b", status="waiting"), doubt], complete=False)
    model.put_counts({"running": 5, "waiting": 100, "blocked": 1, "completed": 50})
    meter = model.kill9()
    assert (meter.safe, meter.redo, meter.doubt, meter.lost) == (100, 5, 1, 0)
    assert meter.doubt_ids == ("c",)


def test_the_meter_knows_what_runs_at_most_once(model: Model) -> None:
    """In such a step a kill is a doubt, not another attempt; once it is over, nothing of it is left."""
    model.put_runs([run("r1")], complete=True)
    model.put_counts({"running": 1})
    model.apply(event(11, "step_scheduled", "r1", call="0", name="wire", args=None, at_most_once=True))
    model.apply(event(12, "step_scheduled", "r1", call="1", name="mail", args=None))
    assert (model.kill9().redo, model.kill9().doubt, model.kill9().doubt_ids) == (0, 1, ("r1",))
    model.apply(event(13, "step_completed", "r1", call="0", name="wire", attempt=1, result=None))
    assert (model.kill9().redo, model.kill9().doubt) == (1, 0)


def test_needs_stand_by_urgency(model: Model) -> None:
    """Approvals first, what expires soonest before the others, then doubts, stuck runs, actors that are down."""
    asked = [approval("1", "late", expires_at=None), approval("2", "soon"), approval("3", "first", expires_at=at(-5))]
    model.put_approvals(asked)
    stuck = run("s", status="blocked", error=ErrorView("code_error", ""))
    doubt = run("d", status="blocked", error=ErrorView("outcome_unknown", "", "wire"))
    model.put_runs([stuck, doubt], complete=True)
    model.actors = [ActorView("root/x", "failed", 3, None, 0, 10), ActorView("root", "up", 0, None, 0, 0)]
    assert [(need.word, need.id) for need in model.needs()] == [
        ("APPR", "3"), ("APPR", "2"), ("APPR", "1"), ("DOUBT", "d"), ("STUCK", "s"), ("DOWN", "root/x"),
    ]  # fmt: skip


def test_the_model_has_a_limit(model: Model) -> None:
    """However many runs come and go, at most two thousand are held, the open ones longest."""
    for n in range(RUNS_HELD_MAX + 500):
        model.apply(event(100 + 2 * n, "run_started", f"x{n}", id=f"x{n}"))
        model.apply(event(101 + 2 * n, "run_completed", f"x{n}", result=1))
    assert len(model.runs) <= RUNS_HELD_MAX
    assert {"r1", "r2"} <= set(model.runs)
    assert model.complete
    for n in range(RUNS_HELD_MAX + 1):
        model.apply(event(10_000 + n, "run_started", f"y{n}", id=f"y{n}"))
    assert len(model.runs) <= RUNS_HELD_MAX
    assert not model.complete


def test_blocked_runs_are_held_longest(model: Model) -> None:
    """However many others start, a run that needs a person stays, unless there are too many of those too."""
    model.put_runs([run("new"), run("old", status="blocked", ago=9_000)], complete=True)
    for n in range(RUNS_HELD_MAX + 1):
        model.apply(event(11 + n, "run_started", f"y{n}", id=f"y{n}"))
    assert "old" in model.runs
    assert "new" not in model.runs
    assert len(model.runs) == RUNS_HELD_MAX
    for n in range(2 * RUNS_HELD_MAX + 1):
        model.put_run(run(f"b{n}", status="blocked", seq=20_000))
    assert len(model.runs) == 2 * RUNS_HELD_MAX
    assert "old" not in model.runs


def test_a_snapshot_after_a_break_is_believed_and_not_what_was_told_before(model: Model) -> None:
    """What the events told of a run holds while no others came; a seq before the last is another journal's."""
    model.apply(event(11, "step_scheduled", "r1", call="0", name="charge"))
    model.begin(11)
    assert model.note("r1").in_flight == {"0"}
    model.begin(13)
    assert not model.note("r1").in_flight
    assert (model.journal_number, len(model.events)) == (0, 1)
    model.begin(5)
    assert (model.journal_number, model.seq, len(model.events)) == (1, 5, 0)


def test_rates_lie_where_the_events_say(model: Model) -> None:
    """Steps and failures are counted by the instants of their records, however late they are read."""
    for n in range(60):
        model.apply(event(20 + n, "step_completed", "r1", ago=70.0, call="1", name="x", result=1))
    model.apply(event(90, "run_failed", "r2", ago=3000.0, error={"type": "X"}))
    assert sum(model.rates.steps(NOW)) * 30 == pytest.approx(60)
    assert model.rates.steps(NOW)[-4:].count(2.0) == 1
    assert model.rates.failed_last_hour(NOW) == 1
    assert model.rates.failed_last_hour(NOW + 601_000_000) == 0


def test_large_records_are_kept_small(model: Model) -> None:
    """Thousands of events are held, whatever their payloads: of a large one the small fields, the others by size."""
    model.apply(event(11, "step_failed", "r1", call="1", name="x", error={"type": "Huge"}, result="y" * 1_000_000))
    kept = bytes(model.events[-1].data)
    assert len(kept) < 4_096
    assert b'"Huge"' in kept
    assert b"1000002 bytes" in kept
