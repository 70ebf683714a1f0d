"""The runtime's verbs for approvals, embedded: the program that holds the runtime vouches for who decides."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, TypeVar

import msgspec
from msgspec import Raw

from actors import errors as e
from actors import messages as m
from wal.queries import Reader
from wal.views import ApprovalView, Page

T = TypeVar("T")
EMBEDDED_BY = "embedded"


class ApprovalVerbs:
    """Mixed into `Runtime`."""

    async def ask(self, command: m.Message) -> Any:
        """Given by `Runtime`."""
        raise AssertionError("abstract")

    async def read(self, query: Callable[[Reader], T]) -> T:
        """Given by `Runtime`."""
        raise AssertionError("abstract")

    async def approvals(
        self, *, status: str | None = None, run_id: str | None = None, limit: int = 50, cursor: str | None = None
    ) -> Page:
        """A page of approvals, newest first; `status` is one of open, approved, refused, expired, withdrawn."""
        return await self.read(
            lambda reader: reader.approval_page(status=status, run_id=run_id, limit=limit, cursor=cursor)
        )

    async def approval(self, approval_id: str) -> ApprovalView:
        """An approval. Raises ApprovalNotFound."""
        found = await self.read(lambda reader: reader.approval(approval_id))
        if found is None:
            raise e.ApprovalNotFound(f"there is no approval {approval_id[:40]!r}")
        return found

    async def decide(
        self, approval_id: str, *, approve: bool, by: str | None = None, reason: str | None = None, data: Any = None,
        payload_hash: str | None = None, roles: Iterable[str] | None = None,
    ) -> ApprovalView:  # fmt: skip
        """Approve or refuse as the person `by`; the approval as it is then, which is on disk.

        `data` is what the form asks for. `roles` are the person's, None for all; with a `payload_hash` the decision
        holds only for what has that hash. A refusal, and a yes at high risk, needs a `reason`. Raises ApprovalNotFound,
        ApprovalClosed, StaleApproval, AlreadyVoted, NotAllowed, InvalidInput, PayloadTooLarge."""
        command = m.DecideApproval(
            approval_id=approval_id, approve=approve, reason=reason, payload_hash=payload_hash, data=_as_json(data),
            roles=None if roles is None else frozenset(roles), origin=m.Origin(by=by or EMBEDDED_BY),
        )  # fmt: skip
        reply: m.ApprovalReply = await self.ask(command)
        return reply.approval


def _as_json(value: Any) -> Raw:
    try:
        return Raw(msgspec.json.encode(value))
    except (TypeError, ValueError) as error:
        raise e.InvalidInput(f"the data cannot be carried as JSON: {error}") from None
