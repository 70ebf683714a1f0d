"""The promises of `actors.actor`, and that a supervised actor bears a fault at every await point."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

import pytest
import trio
from msgspec.structs import replace
from trio.testing import wait_all_tasks_blocked

from actors.actor import Actor
from actors.errors import ActorRestarted, SupervisionFailed
from actors.mailbox import Letter
from actors.supervisor import Supervisor
from actors.supervisor_spec import Backoff, SupervisorSpec
from tests.actors.faults import Fault, InjectedFault, Strike, every_point


class Adder(Actor):
    """Adds what it is told, says the sum when asked, and crashes at None."""

    def __init__(self) -> None:
        super().__init__("adder", limit_messages=100)
        self.sum = 0

    async def handle(self, letter: Letter) -> None:
        if letter.message is None:
            raise ValueError("nothing to add")
        await trio.lowlevel.checkpoint()
        self.sum += letter.message
        letter.reply(self.sum)

    def statistics(self) -> dict[str, Any]:
        return {"sum": self.sum}


def supervised(*children: Any) -> Supervisor:
    return Supervisor("root", SupervisorSpec(children=children, backoff=Backoff(jitter=0)))


@pytest.mark.trio
async def test_actor_handles_letters_in_order(nursery: trio.Nursery) -> None:
    """What is told and asked is handled in order of arrival, and the tree shows the actor's figures."""
    adder = Adder()
    root = supervised(adder.as_child())
    await nursery.start(root.run)
    adder.mailbox.tell(1)
    adder.mailbox.report(2)
    assert await adder.mailbox.ask(3) == 6
    assert root.tree()[1].statistics["sum"] == 6


@pytest.mark.trio
async def test_crash_costs_the_letter_at_hand_alone(nursery: trio.Nursery, autojump_clock: Any) -> None:
    """The letter at hand is refused; the rest of its batch is handled by the next life, in order."""
    adder, ends = Adder(), []

    async def ask(message: int | None) -> None:
        try:
            ends.append(await adder.mailbox.ask(message))
        except ActorRestarted:
            ends.append("restarted")

    await nursery.start(supervised(adder.as_child()).run)
    adder.mailbox.tell(1)
    adder.mailbox.tell(None)
    adder.mailbox.tell(10)
    nursery.start_soon(ask, None)
    adder.mailbox.tell(100)
    await wait_all_tasks_blocked()
    assert adder.sum == 1
    nursery.start_soon(ask, 1000)
    await trio.sleep(10)
    assert ends == ["restarted", 1111]


@pytest.mark.trio
async def test_cancelled_actor_hands_back_what_it_did_not_begin(nursery: trio.Nursery) -> None:
    """A restart by an operator in the middle of a batch loses no letter that was not begun."""
    adder = Adder()
    root = supervised(adder.as_child())
    await nursery.start(root.run)
    for n in (1, 10, 100):
        adder.mailbox.tell(n)
    await trio.lowlevel.checkpoint()
    root.restart("root/adder")
    await wait_all_tasks_blocked()
    assert adder.sum in (110, 111)
    assert adder.mailbox.statistics().size == 0


class Worker(Adder):
    """An adder with more ways to wait: a lock, a timer, a nursery of its own, a shielded clean-up.

    No thread: virtual time runs on while one works.
    """

    def __init__(self) -> None:
        super().__init__()
        self.lock = trio.Lock()

    async def prepare(self) -> None:
        await trio.sleep(0.1)

    async def handle(self, letter: Letter) -> None:
        async with self.lock:
            with trio.move_on_after(0.1):
                await trio.sleep_forever()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(trio.sleep, 0.1)
        try:
            await trio.sleep(0.1)
        finally:
            with trio.CancelScope(shield=True):
                await trio.lowlevel.checkpoint()
        self.sum += letter.message
        letter.reply(self.sum)


async def ask_until_added(adder: Adder, count: int) -> tuple[list[int], int]:
    """Ask for 1 until it was added `count` times; the answers, and how many askers were refused."""
    answers: list[int] = []
    refused = 0
    while len(answers) < count:
        try:
            answers.append(await adder.mailbox.ask(1))
        except ActorRestarted:
            refused += 1
    return answers, refused


def scenario(make: Callable[[], Adder], faults: list[Fault]) -> Callable[[Any], Awaitable[None]]:
    """Ask and stop. Whatever fails in between, every asker gets an answer or a refusal, the actor comes back, and
    nothing is added twice for one answer. What fails in the first start fails the supervisor."""

    async def play(wrap: Callable[[Any], Fault]) -> None:
        adder = make()
        fault = wrap(adder.run)
        faults.append(fault)
        root = supervised(replace(adder.as_child(), run=fault.run))
        async with trio.open_nursery() as nursery:
            try:
                await nursery.start(root.run)
            except SupervisionFailed as error:
                if not isinstance(error.__cause__, InjectedFault):
                    raise
                return
            answers, refused = await ask_until_added(adder, 5)
            await trio.sleep(10)  # the fault may come after the last answer; then the actor comes back all the same
            assert (root.tree()[1].status, root.tree()[1].restarts) == ("up", fault.struck)
            root.stop()
        assert refused <= fault.struck
        assert answers == sorted(set(answers))
        assert answers[-1] in (5, 5 + refused)

    return play


@pytest.mark.parametrize("make", [Adder, Worker])
def test_fault_at_every_await_point(make: Callable[[], Adder], figures: Callable[..., None]) -> None:
    """P12: a fault at any await point restarts just the actor, leaves no asker without an answer, and loses nothing."""
    faults: list[Fault] = []
    points = every_point(scenario(make, faults))
    assert points >= 10
    assert len(faults) == 2 * (points + 1)
    figures("P12", **{f"{make.__name__.lower()}_faults": sum(fault.struck for fault in faults)})


def test_tasks_of_the_actor_are_struck_too() -> None:
    """A fault finds the await points of tasks that the actor starts, and comes out of its nursery as a group."""

    async def busy() -> None:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(trio.sleep, 1)

    for at in (1, 2):  # the nursery's own wait, and the task's
        fault = Fault(busy, at)
        with pytest.raises(ExceptionGroup) as caught:
            trio.run(fault.run, clock=trio.testing.MockClock(autojump_threshold=0))
        assert fault.struck
        assert caught.group_contains(InjectedFault)


def test_fault_strikes_once_and_only_where_told() -> None:
    """Without a number nothing fails; with one, that await raises, once, before or after its wait."""

    async def three_waits() -> list[str]:
        seen = []
        for n in range(3):
            try:
                await trio.sleep(1)
            except InjectedFault as error:
                seen.append(f"{n}: {error} at {trio.current_time():g} s")
        log.append(seen)
        return seen

    log: list[list[str]] = []
    cases: list[tuple[int, Strike]] = [(0, "before"), (2, "before"), (2, "after")]
    for at, strike in cases:
        fault = Fault(three_waits, at, strike)
        trio.run(fault.run, clock=trio.testing.MockClock(autojump_threshold=0))
        assert (fault.points, fault.struck) == (3, at > 0)
    assert log == [[], ["1: at point 2, before at 1 s"], ["1: at point 2, after at 2 s"]]
