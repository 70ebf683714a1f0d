"""The day that the pictures show, lived on virtual time in a second, and written to a real journal.

Three days before now the first mails are scheduled, two hours before a payout loses its answer to `kill -9`, 22 minutes
before a refund asks two people, and for the last quarter of an hour orders come in. Ids, chance and distances in time
are the same in every run; only the instants move with the clock, so that the daemon goes on where the day ended.
"""

from __future__ import annotations

import random
import time
from pathlib import Path
from typing import Any

import trio
import trio.testing

from actors import messages as m
from bench.pictures.flows import DAY, HOUR, Job, Order, app
from runtimed.virtual import VirtualRuntime
from wal.journal import Journal
from wal.records import Entry

MINUTE = 60.0
STARTUP_SECONDS = 3.0  # the day ends so long before now: the daemon's own first records come after it
ORDERS = 46
ALICE = ("uid:1001", "alice pts/1")
BOB = ("uid:1002", "bob pts/3")
KIM = ("uid:1003", "kim pts/4 ssh 10.0.4.7")


class Day:
    """What happens, on a runtime whose time is virtual."""

    def __init__(self, runtime: VirtualRuntime) -> None:
        self.runtime = runtime
        self.chance = random.Random(991)

    async def start(self, workflow: str, input: Any, id: str, **options: Any) -> None:
        """Start a run and let it come as far as it can at once."""
        await self.runtime.start(workflow, input, id=id, **options)

    async def decide(self, run_id: str, approve: bool, reason: str, person: tuple[str, str]) -> None:
        """A person's answer to what a run asks."""
        by, via = person
        asked = await self.runtime.asked(run_id)
        origin = m.Origin(by=by)
        await self.runtime.ask(m.DecideApproval(asked.id, approve, reason, via=via, origin=origin))

    async def until(self, before_end: float) -> None:
        """Let time pass until so many seconds before the day's end."""
        await trio.sleep(LENGTH - before_end - trio.current_time())

    async def live(self) -> None:
        """From the first mail to the last order."""
        for number in range(4):
            await self.start("dunning", Job(f"invoice {7301 + number}"), f"dunning-{7301 + number}")
        await self.until(5 * HOUR)
        for number, person in ((301, ALICE), (302, BOB), (303, KIM)):
            await self.start("deploy", Job(f"billing v{number - 216}"), f"deploy-{number}")
            await self.until(5 * HOUR - 600 * (number - 300))
            await self.decide(f"deploy-{number}", number != 303, _REASONS[number], person)
        await self.until(2 * HOUR)
        await self.start("deploy", Job("billing v88"), "deploy-304")
        await self.start("onboarding", Job("acme"), "onboarding-acme", attributes={"plan": "gold"})
        await self.start("onboarding", Job("globex"), "onboarding-globex")
        await self.start("payout", Job("supplier 42"), "payout-42")
        await trio.sleep(6.0)  # the transfer is under way
        await self.runtime.crash(downtime=20.0)
        await trio.sleep(1.0)  # what follows from the crash comes first
        await self.runtime.pause("onboarding-globex", reason="customer asked us to wait")
        await self.until(41 * MINUTE)
        await self.start("etl_nightly", Job("nightly", version=2), "etl-0702")
        await self.until(22 * MINUTE)
        await self.start("refund_saga", REFUND, "refund-991")
        await self.people()
        await self.until(15 * MINUTE)
        await self.orders()

    async def people(self) -> None:
        """Sessions of people, and one of two yeses."""
        for subject in ("ann", "lee"):
            await self.runtime.ask(m.OpenSession(id=f"s-{subject}", tenant="acme", subject=subject, ttl=DAY))
        await self.until(18 * MINUTE)
        await self.decide("refund-991", True, "checked with Kim, goods are back", ALICE)
        await self.start("dunning", Job("overdue", version=112), "dunning-overdue")

    async def orders(self) -> None:
        """One every twenty seconds or so; every eleventh card is declined. The last ones are still being packed."""
        await self.start("etl_nightly", Job("nightly"), "etl-0703")
        for number in range(ORDERS):
            await self.until(12.0 + 14.5 * MINUTE * (1 - (number + self.chance.random()) / ORDERS))
            note = "declined" if number % 11 == 7 else ""
            await self.order(2040 + number, note)
        await self.until(2.0)
        for number in range(3):
            await self.order(2040 + ORDERS + number, "packing")
            await trio.sleep(0.25)  # no two things in one instant: their order would be chance
        await self.until(0.0)

    async def order(self, number: int, note: str) -> None:
        """An order of some amount."""
        amount = f"EUR {self.chance.randrange(900, 19_900) / 100:.2f}"
        session = "s-ann" if number % 5 == 0 else None
        await self.start("order_saga", Order(number, amount, "DE..42", note), f"order-{number}", session_id=session)


LENGTH = 3 * DAY + 17 * MINUTE
REFUND = Order(991, "EUR 1240.00", "DE..42", "pls refund asap \x1b[2J thx")
_REASONS = {301: "staging is green", 302: "ticket OPS-4411", 303: "not on a Friday"}


def lived(start_us: int) -> list[Entry]:
    """The day's records, from an instant on (microseconds since the epoch)."""
    return trio.run(_live, start_us, clock=trio.testing.MockClock(autojump_threshold=0))


async def _live(start_us: int) -> list[Entry]:
    async with trio.open_nursery() as nursery:
        runtime = VirtualRuntime(nursery, [app], start_us=start_us)
        await runtime.open()
        await Day(runtime).live()
        entries = [*runtime.disk.entries]  # as by kill -9: what follows is not on this disk
        nursery.cancel_scope.cancel()
    return entries


def write_day(journal: Path) -> None:
    """Live the day and put it on disk, so that it ends a moment ago."""
    start_us = time.time_ns() // 1_000 - round((LENGTH + STARTUP_SECONDS) * 1e6)
    file = Journal.open(journal)
    file.commit(lived(start_us))
    file.close()
