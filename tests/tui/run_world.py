"""Runs with histories for the screens of runs, and a fake daemon that takes what cards ask of runs."""

from __future__ import annotations

import asyncio
from typing import Any

import msgspec
from msgspec import Raw

from actors.errors import RunEnded
from runtimed.client import DaemonUnreachable
from runtimed.client_wire import Answer
from runtimed.wire import RunPage
from tests.tui.fake_daemon import NOW, FakeClient, FakeDaemon, approval, at, event, run
from wal.codec import encode_record
from wal.records import (
    ErrorData,
    PastRecord,
    Record,
    RunForked,
    RunStarted,
    StepCompleted,
    StepFailed,
    StepScheduled,
    TimerFired,
)
from wal.telling import record_data
from wal.views import ErrorView, HistoryRecord, RunDetail, RunView


def record(
    seq: int, kind: str, ago: float = 1.0, call: str | None = None, name: str | None = None, attempt: int | None = None,
    **data: Any,
) -> HistoryRecord:  # fmt: skip
    """A record of a run's history, so many seconds before NOW."""
    return HistoryRecord(seq, at(ago), kind, call, name, attempt, Raw(msgspec.json.encode(data)))


def refund_history() -> list[HistoryRecord]:
    """Three steps done, one of them at the third attempt, and people asked since twenty-two minutes."""
    late = {"type": "TimeoutError", "message": "psp.example 202"}
    return [
        record(10401, "run_started", 1320, workflow="refund_saga", input={"order": 991}),
        record(10402, "step_scheduled", 1320, "0", "lock_order", args=[[991], {}], undo="unlock_order"),
        record(10403, "step_completed", 1319.6, "0", "lock_order", 1, result=True),
        record(10404, "step_scheduled", 1319.6, "1", "psp_lookup", args=[[991], {}], undo="forget_lookup"),
        record(10405, "step_failed", 1317.6, "1", "psp_lookup", 1, error=late, retry_at=at(1316.6)),
        record(10406, "timer_fired", 1316.6, "1"),
        record(10407, "step_failed", 1314.6, "1", "psp_lookup", 2, error=late, retry_at=at(1312.5)),
        record(10408, "timer_fired", 1312.5, "1"),
        record(10409, "step_completed", 1311.5, "1", "psp_lookup", 3, result={"charge": "ch_91xx"}),
        record(10410, "step_scheduled", 1311.5, "2", "fraud_check", args=[["ch_91xx"], {}], undo="forget_check"),
        record(10411, "step_completed", 1310, "2", "fraud_check", 1, result={"score": 0.08}),
        record(10412, "approval_requested", 1310, "3", title="approve_refund", roles=["ops"], quorum=2),
        record(10413, "run_waiting", 1310, on="approval", calls=[{"key": "3", "kind": "approval", "name": "approve"}]),
    ]  # fmt: skip


def forked(seq: int, ago: float, from_id: str, from_seq: int, *past: tuple[int, float, Record]) -> HistoryRecord:
    """The record of a fork, as the daemon tells it; the past with seqs and seconds before NOW."""
    taken = [PastRecord(there, NOW - int(before * 1e6), fact) for there, before, fact in past]
    body = encode_record(RunForked(from_id, from_seq, taken, by="uid:1002", reason="again")).decode()
    return HistoryRecord(seq, at(ago), "run_forked", None, None, None, record_data(body))


def fork_history() -> list[HistoryRecord]:
    """A fork of the run of refunds, where that had looked up the charge: one step done there, one tried again, one in
    flight; and what the fork does about these."""
    past: list[tuple[int, float, Record]] = [
        (10401, 1320, RunStarted("7f3a2c", "refund_saga", Raw(b'{"order":991}'))),
        (10402, 1320, StepScheduled("0", "lock_order", Raw(b"[[991],{}]"), undo="unlock_order")),
        (10403, 1319.6, StepCompleted("0", "lock_order", Raw(b"true"))),
        (10404, 1319.6, StepScheduled("1", "psp_lookup", Raw(b"[[991],{}]"), undo="forget_lookup")),
        (10405, 1317.6, StepFailed("1", "psp_lookup", ErrorData("TimeoutError", "late"), 1, NOW - 1_316_600_000)),
        (10406, 1316.6, TimerFired("1")),
        (10407, 1316.0, StepScheduled("2", "notify", Raw(b"[[991],{}]"))),
        (10409, 1311.5, StepCompleted("1", "psp_lookup", Raw(b'{"charge":"ch_91xx"}'), 2)),
    ]
    return [
        record(10449, "run_started", 100, workflow="refund_saga", id="again", input={"order": 991}),
        forked(10450, 100, "7f3a2c", 10410, *past),
        record(10451, "state_written", 100, scope="run:again", name="seen", value=1),
        record(10452, "step_interrupted", 99, "2", "notify", 1),
        record(10453, "step_scheduled", 98, "3", "fraud_check", args=[["ch_91xx"], {}], undo="forget_check"),
    ]


def doubt_history() -> list[HistoryRecord]:
    """A step of which nobody knows whether it happened."""
    return [
        record(501, "run_started", 9000, workflow="payout", input=None),
        record(502, "step_scheduled", 9000, "0", "wire_transfer", args=[["DE42", 1240], {}], undo="wire_back"),
        record(503, "step_unknown", 8000, "0", "wire_transfer", 1, reason="the process ended"),
        record(504, "run_blocked", 8000, "0", code="outcome_unknown", message="the process ended"),
    ]


class RunClient(FakeClient):
    """The verbs of the fake client, and the one request that changes a run."""

    daemon: RunDaemon

    async def fetch(
        self, method: str, path: str, *, body: Any, headers: dict[str, str], repeatable: bool | None = None
    ) -> Answer:
        """`POST /v1/runs/{id}/{verb}`, never repeated."""
        assert method == "POST" and repeatable is False
        _, _, _, run_id, verb = path.split("/")
        return await self.daemon.act(
            run_id, verb, msgspec.json.decode(msgspec.json.encode(body)), headers["idempotency-key"]
        )

    async def runs(self, **more: Any) -> RunPage:
        page = await super().runs(**more)
        self.daemon.pages.append(more.get("cursor"))
        return page


class RunDaemon(FakeDaemon):
    """A fake daemon whose runs can be acted on. `lose` says what happens to the next request: `before` it is done or
    `after` it, the connection breaks; `held` sets an event to wait for."""

    def __init__(self) -> None:
        super().__init__()
        self.acted: list[tuple[str, str, Any, str]] = []
        self.pages: list[str | None] = []
        self.lose = ""
        self.held: asyncio.Event | None = None
        self.answers: dict[str, int] = {}

    def client(self) -> RunClient:
        return RunClient(self)

    async def act(self, run_id: str, verb: str, body: Any, key: str) -> Answer:
        """Carry out what a card asks, as the daemon would: once a key."""
        self.check(f"{verb} {run_id}")
        self.acted.append((run_id, verb, body, key))
        if self.held is not None:
            await self.held.wait()
        lose, self.lose = self.lose, ""
        if lose == "before":
            raise DaemonUnreachable("the connection broke")
        found = next(run for run in self.runs if run.id == run_id)
        if found.status == "completed" and verb != "fork":
            raise RunEnded(f"run {run_id!r} has ended")
        made = body.get("id") or f"{run_id}:f{body['at_seq']}" if verb == "fork" else run_id
        if key not in self.answers:
            self.answers[key] = self.seq + 1
            answered = event(
                self.seq + 2, "request_answered", principal="uid:1002", idempotency_key=key, digest="", status=0,
                body={"seq": self.seq + 1, "id": made},
            )  # fmt: skip
            kind = {"cancel": "run_cancel_requested", "pause": "run_paused", "fork": "run_started"}
            said = {"workflow": found.workflow, "id": made} if verb == "fork" else {}
            self.push(event(self.seq + 1, kind.get(verb, "run_retried"), made, **said), answered)
        if lose == "after":
            raise DaemonUnreachable("the connection broke")
        return Answer(202, {}, msgspec.json.encode({"seq": self.answers[key], "id": made}))


def refund_world() -> RunDaemon:
    """A run in each of the states that people look for."""
    daemon = RunDaemon()
    daemon.runs = [
        run("7f3a2c", "refund_saga", "waiting", ago=1320, waiting_on="approval", version="3", seq=10413),
        run("8810b1", "order_saga", ago=4),
        run("5d1e90", "etl_nightly", "waiting", ago=540, waiting_on="retry", waiting_until=at(-41)),
        run("a11ce0", "dunning", "waiting", ago=270_000, waiting_on="timer", waiting_until=at(-200_000)),
        run("bada55", "trip_saga", "compensating", ago=60),
        run("19bc04", "deploy", "paused", ago=7200),
        run("5d1e77", "etl_nightly", "blocked", ago=2500, error=ErrorView("code_error", "KeyError: 'x'", "extract")),
        run("c0ffee", "payout", "blocked", ago=9000, error=ErrorView("outcome_unknown", "a crash", "wire_transfer")),
        run("d00d01", "order_saga", "completed", ago=30, ended_at=at(20)),
    ]
    daemon.approvals = [approval("812", "refund EUR 1240.00", "7f3a2c", quorum=2)]
    daemon.histories = {"7f3a2c": refund_history(), "c0ffee": doubt_history()}
    daemon.details["7f3a2c"] = detail(daemon.runs[0], input=b'{"order":991,"amount":1240.0,"cur":"EUR"}')
    daemon.seq = 10448
    return daemon


def detail(view: RunView, *, input: bytes = b"null", result: bytes = b"null") -> RunDetail:
    """A run whole."""
    fields = {name: getattr(view, name) for name in RunView.__struct_fields__}
    return RunDetail(**fields, input=Raw(input), result=Raw(result))
