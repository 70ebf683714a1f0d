"""Random lives of a source: its records change while its pages are read, and polls break off anywhere.

No sockets here: the client hands each request to the server's own function. Seeds are fixed.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any
from urllib.parse import urlsplit

import msgspec
import pytest

from runtimed.connectors import http_faults
from runtimed.connectors.http import Answer, Auth
from tests.runtimed.connectors.mock_hubspot import TOKEN, MockHubSpot
from tests.runtimed.connectors.mock_source import Asked, MockSource
from tests.runtimed.connectors.mock_stripe import KEY, MockStripe
from tests.runtimed.connectors.taking import FixedClock, Taken, taking
from tests.runtimed.connectors.test_hubspot import spec as hubspot_spec
from tests.runtimed.connectors.test_stripe import spec as stripe_spec

LIVES = 30


class Straight:
    """A client without a network. `between` is called before each answer."""

    def __init__(self, source: MockSource, clock: FixedClock, between: Callable[[], None]) -> None:
        self._source, self._clock, self._between = source, clock, between

    def now_s(self) -> float:
        return self._clock.now_s

    async def request(
        self, method: str, url: str, *, params: Any = None, headers: Any = None, json: Any = None, auth: Auth
    ) -> Answer:
        self._between()
        query = {name: str(value) for name, value in (params or {}).items()}
        named = {name.lower(): value for name, value in auth.headers.items()}
        asked = Asked(method, urlsplit(url).path, query, named, msgspec.json.encode(json))
        reply = self._source.answer(asked)
        if reply.status != 200:
            raise http_faults.of_status(url, reply.status, {}, reply.body, (), self._clock.now_s)
        return Answer(200, {}, reply.body, url, self._source.now_s)

    async def aclose(self) -> None:
        """There is nothing to close."""


async def live(taken: Taken, dice: random.Random, clock: FixedClock) -> None:
    """Polls, some of them broken off, while time goes on."""
    for _ in range(dice.randrange(3, 12)):
        await taken.poll(pages_max=dice.choice([None, 1, 2, 3]))
        clock.now_s += dice.choice([1, 30, 600])


@pytest.mark.chaos
@pytest.mark.slow
@pytest.mark.trio
@pytest.mark.parametrize("updates", [True, False])
async def test_stripe_in_random_lives(updates: bool, scale: Callable[[int, int], int]) -> None:
    """Whatever is made, changed or deleted between any two requests: in the end every object is there, with `updates`
    as it is now and without those that are gone."""
    for seed in range(scale(LIVES, 600)):
        dice, clock = random.Random(seed), FixedClock()
        source, gone = MockStripe(filters=updates or dice.random() < 0.8), set[str]()
        source.url = "http://stripe.invalid"

        def change(source: MockStripe = source, dice: random.Random = dice, clock: FixedClock = clock) -> None:
            source.now_s = clock.now_s + dice.choice([0, 0, 0, 2])
            for _ in range(dice.choice([0, 0, 1, 2, 5])):
                now = int(clock.now_s) - dice.choice([0, 0, 0, 5])
                alive = sorted(source.objects["customers"])
                act = dice.random()
                if act < 0.7 or not alive:
                    key = f"c{len(alive) + len(gone):04}"  # noqa: B023 - the life at hand
                    source.put("customers", key, now, n=0)
                elif act < 0.9:
                    one = dice.choice(alive)
                    source.put("customers", one, int(clock.now_s), n=source.objects["customers"][one]["n"] + 1)
                else:
                    gone.add(one := dice.choice(alive))  # noqa: B023 - the same
                    source.delete("customers", one, int(clock.now_s))

        for _ in range(25):
            change()
        made = stripe_spec(source, updates=updates, page_size=3, canonical=False)
        async with taking(made, clock=clock, stripe=KEY) as taken:
            taken.http = Straight(source, clock, change)  # type: ignore[assignment]
            await live(taken, dice, clock)
            taken.http = Straight(source, clock, lambda: None)  # type: ignore[assignment]
            clock.now_s += 600
            source.now_s = clock.now_s
            await taken.read_all()
            await taken.read_all()
            there = source.objects["customers"]
            assert set(taken.rows) >= set(there), f"seed {seed}"
            if updates:
                kept = {key: row for key, row in taken.rows.items() if key not in taken.deleted}
                assert {key: row["n"] for key, row in kept.items()} == {key: row["n"] for key, row in there.items()}, (
                    f"seed {seed}"
                )


@pytest.mark.chaos
@pytest.mark.slow
@pytest.mark.trio
async def test_hubspot_in_random_lives(scale: Callable[[int, int], int]) -> None:
    """Whatever is made or changed between any two requests: in the end every record is there as it is now."""
    for seed in range(scale(LIVES, 600)):
        dice, clock = random.Random(seed), FixedClock()
        source = MockHubSpot()
        source.url = "http://hubspot.invalid"
        calm = False

        def change(source: MockHubSpot = source, dice: random.Random = dice, clock: FixedClock = clock) -> None:
            if calm:  # noqa: B023 - of the life at hand
                return
            clock.now_s += dice.choice([0, 0, 0.001, 0.5])
            for _ in range(dice.choice([0, 0, 1, 2])):
                there = source.records["contacts"]
                one = str(dice.randrange(1, len(there) + 2))
                source.put("contacts", one, int(clock.now_s * 1000), email=f"{dice.randrange(1000)}@example.com")

        start = int(clock.now_s * 1000)
        for number in range(1, 40):
            source.put("contacts", str(number), start - dice.choice([0, 0, 5, 5_000]), email="first@example.com")
        async with taking(hubspot_spec(source, page_size=4), clock=clock, hubspot=TOKEN) as taken:
            taken.http = Straight(source, clock, change)  # type: ignore[assignment]
            await live(taken, dice, clock)
            calm = True
            clock.now_s += 600
            await taken.read_all()
            now = {key: one["properties"]["email"] for key, one in source.records["contacts"].items()}
            assert {key: row["email"] for key, row in taken.rows.items()} == now, f"seed {seed}"
