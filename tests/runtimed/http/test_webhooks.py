"""The webhooks' route: verified first, asked once, answered when it is on disk; every refusal has its status."""

from __future__ import annotations

import base64
import time
from typing import Any

import pytest

from actors.connector_spec import Deliver, Verify, WebhookSpec
from actors.errors import MailboxFull
from actors.messages import TakeWebhook, WebhookTaken
from tests.runtimed.http.conftest import Answer, FakeRuntime, Serve, Serving
from tests.runtimed.webhooks.signing import OTHER, SECRET, SIGN, SIGNED_HEADER, hubspot_v3

pytestmark = pytest.mark.trio
KINDS: list[Verify] = ["stripe", "hubspot_v3", "github", "standard"]
BODY = b'{"id": "evt_1", "eventId": 7, "amount": 990}'
START = Deliver("workflow", "on_event")


def have(rt: FakeRuntime, kind: Verify, **fields: Any) -> None:
    """Give the runtime one webhook `w` of this kind, its secret, and an answer."""
    spec = {"deliver": START, "secrets": () if kind == "none" else ("secret:a",), **fields}
    rt.webhooks["w"] = WebhookSpec(name="w", verify=kind, **spec)
    rt.secrets["a"] = (SECRET.get(kind, ""),)
    rt.replies[TakeWebhook] = lambda _: WebhookTaken(seq=5, repeated=False)


def signed(kind: Verify, body: bytes = BODY, secret: str | None = None, at_s: float | None = None) -> dict[str, str]:
    """The headers of a delivery as the provider sends it to the test's server."""
    at = int(time.time() if at_s is None else at_s)
    if kind == "hubspot_v3":
        return hubspot_v3(secret or SECRET[kind], body, at, "https://localhost/v1/webhooks/w")
    return SIGN[kind](secret or SECRET[kind], body, at) if kind != "none" else {}


async def deliver(http: Serving, headers: dict[str, str], body: bytes = BODY, tcp: bool = True) -> Answer:
    return await http.ask("POST", "/v1/webhooks/w", raw=body, headers=headers.items(), tcp=tcp)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("tcp", [False, True])
async def test_a_signed_delivery_is_taken(serve: Serve, rt: FakeRuntime, kind: Verify, tcp: bool) -> None:
    """The signature is the credential, over TCP too; what is asked is the delivery with its key and nothing lost."""
    have(rt, kind)
    async with serve() as http:
        answer = await deliver(http, signed(kind), tcp=tcp)
    assert (answer.status, answer.json()) == (200, {"seq": 5, "repeated": False})
    (asked,) = rt.asked
    keys = {"stripe": "evt_1", "hubspot_v3": "7", "standard": "msg_1"}
    assert asked.item.key == keys.get(kind, "72d3162e-cc78-11e3-81ab-4c9367dc0958")
    assert bytes(asked.item.data) == BODY
    assert (asked.webhook, asked.deliver, asked.headers, asked.body) == ("w", START, {}, None)
    assert asked.origin.by == "webhook:w"
    assert asked.origin.request is None


async def test_a_repeat_is_told_as_one(serve: Serve, rt: FakeRuntime) -> None:
    """What came before is 200 like the first time, with the first one's record."""
    have(rt, "github")
    rt.replies[TakeWebhook] = lambda _: WebhookTaken(seq=3, repeated=True)
    async with serve() as http:
        answer = await deliver(http, signed("github"))
    assert (answer.status, answer.json()) == (200, {"seq": 3, "repeated": True})


async def test_headers_and_body_are_kept_as_configured(serve: Serve, rt: FakeRuntime) -> None:
    """Only the named headers, whatever their case, and the body as text where that is wanted."""
    have(rt, "github", keep_headers=("X-GitHub-Event", "X-Absent"), keep_body=True)
    async with serve() as http:
        await deliver(http, {**signed("github"), "X-GitHub-Event": "push", "X-Other": "no"})
    (asked,) = rt.asked
    assert asked.headers == {"x-github-event": "push"}
    assert asked.body == BODY.decode()
    assert asked.via == "127.0.0.1"


@pytest.mark.parametrize("kind", KINDS)
async def test_what_is_not_signed_is_401(serve: Serve, rt: FakeRuntime, kind: Verify) -> None:
    """A wrong, missing, malformed or non-UTF-8 signature, a stale one, another body: 401 `bad_signature`, never 500,
    and nothing is asked."""
    have(rt, kind)
    name = SIGNED_HEADER[kind]
    right = signed(kind)
    refused = [
        signed(kind, secret=OTHER[kind]),
        {n: v for n, v in right.items() if n != name},
        {**right, name: "garbage"},
        {**right, name: "t=x,v1="},
        {},
    ]
    if kind != "github":
        refused += [signed(kind, at_s=time.time() - 400), signed(kind, at_s=time.time() + 400)]
    async with serve() as http:
        answers = [await deliver(http, headers) for headers in refused]
        answers.append(await deliver(http, right, BODY + b" "))
        client = await http.client(tcp=True)
        lines = "".join(f"{n}: {v}\r\n" for n, v in right.items() if n != name)
        head = f"POST /v1/webhooks/w HTTP/1.1\r\nHost: localhost\r\nContent-Length: {len(BODY)}\r\n{lines}{name}: "
        await client.send(head.encode() + b"\xff\xfe\x80\r\n\r\n" + BODY)
        answers.append(await client.answer("POST"))
    assert [(answer.status, answer.json()["code"]) for answer in answers] == [(401, "bad_signature")] * len(answers)
    assert rt.asked == []


@pytest.mark.parametrize("kind", KINDS)
async def test_a_signature_sent_twice_is_401(serve: Serve, rt: FakeRuntime, kind: Verify) -> None:
    """A right one beside another is as bad as a wrong one."""
    have(rt, kind)
    async with serve() as http:
        pairs = [*signed(kind).items(), (SIGNED_HEADER[kind], "other")]
        answer = await http.ask("POST", "/v1/webhooks/w", raw=BODY, headers=pairs, tcp=True)
    assert answer.status == 401
    assert rt.asked == []


async def test_a_missing_secret_of_ours_is_503(serve: Serve, rt: FakeRuntime) -> None:
    """It is not the sender's fault: it may come again once the secret is set."""
    have(rt, "github")
    rt.secrets.clear()
    async with serve() as http:
        answer = await deliver(http, signed("github"))
    assert (answer.status, answer.json()["code"]) == (503, "secret_missing")
    assert "retry-after" in answer.headers
    assert rt.asked == []


async def test_one_of_several_secrets_may_be_missing(serve: Serve, rt: FakeRuntime) -> None:
    """The others count; all values of a secret in rotation count."""
    have(rt, "github", secrets=("secret:gone", "secret:a"))
    rt.secrets["a"] = ("new", SECRET["github"])
    async with serve() as http:
        assert (await deliver(http, signed("github"))).status == 200
        assert (await deliver(http, signed("github", secret="new"))).status == 200
        assert (await deliver(http, signed("github", secret="other"))).status == 401


async def test_an_unknown_webhook_is_404(serve: Serve, rt: FakeRuntime) -> None:
    """There is no webhook by that name; other methods than POST are 405."""
    have(rt, "github")
    async with serve() as http:
        unknown = await http.ask("POST", "/v1/webhooks/other", raw=BODY, tcp=True)
        get = await http.ask("GET", "/v1/webhooks/w", tcp=True)
    assert (unknown.status, unknown.json()["code"], get.status) == (404, "webhook_not_found", 405)


@pytest.mark.parametrize("body", [b"", b"not json", b"payload=%7B%7D", b'{"id": ', b"[" * 5_000])
async def test_a_signed_body_that_is_no_json_is_400(serve: Serve, rt: FakeRuntime, body: bytes) -> None:
    """Where a run is to start from it, or the key is in it, it must be JSON: said after the signature was right."""
    have(rt, "github")
    async with serve() as http:
        signed_one = await deliver(http, signed("github", body), body)
        unsigned_one = await deliver(http, {}, body)
    assert (signed_one.status, unsigned_one.status) == (400, 401)
    assert rt.asked == []


async def test_the_store_takes_text_that_is_no_json(serve: Serve, rt: FakeRuntime) -> None:
    """With a header's key nothing is read from the body: text is kept as a JSON string, other bytes are 400."""
    have(rt, "github", deliver=Deliver())
    async with serve() as http:
        text = await deliver(http, {**signed("github", b"a=1"), "Content-Type": "text/plain"}, b"a=1")
        junk = await deliver(http, signed("github", b"\xff"), b"\xff")
    assert (text.status, junk.status) == (200, 400)
    assert [bytes(asked.item.data) for asked in rt.asked] == [b'"a=1"']


async def test_a_key_that_is_not_there_is_400_with_its_place(serve: Serve, rt: FakeRuntime) -> None:
    """The message names the field."""
    have(rt, "github", key="delivery.id")
    async with serve() as http:
        answer = await deliver(http, signed("github"))
    assert answer.status == 400
    assert "$.delivery.id" in answer.json()["detail"]


async def test_a_body_over_the_cap_is_413(serve: Serve, rt: FakeRuntime) -> None:
    """Before it is read, whoever signed it."""
    have(rt, "github")
    body = b'"' + b"x" * 2_000 + b'"'
    async with serve(body_max_bytes=1_000) as http:
        answer = await deliver(http, signed("github", body), body)
    assert (answer.status, answer.json()["code"]) == (413, "body_too_large")
    assert rt.asked == []


async def test_a_full_mailbox_is_503_with_retry_after(serve: Serve, rt: FakeRuntime) -> None:
    """What is not taken is not acknowledged, and the sender is told when to come again."""
    have(rt, "github")
    rt.replies[TakeWebhook] = lambda _: MailboxFull("full")
    async with serve() as http:
        answer = await deliver(http, signed("github"))
    assert (answer.status, answer.json()["code"]) == (503, "overloaded")
    assert "retry-after" in answer.headers


async def test_unsigned_is_for_this_host(serve: Serve, rt: FakeRuntime) -> None:
    """`none` takes what the socket or the loopback brings, named by a header or a key, and nothing that a proxy hands
    on for another."""
    have(rt, "none")
    async with serve() as http:
        near = await deliver(http, {"Webhook-Id": "1"}, tcp=False)
        loop = await deliver(http, {"Webhook-Id": "2"})
        proxied = await deliver(http, {"Webhook-Id": "3", "X-Forwarded-For": "198.51.100.7"})
        nameless = await deliver(http, {})
    assert [each.status for each in (near, loop, proxied, nameless)] == [200, 200, 401, 400]
    assert [asked.item.key for asked in rt.asked] == ["1", "2"]


async def test_a_proxy_may_say_which_address_was_called(serve: Serve, rt: FakeRuntime) -> None:
    """HubSpot signs the public address; the proxy's headers tell it, and a wrong one does not verify."""
    have(rt, "hubspot_v3")
    url = "https://hooks.example.org/v1/webhooks/w?x=1"
    headers = hubspot_v3(SECRET["hubspot_v3"], BODY, int(time.time()), url)
    told = {**headers, "X-Forwarded-Host": "hooks.example.org", "X-Forwarded-Proto": "https"}
    async with serve() as http:
        ask = ("POST", "/v1/webhooks/w?x=1")
        right = await http.ask(*ask, raw=BODY, headers=told.items(), tcp=True)
        wrong = await http.ask(*ask, raw=BODY, headers=headers.items(), tcp=True)
    assert (right.status, wrong.status) == (200, 401)


async def test_no_answer_shows_a_secret(serve: Serve, rt: FakeRuntime) -> None:
    """Neither a refusal nor the openapi document holds a secret of a webhook."""
    canary = "whsec_" + base64.b64encode(b"canary").decode()
    have(rt, "standard", secrets=(canary,))
    async with serve() as http:
        answers = [await deliver(http, {}), await deliver(http, {**signed("standard"), "webhook-signature": "v1,x"})]
        answers.append(await http.ask("GET", "/openapi.json"))
    assert all(canary.encode() not in answer.body for answer in answers)
