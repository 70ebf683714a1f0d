"""Approvals: list, look, and decide. Who decides is the connection's peer; nothing in a body says so."""

from __future__ import annotations

from typing import Final

import msgspec

from actors.errors import ApprovalNotFound
from actors.messages import ApprovalReply, DecideApproval
from runtimed.http.replies import Reply, encode, json_reply
from runtimed.http.requests import Request, check_utf8
from runtimed.http.surface import Reader, RuntimeSurface
from runtimed.wire import PAGE_ITEMS_MAX, ApprovalsQuery, DecideRequest

_DECIDE: Final = msgspec.json.Decoder(DecideRequest)


async def list_approvals(rt: RuntimeSurface, request: Request) -> Reply:
    """A page of approvals, newest first."""
    query = request.query(ApprovalsQuery)

    def page(reader: Reader) -> bytes:
        limit = min(query.limit, PAGE_ITEMS_MAX)
        found = reader.approval_page(status=query.status, run_id=query.run_id, limit=limit, cursor=query.cursor)
        return encode(found)

    return Reply(200, await rt.read(page))


async def show(rt: RuntimeSurface, request: Request) -> Reply:
    """An approval, with all that is asked and the votes so far."""
    approval_id = request.id()
    view = await rt.read(lambda reader: reader.approval(approval_id))
    if view is None:
        raise ApprovalNotFound(f"there is no approval {approval_id[:40]!r}")
    return json_reply(view)


async def decide(rt: RuntimeSurface, request: Request) -> Reply:
    """Approve or refuse, bound to the payload that was shown; the approval as it is then, which is on disk."""
    approval_id, body = request.id(), await request.body()
    check_utf8(body)
    said = request.decode(_DECIDE, body)
    command = DecideApproval(
        approval_id=approval_id,
        approve=said.approve,
        reason=said.reason,
        payload_hash=said.payload_hash,
        data=said.data.copy(),
        roles=request.access.roles(request.peer),
        via=request.via,
        origin=request.origin(body),
    )
    reply: ApprovalReply = await rt.ask(command)
    return json_reply(reply.approval)
