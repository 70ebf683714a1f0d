"""The promises of `actors.mailbox`."""

from __future__ import annotations

from typing import Any

import pytest
import trio
from trio.testing import wait_all_tasks_blocked

from actors.errors import ActorRestarted, Draining, MailboxFull, NotFound
from actors.mailbox import Letter, Mailbox


def messages(letters: list[Letter]) -> list[Any]:
    return [letter.message for letter in letters]


@pytest.mark.trio
async def test_take_gives_both_lanes_in_order_of_arrival() -> None:
    """One arrival order holds over commands and facts."""
    box = Mailbox("a", 10)
    box.tell(1)
    box.report(2)
    box.tell(3)
    letters = await box.take()
    assert messages(letters) == [1, 2, 3]
    assert [letter.fact for letter in letters] == [False, True, False]


@pytest.mark.trio
async def test_take_waits_for_the_first_letter() -> None:
    """An empty mailbox parks the taker, and one letter wakes it; what arrives before it runs comes along."""
    box = Mailbox("a", 10)
    taken: list[list[Any]] = []

    async def actor() -> None:
        taken.append(messages(await box.take()))

    async with trio.open_nursery() as nursery:
        nursery.start_soon(actor)
        await wait_all_tasks_blocked()
        box.tell(1)
        box.report(2)
    assert taken == [[1, 2]]


@pytest.mark.trio
async def test_take_is_bounded() -> None:
    """`take` gives at most `take_max` letters and leaves the rest in order."""
    box = Mailbox("a", 10)
    for n in range(5):
        box.tell(n)
    assert messages(await box.take(take_max=2)) == [0, 1]
    assert messages(await box.take(take_max=2)) == [2, 3]
    assert messages(box.take_nowait()) == [4]
    assert box.take_nowait() == []


@pytest.mark.trio
async def test_take_is_a_checkpoint_even_if_letters_wait() -> None:
    """A busy actor leaves other tasks their turn, and a cancelled `take` takes nothing."""
    box = Mailbox("a", 10)
    box.tell(1)
    with trio.testing.assert_checkpoints():
        await box.take()
    box.tell(2)
    with trio.CancelScope() as scope:
        scope.cancel()
        await box.take()
    assert messages(box.take_nowait()) == [2]


@pytest.mark.trio
async def test_cancelled_taker_leaves_its_place(autojump_clock: trio.testing.MockClock) -> None:
    """A taker that was cancelled while it waited is forgotten, and the next one gets the letter."""
    box = Mailbox("a", 10)
    with trio.move_on_after(1):
        await box.take()
    box.tell(1)
    assert messages(await box.take()) == [1]


@pytest.mark.trio
async def test_one_taker_at_a_time() -> None:
    """Two tasks that take from one mailbox are a bug, and it is said at once."""
    box = Mailbox("a", 10)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(box.take)
        await wait_all_tasks_blocked()
        with pytest.raises(trio.BusyResourceError, match="mailbox of a"):
            await box.take()
        box.tell(1)


def test_commands_are_bounded_and_facts_are_not() -> None:
    """A full mailbox refuses commands with `MailboxFull` and a hint, still takes facts, and keeps the marks."""
    box = Mailbox("a", 2)
    box.tell(1)
    box.tell(2)
    with pytest.raises(MailboxFull, match=r"mailbox of a is full \(2 messages\)") as caught:
        box.tell(3)
    assert (caught.value.status, "Retry-After" in caught.value.hint) == (503, True)
    box.report(4)
    assert messages(box.take_nowait()) == [1, 2, 4]
    box.tell(5)
    figures = box.statistics()
    assert (figures.size, figures.limit, figures.high_water) == (1, 2, 3)
    assert (figures.taken_total, figures.refused_total, figures.unanswered) == (3, 1, 0)


def test_partly_taken_commands_free_their_places() -> None:
    """The places of told commands are counted exactly, also if a take leaves some behind."""
    box = Mailbox("a", 2)
    box.tell(1)
    box.report(2)
    box.tell(3)
    box.take_nowait(2)
    box.tell(4)
    with pytest.raises(MailboxFull):
        box.tell(5)


@pytest.mark.trio
async def test_asked_commands_hold_their_place_until_answered() -> None:
    """An actor that drains fast and answers late still pushes back at the limit."""
    box = Mailbox("a", 1)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(box.ask, "question")
        (letter,) = await box.take()
        with pytest.raises(MailboxFull):
            box.tell("more")
        with pytest.raises(MailboxFull):
            await box.ask("more")
        letter.reply()
    box.tell("more")


@pytest.mark.parametrize("limit", [0, -1])
def test_limit_is_positive(limit: int) -> None:
    """A limit that lets nothing in is refused, naming the value."""
    with pytest.raises(ValueError, match=f"at least 1, not {limit}"):
        Mailbox("a", limit)


@pytest.mark.trio
async def test_ask_gets_the_reply_or_the_error() -> None:
    """`ask` returns what the actor replies and raises what it refuses with."""
    box, answers = Mailbox("a", 10), []

    async def actor() -> None:
        for letter in await box.take() + await box.take():
            if letter.message == "bad":
                letter.refuse(NotFound("no such thing"))
            else:
                letter.reply(letter.message.upper())

    async with trio.open_nursery() as nursery:
        nursery.start_soon(actor)
        await wait_all_tasks_blocked()

        async def asker() -> None:
            answers.append(await box.ask("good"))

        nursery.start_soon(asker)
        await wait_all_tasks_blocked()
        with pytest.raises(NotFound, match="no such thing"):
            await box.ask("bad")
    assert answers == ["GOOD"]
    assert box.statistics().unanswered == 0


@pytest.mark.trio
async def test_reply_long_after_take_and_outside_a_task() -> None:
    """A letter may be answered from a synchronous callback that runs in no task, long after it was taken."""

    class Callback(trio.abc.Instrument):
        def after_io_wait(self, timeout: float) -> None:
            if not answers:
                answers.append("called back")
                letter.reply("late")

    box, answers = Mailbox("a", 10), []

    async def asker() -> None:
        answers.append(await box.ask("question"))

    async with trio.open_nursery() as nursery:
        nursery.start_soon(asker)
        (letter,) = await box.take()
        await wait_all_tasks_blocked()
        trio.lowlevel.add_instrument(Callback())
        await trio.lowlevel.checkpoint()
    assert answers == ["called back", "late"]


@pytest.mark.trio
async def test_second_answer_is_a_bug() -> None:
    """Exactly one answer: a second one raises, whichever it is."""
    box = Mailbox("a", 10)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(box.ask, "question")
        (letter,) = await box.take()
        letter.reply()
        for again in (letter.reply, lambda: letter.refuse(NotFound())):
            with pytest.raises(AssertionError, match="answered twice: str"):
                again()


def test_answers_to_tell_do_nothing() -> None:
    """Nobody waits behind a told command or a fact: answering one is allowed and does nothing."""
    box = Mailbox("a", 10)
    box.tell(1)
    box.report(2)
    for letter in box.take_nowait():
        letter.reply()
        letter.refuse(NotFound())


@pytest.mark.trio
async def test_cancelled_asker_leaves_and_the_command_is_carried_out(autojump_clock: trio.testing.MockClock) -> None:
    """A command whose asker was cancelled is still in the mailbox; its answer is dropped."""
    box = Mailbox("a", 10)
    with trio.move_on_after(1) as scope:
        await box.ask("question")
    assert scope.cancelled_caught
    (letter,) = await box.take()
    assert box.statistics().unanswered == 1
    letter.reply("nobody hears this")
    assert box.statistics().unanswered == 0


@pytest.mark.trio
async def test_asker_cancelled_beforehand_puts_nothing_in() -> None:
    """Who is cancelled already does not ask any more."""
    box = Mailbox("a", 10)
    with trio.CancelScope() as scope:
        scope.cancel()
        await box.ask("question")
    assert box.statistics().size == 0


@pytest.mark.trio
async def test_crash_refuses_what_was_taken_and_keeps_what_waits() -> None:
    """After a crash taken letters are refused with `ActorRestarted`; those not yet taken wait for the next life."""
    box, ends = Mailbox("a", 10), []

    async def asker(message: str) -> None:
        try:
            ends.append(await box.ask(message))
        except ActorRestarted as error:
            ends.append((message, str(error)))

    async with trio.open_nursery() as nursery:
        nursery.start_soon(asker, "taken")
        (taken,) = await box.take()
        nursery.start_soon(asker, "waiting")
        await wait_all_tasks_blocked()
        assert box.refuse_unanswered() == 1
        await wait_all_tasks_blocked()
        assert ends == [("taken", "a restarted before it answered; the outcome is unknown")]
        taken.reply("too late: dropped, for the one who answers may be a callback of the former life")
        (waiting,) = await box.take()
        waiting.reply("second life")
    assert ends[1:] == ["second life"]


@pytest.mark.trio
async def test_letters_handed_back_are_first_in_line() -> None:
    """What an actor took and did not begin comes again, first and in order, and is not refused by its crash."""
    box, answers = Mailbox("a", 3), []

    async def asker() -> None:
        answers.append(await box.ask("asked"))

    async with trio.open_nursery() as nursery:
        nursery.start_soon(asker)
        await wait_all_tasks_blocked()
        box.tell("told")
        letters = await box.take()
        box.report("fact")
        box.put_back(letters)
        assert box.refuse_unanswered() == 0
        again = box.take_nowait(2)
        assert messages(again) == ["asked", "told"]
        again[0].reply("answer")
    assert answers == ["answer"]
    assert messages(box.take_nowait()) == ["fact"]
    assert box.statistics().taken_total == 3


@pytest.mark.trio
async def test_letters_handed_back_hold_their_places() -> None:
    """A command that was handed back counts towards the limit again, and one that was answered is not handed back."""
    box = Mailbox("a", 1)
    box.tell("told")
    box.put_back(box.take_nowait())
    with pytest.raises(MailboxFull):
        box.tell("more")
    box.take_nowait()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(box.ask, "asked")
        letters = await box.take()
        letters[0].reply()
        box.put_back(letters)
    assert box.statistics().size == 0


def test_facts_of_a_former_life_can_be_dropped() -> None:
    """Only waiting facts of the named kinds go; other facts and all commands stay, in order."""
    box = Mailbox("a", 10)
    box.report("old")
    box.tell("command")
    box.report(1)
    assert box.drop_facts(str, bytes) == 1
    assert messages(box.take_nowait()) == ["command", 1]


@pytest.mark.trio
async def test_handing_back_wakes_a_taker() -> None:
    """Letters handed back while another task waits are given to it."""
    box = Mailbox("a", 1)
    box.tell("told")
    letters = box.take_nowait()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(box.take)
        await wait_all_tasks_blocked()
        box.put_back(letters)


@pytest.mark.trio
async def test_close_refuses_all_and_raises_ever_after() -> None:
    """Closing refuses what waits and what is unanswered, raises for later commands, and drops later facts."""
    box, ends = Mailbox("a", 10), []

    async def asker() -> None:
        with pytest.raises(Draining, match="a has stopped") as caught:
            await box.ask("question")
        ends.append(caught.value)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(asker)
        letters = await box.take()
        nursery.start_soon(asker)
        await wait_all_tasks_blocked()
        box.close(Draining("a has stopped"))
        box.close(NotFound("a second close changes nothing"))
    assert ends[0] is not ends[1]
    box.put_back(letters)
    box.report(1)
    with pytest.raises(Draining):
        box.tell(2)
    with pytest.raises(Draining):
        await box.ask(3)
    with pytest.raises(Draining):
        await box.take()
    assert box.statistics().size == 0


@pytest.mark.trio
async def test_close_wakes_the_taker() -> None:
    """A task that waits in `take` learns of the closing."""
    box = Mailbox("a", 10)
    async with trio.open_nursery() as nursery:

        async def actor() -> None:
            with pytest.raises(Draining):
                await box.take()

        nursery.start_soon(actor)
        await wait_all_tasks_blocked()
        box.close(Draining())
