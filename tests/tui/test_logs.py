"""The log: by level and by what it is about, followed until somebody moves."""

from __future__ import annotations

import pytest

from tests.tui import goldens
from tests.tui.driving import driven
from tests.tui.fake_daemon import event, run
from tests.tui.hostile import HOSTILE, ONE_MEGABYTE_LINE
from tests.tui.people_world import PeopleDaemon
from tests.tui.screen_text import screen_lines
from tui.screens.run_detail import RunDetailScreen

pytestmark = pytest.mark.anyio


@pytest.fixture
def daemon() -> PeopleDaemon:
    world = PeopleDaemon()
    boom = {
        "type": "Boom",
        "message": "card declined",
        "traceback": "Traceback:\n  flows.py, in charge\nBoom: declined",
    }
    world.events = [
        event(11, "daemon_started", ago=100, version="0.1.0"),
        event(12, "run_started", "7f3a2c", ago=90, workflow="checkout", by="uid:1000"),
        event(13, "step_scheduled", "7f3a2c", ago=80, name="charge"),
        event(14, "step_failed", "7f3a2c", ago=70, name="charge", error=boom),
        event(15, "run_failed", "7f3a2c", ago=60, workflow="checkout", error=boom),
        event(16, "session_opened", ago=50, id="s-1", by="uid:1000"),
    ]
    world.seq = 16
    return world


@pytest.mark.slow
@pytest.mark.parametrize(("width", "height"), [(80, 24), (200, 50)])
async def test_the_log_looks_like_its_sketch(daemon: PeopleDaemon, width: int, height: int) -> None:
    """Time, level, what it is about, the run, what happened; the one at the cursor in full below."""
    async with driven(daemon, size=(width, height), area="logs") as shown:
        await shown.sees("session opened", "card declined")
        await goldens.check(f"logs_{width}x{height}", shown)


async def test_levels_and_sources_choose(daemon: PeopleDaemon) -> None:
    """`l` goes through the levels, `s` through what there is; the first line says how many are hidden."""
    async with driven(daemon, area="logs") as shown:
        await shown.sees("session opened")
        assert "step scheduled" not in shown.text
        await shown.press("l")
        await shown.sees("level>=WARN", "2 lines, 4 hidden")
        await shown.press("l", "l")
        await shown.sees("level>=DEBUG", "step scheduled", "6 lines, 0 hidden")
        await shown.press("s", "s")
        await shown.sees("src:run", "2 lines, 4 hidden")


async def test_the_log_of_one_run(daemon: PeopleDaemon) -> None:
    """`L` on a run shows its lines and no others, also where an id begins like another's."""
    daemon.runs = [run("7f3a2c"), run("7f3")]
    daemon.events.append(event(17, "run_cancel_requested", "7f3", ago=40, by="uid:1000"))
    daemon.seq = 17
    async with driven(daemon) as shown:
        shown.app.jump("run 7f3a2c")
        await shown.until(lambda: isinstance(shown.app.screen, RunDetailScreen))
        await shown.press("L")
        await shown.sees("filter: run:7f3a2c", "step failed", "run failed", "3 lines, 4 hidden")
        shown.app.jump("logs run:7f3 cancel")
        await shown.sees("filter: run:7f3 cancel", "1 lines, 6 hidden")


async def test_e_goes_to_the_next_error_and_enter_shows_its_traceback(daemon: PeopleDaemon) -> None:
    """Errors are found by a key; a traceback is shown line by line."""
    async with driven(daemon, area="logs") as shown:
        await shown.sees("session opened")
        await shown.press("e")
        assert screen_lines(shown.app)[4].startswith("> ") and "ERROR" in screen_lines(shown.app)[4]
        await shown.press("enter")
        await shown.sees("flows.py, in charge", "Boom: declined")
        await shown.press("escape")
        await shown.press("e")
        await shown.until(lambda: any("no more errors" in note.message for note in shown.app._notifications))


async def test_standing_still_only_counts_what_is_new(daemon: PeopleDaemon) -> None:
    """A move ends following; `f` goes on with the newest."""
    async with driven(daemon, area="logs") as shown:
        await shown.sees("session opened")
        await shown.press("j")
        daemon.push(event(17, "session_closed", id="s-1"))
        await shown.sees("follow off (1 new)")
        assert "session closed" not in shown.text
        await shown.press("f")
        await shown.sees("session closed", "follow ON")


async def test_log_and_journal_lead_to_each_other(daemon: PeopleDaemon) -> None:
    """`J` stands on the same record in the journal, `L` on the same in the log."""
    async with driven(daemon, area="logs") as shown:
        await shown.sees("session opened")
        await shown.press("e", "J")
        await shown.sees("[7 Jrnl]", "15 run_failed")
        await shown.press("L")
        await shown.sees("[8 Logs]", "record 15")


@pytest.mark.slow
async def test_hostile_lines_are_shown_escaped(daemon: PeopleDaemon) -> None:
    """Errors and tracebacks from outside, and a line of a megabyte, reach the screen as text."""
    for number, text in enumerate([*HOSTILE, ONE_MEGABYTE_LINE]):
        error = {"type": text[:80], "message": text, "traceback": f"{text}\n{text}"}
        daemon.events.append(event(17 + number, "run_failed", text[:60], name=text, workflow=text[:60], error=error))
    daemon.seq = daemon.events[-1].seq
    async with driven(daemon, area="logs") as shown:
        await shown.sees("run failed")
        for key in ["enter", *["j"] * (len(HOSTILE) + 1)]:
            await shown.press(key)
            assert all(char.isprintable() or char == "\n" for char in shown.text)
