"""HubSpot's search, over HTTP from a server in its shape."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from actors.errors import SourceError, SourceGarbled, SourceRefused
from runtimed.config_layers import ConfigError
from runtimed.connectors import hubspot
from runtimed.models import Customer, Invoice, upcast
from tests.runtimed.connectors.mock_hubspot import TOKEN, MockHubSpot
from tests.runtimed.connectors.mock_source import Asked, json_reply, serving
from tests.runtimed.connectors.taking import DAY_S, NOW_S, FixedClock, settings, taking

START_MS = (NOW_S - DAY_S) * 1000


def spec(source: MockHubSpot, kind: str = "contacts", **options: Any) -> Any:
    wanted = {"object": kind, "token": "secret:hubspot", "base_url": source.url, "page_size": 10, **options}
    return hubspot.make("h", settings("hubspot", **wanted))


def fill(source: MockHubSpot, count: int, kind: str = "contacts", start: int = 0, step_ms: int = 1_000) -> set[str]:
    keys = {str(number) for number in range(start + 1, start + count + 1)}
    for key in keys:
        source.put(kind, key, START_MS + int(key) * step_ms, email=f"{key}@example.com")
    return keys


@pytest.mark.trio
async def test_everything_is_read_and_then_what_changes() -> None:
    """Every record comes once, in the order of its changes; a change brings it again, and rest brings nothing."""
    async with serving(MockHubSpot()) as source:
        keys = fill(source, 35)
        async with taking(spec(source), hubspot=TOKEN) as taken:
            await taken.read_all()
            assert set(taken.rows) == keys
            assert sum(len(page.records) for page in taken.pages) == 35
            assert taken.cursor == START_MS + 35_000
            source.put("contacts", "7", START_MS + 90_000, email="seven@new.example")
            keys |= fill(source, 3, start=35)
            await taken.read_all()
            assert set(taken.rows) == keys and taken.rows["7"]["email"] == "seven@new.example"
            rows, before = dict(taken.rows), len(taken.pages)
            assert await taken.poll() == 1 and taken.rows == rows
            assert all(page.cursor is None for page in taken.pages[before:])


@pytest.mark.trio
async def test_a_crash_goes_on_from_the_last_page() -> None:
    """The cursor moves with each page, so that a poll that breaks off reads on from there."""
    async with serving(MockHubSpot()) as source:
        keys = fill(source, 60)
        async with taking(spec(source), hubspot=TOKEN) as taken:
            for _ in range(6):
                await taken.poll(pages_max=1)
            assert len(taken.rows) > 45
            await taken.read_all()
            assert set(taken.rows) == keys


@pytest.mark.trio
@pytest.mark.parametrize("step_ms", [1_000, 0])
async def test_records_that_change_while_paging_hide_no_other(step_ms: int) -> None:
    """A record that moves to the end makes those behind it move up: none of them is passed over, not even among many
    that changed at one instant."""
    async with serving(MockHubSpot()) as source:
        keys = fill(source, 48, step_ms=step_ms)
        moved: list[str] = []

        def move(asked: Asked) -> None:
            if "after" in asked.json() and len(moved) < 12:
                moved.append(key := str(len(moved) + 1))
                source.put("contacts", key, START_MS + 100_000 + int(key), email=f"{key}@moved.example")

        source.before = move
        async with taking(spec(source), hubspot=TOKEN) as taken:
            await taken.read_all()
            assert set(taken.rows) == keys
            assert len(moved) >= 4
            assert all(taken.rows[key]["email"] == f"{key}@moved.example" for key in moved)


@pytest.mark.trio
async def test_what_never_holds_still_ends_the_poll() -> None:
    """If records move faster than a page can be read, the poll ends with that, and not in a circle."""
    async with serving(MockHubSpot()) as source:
        fill(source, 40, step_ms=0)
        count = 0

        def move(asked: Asked) -> None:
            nonlocal count
            if "after" in asked.json():
                count += 1
                first = min(source.records["contacts"].values(), key=lambda one: (one["at_ms"], int(one["id"])))
                source.put("contacts", str(10_000 + count), START_MS)
                del source.records["contacts"][first["id"]]

        source.before = move
        async with taking(spec(source), hubspot=TOKEN) as taken:
            with pytest.raises(SourceError, match="move faster"):
                await taken.read_all()


@pytest.mark.trio
async def test_a_search_has_an_end(monkeypatch: pytest.MonkeyPatch) -> None:
    """Before the last result that a search gives, a new one begins from the last value."""
    monkeypatch.setattr(hubspot, "RESULTS_MAX", 50)
    async with serving(MockHubSpot(results_max=50)) as source:
        keys = fill(source, 230)
        async with taking(spec(source), hubspot=TOKEN) as taken:
            await taken.read_all()
            assert set(taken.rows) == keys
            assert sum(not asked.json()["filterGroups"] for asked in source.asked) == 5
        source.records["contacts"].clear()
        fill(source, 60, step_ms=0)
        async with taking(spec(source), hubspot=TOKEN) as taken:
            with pytest.raises(SourceGarbled, match="one and the same time of change"):
                await taken.read_all()


@pytest.mark.slow
@pytest.mark.trio
async def test_ten_thousand_results_are_not_the_end() -> None:
    """With HubSpot's own limits, 10,250 contacts come, each once."""
    async with serving(MockHubSpot()) as source:
        keys = fill(source, 10_250)
        async with taking(spec(source, page_size=200), hubspot=TOKEN) as taken:
            await taken.read_all()
            assert set(taken.rows) == keys
            assert sum(len(page.records) for page in taken.pages) <= 10_250 + 1


@pytest.mark.trio
@pytest.mark.parametrize(("ours_s", "theirs_s"), [(0, DAY_S), (DAY_S, 0), (-DAY_S, 0), (0, None)])
async def test_a_clock_that_is_wrong_loses_no_record(ours_s: int, theirs_s: int | None) -> None:
    """Changes from the future, an index that lags, or a clock of ours that is off: the cursor stays behind them."""
    async with serving(MockHubSpot()) as source:
        source.now_s = None if theirs_s is None else NOW_S + theirs_s
        keys = fill(source, 5) | {"90", "91"}
        source.put("contacts", "90", (NOW_S + DAY_S // 2) * 1000)
        async with taking(spec(source), clock=FixedClock(NOW_S + ours_s), hubspot=TOKEN) as taken:
            await taken.read_all()
            source.now_s = NOW_S
            source.put("contacts", "91", (NOW_S - 30) * 1000)
            await taken.read_all()
            assert set(taken.rows) == keys


@pytest.mark.trio
async def test_a_cursor_that_goes_back_is_garbled() -> None:
    """Results that are not in the order of their changes, or older than what was asked for, are not taken."""
    async with serving(MockHubSpot()) as source:
        fill(source, 20)
        async with taking(spec(source, page_size=5), hubspot=TOKEN) as taken:
            await taken.read_all()
            rows, cursor = dict(taken.rows), taken.cursor

            def backwards(asked: Asked) -> Any:
                told = source.reply(asked)
                return json_reply({"results": list(reversed(_decoded(told)["results"]))})

            taken.cursor = None
            source.fail(backwards)
            with pytest.raises(SourceGarbled, match="the cursor goes back"):
                await taken.poll()
            taken.cursor = cursor
            source.fail(lambda asked: json_reply({"results": [_record(1)]}))
            with pytest.raises(SourceGarbled, match="the cursor goes back: asked from"):
                await taken.poll()
            assert taken.rows == rows


def _decoded(reply: Any) -> Any:
    return msgspec.json.decode(reply.body)


def _record(at_ms: int) -> dict[str, Any]:
    return {"id": "1", "properties": {"lastmodifieddate": str(at_ms)}}


@pytest.mark.trio
async def test_a_page_that_repeats_is_garbled() -> None:
    """A page that leads to itself, or to a next one without results, is not followed."""
    async with serving(MockHubSpot()) as source, taking(spec(source), hubspot=TOKEN) as taken:
        page = {"results": [_record(5)], "paging": {"next": {"after": "x"}}}
        source.fail(json_reply(page), json_reply(page))
        with pytest.raises(SourceGarbled, match="a page repeats"):
            await taken.poll()
        source.fail(json_reply({**page, "results": []}))
        with pytest.raises(SourceGarbled, match="a page repeats"):
            await taken.poll()
        source.fail(json_reply({"total": 1}))
        with pytest.raises(SourceGarbled, match="no results"):
            await taken.poll()
        taken.cursor = "x"
        with pytest.raises(SourceGarbled, match="none of this kind"):
            await taken.poll()


@pytest.mark.trio
async def test_records_come_as_canonical_models() -> None:
    """Contacts are persons, companies are companies, deals are invoices by how they stand."""
    async with serving(MockHubSpot()) as source:
        source.put("contacts", "1", START_MS, firstname="Ada", lastname="Ng", email="a@example.com", country="NZ")
        source.put("companies", "2", START_MS, name="Ng Ltd", domain="ng.example")
        deal = {
            "dealname": "Big",
            "amount": "1200.50",
            "deal_currency_code": "EUR",
            "closedate": "2026-02-01T00:00:00Z",
        }
        source.put("deals", "3", START_MS, **deal, hs_is_closed="true", hs_is_closed_won="true")
        source.put("deals", "4", START_MS, **deal | {"amount": "1200", "deal_currency_code": "JPY"})
        source.put("deals", "5", START_MS, dealname="Gone", amount="x", hs_is_closed="true", hs_is_closed_won="false")
        made: dict[str, Any] = {}
        for kind in ("contacts", "companies", "deals"):
            async with taking(spec(source, kind), hubspot=TOKEN) as taken:
                await taken.read_all()
                made |= {key: upcast(row) for key, row in taken.rows.items()}
    one, two, won, open_, lost = (made[str(number)] for number in range(1, 6))
    assert isinstance(one, Customer) and (one.name, one.email, one.kind, one.country) == (
        "Ada Ng", "a@example.com", "person", "NZ",
    )  # fmt: skip
    assert isinstance(two, Customer) and (two.name, two.kind, two.extras["domain"]) == (
        "Ng Ltd",
        "company",
        "ng.example",
    )
    assert isinstance(won, Invoice) and (won.status, won.total_minor, won.due_minor, won.currency) == (
        "open", 120_050, 120_050, "eur",
    )  # fmt: skip
    assert (open_.status, open_.total_minor, open_.due_minor, open_.issued_at) == ("draft", 1_200, None, None)
    assert (lost.status, lost.total_minor, lost.extras["amount"]) == ("void", None, "x")


@pytest.mark.trio
async def test_a_wrong_token_is_refused() -> None:
    """A 401 is a refusal with HubSpot's words and without the token."""
    async with serving(MockHubSpot()) as source, taking(spec(source), hubspot="pat-wrong") as taken:
        with pytest.raises(SourceRefused, match="401 Unauthorized: Authentication credentials not found"):
            await taken.poll()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"object": "tickets", "token": "t"}, r"connectors\.h\.options\.object"),
        ({"object": "deals"}, r"options\.token: it is needed"),
        ({"object": "deals", "token": "t", "since": "soon"}, r"options\.since: expected a date"),
        ({"object": "deals", "token": "t", "page_size": 1}, r"options\.page_size"),
    ],
)
def test_options_that_cannot_be_used_are_named(options: dict[str, Any], message: str) -> None:
    """A wrong option stops the start and says which one and what was expected."""
    with pytest.raises(ConfigError, match=message):
        hubspot.make("h", settings("hubspot", **options))
