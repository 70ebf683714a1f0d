"""Sessions, state and actors over HTTP."""

from __future__ import annotations

from typing import Any

import pytest
from msgspec import Raw

from actors.errors import SessionEnded, VersionConflict
from actors.messages import (
    Accepted,
    CloseSession,
    DeleteState,
    OpenSession,
    PutState,
    SessionReply,
    StateReply,
    TouchSession,
)
from wal.records import SessionClosed, SessionOpened, StateWritten
from wal.views import SessionView, StateView

# --- sessions ---------------------------------------------------------------------------------------------------------


@pytest.mark.trio
async def test_session_is_opened(serve: Any, rt: Any) -> None:
    """Opening is one command; 201 for a new session, 200 for one that was there."""
    rt.replies[OpenSession] = lambda c: SessionReply(session=SessionView(c.id or "made", "open"), created=c.id is None)
    wanted = {"id": "s-1", "tenant": "acme", "subject": "ann", "ttl": 60, "on_close": "cancel", "attributes": {"a": 1}}
    async with serve() as http:
        answer = await http.ask("POST", "/v1/sessions")
        assert (answer.status, answer.headers["location"]) == (201, "/v1/sessions/made")
        assert set(answer.json()) == set(SessionView.__struct_fields__)
        assert (await http.ask("POST", "/v1/sessions", wanted)).status == 200
        for bad in ({"ttl": 0}, {"ttl": -1}, {"on_close": "x"}, {"id": "a b"}, {"owner": "x"}):
            assert (await http.ask("POST", "/v1/sessions", bad)).status == 400
    command = rt.asked[1]
    assert (command.id, command.tenant, command.subject, command.ttl) == ("s-1", "acme", "ann", 60.0)
    assert (command.on_close, command.attributes) == ("cancel", {"a": 1})
    assert len(rt.asked) == 2


@pytest.mark.trio
async def test_session_is_touched_and_closed(serve: Any, rt: Any) -> None:
    """Touch and close answer with the session; one that has ended is 409."""
    rt.replies[TouchSession] = lambda c: SessionReply(session=SessionView(c.id, "open"))
    rt.replies[CloseSession] = lambda c: SessionReply(session=SessionView(c.id, "closed"))
    async with serve() as http:
        assert (await http.ask("POST", "/v1/sessions/s-1/touch")).json()["status"] == "open"
        assert (await http.ask("POST", "/v1/sessions/s-1/close", {"reason": "done"})).json()["status"] == "closed"
        assert rt.asked[1].reason == "done"
        rt.replies[TouchSession] = lambda c: SessionEnded("it is closed")
        answer = await http.ask("POST", "/v1/sessions/s-1/touch", {})
        assert (answer.status, answer.json()["code"]) == (409, "session_ended")


@pytest.mark.trio
async def test_sessions_are_listed_and_shown(serve: Any, rt: Any) -> None:
    """Sessions are listed newest first, by status and tenant, and shown one by one."""
    for at in range(3):
        rt.record(SessionOpened(id=f"s-{at}", tenant="a" if at else "b"))
    rt.record(SessionClosed(id="s-2"))
    async with serve() as http:
        page = (await http.ask("GET", "/v1/sessions?limit=2")).json()
        assert ([item["id"] for item in page["items"]], page["total"]) == (["s-2", "s-1"], 3)
        rest = (await http.ask("GET", f"/v1/sessions?cursor={page['next']}")).json()
        assert [item["id"] for item in rest["items"]] == ["s-0"]
        open_ones = (await http.ask("GET", "/v1/sessions?status=open&tenant=a")).json()
        assert [item["id"] for item in open_ones["items"]] == ["s-1"]
        assert (await http.ask("GET", "/v1/sessions/s-2")).json()["status"] == "closed"
        answer = await http.ask("GET", "/v1/sessions/none")
        assert (answer.status, answer.json()["code"]) == (404, "session_not_found")


# --- state ------------------------------------------------------------------------------------------------------------


@pytest.mark.trio
@pytest.mark.parametrize(
    ("header", "expected"),
    [([], None), ([("If-Match", "3")], 3), ([("If-Match", '"3"')], 3), ([("If-Match", "0")], 0),
     ([("If-None-Match", "*")], 0)],
)  # fmt: skip
async def test_state_is_put(serve: Any, rt: Any, header: list[tuple[str, str]], expected: int | None) -> None:
    """A put is one command with the version that must be there; the answer has the new version as ETag."""
    rt.replies[PutState] = lambda c: StateReply(state=StateView(c.scope, c.key, c.value, 4), created=expected == 0)
    async with serve() as http:
        answer = await http.ask("PUT", "/v1/state/tenant:acme/a/b%20c", {"value": {"x": 1}}, headers=header)
        assert (answer.status, answer.headers["etag"]) == (201 if expected == 0 else 200, '"4"')
        assert answer.json()["value"] == {"x": 1}
    (command,) = rt.asked
    assert (command.scope, command.key, command.expect_version) == ("tenant:acme", "a/b c", expected)


@pytest.mark.trio
async def test_state_conflict_is_412(serve: Any, rt: Any) -> None:
    """A version that is not there is 412, on put and on delete."""
    rt.replies[PutState] = rt.replies[DeleteState] = lambda c: VersionConflict("it is 5")
    async with serve() as http:
        for method, body in (("PUT", {"value": 1}), ("DELETE", None)):
            answer = await http.ask(method, "/v1/state/global/k", body, headers=[("If-Match", "3")])
            assert (answer.status, answer.json()["code"]) == (412, "version_conflict")


@pytest.mark.trio
@pytest.mark.parametrize(
    ("method", "path", "header"),
    [
        ("PUT", "/v1/state/nowhere/k", []),
        ("PUT", "/v1/state/tenant:/k", []),
        ("PUT", "/v1/state/tenant:a%20b/k", []),
        ("PUT", "/v1/state/global/" + "k" * 513, []),
        ("PUT", "/v1/state/global/%00", []),
        ("PUT", "/v1/state/global/%ff", []),
        ("PUT", "/v1/state/global/k", [("If-Match", "*")]),
        ("PUT", "/v1/state/global/k", [("If-Match", "x")]),
        ("PUT", "/v1/state/global/k", [("If-None-Match", "3")]),
        ("DELETE", "/v1/state/global/k", [("If-Match", "-1")]),
        ("GET", "/v1/state/nowhere", []),
        ("GET", "/v1/state/global?cursor=x", []),
    ],
)
async def test_bad_place_or_version_is_refused(
    serve: Any, rt: Any, method: str, path: str, header: list[tuple[str, str]]
) -> None:
    """A scope, key, version or cursor that cannot be is 400, and nothing is asked."""
    async with serve() as http:
        body = {"value": 1} if method == "PUT" else None
        assert (await http.ask(method, path, body, headers=header)).status == 400
        assert rt.asked == []


@pytest.mark.trio
async def test_state_is_read_listed_and_deleted(serve: Any, rt: Any) -> None:
    """A value comes with its version; a deleted one is 404; a scope's values are listed by key."""
    for name in ("b", "a", "gone"):
        rt.record(StateWritten(key="", scope="global", name=name, version=1, value=Raw(b"[1]")))
    rt.record(StateWritten(key="", scope="global", name="gone", version=2, deleted=True))
    rt.replies[DeleteState] = lambda c: Accepted(seq=7, id=c.key)
    async with serve() as http:
        answer = await http.ask("GET", "/v1/state/global/a")
        assert (answer.json()["value"], answer.json()["version"], answer.headers["etag"]) == ([1], 1, '"1"')
        assert set(answer.json()) == set(StateView.__struct_fields__)
        for key in ("gone", "never"):
            answer = await http.ask("GET", f"/v1/state/global/{key}")
            assert (answer.status, answer.json()["code"]) == (404, "state_not_found")
        page = (await http.ask("GET", "/v1/state/global")).json()
        assert [item["key"] for item in page["items"]] == ["a", "b"]
        assert (await http.ask("DELETE", "/v1/state/global/a")).json() == {"seq": 7, "id": "a"}
        assert (await http.ask("PUT", "/v1/state/global/a", {})).status == 400


# --- actors -----------------------------------------------------------------------------------------------------------


@pytest.mark.trio
async def test_tree_is_told(serve: Any, rt: Any) -> None:
    """The tree has the contract's fields for every actor, parents first."""
    async with serve() as http:
        page = (await http.ask("GET", "/v1/actors")).json()
        assert [item["path"] for item in page["items"]] == ["runtime", "runtime/saga"]
        fields = {"path", "status", "restarts", "strategy", "mailbox_size", "mailbox_limit", "last_error"}
        assert fields <= set(page["items"][0])
        assert page["total"] == 2


@pytest.mark.trio
async def test_actor_is_restarted(serve: Any, rt: Any) -> None:
    """An actor is restarted by its path, slashes and all; an unknown one is 404."""
    async with serve() as http:
        answer = await http.ask("POST", "/v1/actors/runtime/saga/restart", {"reason": "stuck"})
        assert (answer.status, answer.json()["path"]) == (202, "runtime/saga")
        assert (await http.ask("POST", "/v1/actors/none/restart")).status == 404
        assert rt.restarted == ["runtime/saga", "none"]
