"""`runs explain`: one sentence that says why, since when, until when, what wakes it, and what a kill would cost."""

from __future__ import annotations

import json
from typing import Any

import msgspec
import pytest

from actors.flow.calls import StepCall
from actors.flow.definitions import App
from runtimed.cli.main import run
from runtimed.cli.record_text import in_words
from runtimed.cli.standing import kill_cost, open_attempts, with_past
from wal.records import StepScheduled
from wal.views import ApprovalView, ErrorView, RunDetail, Vote

app = App("explained")


@app.step(delivery="at_most_once")
async def wire() -> None:
    """Never called."""


@app.step
async def charge() -> None:
    """Never called."""


AT = "2026-01-31T12:00:{:02}.000000Z"
NULL = msgspec.Raw(b"null")


def record(seq: int, kind: str, call: str | None = None, name: str | None = None, **data: Any) -> dict[str, Any]:
    attempt = data.pop("attempt", None)
    return {
        "seq": seq,
        "at": AT.format(seq),
        "kind": kind,
        "call": call,
        "name": name,
        "attempt": attempt,
        "data": data,
    }


def waiting(seq: int, *calls: dict[str, Any]) -> dict[str, Any]:
    return record(seq, "run_waiting", on=calls[0]["kind"], calls=list(calls))


SCHEDULED = record(1, "step_scheduled", "0", "charge", args=[[1], {}])
COMPLETED = record(2, "step_completed", "0", "charge", result="c", attempt=1)

ASKED = ApprovalView(
    id="12", run_id="r1", workflow="checkout", call="1", title="Ship\x1b it?", detail=NULL, form=NULL,
    roles=["ops", "finance"], quorum=2, risk="low", four_eyes=False, status="open", requested_at=AT.format(3),
    expires_at=None, payload_hash="a" * 64, votes=[Vote("uid:7", True, None, AT.format(4))], decided_at=None,
)  # fmt: skip


@pytest.fixture
def explain(fake: Any, capsys: pytest.CaptureFixture[str]) -> Any:
    """`explain(records, status=...)` gives the lines that are printed, and the JSON."""

    def ask(records: list[dict[str, Any]], *approvals: ApprovalView, **changes: Any) -> tuple[list[str], Any]:
        view = RunDetail(id="r1", workflow="checkout", status="running", updated_at=AT.format(9), seq=9)
        view = msgspec.structs.replace(view, **changes)
        fake.on("GET", "/v1/runs/r1", fake.Reply(200, json.loads(msgspec.json.encode(view))))
        fake.on("GET", "/v1/runs/r1/history", fake.Reply(200, {"items": records, "next": None, "total": 3, "seq": 9}))
        items = [json.loads(msgspec.json.encode(each)) for each in approvals]
        fake.on("GET", "/v1/approvals", fake.Reply(200, {"items": items, "next": None, "total": 0, "seq": 9}))
        assert run(["runs", "explain", "r1", "--socket", str(fake.socket)]) == 0
        assert run(["runs", "explain", "r1", "--json", "--socket", str(fake.socket)]) == 0
        *lines, as_json = capsys.readouterr().out.splitlines()
        return lines, json.loads(as_json)

    return ask


def test_waiting_for_a_signal(explain: Any) -> None:
    """What it waits for, what wakes it, that a kill costs nothing, and the command that moves it."""
    records = [SCHEDULED, COMPLETED, waiting(3, {"key": "2", "kind": "signal", "name": "go"})]
    lines, as_json = explain(records, status="waiting", waiting_on="signal", waiting_until=AT.format(50))
    assert lines == [
        "Run r1 of checkout waits for the signal go since 2026-01-31T12:00:03Z until 2026-01-31T12:00:50Z; "
        "what wakes it: the signal go or its deadline; kill -9 now: SAFE.",
        "So far: 1 step is done.",
        "If killed now: SAFE, nothing is lost or repeated; all is on disk up to record 9.",
        "  next: runtimed runs signal r1 go VALUE",
        "  next: runtimed runs history r1",
    ]
    assert (as_json["kill9"], as_json["sentence"]) == ("SAFE", lines[0])
    assert as_json["next"][0] == "runtimed runs signal r1 go VALUE"


def test_waiting_for_people_and_a_timer(explain: Any) -> None:
    """A race names all that it waits for; of an approval its id, title, votes and who may decide; nothing acts."""
    calls = [{"key": "1", "kind": "approval", "name": "Ship\x1b it?"}, {"key": "2", "kind": "timer"}]
    records = [
        record(1, "approval_requested", "1", title="Ship\x1b it?"),
        record(2, "timer_set", "2", due_at=AT.format(40)),
        waiting(3, *calls),
    ]
    lines, _ = explain(records, ASKED, status="waiting", waiting_on="approval", waiting_until=AT.format(40))
    for words in ('approval 12 "Ship\\x1b it?" (1 of 2 votes) and the timer of call 2', "a decision of ops or finance"):
        assert words in lines[0]
    assert "a decision of ops or finance or its timer at 2026-01-31T12:00:40Z;" in lines[0]
    assert "  next: runtimed approvals show 12" in lines


def test_a_step_in_flight(explain: Any) -> None:
    """What runs, since when, and that a kill repeats it under the same key."""
    lines, as_json = explain([SCHEDULED])
    assert lines[0] == (
        "Run r1 of checkout is running since 2026-01-31T12:00:09Z: charge (call 0, attempt 1) "
        "since 2026-01-31T12:00:01Z; it goes on when that ends; kill -9 now: REDO."
    )
    assert "would run again with the same idempotency key" in lines[-2]
    assert as_json["kill9"] == "REDO"


def test_a_step_in_flight_that_may_happen_once(explain: Any) -> None:
    """A kill would leave its outcome to a person, and that is said before it happens."""
    lines, as_json = explain([record(1, "step_scheduled", "0", "wire", args=[[1], {}], at_most_once=True)])
    assert as_json["kill9"] == "DOUBT"
    assert any("whether wire (call 0, attempt 1) happened, a person would be asked" in line for line in lines)


def test_the_record_says_what_a_kill_would_come_to() -> None:
    """Only a step that is delivered at most once is marked; the others' records are as small as they were."""
    for step, marked in ((wire, True), (charge, False)):
        call = StepCall(step, msgspec.Raw(b"[[],{}]"), 0)
        call.key = "0"
        fact = call.fact(0)
        assert isinstance(fact, StepScheduled) and fact.at_most_once is marked
        assert (b"at_most_once" in msgspec.json.encode(fact)) is marked


def test_blocked_by_an_unknown_outcome(explain: Any) -> None:
    """A person is asked; `retry` is not offered, because it would be refused."""
    records = [
        SCHEDULED,
        record(2, "step_unknown", "0", "charge", attempt=1),
        record(3, "run_blocked", code="outcome_unknown"),
    ]
    error = ErrorView("outcome_unknown", "charge may have happened", "charge")
    lines, as_json = explain(records, status="blocked", error=error)
    assert lines[0] == (
        "Run r1 of checkout is blocked since 2026-01-31T12:00:03Z by outcome_unknown in charge; "
        "what wakes it: a person alone; kill -9 now: DOUBT."
    )
    assert "The cause in step charge: outcome_unknown: charge may have happened." in lines
    assert as_json["next"][0] == "runtimed runs resolve r1 0 --happened|--did-not-happen --reason WHY"
    assert not any("runs retry" in command for command in as_json["next"])


def test_an_unknown_outcome_that_nobody_needs(explain: Any) -> None:
    """An attempt that was given up with its branch leaves no question: the run went on without it."""
    records = [
        SCHEDULED,
        record(2, "step_unknown", "0", "charge", attempt=1),
        waiting(3, {"key": "2", "kind": "timer"}),
    ]
    lines, as_json = explain(records, status="waiting", waiting_on="timer")
    assert as_json["kill9"] == "SAFE" and not any("no outcome yet" in line for line in lines)


def test_blocked_by_a_defect(explain: Any) -> None:
    """Mend and retry, or cancel; nothing is in doubt."""
    lines, as_json = explain([SCHEDULED, COMPLETED], status="blocked", error=ErrorView("code_error", "KeyError: 1"))
    assert "by code_error; what wakes it: a person alone; kill -9 now: SAFE." in lines[0]
    assert [command.split("    ")[0] for command in as_json["next"][:2]] == [
        "runtimed runs retry r1", "runtimed runs cancel r1",
    ]  # fmt: skip


def forked(seq: int, *past: list[Any]) -> dict[str, Any]:
    """The record of a fork of `order` at its record 9, as the daemon tells it: instants in it are microseconds."""
    began = [1, 1_769_860_800_000_000, {"kind": "run_started", "id": "order", "workflow": "checkout", "input": None}]
    return record(seq, "run_forked", from_id="order", from_seq=9, past=[began, *past])


PAST = [2, 1_769_860_801_000_000, {"kind": "step_scheduled", "key": "0", "name": "charge", "args": None}]
DONE = [3, 1_769_860_802_000_000, {"kind": "step_completed", "key": "0", "name": "charge", "result": "c"}]
WIRE = [4, 5, {"kind": "step_scheduled", "key": "1", "name": "wire", "args": None, "at_most_once": True}]


def test_a_fork_counts_what_it_took_over(explain: Any) -> None:
    """What the other run had done is done in the fork; what is in flight is what its own records say."""
    records = [record(10, "run_started"), forked(11, PAST, DONE), record(12, "step_scheduled", "1", "ship")]
    lines, as_json = explain(records)
    assert "It is a fork of order at record 9: what that had done is done here." in lines
    assert "So far: 1 step is done." in lines
    assert lines[0].startswith("Run r1 of checkout is running since 2026-01-31T12:00:09Z: ship (call 1, attempt 1)")
    assert as_json["kill9"] == "REDO"


def test_what_was_under_way_there_is_not_under_way_in_the_fork() -> None:
    """An attempt of the past is none of the fork's: it is made again, or is in doubt where it may happen once."""
    assert open_attempts(with_past([forked(11, PAST)])) == []
    again = record(12, "step_interrupted", "0", "charge", attempt=1)
    (attempt,) = open_attempts(with_past([forked(11, PAST), again]))
    assert (str(attempt), attempt.since) == ("charge (call 0, attempt 2)", AT.format(12))
    (doubt,) = open_attempts(with_past([forked(11, WIRE, DONE), record(12, "step_unknown", "1", "wire", attempt=1)]))
    assert (str(doubt), doubt.doubtful) == ("wire (call 1, attempt 1)", True)


@pytest.mark.parametrize(
    ("changes", "records", "words"),
    [
        ({"status": "completed", "ended_at": AT.format(8)}, [], "has completed at 2026-01-31T12:00:08Z."),
        (
            {"status": "paused"},
            [record(4, "run_paused", by="uid:7", reason="wait for SRE")],
            'is paused since 2026-01-31T12:00:04Z by uid:7 ("wait for SRE"); what wakes it: `runs resume`; kill',
        ),
        ({"status": "queued", "waiting_until": AT.format(20)}, [], "until 2026-01-31T12:00:20Z; it begins by itself"),
        ({"status": "compensating"}, [], "is undoing what it did since"),
    ],
)
def test_other_statuses(explain: Any, changes: dict[str, Any], records: list[Any], words: str) -> None:
    """Each status has its sentence."""
    lines, _ = explain(records, **changes)
    assert words in lines[0]


def test_attempts_are_followed_through_retries() -> None:
    """A failed attempt that is tried again is in flight once its timer has fired, not before; an interrupted one is."""
    failed = record(2, "step_failed", "0", "charge", attempt=1, retry_at=AT.format(5))
    assert open_attempts([SCHEDULED, failed]) == []
    (again,) = open_attempts([SCHEDULED, failed, record(3, "timer_fired", "0")])
    assert (str(again), again.number) == ("charge (call 0, attempt 2)", 2)
    (third,) = open_attempts([SCHEDULED, failed, record(3, "timer_fired", "0"), record(4, "step_interrupted", "0", "charge", attempt=2)])  # fmt: skip # noqa: E501 - a line a history
    assert third.number == 3
    assert open_attempts([SCHEDULED, COMPLETED]) == []
    assert kill_cost({"status": "failed", "seq": 1}, []) == ("", "")


@pytest.mark.parametrize(
    ("given", "name", "words"),
    [
        (record(1, "step_scheduled", "0", "charge", args=[[1, "a"], {"k": 2}]), "charge", '(1, "a", k=2)'),
        (record(1, "step_failed", "0", "charge", attempt=2, error={"type": "E", "message": "m"}, retry_at=AT.format(5)),
         "charge", "attempt 2, E: m, again at 2026-01-31T12:00:05Z"),
        (record(1, "approval_voted", "1", approve=False, by="uid:7", via="kim pts/3", reason="no"),
         None, 'no, by uid:7 (kim pts/3), "no"'),
        (record(1, "approval_requested", "1", title="Go?", roles=["ops"], quorum=2), "Go?", "of ops, 2 votes needed"),
        (record(1, "run_started", id="r1", workflow="checkout", input={"cents": 5}, by="uid:7", trace_id="t"),
         "checkout", 'with {"cents":5}, by uid:7'),
        (record(1, "run_cancelled", reason="why"), None, '"why"'),
        (record(2, "run_forked", from_id="r0", from_seq=7, past=[[1, 2, {}]], by="uid:7", reason="mended"),
         None, 'from r0 at record 7, 1 record, by uid:7, "mended"'),
        (record(1, "run_waiting", on="timer", calls=[]), None, "for timer"),
        (record(1, "of_a_newer_version", odd=[1]), None, '{"odd":[1]}'),
        (record(1, "run_compensating", error=None), None, "asked for"),
    ],
)  # fmt: skip
def test_records_in_words(given: dict[str, Any], name: str | None, words: str | None) -> None:
    """A history is read by people: what each record says, without its JSON where there are words for it."""
    assert in_words(given) == (name, words)
