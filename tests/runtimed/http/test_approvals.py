"""Approvals over HTTP: what is asked of the runtime, and who the runtime is told decides."""

from __future__ import annotations

import os
from typing import Any

import pytest
from msgspec import Raw

from actors.errors import ApprovalClosed, ApprovalNotFound, NotAllowed, StaleApproval
from actors.messages import ApprovalReply, DecideApproval
from runtimed.http.access import Access, Level
from runtimed.settings import Levels
from wal import records
from wal.views import ApprovalView

HASH = "ab" * 32
BODY = {"approve": True, "payload_hash": HASH}


def _ask_people(rt: Any, number: int) -> int:
    """A run that asks; the approval's id."""
    return int(
        rt.record(
            records.RunStarted(id=f"r{number}", workflow="w", input=Raw(b"1")),
            records.ApprovalRequested("0", f"Ship {number}?", HASH, detail=Raw(b'{"cents":1}'), roles=["ops"]),
            run_key=number,
        )
    )


@pytest.fixture
def decided(rt: Any) -> list[DecideApproval]:
    """The decisions that reach the runtime, which says yes to all."""
    seen: list[DecideApproval] = []

    def reply(command: DecideApproval) -> ApprovalReply:
        seen.append(command)
        view: ApprovalView | None = rt.journal.reader().approval(command.approval_id)
        if view is None:
            raise ApprovalNotFound(f"there is no approval {command.approval_id!r}")
        return ApprovalReply(approval=view, decided=True, seq=9)

    rt.replies[DecideApproval] = reply
    return seen


@pytest.mark.trio
async def test_list_and_show(serve: Any, rt: Any) -> None:
    """Newest first, by status and run, in pages; an approval has every field of the contract."""
    ids = [str(_ask_people(rt, number)) for number in (1, 2, 3)]
    async with serve() as http:
        page = (await http.ask("GET", "/v1/approvals?status=open&limit=2")).json()
        assert ([each["id"] for each in page["items"]], page["total"]) == ([ids[2], ids[1]], 3)
        rest = (await http.ask("GET", f"/v1/approvals?status=open&limit=2&cursor={page['next']}")).json()
        assert ([each["id"] for each in rest["items"]], rest["next"]) == ([ids[0]], None)
        assert [each["id"] for each in (await http.ask("GET", "/v1/approvals?run_id=r2")).json()["items"]] == [ids[1]]
        assert (await http.ask("GET", "/v1/approvals?status=approved")).json()["items"] == []
        shown = (await http.ask("GET", f"/v1/approvals/{ids[0]}")).json()
    wanted = "id run_id workflow title detail form roles quorum risk status requested_at expires_at payload_hash votes"
    assert set(wanted.split()) | {"decided_at"} <= set(shown)
    assert (shown["detail"], shown["form"], shown["votes"]) == ({"cents": 1}, None, [])


@pytest.mark.trio
@pytest.mark.parametrize(
    ("target", "status"),
    [
        ("/v1/approvals/999", 404),
        ("/v1/approvals/x", 404),
        ("/v1/approvals/%00", 400),
        ("/v1/approvals?status=done", 400),
        ("/v1/approvals?limit=0", 400),
        ("/v1/approvals?by=me", 400),
        ("/v1/approvals?cursor=x", 400),
    ],
)
async def test_what_is_wrong_is_said(serve: Any, target: str, status: int) -> None:
    """Unknown ids are 404; ids and queries that are none 400."""
    async with serve() as http:
        assert (await http.ask("GET", target)).status == status


@pytest.mark.trio
async def test_who_decides_is_the_peer(serve: Any, rt: Any, decided: list[DecideApproval]) -> None:
    """The uid and the line of where from come from the kernel, the roles from the settings, the key from its header."""
    approval_id = _ask_people(rt, 1)
    async with serve() as http:
        body = {**BODY, "reason": "fine", "data": {"cents": 5}}
        headers = [("Idempotency-Key", "k1")]
        answer = await http.ask("POST", f"/v1/approvals/{approval_id}/decide", body, headers=headers)
    assert (answer.status, answer.json()["id"]) == (200, str(approval_id))
    (command,) = decided
    assert (command.origin.by, command.roles, command.payload_hash) == (f"uid:{os.geteuid()}", None, HASH)
    assert command.via is not None
    assert (command.approve, command.reason, bytes(command.data)) == (True, "fine", b'{"cents":5}')
    assert command.origin.request is not None and command.origin.request.key == "k1"


@pytest.mark.trio
@pytest.mark.parametrize(
    ("body", "told"),
    [
        ({"approve": True}, "payload_hash"),
        ({"payload_hash": HASH}, "approve"),
        ({**BODY, "by": "uid:0"}, "by"),
        ({**BODY, "via": "x"}, "via"),
        ({**BODY, "roles": ["ops"]}, "roles"),
        ({**BODY, "approve": 1}, "approve"),
        ({**BODY, "payload_hash": "ab"}, "payload_hash"),
        ({**BODY, "payload_hash": HASH.upper()}, "payload_hash"),
        ({**BODY, "payload_hash": HASH + "\n"}, "payload_hash"),
        ({**BODY, "payload_hash": None}, "payload_hash"),
        ({**BODY, "reason": "x" * 2001}, "reason"),
        ({**BODY, "reason": 5}, "reason"),
        ([], ""),
        (None, "approve"),
    ],
)
async def test_a_body_says_what_and_never_who(
    serve: Any, rt: Any, decided: list[DecideApproval], body: Any, told: str
) -> None:
    """Without the hash of what was shown it is 400; fields that would say who are unknown; the path is named."""
    approval_id = _ask_people(rt, 1)
    async with serve() as http:
        answer = await http.ask("POST", f"/v1/approvals/{approval_id}/decide", body)
    assert (answer.status, decided) == (400, [])
    assert told in answer.json()["detail"]


@pytest.mark.trio
@pytest.mark.parametrize(
    ("error", "status", "code"),
    [
        (ApprovalClosed("decided by uid:7 at 12:00"), 409, "approval_closed"),
        (StaleApproval("it asks for ab.."), 409, "stale_payload"),
        (NotAllowed("uid:7 started the run"), 403, "not_allowed"),
    ],
)
async def test_refusals_are_problems(serve: Any, rt: Any, error: Exception, status: int, code: str) -> None:
    """What the runtime refuses with is told as it is."""
    rt.replies[DecideApproval] = lambda command: error
    async with serve() as http:
        answer = await http.ask("POST", "/v1/approvals/1/decide", BODY)
    assert (answer.status, answer.json()["code"], answer.json()["detail"]) == (status, code, str(error))


@pytest.mark.trio
async def test_levels(serve: Any, rt: Any, decided: list[DecideApproval], monkeypatch: pytest.MonkeyPatch) -> None:
    """A viewer looks, an approver decides; nobody else; over TCP neither. The levels can change while it serves."""
    approval_id = _ask_people(rt, 1)
    access = Access(Levels())
    decide, level = f"/v1/approvals/{approval_id}/decide", Level.OPERATOR
    monkeypatch.setattr(access, "level", lambda peer: level if peer.local else Level.PUBLIC)
    async with serve(options={"access": access}) as http:
        assert (await http.ask("GET", "/v1/approvals")).status == 200
        refused = await http.ask("POST", decide, BODY)
        assert (refused.status, "approver" in refused.json()["detail"], decided) == (403, True, [])
        level = Level.APPROVER
        assert (await http.ask("POST", decide, BODY)).status == 200
        assert (await http.ask("POST", decide, BODY, tcp=True)).status == 401
        http.edge.access = fresh = Access(Levels())
        monkeypatch.setattr(fresh, "level", lambda peer: Level.PUBLIC)
        assert (await http.ask("GET", "/v1/approvals")).status == 403
