"""Stripe's lists and events, over HTTP from a server in its shape."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest

from actors.errors import SourceError, SourceGarbled, SourceRefused
from runtimed.config_layers import ConfigError
from runtimed.connectors import stripe
from runtimed.models import Customer, Event, Invoice, upcast
from tests.runtimed.connectors.mock_source import Asked, serving
from tests.runtimed.connectors.mock_stripe import KEY, MockStripe
from tests.runtimed.connectors.taking import DAY_S, NOW_S, FixedClock, settings, taking

START_S = NOW_S - DAY_S


def spec(source: MockStripe, kind: str = "customers", deliver: str = "records", **options: Any) -> Any:
    wanted = {"object": kind, "api_key": "secret:stripe", "base_url": source.url, "page_size": 10, **options}
    return stripe.make("s", settings("stripe", deliver, None, **wanted))


def fill(source: MockStripe, count: int, kind: str = "customers", start: int = 0, step_s: int = 10) -> set[str]:
    keys = {f"{kind[:2]}_{number:05}" for number in range(start, start + count)}
    for number, key in enumerate(sorted(keys)):
        source.put(kind, key, START_S + (start + number) * step_s, email=f"{key}@example.com")
    return keys


def lists(source: MockStripe, kind: str = "customers") -> list[Asked]:
    return [asked for asked in source.asked if asked.path == f"/v1/{kind}"]


@pytest.mark.parametrize("filters", [True, False])
@pytest.mark.trio
async def test_a_list_is_read_whole_and_then_only_what_is_new(filters: bool) -> None:
    """Every object comes once, newest first or not; later polls bring what was created since, and nothing at rest."""
    async with serving(MockStripe(filters=filters)) as source:
        keys = fill(source, 35)
        async with taking(spec(source, updates=False), stripe=KEY) as taken:
            await taken.read_all()
            assert set(taken.rows) == keys
            assert [len(page.records) for page in taken.pages] == [10, 10, 10, 5]
            keys |= fill(source, 12, start=35)
            await taken.read_all()
            assert set(taken.rows) == keys
            rows, before = dict(taken.rows), len(taken.pages)
            assert await taken.poll() == 1 or not filters
            assert taken.rows == rows
            assert all(page.cursor is None for page in taken.pages[before:]) or not filters


@pytest.mark.trio
async def test_a_crash_in_the_first_sync_goes_on_where_it_was() -> None:
    """A long first sync that breaks off again and again reads no page twice, and no object is missed, not even those
    created meanwhile."""
    async with serving(MockStripe()) as source:
        keys = fill(source, 95)
        async with taking(spec(source, updates=False), stripe=KEY) as taken:
            for number in range(9):
                await taken.poll(pages_max=1)
                keys |= fill(source, 1, start=95 + number)
            assert len(taken.rows) == 90
            await taken.read_all()
            await taken.poll()
            assert set(taken.rows) == keys
            assert sum("starting_after" in asked.query for asked in lists(source)) == 9


@pytest.mark.trio
async def test_an_object_that_is_gone_is_no_end() -> None:
    """If the object to go on after was deleted, the sync goes on from the second it was created in."""
    async with serving(MockStripe()) as source:
        keys = fill(source, 30, step_s=0)
        async with taking(spec(source, updates=False), stripe=KEY) as taken:
            await taken.poll(pages_max=1)
            source.delete("customers", taken.cursor["list"]["after"], START_S)
            await taken.read_all()
            assert set(taken.rows) == keys


@pytest.mark.trio
async def test_new_objects_while_paging() -> None:
    """What is created between two pages comes with the next poll; so does what shares the newest second."""
    async with serving(MockStripe()) as source:
        keys = fill(source, 25)
        newest = START_S + 24 * 10

        def arrive(asked: Asked) -> None:
            number = len(source.objects["customers"])
            source.put("customers", f"zz_{number}", newest if number % 2 else newest + number)
            keys.add(f"zz_{number}")

        source.before = arrive
        async with taking(spec(source, updates=False), stripe=KEY) as taken:
            await taken.read_all()
            source.before = lambda asked: None
            await taken.poll()
            assert set(taken.rows) == keys


@pytest.mark.parametrize(("ours_s", "theirs_s"), [(0, DAY_S), (DAY_S, 0), (-DAY_S, 0), (0, None)])
@pytest.mark.trio
async def test_a_clock_that_is_wrong_loses_no_object(ours_s: int, theirs_s: int | None) -> None:
    """Objects from the future, or a clock of ours that is off, never move the cursor over what is still to come."""
    async with serving(MockStripe()) as source:
        source.now_s = None if theirs_s is None else NOW_S + theirs_s
        keys = fill(source, 5) | {"future"}
        source.put("customers", "future", NOW_S + DAY_S // 2)
        clock = FixedClock(NOW_S + ours_s)
        async with taking(spec(source, updates=False), clock=clock, stripe=KEY) as taken:
            await taken.read_all()
            source.now_s = NOW_S + 60
            source.put("customers", "mended", NOW_S + 50)
            await taken.read_all()
            assert set(taken.rows) == keys | {"mended"}


@pytest.mark.trio
async def test_changes_come_from_events() -> None:
    """In the record store a customer is as it is now: changed by its newest event, deleted by its last."""
    async with serving(MockStripe()) as source:
        clock = FixedClock()
        fill(source, 15)
        async with taking(spec(source), clock=clock, stripe=KEY) as taken:
            await taken.read_all()
            for number in range(25):
                source.put("customers", "cu_00003", NOW_S + number, email=f"{number}@new.example")
            source.put("customers", "cu_00004", NOW_S + 30, email="four@new.example")
            source.delete("customers", "cu_00005", NOW_S + 31)
            clock.now_s += 60
            await taken.read_all()
            assert taken.rows["cu_00003"]["email"] == "24@new.example"
            assert taken.rows["cu_00004"]["email"] == "four@new.example"
            assert taken.deleted == {"cu_00005"}
            clock.now_s += 60
            await taken.poll()
            rows, before = dict(taken.rows), len(taken.pages)
            clock.now_s += 60
            await taken.poll()
            assert taken.rows == rows and all(page.cursor is None for page in taken.pages[before:])


@pytest.mark.trio
async def test_changes_of_many_days_are_caught_up_with_in_order() -> None:
    """After a fortnight's pause each object is as its newest event has it, read in windows of a day, and a poll that
    breaks off goes on with the window where it was."""
    async with serving(MockStripe()) as source:
        clock = FixedClock()
        fill(source, 5)
        async with taking(spec(source), clock=clock, stripe=KEY) as taken:
            await taken.read_all()
            for day in range(14):
                for key in ("cu_00000", "cu_00001"):
                    source.put("customers", key, NOW_S + day * DAY_S, email=f"{day}@new.example")
            clock.now_s += 14 * DAY_S
            await taken.poll(pages_max=6)
            assert taken.cursor["updates"] < NOW_S + 5 * DAY_S
            await taken.read_all()
            assert {taken.rows[key]["email"] for key in ("cu_00000", "cu_00001")} == {"13@new.example"}


@pytest.mark.trio
@pytest.mark.parametrize("ahead_s", [3 * DAY_S, 40 * DAY_S])
async def test_changes_are_not_passed_over_by_a_clock_that_runs_ahead(ahead_s: int) -> None:
    """If our clock is days ahead, changes that the source has still to make are not skipped, nor counted as lost."""
    async with serving(MockStripe()) as source:
        source.now_s = NOW_S
        fill(source, 5)
        async with taking(spec(source), clock=FixedClock(NOW_S + ahead_s), stripe=KEY) as taken:
            for number in range(5):
                await taken.read_all()
                source.put("customers", "cu_00001", NOW_S + number * 600 + 1, email=f"{number}@new.example")
                source.now_s += 600
            await taken.read_all()
            assert taken.rows["cu_00001"]["email"] == "4@new.example"


@pytest.mark.trio
async def test_a_key_that_may_not_read_events_still_reads_lists() -> None:
    """Without the right to events new objects come all the same; once the right is there, all is read anew."""
    async with serving(MockStripe(events_allowed=False)) as source:
        clock = FixedClock()
        keys = fill(source, 15)
        async with taking(spec(source), clock=clock, stripe=KEY) as taken:
            await taken.read_all()
            assert set(taken.rows) == keys
            source.put("customers", "cu_00001", NOW_S, email="one@new.example")
            source.events_allowed = True
            clock.now_s += 2 * 3_600
            await taken.read_all()
            assert taken.rows["cu_00001"]["email"] == "one@new.example"


@pytest.mark.trio
async def test_a_gap_in_changes_lists_everything_anew() -> None:
    """After more than 30 days the connector says that events are lost, and lists all objects: none stays as it was."""
    async with serving(MockStripe()) as source:
        clock = FixedClock()
        keys = fill(source, 15)
        async with taking(spec(source), clock=clock, stripe=KEY) as taken:
            await taken.read_all()
            source.put("customers", "cu_00002", NOW_S + 9, event=False, email="two@new.example")
            clock.now_s += 31 * DAY_S
            with pytest.raises(SourceError, match="keeps events for 30 days"):
                await taken.read_all()
            await taken.read_all()
            assert set(taken.rows) == keys
            assert taken.rows["cu_00002"]["email"] == "two@new.example"


@pytest.mark.trio
async def test_a_gap_in_events_is_told_and_filled_with_snapshots() -> None:
    """A stream of events that missed some has an event that says so, and one for each object as it is now."""
    async with serving(MockStripe()) as source:
        clock = FixedClock()
        for kind in ("customers", "invoices", "charges"):
            fill(source, 12, kind)
        async with taking(spec(source, "events"), clock=clock, stripe=KEY) as taken:
            await taken.read_all()
            assert len(taken.rows) == 36
            source.objects["events"].clear()
            clock.now_s += 40 * DAY_S
            source.put("customers", "late", round(clock.now_s) - 60)
            with pytest.raises(SourceError, match="keeps events for 30 days"):
                await taken.read_all()
            for _ in range(3):
                await taken.poll(pages_max=1)
            await taken.read_all()
            types = [row["type"] for row in taken.rows.values()]
            assert types.count("runtimed.gap") == 1
            assert {name: types.count(f"{name}.snapshot") for name in ("customer", "invoice", "charge")} == {
                "customer": 13, "invoice": 12, "charge": 12,
            }  # fmt: skip
            assert sum(row["subject_id"] == "late" for row in taken.rows.values()) == 2  # its event, its snapshot
            assert isinstance(upcast(next(row for row in taken.rows.values() if row["type"] == "runtimed.gap")), Event)
            clock.now_s += DAY_S
            await taken.read_all()
            assert len(taken.rows) == 36 + 1 + 37 + 1


@pytest.mark.slow
@pytest.mark.trio
async def test_an_account_at_rest_for_a_month_has_no_gap() -> None:
    """A month without any event is no loss of events: what counts is when they were looked for."""
    async with serving(MockStripe()) as source:
        clock = FixedClock()
        fill(source, 3)
        for kind in ("customers", "events"):
            async with taking(spec(source, kind), clock=clock, stripe=KEY) as taken:
                for _ in range(60):
                    await taken.read_all()
                    clock.now_s += DAY_S
                assert len(taken.rows) == 3


@pytest.mark.parametrize(
    ("kind", "model"), [("customers", Customer), ("invoices", Invoice), ("charges", None), ("events", Event)]
)
@pytest.mark.trio
async def test_objects_come_as_canonical_models(kind: str, model: type | None) -> None:
    """Customers, invoices and events are models by default; charges stay Stripe's own unless models are asked for."""
    async with serving(MockStripe()) as source:
        keys = fill(source, 3, "customers" if kind == "events" else kind)
        async with taking(spec(source, kind, "workflow:w"), stripe=KEY) as taken:
            await taken.read_all()
            assert len(taken.rows) == len(keys)
            for key, row in taken.rows.items():
                if model is None:
                    assert row == source.objects[kind][key]
                else:
                    made = upcast(row)
                    assert type(made) is model and (made.source, made.id) == ("stripe", key)
        async with taking(spec(source, kind, "workflow:w", canonical=model is None), stripe=KEY) as taken:
            await taken.read_all()
            assert all(("model" in row) == (model is None) for row in taken.rows.values())


@pytest.mark.trio
async def test_a_wrong_key_is_refused_and_never_told() -> None:
    """A 401 is a refusal with Stripe's words, without the key that Stripe repeats in them."""
    async with serving(MockStripe()) as source, taking(spec(source), stripe="sk_live_wrong") as taken:
        with pytest.raises(SourceRefused, match=r"401 Unauthorized: Invalid API Key provided: \*\*\*") as caught:
            await taken.poll()
        assert "sk_live_wrong" not in str(caught.value)


@pytest.mark.trio
async def test_a_page_that_repeats_is_garbled() -> None:
    """A server that gives the same page again and again is not followed in a circle, and its page not taken twice."""
    async with serving(MockStripe(filters=False)) as source:
        fill(source, 30)
        async with taking(spec(source, updates=False), stripe=KEY) as taken:
            await taken.poll(pages_max=1)
            source.fail(lambda asked: source.reply(dataclasses.replace(asked, query={"limit": "10"})))
            with pytest.raises(SourceGarbled, match="a page repeats"):
                await taken.poll()
            await taken.read_all()
            assert len(taken.rows) == 30


@pytest.mark.trio
async def test_a_cursor_set_by_a_person() -> None:
    """A reset takes a second since the epoch; what is no cursor is said so."""
    async with serving(MockStripe()) as source:
        fill(source, 20)
        async with taking(spec(source, updates=False), stripe=KEY) as taken:
            taken.cursor = START_S + 150
            await taken.read_all()
            assert len(taken.rows) == 5
            taken.cursor = {"list": "x"}
            with pytest.raises(SourceGarbled, match="none of this kind"):
                await taken.poll()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"object": "refunds"}, r"connectors\.s\.options\.object"),
        ({"object": "charges"}, r"connectors\.s\.options\.api_key: it is needed"),
        ({"object": "charges", "api_key": "k", "since": "soon"}, r"options\.since: expected a date"),
        ({"object": "charges", "api_key": "k", "pagesize": 3}, r"options\.pagesize: .*did you mean page_size"),
        ({"object": "events", "api_key": "k", "updates": True}, r"options\.updates: an event does not change"),
    ],
)
def test_options_that_cannot_be_used_are_named(options: dict[str, Any], message: str) -> None:
    """A wrong option stops the start and says which one and what was expected."""
    with pytest.raises(ConfigError, match=message):
        stripe.make("s", settings("stripe", **options))


def test_the_credential_shares_its_rate_budget() -> None:
    """Connectors with the same secret share a budget by themselves, below Stripe's own limit."""
    made = stripe.make("s", settings("stripe", object="charges", api_key="secret:stripe"))
    assert (made.credential, made.rate, made.rate_period, made.key) == ("secret:stripe", 20, 1.0, "id")
