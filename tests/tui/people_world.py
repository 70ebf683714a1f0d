"""A fake daemon whose approvals can be decided, and what the screens of people, actors and records show."""

from __future__ import annotations

import asyncio
from typing import Any

import msgspec
from msgspec import Raw

from actors.errors import AlreadyVoted, ApprovalClosed, StaleApproval
from runtimed.client import DaemonUnreachable
from runtimed.client_wire import Answer
from tests.tui.fake_daemon import FakeClient, FakeDaemon, approval, at, event, run
from wal.views import ActorView, ApprovalView, EventView, HistoryRecord, SessionView, Vote

SCHEMA = {
    "$ref": "#/$defs/F",
    "$defs": {
        "F": {
            "type": "object",
            "properties": {
                "ticket": {"type": "string"},
                "amount": {"type": "number", "minimum": 0},
                "kind": {"enum": ["full", "part"], "default": "full"},
            },
            "required": ["ticket", "amount"],
        }
    },
}


class PeopleClient(FakeClient):
    """The verbs of the fake client, and those that change something."""

    daemon: PeopleDaemon

    async def fetch(
        self, method: str, path: str, *, body: Any, headers: dict[str, str], repeatable: bool | None = None
    ) -> Answer:
        """`POST /v1/approvals/{id}/decide`, never repeated."""
        assert (method, repeatable) == ("POST", False)
        _, _, _, approval_id, verb = path.split("/")
        assert verb == "decide"
        said = msgspec.json.decode(msgspec.json.encode(body))
        view = await self.daemon.decide(approval_id, said, headers["idempotency-key"])
        return Answer(200, {}, msgspec.json.encode(view))

    async def restart_actor(
        self, path: str, *, reason: str | None = None, idempotency_key: str | None = None
    ) -> dict[str, Any]:
        self.daemon.check(f"restart {path}")
        return await self.daemon.restart(path, reason)


class PeopleDaemon(FakeDaemon):
    """Approvals to decide. `lose` says what happens to the next request that changes something: `before` it is done or
    `after` it the connection breaks; `held` is an event to wait for before anything is done."""

    def __init__(self) -> None:
        super().__init__()
        self.decided: list[tuple[str, dict[str, Any], str]] = []
        self.restarted: list[tuple[str, str | None]] = []
        self.lose = ""
        self.held: asyncio.Event | None = None

    def client(self) -> PeopleClient:
        return PeopleClient(self)

    def view(self, approval_id: str) -> ApprovalView:
        """An approval as it is now."""
        return next(view for view in self.approvals if view.id == approval_id)

    def put(self, view: ApprovalView) -> None:
        """An approval is different from now on; the events say so."""
        self.approvals = [view if each.id == view.id else each for each in self.approvals]
        self.push(event(self.seq + 1, "approval_voted", view.run_id, approve=True, by="uid:1001"))

    def others_decide(self, approval_id: str, by: str = "uid:1001", via: str = "alice pts/1") -> None:
        """Somebody else refuses it."""
        vote = Vote(by, False, "duplicate of 801", at(0), via)
        view = self.view(approval_id)
        changed = {"status": "refused", "votes": [*view.votes, vote], "decided_at": at(0)}
        self.put(msgspec.structs.replace(view, **changed))

    async def decide(self, approval_id: str, said: dict[str, Any], key: str) -> ApprovalView:
        """Carry out a decision, as the daemon would."""
        self.check(f"decide {approval_id}")
        self.decided.append((approval_id, said, key))
        if self.held is not None:
            await self.held.wait()
        lose, self.lose = self.lose, ""
        if lose == "before":
            raise DaemonUnreachable("the connection broke")
        view = self._voted(approval_id, said)
        self.approvals = [view if each.id == view.id else each for each in self.approvals]
        answered = event(
            self.seq + 2, "request_answered", principal="uid:1002", idempotency_key=key, digest="", status=0, body=None
        )
        self.push(event(self.seq + 1, "approval_voted", view.run_id, approve=said["approve"], by="uid:1002"), answered)
        if lose == "after":
            raise DaemonUnreachable("the connection broke")
        return view

    def _voted(self, approval_id: str, said: dict[str, Any]) -> ApprovalView:
        view = self.view(approval_id)
        if view.status != "open":
            last = view.votes[-1]
            raise ApprovalClosed(f"approval {view.id} is {view.status}: decided by {last.by} ({last.via}) at {last.at}")
        if said["payload_hash"] != view.payload_hash:
            raise StaleApproval(f"approval {view.id} asks for something else now")
        if any(vote.by == self.caller.by for vote in view.votes):
            raise AlreadyVoted(f"{self.caller.by} has voted already")
        votes = [*view.votes, Vote(self.caller.by, said["approve"], said["reason"], at(0), self.caller.via)]
        enough = len([vote for vote in votes if vote.approve]) >= view.quorum
        status = "refused" if not said["approve"] else "approved" if enough else "open"
        return msgspec.structs.replace(view, votes=votes, status=status, decided_at=at(0) if status != "open" else None)

    async def restart(self, path: str, reason: str | None) -> dict[str, Any]:
        """Restart an actor, as far as its figures say."""
        lose, self.lose = self.lose, ""
        if lose == "before":
            raise DaemonUnreachable("the connection broke")
        self.restarted.append((path, reason))
        self.actors = [
            msgspec.structs.replace(actor, restarts=actor.restarts + 1) if actor.path == path else actor
            for actor in self.actors
        ]
        if lose == "after":
            raise DaemonUnreachable("the connection broke")
        return {"path": path}


def history(*records: tuple[str, str | None, str | None, dict[str, Any]]) -> list[HistoryRecord]:
    """A run's records out of kind, call, name and data."""
    return [
        HistoryRecord(seq, at(900 - seq), kind, call, name, 1, Raw(msgspec.json.encode(data)))
        for seq, (kind, call, name, data) in enumerate(records, start=1)
    ]


def refund_history() -> list[HistoryRecord]:
    """Two steps done, then people are asked."""
    return history(
        ("run_started", None, None, {"by": "uid:1000", "workflow": "refund_saga"}),
        ("step_scheduled", "1", "lock_order", {}),
        ("step_completed", "1", "lock_order", {"result": 1}),
        ("step_scheduled", "2", "notify_customer", {}),
        ("step_completed", "2", "notify_customer", {"result": 1}),
        ("approval_requested", "4", None, {"title": "refund EUR 1240.00"}),
    )


def people_world() -> PeopleDaemon:
    """Three requests to people, and one that is refused."""
    daemon = PeopleDaemon()
    daemon.runs = [
        run("7f3a2c", "refund_saga", "waiting", ago=1320, waiting_on="approval"),
        run("19bc04", "deploy", "waiting", ago=7200, waiting_on="approval"),
        run("d00d01", "dunning", "waiting", ago=60, waiting_on="approval"),
    ]
    detail = b'{"order":991,"amount":"1240.00 EUR","account":"DE..42","note":"pls refund asap \\u001b[2J thx"}'
    voted = Vote("uid:1001", True, "checked with Kim, goods returned", at(600), "alice pts/1")
    refused = Vote("uid:1001", False, "duplicate of 801", at(6000), "alice pts/1")
    daemon.approvals = [
        approval(
            "812", "refund EUR 1240.00 ord 991", "7f3a2c", workflow="refund_saga", risk="high", quorum=2,
            votes=[voted], detail=Raw(detail),
        ),
        approval(
            "809", "deploy billing v88", "19bc04", risk="medium", expires_at=None, requested_at=at(7200), roles=[]
        ),
        approval("815", "send dunning mail x 112", "d00d01", expires_at=at(-82_800), requested_at=at(60)),
        approval("808", "refund EUR 80.00 ord 7", "x", workflow="refund_saga", status="refused", votes=[refused],
                 decided_at=at(6000)),
    ]  # fmt: skip
    daemon.histories["7f3a2c"] = refund_history()
    return daemon


def actor_tree() -> list[ActorView]:
    """A supervision tree in which one branch suffers."""
    commits = {"seq": 10448, "commit_seconds": {"count": 4, "total": 0.01}}
    return [
        ActorView("root", "up", 0, "rest_for_one", 0, 0),
        ActorView("root/journal", "up", 0, None, 0, 0, None, commits),
        ActorView("root/engine", "up", 0, "one_for_all", 0, 0),
        ActorView("root/engine/timers", "restarting", 3, None, 9, 1000, "ConnectionReset: peer closed", {"armed": 2}),
        ActorView("root/engine/coordinator", "up", 0, None, 900, 1000, None, {"active": 3}),
        ActorView("root/sessions", "up", 1, None, 0, 1000),
    ]  # fmt: skip


def records(first: int, count: int) -> list[EventView]:
    """So many records of a run, a second apart."""
    return [
        event(seq, "step_completed", "7f3a2c", ago=first + count - seq, name=f"step{seq}", call="1", result=seq)
        for seq in range(first, first + count)
    ]


def sessions() -> list[SessionView]:
    """Two sessions, one of them over."""
    return [
        SessionView("s-ann", "open", "acme", "ann", created_at=at(3000), expires_at=at(-300), attributes={"cart": 7}),
        SessionView("s-bob", "expired", "acme", "bob", created_at=at(9000), closed_at=at(60)),
    ]
