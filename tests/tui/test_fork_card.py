"""The card that forks a run: at the record one looks at, also in the past and of what is over."""

from __future__ import annotations

import pytest

from runtimed.wire import CallerView
from tests.tui import goldens
from tests.tui.driving import Driven, driven
from tests.tui.fake_daemon import at, run
from tests.tui.hostile import HOSTILE
from tests.tui.run_world import RunDaemon, detail, fork_history, record, refund_history, refund_world
from tui.screens.card_base import CardBase
from tui.screens.fork_card import ForkCard
from tui.screens.run_detail import RunDetailScreen
from tui.widgets.fields import Field

pytestmark = [pytest.mark.anyio, pytest.mark.slow]


@pytest.fixture(autouse=True)
def _soon(monkeypatch: pytest.MonkeyPatch) -> None:
    """The dead time is short."""
    monkeypatch.setattr(CardBase, "DEAD_SECONDS", 0.01)
    monkeypatch.setattr(CardBase, "IDLE_SECONDS", 0.01)
    monkeypatch.setattr("tui.screens.card_base.CHECK_SECONDS", 0.01)


async def on_page(shown: Driven, run_id: str = "7f3a2c") -> RunDetailScreen:
    """The page of a run, read."""
    screen = RunDetailScreen(run_id)
    shown.app.push_screen(screen)
    await shown.until(lambda: screen.detail is not None and len(screen.history) and not screen._loading)
    await shown.sees("time ")
    return screen


async def opened(shown: Driven) -> ForkCard:
    """The card, by its key, ready to take others."""
    await shown.press("B")
    await shown.until(lambda: isinstance(shown.app.screen, ForkCard) and shown.app.screen.armed)
    card = shown.app.screen
    assert isinstance(card, ForkCard)
    await shown.pilot.pause()
    return card


def ended_world() -> RunDaemon:
    """The run of refunds, failed and undone."""
    daemon = refund_world()
    daemon.runs[0] = run("7f3a2c", "refund_saga", "failed", ago=1320, ended_at=at(3), version="3", seq=10417)
    daemon.details["7f3a2c"] = detail(daemon.runs[0])
    daemon.histories["7f3a2c"] = [
        *refund_history(),
        record(10414, "run_compensating", 6, error={"type": "Refused", "message": "no"}),
        record(10415, "compensation_scheduled", 5, "2!", "forget_check", args=[[], {}]),
        record(10416, "compensation_completed", 4, "2!", "forget_check", 1, result=None),
        record(10417, "run_failed", 3, error={"type": "Refused", "message": "no"}),
    ]
    return daemon


@pytest.mark.parametrize("size", [(80, 24), (200, 50), (60, 15)])
async def test_the_card_looks_as_drawn(size: tuple[int, int]) -> None:
    """It says which run as of which record, what the fork takes over and asks anew, and what it would undo."""
    async with driven(refund_world(), size=size, area="runs") as shown:
        await on_page(shown)
        await shown.press("comma")
        await opened(shown)
        await shown.sees("nothing is sent before [Submit]", "as bob")
        await goldens.check(f"fork_card_{size[0]}x{size[1]}", shown)
        assert shown.app.screen.focused is None


async def test_a_run_is_forked_at_its_last_record() -> None:
    """LIVE it is the last record; without an id the daemon makes one. Leaving the card opens the new run's page, from
    which escape leads back."""
    daemon = refund_world()
    daemon.runs.append(run("7f3a2c:f10413", "refund_saga", ago=1))
    daemon.histories["7f3a2c:f10413"] = fork_history()
    async with driven(daemon, area="runs") as shown:
        page = await on_page(shown)
        await opened(shown)
        await shown.press("tab", "tab", *"again", "enter")
        assert daemon.acted == []
        await shown.press("tab", "enter", "enter")
        await shown.sees(
            "7f3a2c:f10413 is a fork of 7f3a2c at record 10413: journaled as record 10449.", "esc opens it"
        )
        assert [one[:3] for one in daemon.acted] == [("7f3a2c", "fork", {"at_seq": 10413, "reason": "again"})]
        await shown.press("escape")
        await shown.sees("run 7f3a2c:f10413", "fork of 7f3a2c at 10410", "lock_order", "psp_lookup")
        await shown.press("escape")
        await shown.until(lambda: shown.app.screen is page)


async def test_it_is_forked_in_the_past_and_under_a_name() -> None:
    """The record is the one that was travelled to, and stays so whatever the run does meanwhile."""
    daemon = refund_world()
    async with driven(daemon, area="runs", size=(120, 40)) as shown:
        await on_page(shown)
        await shown.press("comma", "comma")
        card = await opened(shown)
        await shown.sees("as it was at record 10411", "3 steps as done", "runs fork 7f3a2c --at 10411 --reason '...'")
        await shown.press("tab", *"mine", "tab", "x", "tab")
        await shown.sees("runtimed runs fork 7f3a2c --at 10411 --id mine --reason 'x'")
        await shown.press("enter")
        await shown.sees("mine is a fork of 7f3a2c at record 10411")
        assert (card.made, daemon.acted[0][2]) == ("mine", {"at_seq": 10411, "id": "mine", "reason": "x"})


async def test_a_run_that_is_over_is_forked_before_that() -> None:
    """At its end the card says why not, and how; before that it warns of what has been undone since, and forks."""
    daemon = ended_world()
    async with driven(daemon, area="runs", size=(120, 40)) as shown:
        await on_page(shown)
        await opened(shown)
        await shown.sees("nothing can be submitted: it cannot be forked at record 10417", "by record 10417 it was over")
        await shown.sees("travel back with , to", "record 10413, or before")
        await shown.press("tab", "enter", "escape")
        assert daemon.acted == []
        await shown.press(*["comma"] * 4)
        await opened(shown)
        await shown.sees("7f3a2c has undone fraud_check since")
        await shown.press("tab", "tab", "tab", "enter")
        await shown.sees("is a fork of 7f3a2c at record 10413")


@pytest.mark.parametrize("lose", ["before", "after"])
async def test_a_lost_connection_is_asked_about_and_never_sent_again(lose: str) -> None:
    """The answer is lost: the card looks for its key in the journal, and finds the new run's id with it."""
    daemon = refund_world()
    daemon.lose = lose
    async with driven(daemon, area="runs", size=(120, 40)) as shown:
        await on_page(shown)
        card = await opened(shown)
        await shown.press("tab", "tab", "tab", "enter")
        if lose == "after":
            await shown.sees("it did happen: 7f3a2c:f10413 is a fork of 7f3a2c at record 10413: journaled as record")
            assert card.made == "7f3a2c:f10413"
        else:
            await shown.sees("not in the journal yet, up to record 10448")
            assert card.made == ""
        assert len(daemon.acted) == 1


async def test_who_may_not_is_told_so() -> None:
    """A viewer, and a dashboard that was started read-only, see what would happen and submit nothing."""
    daemon = refund_world()
    daemon.caller = CallerView(by="uid:1009", level="viewer", roles=[], via="eve")
    async with driven(daemon, area="runs") as shown:
        await on_page(shown)
        await opened(shown)
        await shown.sees("nothing can be submitted: it needs the level operator, and uid:1009 is viewer")
        await shown.press("tab", "enter")
    async with driven(daemon, area="runs", read_only=True) as shown:
        await on_page(shown)
        await shown.press("comma")
        await opened(shown)
        await shown.sees("nothing can be submitted: this dashboard was started read-only")
        assert all(field.disabled for field in shown.app.screen.query("Field, Submit"))
    assert daemon.acted == []


async def test_the_key_is_told() -> None:
    """The help of a run's page names it, and the last line where there is room."""
    async with driven(refund_world(), area="runs", size=(120, 40)) as shown:
        await on_page(shown)
        await shown.sees("B fork here..")
        await shown.press("question_mark")
        await shown.sees("fork here..", "run.fork")


async def test_hostile_names_are_shown_and_never_act() -> None:
    """A run whose every name is hostile is forked like any other."""
    daemon = RunDaemon()
    tower = "".join(HOSTILE[:3])
    daemon.runs = [run("r", tower, "waiting", version=tower)]
    daemon.histories["r"] = [record(1, "run_started", 50, workflow=tower, input=tower)]
    for number, text in enumerate(HOSTILE, start=1):
        more = {"args": None, "undo": "undo_it"}
        daemon.histories["r"] += [
            record(number * 10, "step_scheduled", 50, f"{number}{text[:50]}", text, **more),
            record(number * 10 + 1, "step_completed", 49, f"{number}{text[:50]}", text, 1, result=text),
            record(number * 10 + 2, "approval_requested", 48, f"{number}a{text[:50]}", title=text),
        ]
    async with driven(daemon, area="runs", size=(80, 60), connected=False) as shown:
        await shown.until(lambda: shown.app.model.total == 1)
        await on_page(shown, "r")
        card = await opened(shown)
        await shown.press("tab")
        card.query_one("#new-id", Field).value = tower
        await shown.press("tab")
        assert not any((ord(char) < 32 and char != "\n") or 127 <= ord(char) < 160 for char in shown.text)
