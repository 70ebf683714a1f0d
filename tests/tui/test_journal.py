"""The journal: any length, by seq, the newest first; a record whole, with its place in the chain."""

from __future__ import annotations

import asyncio
import contextlib
import sqlite3
from pathlib import Path

import pytest

from tests.tui import goldens
from tests.tui.driving import driven
from tests.tui.fake_daemon import event
from tests.tui.hostile import HOSTILE, ONE_MEGABYTE_LINE
from tests.tui.journals import small_journal
from tests.tui.people_world import PeopleDaemon, records
from tests.tui.screen_text import screen_lines
from tui.chain_figure import chain_figure
from tui.screens.journal import JournalScreen
from tui.seq_rows import HELD_MAX, SeqRows

pytestmark = pytest.mark.anyio


@pytest.fixture
def daemon() -> PeopleDaemon:
    world = PeopleDaemon()
    world.events = records(1, 1_000)
    world.seq = 1_000
    world.figures["db_bytes"] = 1_200_000_000
    return world


def screen_of(shown: object) -> JournalScreen:
    screen = shown.app.area_screen  # type: ignore[attr-defined]
    assert isinstance(screen, JournalScreen)
    return screen


@pytest.mark.slow
@pytest.mark.parametrize(("width", "height"), [(80, 24), (200, 50)])
async def test_the_journal_looks_like_its_sketch(daemon: PeopleDaemon, width: int, height: int) -> None:
    """The newest records with time, kind, run, size and a summary; the one at the cursor below or beside."""
    async with driven(daemon, size=(width, height), area="journal") as shown:
        await shown.sees("step1000", "step990", "not seen from here")
        await goldens.check(f"journal_{width}x{height}", shown)


async def test_following_stays_at_the_newest_until_somebody_moves(daemon: PeopleDaemon) -> None:
    """New records push down; a move stands still and counts what is new; `f` goes on with the newest."""
    async with driven(daemon, area="journal") as shown:
        await shown.sees("step1000", "follow ON")
        daemon.push(event(1_001, "run_paused", "7f3a2c", reason="first"))
        await shown.sees("reason=first")
        assert ">    1001" in screen_lines(shown.app)[4]
        await shown.press("j")
        await shown.sees("follow off")
        daemon.push(event(1_002, "run_resumed", "7f3a2c", reason="second"))
        await shown.sees("follow off (1 new)")
        assert "reason=second" not in "\n".join(screen_lines(shown.app)[4:])
        await shown.press("f")
        await shown.sees("follow ON", "reason=second")


async def test_the_far_end_is_asked_for_when_it_is_looked_at(daemon: PeopleDaemon) -> None:
    """The last row is record 1, read in a page around what is on screen."""
    async with driven(daemon, area="journal") as shown:
        await shown.sees("step1000")
        await shown.press("G")
        await shown.sees("step11", "1 step_completed")
        assert screen_of(shown).selected_id() == "1"


async def test_a_record_is_jumped_to_by_its_seq(daemon: PeopleDaemon) -> None:
    """`:seq 500` stands on record 500; a number beyond the end is said to be."""
    async with driven(daemon, area="journal") as shown:
        await shown.sees("step1000")
        shown.app.jump("seq 500")
        await shown.sees("step500", "step495")
        assert screen_of(shown).selected_id() == "500"
        shown.app.jump("seq 5000")
        await shown.until(lambda: any("there is no record 5000" in note.message for note in shown.app._notifications))


async def test_enter_shows_a_record_whole(daemon: PeopleDaemon) -> None:
    """Laid out as JSON, with the list above; enter or escape brings the list back."""
    daemon.events.append(event(1_001, "step_failed", "7f3a2c", error={"type": "Boom", "message": "x" * 500}))
    daemon.seq = 1_001
    async with driven(daemon, area="journal") as shown:
        await shown.sees("step_failed")
        await shown.press("enter")
        await shown.sees('"type": "Boom"')
        await shown.press("escape")
        await shown.sees("step991")


async def test_a_filter_looks_at_what_is_held_and_says_so(daemon: PeopleDaemon) -> None:
    """Kinds, runs, names and data; how many of how many."""
    async with driven(daemon, area="journal") as shown:
        await shown.sees("step1000")
        screen_of(shown).set_filter("step77")
        await shown.sees("step777", "of the last")
        assert "step1000" not in shown.text
        screen_of(shown).set_filter("nowhere")
        await shown.sees("records matches nowhere - esc clears")
        screen_of(shown).set_filter("")
        await shown.sees("step1000")


@pytest.mark.slow
async def test_hostile_records_are_shown_escaped(daemon: PeopleDaemon) -> None:
    """Names, kinds, runs and data from outside, and a line of a megabyte, reach the screen as text."""
    for number, text in enumerate([*HOSTILE, ONE_MEGABYTE_LINE]):
        daemon.events.append(
            event(1_001 + number, "step_failed", text[:60], name=text, by=text, error={"message": text})
        )
    daemon.seq = daemon.events[-1].seq
    async with driven(daemon, area="journal") as shown:
        await shown.sees("step_failed")
        for _ in range(len(HOSTILE) + 1):
            await shown.press("enter")
            assert all(char.isprintable() or char == "\n" for char in shown.text)
            await shown.press("escape", "j")
            assert all(char.isprintable() or char == "\n" for char in shown.text)


async def test_a_page_comes_although_records_go_on_to_come(daemon: PeopleDaemon) -> None:
    """What is drawn meanwhile does not ask for the same page anew, which would put the question aside each time."""
    async with driven(daemon, area="journal") as shown:
        await shown.sees("step1000")
        daemon.answers_held = held = asyncio.Event()
        shown.app.jump("seq 300")
        await shown.until(lambda: screen_of(shown)._coming is not None)
        pages = [worker for worker in screen_of(shown).workers if worker.group == "page"]
        for seq in range(1_001, 1_004):
            daemon.push(event(seq, "step_completed", "7f3a2c", call="0", name=f"step{seq}"))
            await shown.sees(f"off ({seq - 1_000} new)")
        assert [worker for worker in screen_of(shown).workers if worker.group == "page"] == pages
        held.set()
        await shown.sees("step300")


async def test_a_journal_that_was_put_back_shows_nothing_of_the_other(daemon: PeopleDaemon) -> None:
    """After a restore, whose records have seqs that were seen before, the list and what comes are of the new one."""
    async with driven(daemon, area="journal") as shown:
        await shown.sees("step1000")
        shown.app.jump("seq 30")
        await shown.sees("step30")
        daemon.go_down()
        await shown.sees("STALE")
        daemon.events = [event(seq, "step_completed", "r1", call="0", name=f"new{seq}") for seq in range(1, 41)]
        daemon.seq, daemon.up = 40, True
        await shown.sees("new40")
        assert "step30" not in shown.text
        daemon.push(event(41, "run_paused", "r1", reason="first"))
        await shown.sees("reason=first")


# --- the rows, pure ---------------------------------------------------------------------------------------------------


async def test_only_a_window_of_the_journal_is_held() -> None:
    """A million records cost two thousand; what is far from the screen is forgotten and asked for again."""
    rows = SeqRows(lambda e: [str(e.seq)], lambda seq: [f"gone {seq}"])
    rows.head = 1_000_000
    for first in range(0, 500_000, 190):
        wanted = rows.wanted(first, first + 20)
        if wanted is not None:
            upto, count = wanted
            rows.put(upto, count, records(max(1, upto - count + 1), min(count, upto)))
        assert rows.cells(first) is not None
        assert len(rows._events) <= HELD_MAX
    assert rows.key(0) is None
    assert rows.number_of("1000000") == 0 and rows.number_of("1000001") is None


async def test_records_that_are_not_kept_hold_their_place() -> None:
    """What retention removed is a row that says so, and is not asked for again."""
    rows = SeqRows(lambda e: [str(e.seq)], lambda seq: [f"gone {seq}"])
    rows.head = 10
    rows.put(10, 200, records(6, 5))
    assert rows.cells(9) == ["gone 1"]
    assert rows.wanted(0, 9) is None


async def test_what_is_coming_is_not_asked_for_again() -> None:
    """A range that was asked for counts as held until it comes, unless more than it is on screen."""
    rows = SeqRows(lambda e: [str(e.seq)], lambda seq: [f"gone {seq}"])
    rows.head = 1_000
    coming = rows.wanted(500, 520)
    assert coming == (550, 200)
    assert rows.wanted(510, 530, coming) is None
    assert rows.wanted(640, 660, coming) == (410, 200)


# --- the chain --------------------------------------------------------------------------------------------------------


async def test_a_record_s_digest_is_computed_anew(tmp_path: Path) -> None:
    """The figure says whether a record and the digest before it give its digest; a changed body shows as broken."""
    path = tmp_path / "data" / "journal.db"
    path.parent.mkdir()
    small_journal(path)
    whole = await chain_figure(None, path, 2, "ok", "x")
    assert whole.look == "good" and whole.text.endswith("chain ok")
    with contextlib.closing(sqlite3.connect(path)) as db, db:
        db.execute("update records set at = at + 1 where seq = 2")
    assert (await chain_figure(None, path, 2, "ok", "x")).text.endswith("chain x BROKEN")
    assert (await chain_figure(None, path, 9_999, "ok", "x")).text == "chain: not in the file"
    assert (await chain_figure(None, None, 2, "ok", "x")).text == "chain: not seen from here"
