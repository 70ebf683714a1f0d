"""Webhooks from the socket to the journal: one effect a delivery, whatever comes how often and in which order."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import msgspec
import pytest
import trio

from runtimed import App, Context
from runtimed.opening import open_runtime
from runtimed.runtime import Runtime
from runtimed.secret_store import SecretStore
from runtimed.settings import Journal, Limits, Settings, Webhook
from tests.runtimed.http.conftest import Answer, Serving, served
from tests.runtimed.webhooks.signing import SECRET, SIGN

pytestmark = pytest.mark.slow  # each starts a runtime on disk and a server

app = App("hooks")
SECRETS = ("secret:hub",)
WEBHOOKS = {
    "starts": Webhook(verify="github", secrets=SECRETS, key="id", deliver="workflow:on_event"),
    "stores": Webhook(verify="github", secrets=SECRETS, key="id", keep_headers=("X-GitHub-Event",), keep_body=True),
    "signals": Webhook(
        verify="github", secrets=SECRETS, key="id", deliver="signal:paid", run_id_from="order.run"
    ),
    "unset": Webhook(verify="github", secrets=("secret:unset",)),
}  # fmt: skip


class Event(msgspec.Struct, frozen=True):
    """What the provider tells of."""

    id: str
    cents: int


@app.workflow
async def on_event(ctx: Context, event: Event) -> int:
    """Give the amount."""
    return event.cents


@app.workflow
async def order(ctx: Context) -> list[Any]:
    """Wait for two payments."""
    return [await ctx.signal("paid"), await ctx.signal("paid")]


class World:
    """A runtime behind the real edge, and a provider that signs."""

    def __init__(self, rt: Runtime, http: Serving) -> None:
        self.rt, self.http = rt, http

    async def deliver(self, name: str, body: Any, *, secret: str = SECRET["github"], **headers: str) -> Answer:
        raw = body if isinstance(body, bytes) else msgspec.json.encode(body)
        signed = {**SIGN["github"](secret, raw, int(time.time())), **headers}
        return await self.http.ask("POST", f"/v1/webhooks/{name}", raw=raw, headers=signed.items(), tcp=True)

    async def records(self, stream: str) -> list[Any]:
        page = await self.rt.read(lambda reader: reader.stored(stream, after=0, limit=500))
        return [] if page is None else [(item.key, msgspec.json.decode(item.data)) for item in page.items]

    async def total(self, kind: str) -> int:
        """How many records of this kind the journal holds."""
        head = self.rt.feed.seq
        _, events = await self.rt.read(lambda reader: reader.events_of([kind], after=0, upto=head))
        return len(events)


@asynccontextmanager
async def world(folder: Path, **limits: int) -> AsyncIterator[World]:
    settings = Settings(journal=Journal(ballast_bytes=0), webhooks=WEBHOOKS, limits=Limits(**limits))
    data = folder / "data"
    SecretStore(data, environ={}).set("hub", SECRET["github"])
    async with open_runtime(app, data, settings=settings, writer="inline") as rt, served(rt, folder) as http:
        yield World(rt, http)


@pytest.mark.trio
async def test_a_delivery_starts_a_run_that_is_on_disk(short_dir: Path) -> None:
    """The answer tells the record's seq, which is durable; the run has the delivery's key in its id and its trace."""
    async with world(short_dir) as w:
        answer = await w.deliver("starts", {"id": "evt_1", "cents": 5})
        assert answer.status == 200
        seq = answer.json()["seq"]
        assert seq <= w.rt.feed.seq
        assert await w.rt.result("starts:evt_1", timeout=30) == 5
        record = next(each for each in await w.rt.read(lambda reader: reader.events(seq - 1)) if each.seq == seq)
    assert record.kind == "webhook_received"
    assert msgspec.json.decode(record.data)["via"] == "127.0.0.1"


@pytest.mark.trio
@pytest.mark.chaos
async def test_a_replay_has_no_second_effect(
    short_dir: Path, scale: Callable[[int, int], int], figures: Callable[..., None]
) -> None:
    """P17: deliveries that come again, at once, later, side by side and after a restart, are answered like the first
    one and do nothing."""
    replays, doubled = scale(1_000, 20_000), 0
    async with world(short_dir) as w:
        first = (await w.deliver("starts", {"id": "evt_1", "cents": 5})).json()
        answers: list[dict[str, Any]] = []

        async def again(count: int) -> None:
            for _ in range(count):
                answers.append((await w.deliver("starts", {"id": "evt_1", "cents": 5})).json())

        async with trio.open_nursery() as nursery:
            for _ in range(20):
                nursery.start_soon(again, replays // 20)
        doubled += await w.total("webhook_received") - 1 + await w.total("run_started") - 1
    async with world(short_dir) as w:
        answers.append((await w.deliver("starts", {"id": "evt_1", "cents": 5})).json())
        doubled += await w.total("run_started") - 1
    assert {tuple(each.items()) for each in answers} == {(("seq", first["seq"]), ("repeated", True))}
    assert doubled == 0
    figures("P17", webhook_replays=len(answers), webhook_effects_doubled=doubled)


@pytest.mark.trio
async def test_the_same_delivery_many_times_at_once_is_taken_once(short_dir: Path) -> None:
    """Before the first is durable the others wait for it: one says that it is new, all have its seq."""
    async with world(short_dir) as w:
        answers: list[dict[str, Any]] = []

        async def one() -> None:
            answers.append((await w.deliver("stores", {"id": "x"})).json())

        async with trio.open_nursery() as nursery:
            for _ in range(50):
                nursery.start_soon(one)
        assert len({each["seq"] for each in answers}) == 1
        assert [each["repeated"] for each in answers].count(False) == 1
        assert await w.records("stores") == [("x", {"id": "x"})]


@pytest.mark.trio
async def test_order_is_not_assumed(short_dir: Path) -> None:
    """Deliveries that come in the wrong order each have their effect, under their own key."""
    async with world(short_dir) as w:
        await w.rt.start(order, id="A-1")
        for key in ("2", "1", "2"):
            assert (await w.deliver("signals", {"id": key, "order": {"run": "A-1"}})).status == 200
        result = await w.rt.result("A-1", timeout=30)
    assert [each["id"] for each in result] == ["2", "1"]


@pytest.mark.trio
async def test_headers_and_body_are_in_the_record_as_configured(short_dir: Path) -> None:
    """What is to be kept is kept, and only that; signatures are not."""
    async with world(short_dir) as w:
        seq = (await w.deliver("stores", b'{"id": "x" }', **{"X-GitHub-Event": "push", "X-Other": "1"})).json()["seq"]
        record = next(each for each in await w.rt.read(lambda reader: reader.events(seq - 1)) if each.seq == seq)
    said = msgspec.json.decode(record.data)
    assert (said["headers"], said["body"]) == ({"x-github-event": "push"}, '{"id": "x" }')


@pytest.mark.trio
async def test_what_does_not_fit_is_set_aside_and_taken(short_dir: Path) -> None:
    """A signed delivery that its workflow cannot take is kept as refused: its sender can do nothing about it, and a
    retry of it for days would help nobody."""
    async with world(short_dir) as w:
        answer = await w.deliver("starts", {"id": "evt_1", "cents": "many"})
        again = await w.deliver("starts", {"id": "evt_1", "cents": "many"})
        assert (answer.status, again.json()["repeated"]) == (200, True)
        assert await w.total("delivery_refused") == 1
        assert await w.total("run_started") == 0


@pytest.mark.trio
async def test_what_is_too_large_is_413(short_dir: Path) -> None:
    """A signed delivery over the limit of a payload is refused and leaves nothing, also where its body is to be kept:
    no body can be larger than what the journal takes."""
    async with world(short_dir, payload_max_bytes=2_000) as w:
        for name in ("starts", "stores"):
            answer = await w.deliver(name, {"id": "big", "cents": 1, "note": '"' * 3_000})
            assert (answer.status, answer.json()["code"]) == (413, "payload_too_large")
        assert await w.total("webhook_received") == await w.total("delivery_refused") == 0


@pytest.mark.trio
async def test_a_rotation_lets_both_secrets_count_for_its_grace(short_dir: Path) -> None:
    """While the provider still signs with the former secret nothing is refused; a set ends that at once."""
    async with world(short_dir) as w:
        await w.rt.rotate_secret("hub", "new", grace_s=3_600.0)
        assert (await w.deliver("stores", {"id": "1"})).status == 200
        assert (await w.deliver("stores", {"id": "2"}, secret="new")).status == 200
        await w.rt.set_secret("hub", "newest")
        assert (await w.deliver("stores", {"id": "3"}, secret="new")).status == 401
        assert (await w.deliver("stores", {"id": "4"}, secret="newest")).status == 200


@pytest.mark.trio
async def test_a_secret_that_is_not_set_is_told_and_costs_nothing(short_dir: Path) -> None:
    """The daemon starts all the same, health says what is missing, the sender is told to come again, and once the
    secret is set all is well."""
    async with world(short_dir) as w:
        assert w.rt.health().reasons == ["there is no secret 'unset'"]
        assert (await w.deliver("unset", {"id": "1"})).status == 503
        await w.rt.set_secret("unset", SECRET["github"])
        assert w.rt.health().reasons == []
        assert (await w.deliver("unset", {"id": "1"})).status == 200


@pytest.mark.trio
async def test_setting_a_secret_leaves_who_and_why_and_no_value(short_dir: Path) -> None:
    """Over HTTP each change is a record, and the value is nowhere in the journal."""
    canary = "canary-5c1d"
    async with world(short_dir) as w:
        body = {"value": canary, "reason": "new account"}
        assert (await w.http.ask("PUT", "/v1/secrets/extra", body)).status == 200
        assert (await w.http.ask("PUT", "/v1/secrets/extra", body)).status == 200
        turned = {"value": canary + "2", "grace_s": 60}
        assert (await w.http.ask("POST", "/v1/secrets/extra/rotate", turned)).status == 200
        assert (await w.http.ask("POST", "/v1/master-key/rotate", {})).json() == {"secrets": 2}
        assert (await w.http.ask("DELETE", "/v1/secrets/extra?reason=closed")).status == 200
        assert (await w.http.ask("DELETE", "/v1/secrets/extra")).status == 404
        events = await w.rt.read(lambda reader: reader.events(0))
        listed = (await w.http.ask("GET", "/v1/secrets")).json()["items"]
    told = [msgspec.json.decode(each.data) for each in events if each.kind == "secret_changed"]
    assert [(each["action"], each.get("reason")) for each in told] == [
        ("set", "new account"), ("rotate", None), ("rotate_master", None), ("delete", "closed"),
    ]  # fmt: skip
    assert [each["name"] for each in listed] == ["hub"]
    for path in (short_dir / "data").iterdir():
        if path.is_file():
            assert canary.encode() not in path.read_bytes(), path.name
