"""Secrets over HTTP: values go in and never come out, and not in the clear."""

from __future__ import annotations

import pytest

from actors.messages import NoteSecret
from runtimed.http.access import Peer
from runtimed.http.secrets import is_sheltered
from tests.runtimed.http.conftest import FakeRuntime, Serve

pytestmark = pytest.mark.trio
CANARY = "canary-77aa"


async def test_set_list_rotate_delete(serve: Serve, rt: FakeRuntime) -> None:
    """Each verb answers with what may be known, and asks once, with who and why."""
    async with serve() as http:
        made = await http.ask("PUT", "/v1/secrets/stripe", {"value": CANARY, "reason": "new account"})
        listed = await http.ask("GET", "/v1/secrets")
        turned = await http.ask("POST", "/v1/secrets/stripe/rotate", {"value": CANARY + "2", "grace_s": 60})
        master = await http.ask("POST", "/v1/master-key/rotate", {"reason": "yearly"})
        gone = await http.ask("DELETE", "/v1/secrets/stripe?reason=closed")
    assert made.status == turned.status == listed.status == master.status == gone.status == 200
    assert made.json() == {
        "name": "stripe", "version": 1, "changed_at": "2023-11-14T22:13:20.000000Z", "former_until": None,
    }  # fmt: skip
    assert [item["name"] for item in listed.json()["items"]] == ["stripe"]
    assert turned.json()["former_until"] == "2023-11-14T22:14:20.000000Z"
    assert gone.json() == {"seq": 7, "id": "stripe"}
    assert [(each.name, each.action, each.reason) for each in rt.asked if isinstance(each, NoteSecret)] == [
        ("stripe", "set", "new account"), ("stripe", "rotate", None), ("*", "rotate_master", "yearly"),
        ("stripe", "delete", "closed"),
    ]  # fmt: skip
    assert all(each.origin.by.startswith("uid:") for each in rt.asked)
    assert all(CANARY.encode() not in answer.body for answer in (made, listed, turned, gone))


async def test_an_idempotency_key_keeps_nothing_of_a_value(serve: Serve, rt: FakeRuntime) -> None:
    """A key's digest would be one of the value, from which a weak value could be guessed: it is not kept."""
    async with serve() as http:
        await http.ask("PUT", "/v1/secrets/a", {"value": "v"})
        await http.ask("POST", "/v1/secrets/a/rotate", {"value": CANARY}, headers=[("Idempotency-Key", "k")])
    assert [each.origin.request for each in rt.asked] == [None, None]


@pytest.mark.parametrize(
    "body", [{}, {"value": ""}, {"value": 7}, {"value": "x" * 65_537}, {"value": "v", "x": CANARY}]
)
async def test_what_is_no_value_is_refused_unseen(serve: Serve, rt: FakeRuntime, body: dict[str, object]) -> None:
    """A wrong body is 400 or 413, asks nothing, and is not quoted."""
    async with serve() as http:
        answer = await http.ask("PUT", "/v1/secrets/a", body)
    assert answer.status == 400
    assert CANARY.encode() not in answer.body
    assert rt.asked == []


@pytest.mark.parametrize(
    ("peer", "proto", "allowed"),
    [
        (Peer(local=True, uid=0), None, True),
        (Peer(local=False, address="127.0.0.1"), None, True),
        (Peer(local=False, address="::1"), None, True),
        (Peer(local=False, address="198.51.100.7"), "https", True),
        (Peer(local=False, address="198.51.100.7"), "http", False),
        (Peer(local=False, address="198.51.100.7"), None, False),
        (Peer(local=False, address=""), None, False),
    ],
)
async def test_a_value_does_not_travel_in_the_clear(peer: Peer, proto: str | None, allowed: bool) -> None:
    """The unix socket, this host, and a proxy that says TLS may bring one; nobody else."""
    assert is_sheltered(peer, proto) is allowed


async def test_strangers_get_nothing(serve: Serve, rt: FakeRuntime) -> None:
    """Over TCP without a token none of the routes answers."""
    async with serve() as http:
        for method, path in (
            ("GET", "/v1/secrets"), ("PUT", "/v1/secrets/a"), ("DELETE", "/v1/secrets/a"),
            ("POST", "/v1/secrets/a/rotate"), ("POST", "/v1/master-key/rotate"),
        ):  # fmt: skip
            assert (await http.ask(method, path, tcp=True)).status == 401
    assert rt.asked == []
