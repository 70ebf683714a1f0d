"""The list of runs: filter, pages, sorting, marks, preview, and the cards it opens."""

from __future__ import annotations

import asyncio
import resource
import time

import pytest

from tests.tui import goldens
from tests.tui.driving import Driven, driven
from tests.tui.fake_daemon import event, run
from tests.tui.hostile import HOSTILE
from tests.tui.run_world import RunDaemon, record, refund_world
from tests.tui.screen_text import screen_lines
from tui.screens import runs as runs_screen
from tui.screens.action_card import ActionCard
from tui.screens.runs import RunsScreen
from tui.widgets.virtual_list import MarkingList
from wal.views import ErrorView

pytestmark = [pytest.mark.anyio, pytest.mark.slow]


@pytest.fixture(autouse=True)
def _at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing waits for the cursor to rest."""
    monkeypatch.setattr(runs_screen, "PREVIEW_DELAY_SECONDS", 0.001)
    monkeypatch.setattr(runs_screen, "FILL_DELAY_SECONDS", 0.001)


def listing(shown: Driven) -> MarkingList:
    return shown.app.screen.query_one("#runs", MarkingList)


def rows(shown: Driven) -> list[str]:
    found = listing(shown)
    return [key for number in range(found.rows.count()) if (key := found.rows.key(number)) is not None]


async def filtered(shown: Driven, text: str) -> None:
    screen = shown.app.screen
    assert isinstance(screen, RunsScreen)
    screen.set_filter(text)
    await shown.until(lambda: not screen._fetching)


@pytest.mark.parametrize("size", [(80, 24), (200, 50), (60, 15)])
async def test_the_list_looks_as_drawn(size: tuple[int, int]) -> None:
    """At each size every state has its glyph, word and place, and the run at the cursor says why it waits."""
    async with driven(refund_world(), size=size, area="runs") as shown:
        await shown.sees("APPR")
        if size[0] >= 80:
            await shown.sees(
                "lock_order", "psp_lookup", "waits for people to decide", "approve_refund", "wire_transfer"
            )
        await shown.pilot.pause(0.1)
        await goldens.check(f"runs_{size[0]}x{size[1]}", shown)


async def test_a_filter_that_is_wrong_is_told_and_not_followed() -> None:
    """The list stays as it is; the message names what means nothing."""
    async with driven(refund_world(), area="runs") as shown:
        await shown.sees("7f3a2c")
        await filtered(shown, "st:nonsense")
        await shown.sees("filter: st:live", "no state begins with")


async def test_an_empty_list_says_why() -> None:
    """What matches nothing says what was asked and how many there are; escape clears it."""
    async with driven(refund_world(), area="runs") as shown:
        await filtered(shown, "st:cancelled")
        await shown.sees("no runs match st:cancelled (9 exist) - esc clears the filter")
        await shown.press("escape")
        await shown.sees("d00d01")


async def test_patterns_are_held_against_the_rows() -> None:
    """`wf:` with a star and `id:` select among the rows that the daemon gives."""
    async with driven(refund_world(), area="runs") as shown:
        await filtered(shown, "wf:*_saga")
        await shown.until(lambda: rows(shown) == ["7f3a2c", "8810b1", "bada55", "d00d01"])
        await filtered(shown, "id:5d1")
        await shown.until(lambda: rows(shown) == ["5d1e90", "5d1e77"])


async def test_a_search_by_rows_reads_so_far_and_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    """A pattern that is rare does not read a hundred thousand rows by itself: it says how far it read, `M` reads on."""
    monkeypatch.setattr(runs_screen, "SCAN_PAGE", 10)
    monkeypatch.setattr(runs_screen, "SCAN_ROWS_MAX", 50)
    daemon = RunDaemon()
    daemon.runs = [run(f"r{n:04}", "rare" if n == 95 else "common", ago=n) for n in range(400)]
    async with driven(daemon, area="runs") as shown:
        await filtered(shown, "wf:ra*")
        await shown.sees("found in 50 of 400, M reads on")
        assert rows(shown) == []
        await shown.press("M")
        await shown.until(lambda: rows(shown) == ["r0095"])


async def test_changes_reach_the_list() -> None:
    """A run that ends leaves the live ones, one that starts comes on top."""
    daemon = refund_world()
    async with driven(daemon, area="runs") as shown:
        await shown.sees("8810b1")
        daemon.push(
            event(10449, "run_completed", "8810b1", workflow="order_saga", result=None),
            event(10450, "run_started", "newone", workflow="order_saga", id="newone", ago=0.5),
        )
        await shown.until(lambda: rows(shown)[0] == "newone" and "8810b1" not in rows(shown))


async def test_a_page_that_is_not_given_is_not_asked_for_in_a_loop() -> None:
    """While nobody answers the list asks now and then, and says that it was not read; it comes when the daemon does."""
    daemon = refund_world()
    async with driven(daemon) as shown:
        daemon.go_down()
        await shown.sees("STALE")
        daemon.asked.clear()
        await shown.press("2")
        await shown.sees("not read")
        await shown.pilot.pause(0.5)
        assert daemon.asked.count("runs") < 8  # the link's own attempts among them
        daemon.up = True
        await shown.sees("8810b1")


async def test_what_happens_while_the_page_is_on_its_way_is_in_the_list() -> None:
    """A run that ends, and one that starts, after the page was read and before it came, are as they are."""
    daemon = RunDaemon()
    daemon.runs = [run("r1"), run("r2")]
    async with driven(daemon) as shown:
        daemon.answers_held = held = asyncio.Event()
        daemon.asked.clear()
        await shown.press("2")
        await shown.until(lambda: "runs" in daemon.asked)
        daemon.push(event(11, "run_completed", "r1"), event(12, "run_started", "r3", id="r3", ago=0.0))
        await shown.until(lambda: shown.app.model.seq == 12)
        daemon.answers_held = None
        held.set()
        await shown.until(lambda: rows(shown) == ["r3", "r2"])


async def test_sorting_is_of_what_is_held() -> None:
    """Few runs sort by any column; of more than are held, newest first is all there is, and it says so."""
    async with driven(refund_world(), area="runs") as shown:
        await shown.sees("c0ffee")
        await shown.press("s")
        await shown.sees("sort oldest")
        assert rows(shown)[0] == "a11ce0"
        await shown.press("S")
        await shown.sees("sort newest")
    daemon = RunDaemon()
    daemon.runs = [run(f"r{n}", ago=n) for n in range(500)]
    async with driven(daemon, area="runs") as shown:
        await shown.sees("r1")
        await shown.press("s")
        await shown.sees("sort newest", "too many")


async def test_marks_are_counted_and_outlive_their_page() -> None:
    """Marks stay while the list changes, their number on screen; escape clears marks before the filter."""
    async with driven(refund_world(), area="runs") as shown:
        await shown.sees("8810b1")
        await shown.press("space", "j", "asterisk")
        await shown.sees("3 marked")
        await filtered(shown, "st:done")
        await shown.sees("3 marked")
        await shown.press("escape")
        await shown.until(lambda: "marked" not in shown.text)
        assert "filter: st:done" in shown.text


async def test_the_card_is_about_those_marked_else_about_the_cursor() -> None:
    """An action opens a card, it does nothing by itself; the card names whom it will ask."""
    daemon = refund_world()
    async with driven(daemon, area="runs") as shown:
        await shown.sees("8810b1")
        await shown.press("z")
        await shown.sees("pause run 7f3a2c")
        await shown.until(lambda: isinstance(shown.app.screen, ActionCard) and shown.app.screen.armed)
        await shown.press("escape")
        await shown.press("space", "space", "z")
        await shown.sees("pause 2 runs", "ASKED OF  2 runs of 2 marked")
        assert daemon.acted == []


async def test_problems_only_is_a_key() -> None:
    """`!` shows what is blocked or failed, and again what is live."""
    async with driven(refund_world(), area="runs") as shown:
        await shown.press("exclamation_mark")
        await shown.until(lambda: rows(shown) == ["5d1e77", "c0ffee"])
        await shown.press("exclamation_mark")
        await shown.until(lambda: len(rows(shown)) == 8)


async def test_without_colour_and_in_ascii_the_states_read_the_same() -> None:
    """Glyph and word carry the state; ASCII has its own glyphs."""
    async with driven(refund_world(), area="runs", ascii=True, color=False) as shown:
        await shown.sees("? APPR", "% DOUBT", "< COMP")
        assert all(line.isascii() for line in screen_lines(shown.app))


@pytest.mark.parametrize("size", [(60, 15), (80, 24), (200, 50)])
async def test_hostile_text_is_shown_and_never_acts(size: tuple[int, int]) -> None:
    """Names, attributes, errors and histories full of control characters and markup: escaped, no crash, lines whole."""
    daemon = RunDaemon()
    for number, text in enumerate(HOSTILE):
        error = ErrorView(text, text, text) if number % 2 else None
        one = run(
            f"r{number}", text, "blocked" if error else "waiting", error=error, version=text, attributes={text: text}
        )
        daemon.runs.append(one)
        daemon.histories[one.id] = [
            record(1, "run_started", 50, workflow=text, input=text),
            record(2, "step_scheduled", 50, text, text, args=[[text], {}]),
            record(3, "step_failed", 49, text, text, 1, error={"type": text, "message": text}),
            record(4, "run_waiting", 40, on="signal", calls=[{"key": "9", "kind": "signal", "name": text}]),
        ]
    async with driven(daemon, area="runs", size=size, connected=False) as shown:
        await shown.sees("r0")
        for _ in HOSTILE:
            await shown.press("j")
            await shown.pilot.pause(0.02)
            text = shown.text
            assert not any((ord(char) < 32 and char != "\n") or 127 <= ord(char) < 160 for char in text)
            assert "\u202e" not in text and "\u200b" not in text


async def test_a_hundred_thousand_runs_open_at_once() -> None:
    """The list of 100,000 runs is on screen within 250 ms of the key, for less than 90 MB; walking on reads pages, and
    no more than 2,000 rows are kept."""
    daemon = RunDaemon()
    daemon.runs = [run(f"r{n:06}", "bulk", "waiting", ago=n, waiting_on="timer") for n in range(100_000)]
    async with driven(daemon, size=(80, 24)) as shown:
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        start = time.process_time()  # what it costs: the time on the wall is that of the others too
        await shown.pilot.press("2")
        await shown.until(lambda: "r000000" in shown.text)
        took = time.process_time() - start
        assert took < 2.0, f"{took:.3f} s"  # 0.25 on a machine of its own; tests share theirs
        assert "100 000 of 100 000" in shown.text
        screen = shown.app.screen
        assert isinstance(screen, RunsScreen)
        for turn in range(30):
            await shown.press("G")
            await shown.until(lambda turn=turn: len(screen.index) >= 200 * (turn + 2))
        assert len(screen.index) > 4_000
        assert screen.index.held <= 2_200
        assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 90 * 1024
        await shown.press("g")
        await shown.sees("r000000")


async def test_what_happened_out_of_sight_is_read_when_the_list_is_shown_again() -> None:
    """Where not every open run is held, a run far down that ended while another area was shown is not live any more,
    and no run is counted twice."""
    daemon = RunDaemon()
    daemon.runs = [run(f"r{n:04}", ago=n + 1.0) for n in range(2_300)]
    async with driven(daemon, area="runs") as shown:
        await shown.sees("r0000")
        screen = shown.app.screen
        assert isinstance(screen, RunsScreen)
        await shown.until(lambda: screen.index.held)
        while screen.index.more:
            held = len(screen.index)
            await shown.press("G")
            await shown.until(lambda held=held: len(screen.index) > held)
        await shown.press("G")
        await shown.sees("r2299")
        daemon.push(*(event(11 + n, "step_scheduled", f"r{n:04}", call="0", name="s") for n in range(30)))
        await shown.until(lambda: shown.app.model.seq == 40)
        await shown.press("1")
        daemon.runs[-1] = run("r2299", status="completed", ago=2_300.0, seq=41)
        daemon.push(event(41, "run_completed", "r2299"))
        await shown.until(lambda: shown.app.model.seq == 41)
        await shown.press("2")
        await shown.until(lambda: screen.index.get("r2299") is None)
        assert (len(screen.index), screen.index.total) == (2_299, 2_299)


async def test_what_the_events_did_not_tell_is_read_from_the_history() -> None:
    """A run that stands since before we listened shows its step and what it waits for all the same."""
    daemon = RunDaemon()
    daemon.runs = [run("old", "deploy", "waiting", waiting_on="signal")]
    daemon.histories["old"] = [
        record(1, "run_started", 900, workflow="deploy", input=None),
        record(2, "run_waiting", 900, on="signal", calls=[{"key": "0", "kind": "signal", "name": "go"}]),
    ]
    async with driven(daemon, area="runs") as shown:
        await shown.sees("signal go")


async def test_a_copied_command_names_the_run() -> None:
    """`y` takes the id, `Y` the command line that shows the same."""
    async with driven(refund_world(), area="runs", place="--data-dir /srv/d") as shown:
        await shown.sees("8810b1")
        await shown.press("y")
        assert shown.app.clipboard == "7f3a2c"
        await shown.press("Y")
        assert shown.app.clipboard == "runtimed runs show 7f3a2c --data-dir /srv/d"
