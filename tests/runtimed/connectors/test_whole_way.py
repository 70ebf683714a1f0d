"""From a real server through a connector and the runtime into the record store or a run: once each, and in clear words.

The journal is in memory, the clock and the sockets are real; every poll is asked for, so that nothing waits.
"""

from __future__ import annotations

import dataclasses
import re
from collections import Counter
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import msgspec
import pytest
import trio
import trio.testing

from actors.clock import SystemClock
from actors.connector_core import FAILURES_MAX
from actors.flow.context import Context
from actors.flow.definitions import App
from runtimed.models import Customer, upcast
from runtimed.settings import Connector, Settings
from runtimed.virtual import VirtualRuntime
from tests.actors.sources import of_kind, stored, view
from tests.runtimed.connectors.mock_hubspot import TOKEN, MockHubSpot
from tests.runtimed.connectors.mock_source import (
    DRIP,
    HALF_JSON,
    RESET,
    TRUNCATE,
    Asked,
    MockSource,
    NoNames,
    Reply,
    json_reply,
    serving,
)
from tests.runtimed.connectors.mock_stripe import KEY, MockStripe
from tests.runtimed.connectors.test_http import self_signed
from tests.runtimed.connectors.test_http_json import Paged, record
from wal import records as r
from wal.views import ConnectorView

pytestmark = [pytest.mark.trio, pytest.mark.slow]  # real sockets, and crashes

KINDS = ("stripe", "hubspot", "http_json")
REQUEST_S = 30.0
"""What one request may take: half of what a poll waits for its next page."""
COUNT = 42
SECRETS = {"stripe": KEY, "hubspot": TOKEN, "http_json": "t0k3n-of-nobody"}

app = App("outside")


@pytest.fixture(autouse=True)
def _only_when_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    """No poll comes by itself, soon after the start or after a failure, however slowly a test goes on."""
    monkeypatch.setattr("actors.connector_core.FIRST_POLL_WITHIN_S", 3_600.0)
    monkeypatch.setattr("actors.connector_core.BACKOFF_FIRST_S", 240.0)


@pytest.fixture
def clock() -> trio.testing.MockClock:
    """Goes as the real one does, and can be set ahead."""
    return trio.testing.MockClock(rate=1.0)


@app.workflow
async def greet(ctx: Context, one: dict[str, Any]) -> str:
    """Takes whatever comes."""
    return str(one["id"])


def source_of(kind: str, count: int = COUNT) -> MockSource:
    """A server of this kind with so many records, `k0` and so on; they are as old as the clock says."""
    now_s = SystemClock().now_us() // 1_000_000 - 86_400
    if kind == "stripe":
        stripe = MockStripe()
        for number in range(count):
            stripe.put("customers", f"k{number}", now_s + number // 4, email=f"k{number}@example.com", event=False)
        return stripe
    if kind == "hubspot":
        hubspot = MockHubSpot()
        for number in range(count):
            hubspot.put("contacts", str(number), (now_s + number // 4) * 1_000, email=f"k{number}@example.com")
        return hubspot
    paged = Paged("offset")
    paged.records = [record(number, at=number // 4 + 1) for number in range(count)]
    return paged


def keys_of(kind: str, count: int = COUNT) -> set[str]:
    return {f"{'' if kind == 'hubspot' else 'k'}{number}" for number in range(count)}


def table_of(kind: str, source: MockSource, deliver: str = "records", **fields: Any) -> Connector:
    """The connector's table in the configuration."""
    secret = f"secret:{kind}"
    options: dict[str, Any] = {
        "stripe": {"object": "customers", "api_key": secret, "base_url": source.url, "page_size": 5, "updates": False},
        "hubspot": {"object": "contacts", "token": secret, "base_url": source.url, "page_size": 5},
        "http_json": {
            "url": f"{source.url}/x", "records_path": "data.items", "next": "offset", "page_size": 5,
            "cursor_field": "at", "cursor_param": "since", "auth": {"type": "bearer", "token": secret},
        },
    }[kind]  # fmt: skip
    wanted = {"kind": kind, "deliver": deliver, "every": 3_600.0, "key": "id", "options": options, "rate": 1_000}
    return msgspec.convert(wanted | fields, Connector)


@asynccontextmanager
async def opened(**tables: Connector) -> AsyncIterator[VirtualRuntime]:
    """A runtime in memory with these connectors."""
    async with trio.open_nursery() as nursery:
        runtime = VirtualRuntime(nursery, [app], settings=Settings(connectors=tables), start_us=SystemClock().now_us())
        give_secrets(runtime)
        await runtime.open()
        yield runtime
        await runtime.stop()


def give_secrets(runtime: VirtualRuntime) -> None:
    runtime.actors.secret = lambda name: SECRETS[name.removeprefix("secret:")]


async def poll(runtime: VirtualRuntime, name: str) -> ConnectorView:
    """One poll, whole; how the connector stands then."""
    with trio.fail_after(60):
        await runtime.poll_connector(name)
        await runtime.actors.connectors.pollers[name].idle.wait()
    return view(runtime, name)


@pytest.mark.parametrize("kind", KINDS)
async def test_records_come_once_through_crashes(kind: str) -> None:
    """Killed at each of its first requests, a sync brings every record, and the store holds each key once."""
    async with serving(source_of(kind)) as source:
        async with opened(c=table_of(kind, source)) as runtime:
            for count in range(1, 9) if kind == "http_json" else [1, 2] * 4:  # the others go on where they were
                source.hold(count)
                await runtime.poll_connector("c")
                with trio.fail_after(30):
                    await source.held.wait()
                before = await stored(runtime, "c")
                await crash(runtime)
                source.released.set()
                assert await stored(runtime, "c") == before
            source.hold_at = None
            assert (await poll(runtime, "c")).status == "ok"
            assert set(await stored(runtime, "c")) == keys_of(kind)


async def crash(runtime: VirtualRuntime) -> None:
    await runtime.crash()
    give_secrets(runtime)


@pytest.mark.parametrize("kind", KINDS)
async def test_each_key_starts_one_run(kind: str) -> None:
    """Delivered to a workflow, each key has exactly one run, through crashes, repeats and new polls."""
    async with serving(source_of(kind)) as source:
        async with opened(c=table_of(kind, source, "workflow:greet")) as runtime:
            for count in (2, 5):
                source.hold(count)
                await runtime.poll_connector("c")
                with trio.fail_after(30):
                    await source.held.wait()
                await crash(runtime)
                source.released.set()
            source.hold_at = None
            for _ in range(3):
                await poll(runtime, "c")
            started = Counter(each.id for each in of_kind(runtime, r.RunStarted))
            assert started == Counter({f"c:{key}": 1 for key in keys_of(kind)})


@pytest.mark.parametrize("kind", KINDS)
async def test_at_rest_nothing_is_recorded(kind: str) -> None:
    """A source that has nothing new makes no record in the journal, however often it is asked."""
    async with serving(source_of(kind)) as source, opened(c=table_of(kind, source)) as runtime:
        await poll(runtime, "c")
        await poll(runtime, "c")
        before = len(runtime.disk.entries)
        for _ in range(5):
            assert (await poll(runtime, "c")).status == "ok"
        assert len(runtime.disk.entries) == before
        assert view(runtime, "c").lag == pytest.approx(0.0, abs=30.0)


async def test_at_rest_no_socket_is_held() -> None:
    """Between polls that are far apart a connector holds no connection, whether the poll went well or not."""
    async with serving(source_of("stripe", 3)) as source:
        async with opened(**{f"c{number}": table_of("stripe", source) for number in range(10)}) as runtime:
            for number in range(10):
                source.fail(*[Reply(b"", 500)] * (number % 2))
                await poll(runtime, f"c{number}")
            with trio.fail_after(30):
                await source.all_left.wait()


def again(source: MockSource) -> Callable[[Asked], Reply]:
    """Answers once more what it answered to the first request."""

    def reply(asked: Asked) -> Reply:
        first = next(each for each in source.asked if each.path == asked.path)
        told = source.answer(dataclasses.replace(first, headers=asked.headers))
        body = msgspec.json.decode(told.body)
        if "paging" in body:
            body["paging"] = {"next": {"after": asked.json().get("after", "5")}}
        return json_reply(body)

    return reply


def older(asked: Asked) -> Reply:
    """Only records from long before what was asked for."""
    old = {"id": "1", "at": -5, "properties": {"lastmodifieddate": "1000"}}
    return json_reply({"data": {"items": [old]}, "results": [old]})


BAD_LUCK: dict[str, tuple[str, Any, str]] = {
    "500": ("stripe hubspot http_json", Reply(b"", 500), "answers 500 Internal Server Error"),
    "429": ("stripe hubspot http_json", Reply(b"", 429), "answers 429 Too Many Requests"),
    "401": ("stripe hubspot http_json", Reply(b"", 401), "answers 401 Unauthorized"),
    "truncated": ("stripe hubspot http_json", TRUNCATE, "the answer was cut off in the middle"),
    "half a JSON": ("stripe hubspot http_json", HALF_JSON, "does not answer with whole JSON"),
    "reset": ("stripe hubspot http_json", RESET, "the connection fails"),
    "slow drip": ("stripe hubspot http_json", DRIP, f"does not answer whole within {REQUEST_S:g} s"),
    "repeated page": ("stripe hubspot http_json", again, "a page repeats"),
    "cursor back": ("hubspot http_json", older, "the cursor goes back"),
}


@pytest.mark.parametrize(
    ("kind", "luck"), [(kind, luck) for luck, (kinds, _, _) in BAD_LUCK.items() for kind in kinds.split()]
)
async def test_bad_luck_is_told_and_heals(
    kind: str, luck: str, caplog: pytest.LogCaptureFixture, clock: trio.testing.MockClock
) -> None:
    """What goes wrong in the middle of a poll is `backoff` with its sentence and no credential; nothing of the bad page
    is taken, what was taken stays, and the next poll brings the rest."""
    _, fault, said = BAD_LUCK[luck]
    async with serving(source_of(kind)) as source, opened(c=table_of(kind, source, timeout=2 * REQUEST_S)) as runtime:
        if luck == "cursor back":
            await poll(runtime, "c")  # whole; now it is asked from a value on
        source.hold(2 if luck != "cursor back" else 1)
        await runtime.poll_connector("c")
        with trio.fail_after(30):
            await source.held.wait()
        source.fail(again(source) if fault is again else fault)
        source.released.set()
        with trio.fail_after(30 + REQUEST_S):
            if fault is DRIP:
                await source.dripping.wait()
                clock.jump(REQUEST_S)
            await runtime.actors.connectors.pollers["c"].idle.wait()
        shown = view(runtime, "c")
        assert (shown.status, shown.failures, shown.errors_total) == ("backoff", 1, 1)
        assert shown.last_error is not None and said in shown.last_error
        assert SECRETS[kind] not in caplog.text + shown.last_error
        assert set(await stored(runtime, "c")) <= keys_of(kind)
        healed = await poll(runtime, "c")
        assert (healed.status, healed.last_error) == ("ok", None)
        assert set(await stored(runtime, "c")) == keys_of(kind)


@pytest.mark.parametrize("kind", KINDS)
async def test_a_source_that_stays_down_opens_the_breaker(kind: str) -> None:
    """After five failures in a row the breaker is open; a probe that succeeds closes it, and all records come."""
    async with serving(source_of(kind)) as source, opened(c=table_of(kind, source)) as runtime:
        source.fail(*[Reply(b"", 500)] * FAILURES_MAX)
        statuses = [(await poll(runtime, "c")).status for _ in range(FAILURES_MAX)]
        assert statuses == ["backoff"] * (FAILURES_MAX - 1) + ["open_breaker"]
        assert (await poll(runtime, "c")).status == "ok"
        assert set(await stored(runtime, "c")) == keys_of(kind)


async def test_retry_after_is_obeyed_by_all_who_share_the_credential() -> None:
    """A Retry-After puts the next poll of the connector there, and no other with the same secret asks before."""
    async with serving(source_of("stripe")) as source:
        tables = {name: table_of("stripe", source) for name in ("one", "two", "three")}
        tables["three"] = msgspec.structs.replace(tables["three"], credential="another account")
        async with opened(**tables) as runtime:
            for name in tables:
                await poll(runtime, name)
            source.fail(Reply(b"", 429, {"Retry-After": "300"}))
            began = trio.current_time()
            one = await poll(runtime, "one")
            asked = len(source.asked)
            two = await poll(runtime, "two")
            took_s = trio.current_time() - began
            assert (one.status, two.status) == ("backoff", "backoff")
            assert "429" in (one.last_error or "")
            left = re.search(r"the rate budget is used up for (\d+) s", two.last_error or "")
            assert left is not None and 299 - took_s <= int(left[1]) <= 300
            for poller in (runtime.actors.connectors.pollers[name] for name in ("one", "two")):
                assert 300 <= poller.standing.due - began <= 300 * 1.1 + took_s
            assert len(source.asked) == asked
            assert (await poll(runtime, "three")).status == "ok"


async def test_names_and_certificates(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """A name that does not resolve and a certificate that nobody signed are `backoff`, each with its reason; the other
    connectors go on."""
    trio.socket.set_custom_hostname_resolver(NoNames())
    lost = MockSource(lambda asked: Reply())
    lost.url = "https://nothing.invalid"
    async with serving(MockSource(lambda asked: Reply()), tls=self_signed(tmp_path)) as forged:
        async with serving(source_of("http_json")) as source:
            tables = {"fine": table_of("http_json", source)}
            tables |= {kind: table_of(kind, forged) for kind in KINDS}
            tables |= {f"{kind}_dns": table_of(kind, lost) for kind in KINDS}
            async with opened(**tables) as runtime:
                for name in tables:
                    await poll(runtime, name)
                for kind in KINDS:
                    told = view(runtime, kind), view(runtime, f"{kind}_dns")
                    assert [each.status for each in told] == ["backoff", "backoff"]
                    assert "TLS fails: self-signed certificate" in (told[0].last_error or "")
                    assert "the name does not resolve" in (told[1].last_error or "")
                assert view(runtime, "fine").status == "ok"
                assert set(await stored(runtime, "fine")) == keys_of("http_json")
    assert not any(secret in caplog.text for secret in SECRETS.values())


async def test_two_sources_have_one_shape() -> None:
    """Customers of Stripe and contacts of HubSpot are one model in the store: who reads them knows a single shape."""
    async with serving(source_of("stripe", 3)) as stripe, serving(source_of("hubspot", 3)) as hubspot:
        async with opened(one=table_of("stripe", stripe), two=table_of("hubspot", hubspot)) as runtime:
            for name in ("one", "two"):
                await poll(runtime, name)
            made = [upcast(row) for name in ("one", "two") for row in (await stored(runtime, name)).values()]
    assert Counter(type(each) for each in made) == {Customer: 6}
    assert Counter(each.source for each in made) == {"stripe": 3, "hubspot": 3}
    assert {each.email for each in made if isinstance(each, Customer)} == {f"k{n}@example.com" for n in range(3)}


async def test_events_that_are_lost_show_and_come_back() -> None:
    """A month's pause shows in `last_error`, and the next poll lists everything anew."""
    now_s = SystemClock().now_us() // 1_000_000
    async with serving(source_of("stripe", 8)) as source:
        assert isinstance(source, MockStripe)
        table = table_of("stripe", source)
        table = msgspec.structs.replace(table, options={**table.options, "updates": True})
        async with opened(c=table) as runtime:
            await poll(runtime, "c")
            source.put("customers", "k3", now_s, event=False, email="three@new.example")
            await runtime.jump(31 * 86_400)
            shown = await poll(runtime, "c")
            assert shown.status == "backoff" and "keeps events for 30 days" in (shown.last_error or "")
            assert (await poll(runtime, "c")).status == "ok"
            assert (await stored(runtime, "c"))["k3"]["email"] == "three@new.example"
