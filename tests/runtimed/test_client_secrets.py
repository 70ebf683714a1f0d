"""The client's verbs for secrets: what each sends, and what it gives back."""

from __future__ import annotations

from typing import Any

import pytest

from runtimed.client import Client

pytestmark = pytest.mark.anyio
VIEW = {"name": "a", "version": 2, "changed_at": "2026-11-28T10:00:00.000000Z", "former_until": None}


@pytest.fixture(params=["trio", "asyncio"])
def anyio_backend(request: Any) -> str:
    return str(request.param)


async def test_each_verb_sends_what_it_says(fake: Any) -> None:
    """Set is a PUT, rotate a POST with its grace, delete carries the reason in its query; a list gives no values."""
    fake.on("GET", "/v1/secrets", fake.Reply(200, {"items": [VIEW], "next": None, "total": 1, "seq": 9}))
    fake.on("PUT", "/v1/secrets/a", fake.Reply(200, VIEW))
    fake.on("POST", "/v1/secrets/a/rotate", fake.Reply(200, VIEW))
    fake.on("DELETE", "/v1/secrets/a", fake.Reply(200, {"seq": 7, "id": "a"}))
    fake.on("POST", "/v1/master-key/rotate", fake.Reply(200, {"secrets": 3}))
    async with Client(socket=fake.socket) as client:
        assert [each.name for each in await client.secrets()] == ["a"]
        assert (await client.set_secret("a", "v", reason="new")).version == 2
        assert (await client.rotate_secret("a", "w", grace_s=5)).version == 2
        assert (await client.delete_secret("a", reason="no more")).seq == 7
        assert (await client.rotate_master_key()).secrets == 3
    _, put, rotate, delete, master = fake.requests
    assert put.json == {"value": "v", "reason": "new"}
    assert rotate.json == {"value": "w", "grace_s": 5}
    assert delete.query == [("reason", "no more")]
    assert master.json == {}
