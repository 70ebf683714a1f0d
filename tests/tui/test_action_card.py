"""The card through which runs are acted on: it takes nothing by accident, and is honest about what it does not know."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
from textual import events

from runtimed.client_errors import TimedOut
from runtimed.client_wire import Answer
from runtimed.wire import CallerView
from tests.tui import goldens
from tests.tui.driving import Driven, driven
from tests.tui.fake_daemon import event, run
from tests.tui.hostile import HOSTILE
from tests.tui.journals import small_journal
from tests.tui.run_world import RunDaemon, record, refund_world
from tui.run_actions import ACTIONS
from tui.screens.action_card import ActionCard
from tui.screens.card_base import CHECKING, DONE, OPEN, CardBase
from tui.widgets.fields import Choice, Field
from wal.errors import RuntimedError
from wal.lock import DataFolderLock
from wal.views import ErrorView, RunView

pytestmark = [pytest.mark.anyio, pytest.mark.slow]


@pytest.fixture(autouse=True)
def _soon(monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> None:
    """The dead time is short, but where it is what is tested."""
    if "dead_time" not in request.node.name:
        monkeypatch.setattr(CardBase, "DEAD_SECONDS", 0.01)
        monkeypatch.setattr(CardBase, "IDLE_SECONDS", 0.01)
    monkeypatch.setattr("tui.screens.card_base.CHECK_SECONDS", 0.01)
    monkeypatch.setattr("tui.screens.card_base.LOOK_SECONDS", 0.01)


async def opened(shown: Driven, verb: str, runs: Sequence[RunView], *, armed: bool = True) -> ActionCard:
    """A card, ready to take keys, with the histories read."""
    card = ActionCard(ACTIONS[verb], runs)
    shown.app.push_screen(card)
    await shown.until(lambda: card.is_mounted and (card.armed or not armed))
    await shown.until(lambda: len(card.histories) == len(runs))
    await shown.pilot.pause()
    return card


async def typed(shown: Driven, text: str) -> None:
    """Text into the field that has the focus."""
    await shown.press(*[{" ": "space"}.get(char, char) for char in text])


@pytest.mark.parametrize("size", [(80, 24), (200, 50), (60, 15)])
async def test_the_card_looks_as_drawn(size: tuple[int, int]) -> None:
    """It says what it is about, why it waits, what a kill costs, and what will be undone, before anything is sent."""
    daemon = refund_world()
    async with driven(daemon, size=size) as shown:
        await opened(shown, "cancel", daemon.runs[:1])
        await shown.sees("nothing is sent before [Submit]", "as bob")
        await goldens.check(f"cancel_card_{size[0]}x{size[1]}", shown)
        assert shown.app.screen.focused is None


class Timed(ActionCard):
    """A card whose dead time and ticks end when the test says so."""

    def __init__(self, *about: Any) -> None:
        super().__init__(*about)
        self.held: list[tuple[float, Callable[[], None]]] = []

    def set_timer(self, delay: float, callback: Any = None, **more: Any) -> Any:
        if delay not in (self.DEAD_SECONDS, self.IDLE_SECONDS):
            return super().set_timer(delay, callback, **more)
        return self.held.append((delay, callback))

    def time_passes(self) -> None:
        """What is waited for comes."""
        (_, callback), self.held = self.held[0], self.held[1:]
        callback()


async def test_dead_time_swallows_type_ahead() -> None:
    """For 400 ms no key counts, and then only once a tick passed without one: nothing answers a burst."""
    daemon = refund_world()
    async with driven(daemon) as shown:
        card = Timed(ACTIONS["cancel"], daemon.runs[:1])
        shown.app.push_screen(card)
        for wait in (0.4, 0.05, 0.05):  # a burst that lasts beyond the dead time, and into the tick after it
            await shown.until(lambda: card.held)
            assert [delay for delay, _ in card.held] == [wait]
            await shown.press("tab", "x", "enter", "escape")
            assert card.focused is None
            assert shown.app.screen is card
            assert all(not field.value for field in card.query(Field))
            card.time_passes()
            assert not card.armed
        card.time_passes()
        assert card.armed
        await shown.press("tab")
        assert isinstance(card.focused, Field)


async def test_letters_and_digits_do_nothing_outside_fields() -> None:
    """With no field in focus, no letter or digit moves, opens or sends anything."""
    daemon = refund_world()
    async with driven(daemon) as shown:
        card = await opened(shown, "cancel", daemon.runs[:1])
        await shown.sees("as bob")
        before = shown.text
        await shown.press(*"abcdefghijklmnopqrstuvwxyzABCXYZ0123456789", "space", "enter")
        assert shown.app.screen is card
        assert shown.text == before
        assert daemon.acted == []


async def test_enter_works_on_submit_only() -> None:
    """Enter in a field sends nothing; on Submit it sends, once."""
    daemon = refund_world()
    async with driven(daemon) as shown:
        await opened(shown, "cancel", daemon.runs[:1])
        await shown.press("tab")
        await typed(shown, "goods came back")
        await shown.press("enter", "enter")
        assert daemon.acted == []
        await shown.press("tab", "enter", "enter")
        await shown.sees("journaled as record 10449")
        assert [(one[0], one[1], one[2]) for one in daemon.acted] == [
            ("7f3a2c", "cancel", {"reason": "goods came back"})
        ]


async def test_what_is_missing_is_said_and_nothing_is_sent() -> None:
    """Without the required reason Submit only says what it wants."""
    daemon = refund_world()
    async with driven(daemon) as shown:
        await opened(shown, "cancel", daemon.runs[:1])
        await shown.press("tab")
        await typed(shown, "short")
        await shown.press("tab", "enter")
        await shown.sees("a reason of 8 characters or more is required")
        assert daemon.acted == []


async def test_while_it_sends_it_takes_nothing_and_cannot_be_left() -> None:
    """Submit disables itself; leaving would leave an outcome that nobody asks for."""
    daemon = refund_world()
    daemon.held = asyncio.Event()
    async with driven(daemon) as shown:
        card = await opened(shown, "pause", daemon.runs[:1])
        await shown.press("tab", "tab", "enter")
        await shown.sees("sending ...")
        await shown.press("enter", "escape", "tab", "enter")
        assert shown.app.screen is card
        daemon.held.set()
        await shown.sees("paused 7f3a2c: journaled")
        assert len(daemon.acted) == 1
        await shown.press("escape")
        assert shown.app.screen is not card


@pytest.mark.parametrize("lose", ["before", "after"])
async def test_a_lost_connection_is_asked_about_and_never_sent_again(lose: str) -> None:
    """The answer is lost: the card says unknown, looks for its key in the journal, and says what it found."""
    daemon = refund_world()
    daemon.lose = lose
    async with driven(daemon) as shown:
        card = await opened(shown, "pause", daemon.runs[:1])
        await shown.press("tab", "tab", "enter")
        if lose == "after":
            await shown.sees("it did happen: paused 7f3a2c: journaled as record 10449")
        else:
            await shown.sees("not in the journal yet, up to record 10448")
        assert len(daemon.acted) == 1
        if lose == "before":
            await shown.press("tab", "enter")
            if not card.outcome:
                await shown.press("tab", "enter")
            await shown.sees("journaled as record")
            assert len({key for *_, key in daemon.acted}) == 1  # again only by Submit, and under the same key


async def test_a_daemon_that_dies_in_the_middle_is_asked_when_it_is_back() -> None:
    """Killed while the request is under way: unknown, checking; back again, the journal says that it happened."""
    daemon = refund_world()
    daemon.lose = "after"
    async with driven(daemon) as shown:
        original = daemon.act

        async def dies(run_id: str, verb: str, body: object, key: str) -> object:
            try:
                return await original(run_id, verb, body, key)
            finally:
                daemon.go_down()

        daemon.act = dies  # type: ignore[method-assign, assignment]
        await opened(shown, "pause", daemon.runs[:1])
        await shown.press("tab", "tab", "enter")
        await shown.sees("outcome unknown, checking")
        daemon.up = True
        await shown.sees("it did happen: paused 7f3a2c: journaled as record 10449")
        assert len(daemon.acted) == 1


class Late(RunDaemon):
    """The first request outlives its client's patience: it is carried out when the test sets `goes_on`."""

    def __init__(self) -> None:
        super().__init__()
        self.goes_on = asyncio.Event()
        self.first: asyncio.Task[None] | None = None

    async def act(self, run_id: str, verb: str, body: object, key: str) -> Answer:
        if self.first is not None:
            return await super().act(run_id, verb, body, key)

        async def after_all() -> None:
            await self.goes_on.wait()
            await RunDaemon.act(self, run_id, verb, body, key)

        self.first = asyncio.create_task(after_all())
        raise TimedOut("no answer within 30 s")


def late() -> Late:
    """The world of refunds, of a daemon that is slow."""
    daemon, world = Late(), refund_world()
    daemon.runs, daemon.approvals, daemon.histories, daemon.seq = (
        world.runs, world.approvals, world.histories, world.seq,
    )  # fmt: skip
    return daemon


async def test_what_is_committed_after_the_answer_was_given_up_is_found() -> None:
    """A request outlives its connection: the card does not say that nothing was changed, and
    settles when it turns up."""
    daemon = late()
    async with driven(daemon) as shown:
        card = await opened(shown, "pause", daemon.runs[:1])
        card.on_submit_pressed()
        await shown.sees("not in the journal yet, up to record 10448; it is still looked for")
        assert card.phase == OPEN
        daemon.goes_on.set()
        await shown.sees("it did happen: paused 7f3a2c: journaled as record 10449")
        assert card.phase == DONE
        assert len(daemon.acted) == 1


async def test_a_second_submit_looks_as_far_back_as_the_first(monkeypatch: pytest.MonkeyPatch) -> None:
    """The first request is carried out unseen, and the answer to the second is lost: its key stands before the second
    was sent, and is found all the same."""
    monkeypatch.setattr("tui.screens.card_base.LOOK_SECONDS", 3_600.0)
    daemon = late()
    async with driven(daemon) as shown:
        card = await opened(shown, "cancel", daemon.runs[:1])
        await shown.press("tab")
        await typed(shown, "goods came back")
        card.on_submit_pressed()
        await shown.sees("not in the journal yet")
        daemon.goes_on.set()
        await shown.until(lambda: shown.app.model.seq == 10450)
        daemon.lose = "after"
        card.on_submit_pressed()
        await shown.sees("it did happen: asked to cancel 7f3a2c: journaled as record 10449")
        assert len(daemon.acted) == 2


async def test_a_refusal_while_it_is_looked_for_is_no_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    """A daemon that is too busy to be asked leaves the outcome unknown: the card says so and asks again."""
    daemon = refund_world()
    daemon.lose = "after"
    async with driven(daemon) as shown:
        card = await opened(shown, "pause", daemon.runs[:1])
        assert shown.app.source is not None
        with monkeypatch.context() as patched:
            patched.setattr(shown.app.source, "runs", refuse)
            card.on_submit_pressed()
            await shown.sees("outcome unknown, checking: too many requests")
            assert card.phase == CHECKING
        await shown.sees("it did happen: paused 7f3a2c: journaled as record 10449")


async def refuse(*asked: object, **more: object) -> None:
    """What a busy daemon answers."""
    raise RuntimedError("too many requests")


async def test_a_daemon_that_holds_its_file_has_not_gone_down(tmp_path: Path) -> None:
    """The file is read because nobody answers: as long as a daemon holds it, what is not in it may come yet. Once
    nobody does, it did not happen."""
    small_journal(tmp_path / "journal.db", clean=False)
    daemon = late()
    async with driven(daemon, journal=tmp_path / "journal.db") as shown:
        with DataFolderLock(tmp_path):
            card = await opened(shown, "pause", daemon.runs[:1])
            card.on_submit_pressed()
            daemon.go_down()  # it has the request, and takes no new connection
            await shown.until(lambda: shown.app.source is not None and shown.app.source.offline)
            await shown.pilot.pause(0.3)
            assert card.phase == CHECKING
            assert "outcome unknown, checking" in shown.text
        await shown.until(lambda: card.phase == OPEN)
        assert "it did not happen: the daemon went down before" in said(card)


def said(card: CardBase) -> str:
    """The line above the command, also where it is covered by why nothing can be submitted."""
    return "".join(piece.text for piece in card._said)


async def test_a_refusal_is_shown_and_the_card_stays() -> None:
    """The daemon says no: its words are shown, nothing has changed, the fields keep what was typed."""
    daemon = refund_world()
    one = run("done", status="running")
    daemon.runs.append(run("done", status="completed"))
    async with driven(daemon) as shown:
        card = ActionCard(ACTIONS["pause"], [one])
        shown.app.push_screen(card)
        await shown.until(lambda: card.armed)
        await shown.press("tab")
        await typed(shown, "for a while")
        await shown.press("tab", "enter")
        await shown.sees("refused: run 'done' has ended")
        assert card.text("reason") == "for a while"


async def test_without_the_right_it_says_which_level_is_missing() -> None:
    """A viewer sees the card and what would happen, and why Submit is dead."""
    daemon = refund_world()
    daemon.caller = CallerView(by="uid:1009", level="viewer", roles=[], via="eve")
    async with driven(daemon) as shown:
        await opened(shown, "cancel", daemon.runs[:1])
        await shown.sees("nothing can be submitted: it needs the level operator, and uid:1009 is viewer")
        await shown.press("tab", "enter", *"reason", "enter")
        assert daemon.acted == []


async def test_a_read_only_dashboard_submits_nothing() -> None:
    """Started read-only, every field is dead, with the reason."""
    daemon = refund_world()
    async with driven(daemon, read_only=True) as shown:
        await opened(shown, "cancel", daemon.runs[:1])
        await shown.sees("nothing can be submitted: this dashboard was started read-only")
        assert all(field.disabled for field in shown.app.screen.query("Field, Submit"))


async def test_a_daemon_that_is_away_disables_the_card_until_it_is_back() -> None:
    """Connection lost while the card is open and nothing was sent: dead with the reason, alive again afterwards."""
    daemon = refund_world()
    async with driven(daemon) as shown:
        await opened(shown, "cancel", daemon.runs[:1])
        daemon.go_down()
        await shown.sees("nothing can be submitted: the daemon does not answer")
        daemon.up = True
        await shown.sees("nothing is sent before [Submit]")


async def test_a_run_that_ends_meanwhile_cannot_be_asked_any_more() -> None:
    """The facts follow the run, the fields keep what is typed; what makes no sense any more is not sent."""
    daemon = refund_world()
    async with driven(daemon) as shown:
        card = await opened(shown, "cancel", daemon.runs[:1])
        await shown.press("tab")
        await typed(shown, "too late for it")
        daemon.push(event(10449, "run_completed", "7f3a2c", workflow="refund_saga", result=None))
        await shown.sees("nothing can be submitted: it is completed")
        assert card.text("reason") == "too late for it"


async def test_what_would_be_undone_follows_the_run() -> None:
    """A step that completes while the card is open joins the list: what is shown is what a cancellation would undo."""
    daemon = refund_world()
    daemon.histories["8810b1"] = [
        record(8, "run_started", 9, workflow="order_saga"),
        record(9, "step_scheduled", 9, "0", "lock", args=None, undo="unlock"),
        record(10, "step_completed", 8, "0", "lock", 1, result=True),
        record(11, "step_scheduled", 8, "1", "charge", args=None, undo="refund"),
    ]
    async with driven(daemon) as shown:
        card = await opened(shown, "cancel", daemon.runs[1:2])
        await shown.sees("In flight: charge", "1  lock")
        await shown.press("tab")
        await typed(shown, "wrong prices")
        asked = daemon.asked.count("history 8810b1")
        daemon.histories["8810b1"].append(record(10449, "step_completed", 1, "1", "charge", 1, result=True))
        daemon.push(event(10449, "step_completed", "8810b1", call="1", name="charge", attempt=1, result=True))
        await shown.sees("1  charge", "2  lock", "record 10449")
        assert "In flight" not in shown.text
        card.draw()
        await shown.pilot.pause()
        assert daemon.asked.count("history 8810b1") == asked + 1  # once for what is new, not at every drawing
        assert card.text("reason") == "wrong prices"


async def test_many_runs_are_listed_and_their_number_is_typed() -> None:
    """The affected set is on the card with what each would undo; those that cannot be asked say why; the number is the
    reflex-breaker."""
    daemon = refund_world()
    daemon.histories |= {one.id: [record(1, "run_started", 9, workflow="w", input=None)] for one in daemon.runs[1:]}
    daemon.histories["c0ffee"] = []
    async with driven(daemon, size=(100, 30)) as shown:
        await opened(shown, "cancel", [daemon.runs[0], daemon.runs[1], daemon.runs[4]])
        await shown.sees("ASKED OF  2 runs of 3 marked", "undo: fraud_check, then psp_lookup, then lock_order")
        await shown.sees("not asked: it undoes its steps already")
        await shown.press("tab")
        await typed(shown, "wrong prices")
        await shown.press("tab", "tab", "enter")
        await shown.sees("type 2, the number of runs")
        await shown.press("shift+tab", "2", "tab", "enter")
        await shown.sees("asked to cancel 2 of 3 runs", "record 10449", "record 10451")
        assert [one[0] for one in daemon.acted] == ["7f3a2c", "8810b1"]
        assert len({key for *_, key in daemon.acted}) == 2


async def test_of_many_the_rest_is_not_sent_after_a_break() -> None:
    """The connection breaks at the first of two: its outcome is found, the second is sent only by another Submit."""
    daemon = refund_world()
    daemon.histories["8810b1"] = [record(1, "run_started", 9, workflow="w", input=None)]
    daemon.lose = "after"
    async with driven(daemon, size=(100, 30)) as shown:
        await opened(shown, "pause", daemon.runs[:2])
        await shown.press("tab", "tab", "2", "tab", "enter")
        await shown.sees("the other 1 were not sent: [Submit] sends them")
        assert len(daemon.acted) == 1


async def test_a_signal_names_what_is_waited_for_and_checks_its_json() -> None:
    """The names that the run waits for are shown, none is filled in; the value is JSON or is not sent."""
    daemon = refund_world()
    daemon.runs.append(run("sig", "deploy", "waiting", waiting_on="signal"))
    daemon.histories["sig"] = [
        record(1, "run_started", 9, workflow="deploy", input=None),
        record(2, "run_waiting", 9, on="signal", calls=[{"key": "0", "kind": "signal", "name": "go"}]),
    ]
    async with driven(daemon) as shown:
        card = await opened(shown, "signal", daemon.runs[-1:])
        await shown.sees("It waits for: go.")
        assert card.text("name") == ""
        await shown.press("tab", *"go", "tab", *"now", "tab", "enter")
        await shown.sees("the value is not JSON", "text wants quotes")
        await shown.press("shift+tab", "home", "quotation_mark", "end", "quotation_mark", "tab", "enter")
        await shown.sees("sent to sig: journaled")
        assert daemon.acted[0][2] == {"name": "go", "value": "now"}


async def test_a_doubt_is_resolved_by_what_was_found_outside() -> None:
    """Nothing is preselected; the card shows what was sent and under which key; the choice and the reason go out."""
    daemon = refund_world()
    doubt = next(one for one in daemon.runs if one.id == "c0ffee")
    async with driven(daemon) as shown:
        card = await opened(shown, "resolve", [doubt])
        await shown.sees("nothing preselected", "wire_transfer", "c0ffee/0/0/wire_transfer", "DE42")
        assert card.query_one(Choice).chosen is None
        await shown.press("tab", "right", "enter")
        assert card.query_one(Choice).chosen is None  # enter chooses nothing
        await shown.press("space", "tab", "tab")
        await typed(shown, "the bank has no such transfer")
        await shown.press("tab", "enter")
        await shown.sees("resolved c0ffee")
        sent = daemon.acted[0][2]
        assert (sent["call"], sent["happened"], sent["result"]) == ("0", False, None)


async def test_what_is_pasted_cannot_act() -> None:
    """A paste of control characters into a field leaves only what may be shown."""
    daemon = refund_world()
    async with driven(daemon) as shown:
        card = await opened(shown, "cancel", daemon.runs[:1])
        await shown.press("tab")
        field = card.query_one("#reason", Field)
        field.post_message(events.Paste("a\x1b]52;c;eA==\x07b\u202ec\u200bd"))
        await shown.until(lambda: field.value)
        assert field.value == "a]52;c;eA==bcd"


async def test_hostile_text_on_a_card_is_shown_and_never_acts() -> None:
    """A run whose every text is hostile opens its cards like any other."""
    daemon = RunDaemon()
    tower = "".join(HOSTILE[:3])
    daemon.runs = [run("r", tower, "blocked", error=ErrorView("outcome_unknown", tower, tower), version=tower)]
    daemon.histories["r"] = [record(1, "run_started", 50, workflow=tower, input=tower)]
    for number, text in enumerate(HOSTILE, start=1):
        daemon.histories["r"] += [
            record(number * 10, "step_scheduled", 50, f"{number}{text[:50]}", text, args=[[text], {}], undo="undo_it"),
            record(number * 10 + 1, "step_completed", 49, f"{number}{text[:50]}", text, 1, result=text),
            record(
                number * 10 + 2, "step_scheduled", 50, f"{number}!{text[:50]}", text, args=[[text], {}], undo="undo_it"
            ),
            record(number * 10 + 3, "step_unknown", 50, f"{number}!{text[:50]}", text, 1, reason=text),
        ]
    async with driven(daemon, size=(80, 60), connected=False) as shown:
        await shown.until(lambda: shown.app.model.total == 1)
        for verb in ("cancel", "resolve"):
            await opened(shown, verb, daemon.runs)
            assert not any((ord(char) < 32 and char != "\n") or 127 <= ord(char) < 160 for char in shown.text)
            await shown.press("escape")
