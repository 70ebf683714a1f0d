"""The client's verbs for approvals: what goes out, and what comes back as values and errors."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

import anyio
import pytest

from actors.errors import AlreadyVoted, ApprovalClosed, ApprovalNotFound, NotAllowed, StaleApproval
from runtimed.client import Client
from tests.runtimed.test_cli_approvals import HASH, decided, view

Work = Callable[[Client], Awaitable[Any]]


@pytest.fixture
def use(fake: Any) -> Callable[[Work], Any]:
    """`use(lambda client: ...)` runs it on asyncio against the fake daemon."""

    def run(work: Work) -> Any:
        async def main() -> Any:
            async with Client(socket=fake.socket) as client:
                return await work(client)

        return anyio.run(main)

    return run


def test_list_and_look(fake: Any, use: Any) -> None:
    """Filters go into the query; what comes back are the views."""
    fake.on("GET", "/v1/approvals", fake.Reply(200, {"items": [view()], "next": "c", "total": 2, "seq": 9}))
    fake.on("GET", "/v1/approvals/812", fake.Reply(200, view(quorum=2)))
    page = use(lambda client: client.approvals(status="open", run_id="r1", limit=5, cursor="b"))
    assert (page.items[0].id, page.next, page.total) == ("812", "c", 2)
    assert fake.requests[0].query == [("status", "open"), ("run_id", "r1"), ("limit", "5"), ("cursor", "b")]
    assert use(lambda client: client.approval("812")).quorum == 2


def test_deciding_is_about_what_was_shown(fake: Any, use: Any) -> None:
    """The hash that was looked at is sent, with an Idempotency-Key; nothing in the body says who."""
    fake.on("POST", "/v1/approvals/812/decide", fake.Reply(200, decided()))
    told = use(lambda client: client.decide("812", approve=True, payload_hash=HASH, reason="fine", data={"cents": 1}))
    assert (told.status, told.votes[0].via) == ("approved", "kim pts/3")
    (request,) = fake.requests
    assert request.json == {"approve": True, "payload_hash": HASH, "data": {"cents": 1}, "reason": "fine"}
    assert request.headers["idempotency-key"]


def test_without_a_hash_it_is_about_what_is_asked_now(fake: Any, use: Any) -> None:
    """A program that decides by itself need not carry the hash: it is fetched just before."""
    fake.on("GET", "/v1/approvals/812", fake.Reply(200, view()))
    fake.on("POST", "/v1/approvals/812/decide", fake.Reply(200, decided(False)))
    use(lambda client: client.decide("812", approve=False, reason="no", idempotency_key="k1"))
    look, decide = fake.requests
    assert (look.method, decide.json["payload_hash"], decide.headers["idempotency-key"]) == ("GET", HASH, "k1")


def test_a_broken_connection_repeats_the_same_decision(fake: Any, use: Any) -> None:
    """A connection that ends without an answer is asked again under the same key: one vote, whatever was lost."""
    fake.on("POST", "/v1/approvals/812/decide", fake.CLOSE, fake.Reply(200, decided()))
    assert use(lambda client: client.decide("812", approve=True, payload_hash=HASH)).status == "approved"
    first, second = fake.requests
    assert first.headers["idempotency-key"] == second.headers["idempotency-key"]


@pytest.mark.parametrize(
    ("status", "kind"),
    [(404, ApprovalNotFound), (409, ApprovalClosed), (409, StaleApproval), (409, AlreadyVoted), (403, NotAllowed)],
)
def test_refusals_are_the_errors_of_the_runtime(fake: Any, use: Any, status: int, kind: Any) -> None:
    """The same exceptions as embedded, with what the daemon said."""
    fake.on("POST", "/v1/approvals/812/decide", fake.problem(status, kind.code, "kim was quicker"))
    with pytest.raises(kind, match="kim was quicker"):
        use(lambda client: client.decide("812", approve=True, payload_hash=HASH))
