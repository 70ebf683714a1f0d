"""The client's verbs for connectors and the record store: what goes out, and what comes back as values and errors."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

import anyio
import pytest

from actors.errors import ConnectorHeld, ConnectorNotFound, StreamNotFound
from runtimed.client import Client

Work = Callable[[Client], Awaitable[Any]]
VIEW = {
    "name": "charges", "kind": "stripe", "status": "backoff", "cursor": {"id": "ch_9"}, "lag": 80.0,
    "last_poll_at": "2026-01-31T12:00:00.000000Z", "next_poll_at": "2026-01-31T12:00:30.000000Z",
    "last_error": "503", "records_total": 12, "errors_total": 3,
}  # fmt: skip


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
    """What comes back are the views; fields that an older daemon does not tell have their defaults."""
    fake.on("GET", "/v1/connectors", fake.Reply(200, {"items": [VIEW], "next": None, "total": 1, "seq": 9}))
    fake.on("GET", "/v1/connectors/charges", fake.Reply(200, VIEW))
    fake.on("GET", "/v1/connectors/none", fake.problem(404, "connector_not_found", "there is no connector"))
    assert [each.name for each in use(lambda client: client.connectors())] == ["charges"]
    view = use(lambda client: client.connector("charges"))
    assert (bytes(view.cursor), view.lag, view.deliver) == (b'{"id": "ch_9"}', 80.0, "")
    with pytest.raises(ConnectorNotFound):
        use(lambda client: client.connector("none"))


def test_each_change_is_one_post_with_its_reason_and_key(fake: Any, use: Any) -> None:
    """Pause, resume, poll and reset say why, under a key of their own or the caller's."""
    for verb in ("pause", "resume", "reset"):
        fake.on("POST", f"/v1/connectors/charges/{verb}", fake.Reply(202, {"seq": 8, "id": "charges"}))
    fake.on("POST", "/v1/connectors/charges/poll", fake.Reply(202, VIEW))
    assert use(lambda client: client.pause_connector("charges", reason="why")).seq == 8
    assert use(lambda client: client.resume_connector("charges", idempotency_key="k")).seq == 8
    assert use(lambda client: client.poll_connector("charges")).status == "backoff"
    assert use(lambda client: client.reset_connector("charges", {"id": "ch_1"}, reason="again")).seq == 8
    assert use(lambda client: client.reset_connector("charges")).seq == 8
    assert [request.json for request in fake.requests] == [
        {"reason": "why"}, {}, {}, {"cursor": {"id": "ch_1"}, "reason": "again"}, {"cursor": None},
    ]  # fmt: skip
    keys = [request.headers["idempotency-key"] for request in fake.requests]
    assert keys[1] == "k" and len(set(keys)) == len(keys)


def test_a_preview_changes_nothing(fake: Any, use: Any) -> None:
    """A dry run goes out as one and comes back as sentences."""
    told = {"name": "charges", "status": "ok", "cursor": 7, "new_cursor": None, "records_total": 3, "would": ["a", "b"]}
    fake.on("POST", "/v1/connectors/charges/reset", fake.Reply(200, told))
    assert use(lambda client: client.preview_reset("charges")).would == ["a", "b"]
    assert fake.requests[0].json == {"cursor": None, "dry_run": True}


def test_what_is_held_raises(fake: Any, use: Any) -> None:
    """A paused connector does not poll: the refusal is the exception of its code."""
    fake.on("POST", "/v1/connectors/charges/poll", fake.problem(409, "connector_held", "it is paused"))
    with pytest.raises(ConnectorHeld, match="it is paused"):
        use(lambda client: client.poll_connector("charges"))


def test_records_of_a_stream(fake: Any, use: Any) -> None:
    """Streams with their sizes; a page of one, of any name, in the order of its changes."""
    fake.on("GET", "/v1/records", fake.Reply(200, {"items": [{"name": "a/b", "records": 2}], "next": None, "total": 1,
                                                   "seq": 9}))  # fmt: skip
    record = {"seq": 4096, "key": "1", "at": "2026-01-31T12:00:00.000000Z", "deleted": False, "data": {"n": 1}}
    page = {"items": [record], "next": "4096", "total": None, "seq": 9}
    fake.on("GET", "/v1/records/a%2Fb", fake.Reply(200, page))
    fake.on("GET", "/v1/records/none", fake.problem(404, "stream_not_found", "no"))
    assert [(each.name, each.records) for each in use(lambda client: client.streams())] == [("a/b", 2)]
    found = use(lambda client: client.records("a/b", after=7, limit=1))
    assert (found.items[0].key, bytes(found.items[0].data), found.next) == ("1", b'{"n": 1}', "4096")
    assert fake.requests[1].query == [("after", "7"), ("limit", "1")]
    with pytest.raises(StreamNotFound):
        use(lambda client: client.records("none"))
