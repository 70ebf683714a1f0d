"""The client's verbs for tokens and the audit, and how a token and a reason travel."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

import anyio
import pytest

from actors.errors import InvalidInput, TokenExists, TokenNotFound
from runtimed.client import Client

Work = Callable[[Client], Awaitable[Any]]
VIEW = {
    "id": "0123456789ab", "name": "ci", "role": "viewer", "status": "active", "created_at": "2026-11-28T00:00:00.0Z",
    "created_by": "uid:0", "expires_at": None, "revoked_at": None, "used_at": None,
}  # fmt: skip


@pytest.fixture
def use(fake: Any) -> Callable[..., Any]:
    """`use(lambda client: ...)` runs it on asyncio against the fake daemon."""

    def run(work: Work, token: str | None = None) -> Any:
        async def main() -> Any:
            async with Client(socket=fake.socket, token=token) as client:
                return await work(client)

        return anyio.run(main)

    return run


def test_tokens_are_made_listed_and_revoked(fake: Any, use: Any) -> None:
    """What comes back are views; the text is in the one that was just made."""
    fake.on("POST", "/v1/tokens", fake.Reply(201, VIEW | {"token": "rtd_x"}))
    fake.on("GET", "/v1/tokens", fake.Reply(200, {"items": [VIEW], "next": None, "total": 1, "seq": 1}))
    fake.on("POST", "/v1/tokens/ci/revoke", fake.Reply(202, {"seq": 4, "id": "0123456789ab"}))
    made = use(lambda client: client.create_token("ci", "viewer", expires_in=60.0, reason="why"))
    assert (made.token, made.role) == ("rtd_x", "viewer")
    assert fake.requests[-1].json == {"name": "ci", "role": "viewer", "expires_in": 60.0, "reason": "why"}
    assert [one.id for one in use(lambda client: client.tokens())] == ["0123456789ab"]
    assert use(lambda client: client.revoke_token("ci", reason="gone")).seq == 4
    fake.on("POST", "/v1/tokens", fake.problem(409, "token_exists", "there is one"))
    with pytest.raises(TokenExists):
        use(lambda client: client.create_token("ci", "viewer"))
    fake.on("POST", "/v1/tokens/ci/revoke", fake.problem(404, "token_not_found", "there is none"))
    with pytest.raises(TokenNotFound):
        use(lambda client: client.revoke_token("ci"))


def test_a_token_goes_over_the_socket_too(fake: Any, use: Any) -> None:
    """`token=` is sent with every request, whatever the way; what could not stand in a header is refused."""
    fake.on("GET", "/v1/audit", fake.Reply(200, {"items": [], "next": None, "total": None, "seq": 1}))
    assert use(lambda client: client.audit(after=3, limit=2), token="rtd_x").items == []
    assert fake.requests[0].headers["authorization"] == "Bearer rtd_x"
    assert fake.requests[0].query == [("after", "3"), ("limit", "2")]
    for bad in ("", "a\nb", "\u00fc"):
        with pytest.raises(InvalidInput):
            use(lambda client: client.audit(), token=bad)


def test_a_reason_goes_with_each_change(fake: Any, use: Any) -> None:
    """`because` gives the same connections with a reason; None changes nothing."""
    fake.on("DELETE", "/v1/state/global/k", fake.Reply(200, {"seq": 1, "id": "k"}))
    use(lambda client: client.because("100 % sure\n\u00fc").delete_state("global", "k"))
    use(lambda client: client.because(None).delete_state("global", "k"))
    assert [request.headers.get("runtimed-reason") for request in fake.requests] == ["100 %25 sure%0A%C3%BC", None]
