"""The frame that all areas share: keys, tabs, header, help, jump, themes, freezing."""

from __future__ import annotations

from itertools import pairwise

import pytest
from textual.binding import Binding

from tests.tui.driving import driven
from tests.tui.fake_daemon import NOW, FakeDaemon, approval, at, event, run
from tests.tui.screen_text import screen_lines
from tui.areas import AREAS
from tui.jump import Jump
from tui.palette import Palette
from tui.screens.help import Help

pytestmark = pytest.mark.anyio


@pytest.fixture
def daemon() -> FakeDaemon:
    fake = FakeDaemon()
    fake.runs = [run("r1"), run("r2", status="waiting", waiting_on="timer", waiting_until=None)]
    return fake


@pytest.mark.slow
async def test_a_number_and_a_function_key_go_to_each_area(daemon: FakeDaemon) -> None:
    """Keys 1 to 8 and F1 to F8 show the eight areas, the tab of the current one in brackets."""
    async with driven(daemon) as shown:
        for area in AREAS:
            for key in (str(area.number), f"f{area.number}"):
                await shown.press(key)
                await shown.sees(f"[{area.number} {area.short}")
                assert shown.app.current_mode == area.name


async def test_a_click_on_a_tab_goes_there(daemon: FakeDaemon) -> None:
    """The mouse does what the number does."""
    async with driven(daemon) as shown:
        column = screen_lines(shown.app)[1].index("4 Actors")
        await shown.pilot.click(offset=(column + 2, 1))
        await shown.sees("[4 Actors]")


async def test_the_header_tells_the_daemon_and_the_stream(daemon: FakeDaemon) -> None:
    """Line 1: the daemon's word, its host, our rights, the runs, what needs people, how fresh it all is, the time."""
    daemon.approvals = [approval("812", "refund EUR 1240.00")]
    async with driven(daemon) as shown:
        await shown.sees("appr 1!")
        assert screen_lines(shown.app)[0].startswith("runtimed ● READY  testhost  rw │ run 2  appr 1!")
        assert screen_lines(shown.app)[0].endswith("LIVE 14:13Z")


@pytest.mark.slow
async def test_every_area_opens_on_an_empty_daemon() -> None:
    """Nothing there is no reason to break: each area says so in words."""
    async with driven(FakeDaemon()) as shown:
        for area in AREAS:
            await shown.press(str(area.number))
            await shown.sees(f"[{area.number} ")


async def test_help_lists_the_live_keys(daemon: FakeDaemon) -> None:
    """`?` shows what the keys do here, each with the id under which it can be changed; escape leaves it."""
    async with driven(daemon) as shown:
        await shown.press("8", "question_mark")
        await shown.sees("NAME FOR KEYMAP", "logs.follow", "list.down")
        await shown.press("escape")
        await shown.until(lambda: "NAME FOR KEYMAP" not in shown.text)


async def test_jump_goes_where_it_says(daemon: FakeDaemon) -> None:
    """`:` takes an area with a filter; what is no place is told, and nothing moves."""
    async with driven(daemon) as shown:
        await shown.press("colon", *"runs", "space", *"st", "colon", *"wait", "enter")
        await shown.sees("[2 Runs]", "filter: st:wait")
        await shown.press("colon", *"nowhere", "enter")
        await shown.sees("no such place: nowhere")


async def test_frozen_screens_stand_still_and_count(daemon: FakeDaemon) -> None:
    """`p` holds the screen still while data goes on to arrive, and says how much came; `p` again shows it."""
    async with driven(daemon) as shown:
        await shown.press("p")
        daemon.push(event(11, "run_completed", "r1"), event(12, "run_started", "r3", id="r3", workflow="refund"))
        await shown.sees("PAUSED 2 new")
        assert "run 2" in shown.text
        await shown.press("p")
        await shown.until(lambda: "PAUSED" not in shown.text)


async def test_themes_go_round(daemon: FakeDaemon) -> None:
    """`T` walks our themes, the colour-blind and the high-contrast one among them, and ends where it began."""
    async with driven(daemon) as shown:
        seen = []
        for _ in range(5):
            await shown.press("T")
            seen.append(shown.app.theme)
        assert sorted(seen) == sorted(
            {"runtimed-dark", "runtimed-light", "runtimed-cb", "runtimed-hc", "runtimed-ansi"}
        )


async def test_a_keymap_moves_keys(daemon: FakeDaemon) -> None:
    """Every key has an id by which it can be moved."""
    async with driven(daemon, keymap={"area.runs": "r"}) as shown:
        await shown.press("r")
        await shown.sees("[2 Runs]")


@pytest.mark.slow
async def test_every_key_of_ours_has_an_id(daemon: FakeDaemon) -> None:
    """No key without a name to move it by, on any area."""
    async with driven(daemon) as shown:
        nameless = set()
        for area in AREAS:
            await shown.press(str(area.number))
            for active in shown.app.screen.active_bindings.values():
                ours = {b.action for b in type(active.node).__dict__.get("BINDINGS", ()) if isinstance(b, Binding)}
                if (
                    active.binding.id is None
                    and active.node.__module__.startswith("tui.")
                    and active.binding.action in ours
                ):
                    nameless.add((area.name, active.binding.action))
        assert nameless == set()


async def test_ascii_has_no_other_characters(daemon: FakeDaemon) -> None:
    """With `--ascii` the frame of the screen is ASCII from edge to edge."""
    async with driven(daemon, ascii=True) as shown:
        await shown.sees("READY")
        assert {char for char in shown.text if not char.isascii()} == set()


@pytest.mark.parametrize("size", [(60, 15), (79, 20), (80, 24), (120, 30), (200, 50)])
@pytest.mark.slow
async def test_every_size_shows_the_areas(daemon: FakeDaemon, size: tuple[int, int]) -> None:
    """From 60x15 to 200x50 each area draws, no line wider than the screen."""
    async with driven(daemon, size=size) as shown:
        for area in AREAS:
            await shown.press(str(area.number))
            await shown.sees(str(area.number))
            assert all(len(line) <= size[0] for line in screen_lines(shown.app))


async def test_a_tiny_screen_says_so_and_lives(daemon: FakeDaemon) -> None:
    """Below 60x15 one line says what is needed; growing again brings all back."""
    async with driven(daemon) as shown:
        await shown.pilot.resize_terminal(50, 10)
        await shown.sees("too small for panes: 50x10, need 60x15")
        await shown.pilot.resize_terminal(80, 24)
        await shown.until(lambda: "too small" not in shown.text)


async def test_the_palette_stays_off_what_has_rules_of_its_own(daemon: FakeDaemon) -> None:
    """Over a card, a prompt or a help `ctrl+p` does nothing, nor without room; over an area it opens, once."""
    async with driven(daemon) as shown:
        await shown.press("question_mark", "ctrl+p")
        assert isinstance(shown.app.screen, Help)
        await shown.press("escape", "ctrl+p", "ctrl+p")
        assert [type(screen) for screen in shown.app.screen_stack][1:] == [Palette]
        await shown.pilot.resize_terminal(50, 4)
        await shown.until(lambda: len(shown.app.screen_stack) == 1)
        await shown.press("ctrl+p", "pagedown")
        assert len(shown.app.screen_stack) == 1


async def test_a_choice_does_not_come_over_what_was_opened_after_it(daemon: FakeDaemon) -> None:
    """A run that was chosen is not shown over the palette that was opened at once after it."""
    async with driven(daemon, area="runs") as shown:
        shown.app.go(Jump("runs", target="r1"))
        shown.app.action_command_palette()
        await shown.pilot.pause(0.1)
        assert isinstance(shown.app.screen, Palette)


async def test_what_is_left_twice_takes_nothing_along(daemon: FakeDaemon) -> None:
    """A second key that leaves, before the first was done, does not take down the screen below."""
    async with driven(daemon) as shown:
        for opens in ("question_mark", "colon", "ctrl+p"):
            await shown.press(opens)
            left = shown.app.screen
            left.dismiss(None)
            left.dismiss(None)
            await shown.pilot.pause()
            assert shown.app.area_screen is shown.app.screen


async def test_at_rest_it_draws_every_ten_seconds_and_each_second_where_something_ends(daemon: FakeDaemon) -> None:
    """A minute after the last record no age is exact to the second: one tick in ten draws. The clock's minute, and what
    ends within ten seconds, are drawn when they are due."""
    passed, drawn = [0], list[int]()
    async with driven(daemon, now=lambda: NOW + passed[0] * 1_000_000) as shown:
        app = shown.app
        app.area_screen.show = lambda change: None if change else drawn.append(passed[0])

        def ticks(first: int, last: int) -> list[int]:
            drawn.clear()
            for passed[0] in range(first, last):
                app._tick()
            return list(drawn)

        assert ticks(1, 59) == list(range(1, 59))
        quiet = ticks(61, 400)
        assert all(second in quiet for second in range(100, 400, 60))  # NOW is twenty seconds past the minute
        assert max(later - sooner for sooner, later in pairwise(quiet)) <= 10
        assert len(quiet) <= 34 + 6
        daemon.approvals = [approval("1", "refund", expires_at=at(-450))]
        app.model.put_approvals(daemon.approvals)
        assert set(range(441, 450)) <= set(ticks(400, 470))
