"""Durable timers: told once due, however many there are, whatever the clock does."""

from __future__ import annotations

import math
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import msgspec
import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from actors import timers as timers_module
from actors.clock import VirtualClock
from actors.due_window import Due
from actors.feed import Feed
from actors.journal_link import InlineLink
from actors.timers import Timers, TimersDue
from actors.wal_writer import WalWriter
from wal import records as r
from wal.journal import Journal

US = 1_000_000


class Bench:
    """Timers over a journal of their own, of one run; what they report is fired, as the coordinator would."""

    def __init__(self, journal: Journal, clock: VirtualClock, recheck_s: float) -> None:
        self.clock = clock
        link = InlineLink(journal)
        self.writer = WalWriter(link, clock, Feed(), batch_records_max=1_000, batch_bytes_max=1_000_000)
        self.timers = Timers(journal.reader(), clock, self.writer, self.due, recheck_s)
        self.run_key = self.writer.next_run_key()
        self.last_seq = 0
        self.set_at: dict[str, int] = {}
        self.fired: list[str] = []
        self.told: list[Due] = []
        self.held_back: set[str] = set()
        self.append(r.RunStarted("run", "flow", msgspec.Raw(b"null")))

    def append(self, record: r.Fact) -> int:
        self.last_seq = self.writer.append(record, self.run_key, self.last_seq)
        return self.last_seq

    def set(self, key: str, after_s: float) -> None:
        due_at = self.clock.now_us() + round(after_s * US)
        self.set_at[key] = due_at
        self.timers.set(self.append(r.TimerSet(key, due_at)), due_at, self.run_key, key)

    def due(self, message: TimersDue) -> None:
        for due_at, _, key in message.due:
            self.told.append((due_at, 0, key))
            assert due_at <= self.clock.now_us()
            if self.set_at.get(key) == due_at and key not in self.held_back:
                del self.set_at[key]
                self.fired.append(key)
                self.append(r.TimerFired(key))


@asynccontextmanager
async def bench(recheck_s: float = math.inf) -> AsyncIterator[Bench]:
    with Journal.open(None) as journal:
        made = Bench(journal, VirtualClock(), recheck_s)
        async with trio.open_nursery() as nursery:
            await nursery.start(made.writer.run)
            await nursery.start(made.timers.run)
            yield made
            nursery.cancel_scope.cancel()


@pytest.mark.trio
async def test_timers_fire_in_their_order_at_their_time(autojump_clock: MockClock) -> None:
    """Set in any order, each is told when it is due and not before."""
    async with bench() as made:
        for key, after_s in (("c", 30.0), ("a", 10.0), ("b", 20.0), ("now", 0.0)):
            made.set(key, after_s)
        await trio.sleep(5)
        assert made.fired == ["now"]
        await trio.sleep(20)
        assert made.fired == ["now", "a", "b"]
        await trio.sleep(10)
        assert made.fired == ["now", "a", "b", "c"]
        assert len(made.timers) == 0


@pytest.mark.trio
@pytest.mark.parametrize("after_s", [0.0, 60.0], ids=["due", "ahead"])
async def test_more_timers_than_fit_into_memory(
    autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch, after_s: float
) -> None:
    """The window holds a page; the journal the rest; all fire once."""
    monkeypatch.setattr(timers_module, "PAGE_ROWS", 10)
    async with bench() as made:
        for number in range(205):
            made.set(f"{number}", after_s + number % 7)
            if number % 20 == 0:
                await wait_all_tasks_blocked()
        await trio.sleep(120)
        assert sorted(made.fired, key=int) == [f"{number}" for number in range(205)]
        assert made.set_at == {}


@pytest.mark.trio
async def test_overdue_timers_that_cannot_fire_cost_one_pass(
    autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """However many are told and stay set, they are read and told once, later ones fire at their time, and then nobody
    wakes: a month costs nothing."""
    monkeypatch.setattr(timers_module, "PAGE_ROWS", 10)
    async with bench(recheck_s=1.0) as made:
        made.held_back = {f"{number}" for number in range(205)}
        for number in range(205):
            made.set(f"{number}", number % 3)
            if number % 20 == 0:
                await wait_all_tasks_blocked()
        await wait_all_tasks_blocked()
        again: Any = Timers(made.timers._reader, made.clock, made.writer, made.due, 1.0)
        looked, read = 0, []
        run_once, load = again.run_once, again._load

        def looks() -> None:
            nonlocal looked
            looked += 1
            run_once()

        def reads() -> None:
            read.append(trio.current_time())
            load()

        monkeypatch.setattr(again, "run_once", looks)
        monkeypatch.setattr(again, "_load", reads)
        await trio.sleep(10)
        made.told.clear()
        async with trio.open_nursery() as nursery:
            await nursery.start(again.run)
            await trio.sleep(5)
            assert sorted(made.told) == sorted((due_at, 0, key) for key, due_at in made.set_at.items())
            assert len(read) == 205 // 10 + 1
            due_at = made.clock.now_us() + 60 * US
            made.set_at["later"] = due_at
            again.set(made.append(r.TimerSet("later", due_at)), due_at, made.run_key, "later")
            await trio.sleep(60.01)
            assert made.fired == ["later"]
            before = looked
            await trio.sleep(30 * 86_400)
            assert (looked, len(read)) == (before, 205 // 10 + 1)
            nursery.cancel_scope.cancel()


@pytest.mark.trio
async def test_a_new_life_reads_what_is_set(autojump_clock: MockClock) -> None:
    """After a crash of the actor its timers come from the journal, those not durable yet included."""
    async with bench() as made:
        made.set("a", 10.0)
        await wait_all_tasks_blocked()
        async with trio.open_nursery() as nursery:
            made.set("b", 20.0)
            again: Any = Timers(made.timers._reader, made.clock, made.writer, made.due, math.inf)
            await nursery.start(again.run)
            assert len(again) == 2
            await trio.sleep(30)
            nursery.cancel_scope.cancel()
        assert made.fired == ["a", "b"]
        assert len(made.told) == 4  # both lives told of both; each fired once


@pytest.mark.trio
async def test_a_jump_is_noticed_within_the_recheck(autojump_clock: MockClock) -> None:
    """Set forward, the clock makes a timer due, and it is told within `recheck_s`; set back, it waits its time."""
    async with bench(recheck_s=1.0) as made:
        made.set("a", 3_600.0)
        await trio.sleep(5)
        made.clock.jump(3_600)
        await trio.sleep(1.01)
        assert made.fired == ["a"]
        made.set("b", 10.0)
        made.clock.jump(-60)
        await trio.sleep(60)
        assert made.fired == ["a"]
        await trio.sleep(11)
        assert made.fired == ["a", "b"]
