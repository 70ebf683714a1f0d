"""Connectors over HTTP."""

from __future__ import annotations

from typing import Any

import pytest
from msgspec import Raw

from actors.errors import ConnectorHeld, InvalidInput
from actors.messages import Accepted, PauseConnector, ResetConnector, ResumeConnector
from wal.views import ConnectorView

FIELDS = {
    "name", "kind", "status", "cursor", "lag", "last_poll_at", "next_poll_at", "last_error", "records_total",
    "errors_total",
}  # fmt: skip


@pytest.fixture
def sources(rt: Any) -> None:
    """Two connectors and a webhook."""
    rt.sources = [
        ConnectorView("charges", "stripe", "ok", Raw(b'{"id":"ch_9"}'), 1.5, records_total=12, deliver="workflow:pay"),
        ConnectorView("crm", "singer", "quarantined", last_error="boom", errors_total=5, deliver="records"),
        ConnectorView("hooks", "webhook", "ok", deliver="workflow:on_event"),
    ]
    for kind in (PauseConnector, ResumeConnector, ResetConnector):
        rt.replies[kind] = lambda command: Accepted(seq=8, id=command.name)


@pytest.mark.trio
@pytest.mark.usefixtures("sources")
async def test_connectors_are_listed_and_shown(serve: Any) -> None:
    """Each with all fields of the contract, null where nothing is known; an unknown name is 404."""
    async with serve() as http:
        page = (await http.ask("GET", "/v1/connectors")).json()
        assert [item["name"] for item in page["items"]] == ["charges", "crm", "hooks"]
        assert (page["next"], page["total"]) == (None, 3)
        shown = (await http.ask("GET", "/v1/connectors/charges")).json()
        assert shown == page["items"][0]
        assert set(shown) >= FIELDS
        assert (shown["cursor"], shown["lag"], shown["next_poll_at"]) == ({"id": "ch_9"}, 1.5, None)
        answer = await http.ask("GET", "/v1/connectors/none")
        assert (answer.status, answer.json()["code"]) == (404, "connector_not_found")


@pytest.mark.trio
@pytest.mark.usefixtures("sources")
async def test_pausing_and_resuming_are_commands(serve: Any, rt: Any) -> None:
    """202 with the record's seq; the reason and the caller go with the command."""
    async with serve() as http:
        for verb, kind in (("pause", PauseConnector), ("resume", ResumeConnector)):
            answer = await http.ask("POST", f"/v1/connectors/charges/{verb}", {"reason": "Stripe is down"})
            assert (answer.status, answer.json()) == (202, {"seq": 8, "id": "charges"})
            command = rt.asked[-1]
            assert (type(command), command.name, command.reason) == (kind, "charges", "Stripe is down")
            assert command.origin.by is not None
        assert (await http.ask("POST", "/v1/connectors/none/pause")).status == 404
        assert (await http.ask("POST", "/v1/connectors/charges/pause", {"why": "x"})).status == 400
    assert len(rt.asked) == 2


@pytest.mark.trio
@pytest.mark.usefixtures("sources")
async def test_poll_now_answers_with_the_connector(serve: Any, rt: Any) -> None:
    """202 with how it stands; nothing is recorded, so nothing is asked of the coordinator."""
    async with serve() as http:
        answer = await http.ask("POST", "/v1/connectors/charges/poll", {"reason": "now"})
        assert (answer.status, answer.json()["status"]) == (202, "polling")
        assert (await http.ask("POST", "/v1/connectors/none/poll")).status == 404
    assert (rt.polled, rt.asked) == (["charges"], [])


@pytest.mark.trio
@pytest.mark.usefixtures("sources")
@pytest.mark.parametrize(
    ("body", "cursor"),
    [({"cursor": {"id": "ch_1"}, "reason": "again"}, b'{"id":"ch_1"}'), ({"cursor": None}, b"null"), ({}, b"null")],
)
async def test_a_reset_sets_any_cursor(serve: Any, rt: Any, body: Any, cursor: bytes) -> None:
    """Any JSON is a cursor, null and none at all are the beginning; 202 with the record's seq."""
    async with serve() as http:
        answer = await http.ask("POST", "/v1/connectors/charges/reset", body)
    assert (answer.status, answer.json()) == (202, {"seq": 8, "id": "charges"})
    (command,) = rt.asked
    assert (bytes(command.cursor), command.reason) == (cursor, body.get("reason"))


@pytest.mark.trio
@pytest.mark.usefixtures("sources")
async def test_a_dry_run_says_what_a_reset_would_do(serve: Any, rt: Any) -> None:
    """200 with both cursors and what follows; nothing is asked of anybody."""
    async with serve() as http:
        answer = await http.ask("POST", "/v1/connectors/charges/reset", {"cursor": None, "dry_run": True})
        told = answer.json()
        assert (answer.status, told["cursor"], told["new_cursor"]) == (200, {"id": "ch_9"}, None)
        assert "reads everything again" in told["would"][1] and "12 records" in told["would"][2]
        assert "11 keys are known" in told["would"][2] and told["keys_known"] == 11
        wrong = await http.ask("POST", "/v1/connectors/charges/reset", {"cursor": "wrong", "dry_run": True})
        assert (wrong.status, wrong.json()["code"]) == (400, "invalid_input")
        told = (await http.ask("POST", "/v1/connectors/crm/reset", {"cursor": "x" * 500, "dry_run": True})).json()
        assert "it stays quarantined" in told["would"][1] and "replaces what is stored" in told["would"][2]
        assert max(map(len, told["would"])) < 700
        assert (await http.ask("POST", "/v1/connectors/none/reset", {"dry_run": True})).status == 404
    assert rt.asked == []


@pytest.mark.trio
@pytest.mark.usefixtures("sources")
@pytest.mark.parametrize("verb", ["pause", "resume", "poll", "reset"])
async def test_a_webhook_cannot_be_steered(serve: Any, rt: Any, verb: str) -> None:
    """Its source sends to it: 409 with what to do instead. A connector of the same name can be."""
    async with serve() as http:
        answer = await http.ask("POST", f"/v1/connectors/hooks/{verb}", {})
        assert (answer.status, answer.json()["code"]) == (409, "conflict")
        assert "Switch it off at its source" in answer.json()["hint"]
        assert rt.asked == rt.polled == []
        rt.sources.append(ConnectorView("hooks", "files", "ok"))
        assert (await http.ask("POST", f"/v1/connectors/hooks/{verb}", {})).status == 202
        assert (await http.ask("GET", "/v1/connectors/hooks")).json()["kind"] == "files"


@pytest.mark.trio
@pytest.mark.usefixtures("sources")
async def test_refusals_are_problems(serve: Any, rt: Any) -> None:
    """A cursor of the wrong type is 400, what is held 409; a body that is not UTF-8 changes nothing."""
    rt.replies[ResetConnector] = lambda command: InvalidInput("the cursor is an int")
    rt.replies[ResumeConnector] = lambda command: ConnectorHeld("it is being reset")
    async with serve() as http:
        answer = await http.ask("POST", "/v1/connectors/charges/reset", {"cursor": "x"})
        assert (answer.status, answer.json()["code"]) == (400, "invalid_input")
        answer = await http.ask("POST", "/v1/connectors/charges/resume")
        assert (answer.status, answer.json()["code"]) == (409, "connector_held")
        asked = len(rt.asked)
        answer = await http.ask("POST", "/v1/connectors/charges/reset", raw=b'{"cursor":"\xff"}')
        assert (answer.status, len(rt.asked)) == (400, asked)
