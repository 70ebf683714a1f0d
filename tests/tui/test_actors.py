"""The supervision tree: who is up, what a restart takes along, and the card for it."""

from __future__ import annotations

import msgspec
import pytest

from runtimed.wire import CallerView
from tests.tui import goldens
from tests.tui.driving import driven
from tests.tui.hostile import HOSTILE
from tests.tui.people_world import PeopleDaemon, actor_tree
from tests.tui.screen_text import screen_lines
from tui.actor_tree import figures_of, restarted_with, rows_of
from tui.screens.card_base import DONE, OPEN
from tui.screens.restart_card import RestartCard

pytestmark = pytest.mark.anyio


@pytest.fixture
def daemon() -> PeopleDaemon:
    world = PeopleDaemon()
    world.actors = actor_tree()
    return world


@pytest.mark.slow
@pytest.mark.parametrize(("width", "height"), [(80, 24), (200, 50)])
async def test_the_tree_looks_like_its_sketch(daemon: PeopleDaemon, width: int, height: int) -> None:
    """Policy, state, restarts, mailbox and last error of each; the one at the cursor in full."""
    async with driven(daemon, size=(width, height), area="actors") as shown:
        await shown.sees("timers")
        await shown.press("j", "j", "j")
        await shown.sees("ConnectionReset")
        await goldens.check(f"actors_{width}x{height}", shown)


async def test_a_branch_folds_and_all_can_be_flat(daemon: PeopleDaemon) -> None:
    """Space folds what is below; `v` lists all by their paths, what suffers most first."""
    async with driven(daemon, area="actors") as shown:
        await shown.sees("timers")
        await shown.press("j", "j", "space")
        assert [line.split()[0] for line in screen_lines(shown.app)[4:7]] == ["v", "journal", ">"]
        await shown.press("space", "v")
        await shown.sees("flat")
        listed = [line.lstrip("> ").split()[0] for line in screen_lines(shown.app)[4:7]]
        assert listed == ["root/engine/timers", "root/sessions", "root"]


@pytest.mark.slow
async def test_a_restart_goes_through_a_card(daemon: PeopleDaemon) -> None:
    """The card names whom it takes along; only Submit asks for it, once."""
    async with driven(daemon, area="actors") as shown:
        await shown.sees("timers")
        await shown.press("j", "j", "j", "b")
        await shown.until(lambda: isinstance(shown.app.screen, RestartCard) and shown.app.screen.armed)
        await shown.sees("root/engine/coordinator", "with the same idempotency key")
        await shown.press("tab", *"stuck since noon", "enter", "tab", "enter")
        await shown.sees("root/engine/timers is asked to restart")
        assert daemon.restarted == [("root/engine/timers", "stuck since noon")]


@pytest.mark.slow
@pytest.mark.parametrize(("lose", "sentence"), [("after", "did restart"), ("before", "no restart is seen")])
async def test_a_lost_answer_is_looked_for_in_the_tree(daemon: PeopleDaemon, lose: str, sentence: str) -> None:
    """A restart is no record: the tree's own figures say whether it happened, and nothing is sent again."""
    daemon.lose = lose
    async with driven(daemon, area="actors") as shown:
        await shown.sees("timers")
        await shown.press("j", "j", "j", "b")
        await shown.until(lambda: isinstance(shown.app.screen, RestartCard) and shown.app.screen.armed)
        await shown.press("tab", "tab", "enter")
        await shown.sees(sentence)
        card = shown.app.screen
        assert isinstance(card, RestartCard)
        assert card.phase == (DONE if lose == "after" else OPEN)
        assert daemon.asked.count("restart root/engine/timers") == 1


@pytest.mark.slow
async def test_without_rights_the_card_says_which_is_missing(daemon: PeopleDaemon) -> None:
    """A restart needs the level admin."""
    daemon.caller = CallerView(by="uid:7", level="operator", roles=[], via=None)
    async with driven(daemon, area="actors") as shown:
        await shown.sees("timers")
        await shown.press("j", "j", "j", "b")
        await shown.sees("it needs the level admin, and uid:7 is operator")


async def test_the_root_and_the_journal_have_no_card(daemon: PeopleDaemon) -> None:
    """They are restarted with the daemon only, and the screen says so."""
    async with driven(daemon, area="actors") as shown:
        await shown.sees("timers")
        await shown.press("b")
        await shown.press("j", "b")
        await shown.sees("daemon only")
        assert shown.app.area_screen is shown.app.screen


@pytest.mark.slow
async def test_hostile_errors_are_shown_escaped(daemon: PeopleDaemon) -> None:
    """What an exception says reaches the screen as text."""
    daemon.actors += [
        msgspec.structs.replace(daemon.actors[3], path=f"root/h{number}", last_error=text, statistics={text[:40]: text})
        for number, text in enumerate(HOSTILE)
    ]
    async with driven(daemon, area="actors") as shown:
        await shown.sees("timers")
        for _ in range(len(daemon.actors)):
            await shown.press("j")
            assert all(char.isprintable() or char == "\n" for char in shown.text)


async def test_whom_a_restart_takes_along_follows_the_strategy() -> None:
    """One for all takes the siblings, rest for one those started later, each with all below it."""
    tree = actor_tree()
    assert restarted_with(tree, "root/engine/timers") == ["root/engine/timers", "root/engine/coordinator"]
    assert restarted_with(tree, "root/engine") == [
        "root/engine",
        "root/engine/timers",
        "root/engine/coordinator",
        "root/sessions",
    ]
    assert restarted_with(tree, "root") == [actor.path for actor in tree]
    assert [row.depth for row in rows_of(tree, {"root/engine"})] == [0, 1, 1, 1]


async def test_figures_are_told_in_words() -> None:
    """Histograms as their count and mean; what is no figure is left out."""
    assert figures_of(
        {"a": 1, "h": {"count": 4, "total": 0.01}, "n": None, "l": [1], "e": {"count": 0, "total": 0}}
    ) == [
        ("a", "1"),
        ("h", "4 of 0.0025 on average"),
    ]
