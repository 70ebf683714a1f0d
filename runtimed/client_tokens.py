"""The client's verbs for bearer tokens: make one, list them, revoke one; and the audit."""

from __future__ import annotations

from runtimed.client_link import Link, decode, given, part
from runtimed.client_runs import why
from runtimed.wire import AcceptedView, AuditPage, NewTokenView, TokenPage, TokenView


class TokenVerbs:
    """Mixed into `Client`; each may raise what that names, and `NotAllowed`: these are for admins, the audit apart."""

    link: Link

    async def create_token(
        self, name: str, role: str, *, expires_in: float | None = None, reason: str | None = None
    ) -> NewTokenView:
        """Make a token; `expires_in` in seconds, None for one that does not expire. Its text is in the answer and
        nowhere else. An answer that is lost on the way is asked for again by itself, which the daemon gives for ten
        minutes; after that, revoke the token and make another. Raises `TokenExists`, `InvalidInput`."""
        body = {"name": name, "role": role, **dict(given(expires_in=expires_in, reason=reason))}
        return decode(await self.link.post("/v1/tokens", body), NewTokenView)

    async def tokens(self) -> list[TokenView]:
        """All tokens that were ever made, oldest first, without their secrets."""
        return decode(await self.link.get("/v1/tokens"), TokenPage).items

    async def revoke_token(
        self, token: str, *, reason: str | None = None, idempotency_key: str | None = None
    ) -> AcceptedView:
        """Make a token (its id, or the name of one that counts) worth nothing. Raises `TokenNotFound`."""
        return decode(
            await self.link.post(f"/v1/tokens/{part(token)}/revoke", why(reason), idempotency_key), AcceptedView
        )

    async def audit(self, *, after: int = 0, limit: int = 50) -> AuditPage:
        """A page of who changed what, oldest first, beyond a seq; it may be short before the last page."""
        return decode(await self.link.get("/v1/audit", given(after=after, limit=limit)), AuditPage)
