"""The client's verbs for approvals: list, look, decide. Who decides is who asks: the daemon knows, no field says it."""

from __future__ import annotations

from typing import Any

from runtimed.client_link import Link, decode, given, part
from runtimed.wire import ApprovalPage, CallerView
from wal.views import ApprovalView


class ApprovalVerbs:
    """Mixed into `Client`; each may raise what that names."""

    link: Link

    async def approvals(
        self, *, status: str | None = None, run_id: str | None = None, limit: int = 50, cursor: str | None = None
    ) -> ApprovalPage:
        """A page of approvals, newest first; `status` is one of open, approved, refused, expired, withdrawn."""
        params = given(status=status, run_id=run_id, limit=limit, cursor=cursor)
        return decode(await self.link.get("/v1/approvals", params), ApprovalPage)

    async def approval(self, approval_id: str) -> ApprovalView:
        """An approval, with all that is asked and the votes so far. Raises `ApprovalNotFound`."""
        return decode(await self.link.get(f"/v1/approvals/{part(approval_id)}"), ApprovalView)

    async def decide(
        self,
        approval_id: str,
        *,
        approve: bool,
        payload_hash: str | None = None,
        reason: str | None = None,
        data: Any = None,
        idempotency_key: str | None = None,
    ) -> ApprovalView:
        """Approve or refuse; the approval as it is then, which is on disk. `data` is what its form asks for.

        `payload_hash` is that of the approval which somebody has looked at. Without it the decision is about whatever
        is asked at this moment: right for a program that decides by itself, wrong for one that shows and asks. A
        refusal, and a yes at high risk, needs a `reason`. Raises `ApprovalNotFound`, `ApprovalClosed`,
        `StaleApproval`, `AlreadyVoted`, `NotAllowed`, `InvalidInput`.
        """
        if payload_hash is None:
            payload_hash = (await self.approval(approval_id)).payload_hash
        body = {"approve": approve, "payload_hash": payload_hash, "data": data, **dict(given(reason=reason))}
        path = f"/v1/approvals/{part(approval_id)}/decide"
        return decode(await self.link.post(path, body, idempotency_key), ApprovalView)

    async def whoami(self) -> CallerView:
        """Who we are to the daemon, and what we may. Raises `NotFound` from a daemon that does not tell."""
        return decode(await self.link.get("/v1/whoami"), CallerView)
