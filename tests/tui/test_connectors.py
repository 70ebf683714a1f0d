"""The connectors: how each stands, live, and the cards that steer them."""

from __future__ import annotations

import time
from pathlib import Path

import msgspec
import pytest
from msgspec import Raw

from runtimed.wire import CallerView
from tests.tui import goldens
from tests.tui.connector_world import ConnectorDaemon, connector
from tests.tui.driving import Driven, driven
from tests.tui.fake_daemon import event
from tests.tui.hostile import HOSTILE
from tests.tui.journals import Writer
from tests.tui.people_world import PeopleDaemon
from tui.offline import open_file
from tui.screens.card_base import DONE, OPEN
from tui.screens.connector_card import ConnectorCard
from wal import records
from wal.queries import Reader

pytestmark = pytest.mark.anyio


@pytest.fixture
def daemon() -> ConnectorDaemon:
    return ConnectorDaemon()


async def opened(shown: Driven, *keys: str) -> ConnectorCard:
    """The card that these keys open, once it takes keys."""
    await shown.press(*keys)
    await shown.until(lambda: isinstance(shown.app.screen, ConnectorCard) and shown.app.screen.armed)
    card = shown.app.screen
    assert isinstance(card, ConnectorCard)
    return card


# --- what is shown ----------------------------------------------------------------------------------------------------


async def test_an_empty_list_says_why() -> None:
    """No app declares a connector: said in words, with what follows from it."""
    async with driven(PeopleDaemon(), area="connectors") as shown:
        await shown.sees("0 connectors", "none configured: no app declares one, so nothing polls")


@pytest.mark.slow
@pytest.mark.parametrize(("width", "height"), [(80, 24), (200, 50)])
async def test_the_connectors_look_like_their_sketch(daemon: ConnectorDaemon, width: int, height: int) -> None:
    """Counts, a line each, and the one at the cursor: last error, backoff, handoff, totals."""
    async with driven(daemon, size=(width, height), area="connectors") as shown:
        await shown.sees("charges", "1 backoff")
        await shown.press("j")
        await shown.sees("503 from api.hubapi.com")
        await goldens.check(f"connectors_{width}x{height}", shown)


async def test_a_sentence_says_why_it_does_not_poll(daemon: ConnectorDaemon) -> None:
    """Each state has its reason and what would wake it."""
    async with driven(daemon, size=(120, 40), area="connectors") as shown:
        for words in (
            "It waits for its time",
            "It waits after 4 failures in a row",
            "It is quarantined: its code crashed again and again",
            "It is paused: a person held it",
            "Its breaker is open after 9 failures in a row",
            "It does not poll: its source sends to it",
        ):
            await shown.sees(words)
            await shown.press("j")


async def test_a_filter_goes_over_name_kind_and_status(daemon: ConnectorDaemon) -> None:
    """An empty find says how many there are."""
    async with driven(daemon, size=(120, 30), area="connectors") as shown:
        await shown.sees("charges", "crm")
        screen = shown.app.area_screen
        assert screen is not None
        screen.set_filter("paused")
        await shown.sees("people", "filter: paused")
        assert "charges" not in shown.text
        screen.set_filter("nothing")
        await shown.sees("no connector matches nothing (6 exist) - esc clears the filter")


@pytest.mark.slow
async def test_hostile_names_errors_and_cursors_are_shown_escaped(daemon: ConnectorDaemon) -> None:
    """What a source says reaches the screen as text, in the list, the pane and the card."""
    for number, text in enumerate(HOSTILE):
        cursor = Raw(msgspec.json.encode({"at": text}))
        daemon.connectors.append(
            connector(f"h{number}{text}"[:190], text[:90], "backoff", last_error=text, cursor=cursor, deliver=text[:90])
        )
    async with driven(daemon, area="connectors") as shown:
        await shown.sees("charges")
        for _ in range(len(daemon.connectors)):
            await shown.press("j")
            assert all(char.isprintable() or char == "\n" for char in shown.text)
        await opened(shown, "n")
        assert all(char.isprintable() or char == "\n" for char in shown.text)


async def test_the_overview_tells_who_is_not_well(daemon: ConnectorDaemon) -> None:
    """Health has a line for connectors; one that is quarantined needs a person, and enter leads to it."""
    daemon.connectors = daemon.connectors[:3]
    async with driven(daemon, size=(200, 50)) as shown:
        await shown.sees("conn 1 ok, 1 quarantined (bank), 1 backoff (crm)")
        await shown.sees("bank KeyError: 'iban'", "quarantined: resume it")
        await shown.press("enter")
        await shown.sees("It is quarantined")


# --- live -------------------------------------------------------------------------------------------------------------


async def test_records_of_connectors_reach_the_screen(daemon: ConnectorDaemon) -> None:
    """A cursor that advances, a hold, a quarantine: seen without a key."""
    async with driven(daemon, size=(120, 30), area="connectors") as shown:
        await shown.sees("ch_9")
        daemon.put("charges", cursor=Raw(b'{"id":"ch_12"}'), records_total=1240)
        daemon.push(event(11, "cursor_advanced", connector="charges", cursor={"id": "ch_12"}, records=6))
        await shown.sees("ch_12", "1 240 records")
        daemon.put("charges", status="quarantined", last_error="KeyError: 'vat'")
        error = {"type": "KeyError", "message": "'vat'"}
        daemon.push(event(12, "connector_quarantined", connector="charges", error=error, crashes=5))
        await shown.sees("2 quarantined", "KeyError: 'vat'")


async def test_many_records_ask_for_the_connectors_once_a_second(daemon: ConnectorDaemon) -> None:
    """However many records come, the connectors are asked for at most once a second, and once after the last."""
    async with driven(daemon, size=(120, 30), area="connectors") as shown:
        await shown.sees("ch_9")
        before, began = daemon.asked.count("connectors"), time.monotonic()
        daemon.put("crm", status="ok", lag=0.0, failures=0)
        daemon.put("charges", records_total=1434)
        for seq in range(11, 211):
            daemon.push(event(seq, "cursor_advanced", connector="charges", cursor=seq, records=1))
        await shown.sees("1 434 records", "3 ok")
        asked, seconds = daemon.asked.count("connectors") - before, time.monotonic() - began
        assert asked <= 3 + 2 * seconds  # those for the other figures among them


@pytest.mark.slow
async def test_a_failed_poll_shows_though_it_is_no_record(daemon: ConnectorDaemon) -> None:
    """Polls that bring nothing are not journaled: with the other figures the connectors are asked for too."""
    async with driven(daemon, size=(120, 30), area="connectors") as shown:
        await shown.sees("2 ok  1 backoff")
        daemon.put("charges", status="backoff", failures=1, last_error="dns: no such host")
        daemon.push(event(11, "daemon_started", version="1", pid=1))
        await shown.sees("1 ok  2 backoff", "dns: no such host")


# --- the cards --------------------------------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize(
    ("moves", "key", "verb", "name", "words"),
    [
        ("", "n", "poll", "charges", "It polls at once"),
        ("", "z", "pause", "charges", "It polls no more until it is resumed"),
        ("jjj", "Z", "resume", "people", "It polls again from where it stands"),
        ("jj", "Z", "resume", "bank", "If its code still crashes, it is quarantined"),
    ],
)
async def test_steering_goes_through_a_card(
    daemon: ConnectorDaemon, moves: str, key: str, verb: str, name: str, words: str
) -> None:
    """The key opens a card that says what will happen; only Submit asks for it, once, with the reason."""
    async with driven(daemon, size=(100, 30), area="connectors") as shown:
        await shown.sees("charges")
        await opened(shown, *moves, key)
        await shown.sees(words, f"runtimed connectors {verb} {name}")
        assert daemon.steered == []
        await shown.press("tab", *"audit is on", "enter", "tab", "enter")
        await shown.until(lambda: isinstance(shown.app.screen, ConnectorCard) and shown.app.screen.phase == DONE)
        assert daemon.steered == [(verb, name, {"reason": "audit is on"})]


@pytest.mark.slow
async def test_setting_a_cursor_shows_the_dry_run_first(daemon: ConnectorDaemon) -> None:
    """The daemon says what the typed cursor would do; JSON and a reason are required; then it is set, once."""
    async with driven(daemon, size=(100, 30), area="connectors") as shown:
        await shown.sees("charges")
        card = await opened(shown, "C")
        await shown.sees("With null for the cursor:", "It reads on from null.")
        await shown.press("tab", *"[4", "tab", "tab", "enter")
        await shown.sees("the cursor is not JSON")
        await shown.press("tab", "end", "]")
        await shown.sees("It reads on from [4].", "--cursor '[4]'")
        await shown.press("tab", "tab", "enter")
        await shown.sees("a reason of 8 characters or more is required")
        assert daemon.steered == [] and card.phase == OPEN
        await shown.press("shift+tab", *"read them again", "tab", "enter")
        await shown.sees("set the cursor of charges: journaled as record 11")
        assert daemon.steered == [("reset", "charges", {"cursor": [4], "reason": "read them again"})]
        await shown.press("escape")
        await shown.sees("[4]")


@pytest.mark.slow
async def test_a_cursor_of_the_wrong_type_is_told_before_it_is_sent(daemon: ConnectorDaemon) -> None:
    """What the daemon refuses in the dry run stands on the card."""
    async with driven(daemon, size=(100, 30), area="connectors") as shown:
        await shown.sees("charges")
        await opened(shown, "j", "j", "C")
        await shown.press("tab", *'"wrong"')
        await shown.sees("What it would do is not known: the cursor of bank is an int")
        assert daemon.steered == []


@pytest.mark.slow
@pytest.mark.parametrize(
    ("lose", "key", "sentence", "phase", "asked"),
    [
        ("after", "z", "it did happen: journaled as record 11", DONE, 1),
        ("before", "z", "not in the journal yet, up to record 10", OPEN, 1),
        ("after", "n", "whether it was asked to poll is not known", OPEN, 1),
    ],
)
async def test_a_lost_answer_is_looked_for(
    daemon: ConnectorDaemon, lose: str, key: str, sentence: str, phase: str, asked: int
) -> None:
    """A change is found in the journal by its key and never sent again; a poll may be asked for again."""
    daemon.lose = lose
    async with driven(daemon, size=(100, 30), area="connectors") as shown:
        await shown.sees("charges")
        card = await opened(shown, key)
        await shown.press("tab", "tab", "enter")
        await shown.sees(sentence)
        assert card.phase == phase
        assert sum(what in ("pause charges", "poll charges") for what in daemon.asked) == asked


@pytest.mark.parametrize(
    ("moves", "key", "words"),
    [
        ("jjj", "z", "people: it is paused already"),
        ("jjj", "n", "people: it is paused: resume it first"),
        ("", "Z", "charges: it is neither paused nor quarantined"),
        ("jjjjj", "C", "hooks: its source sends to it"),
    ],
)
async def test_what_makes_no_sense_has_no_card(daemon: ConnectorDaemon, moves: str, key: str, words: str) -> None:
    """It is said why instead."""
    async with driven(daemon, size=(120, 30), area="connectors") as shown:
        await shown.sees("charges")
        await shown.press(*moves, key)
        await shown.sees(words)
        assert shown.app.area_screen is shown.app.screen


@pytest.mark.slow
async def test_without_rights_the_card_says_which_is_missing(daemon: ConnectorDaemon) -> None:
    """Steering needs the level operator."""
    daemon.caller = CallerView(by="uid:7", level="viewer", roles=[], via=None)
    async with driven(daemon, area="connectors") as shown:
        await shown.sees("charges")
        await opened(shown, "z")
        await shown.sees("it needs the level operator, and uid:7 is viewer")


# --- the file ---------------------------------------------------------------------------------------------------------


@pytest.fixture
def journal(tmp_path: Path) -> Path:
    """A journal in which one connector has read, and one is held."""
    folder = tmp_path / "data"
    folder.mkdir()
    writer = Writer(folder / "journal.db")
    writer.write(0, records.CursorAdvanced("charges", Raw(b'{"id":"ch_9"}'), "stripe", 12))
    writer.write(0, records.ConnectorPaused("crm", "uid:1", "audit"))
    writer.write(0, records.CursorAdvanced("nightly", Raw(b"1"), "schedule", 1))
    writer.close()
    return writer.path


async def test_the_file_says_what_the_journal_says(journal: Path) -> None:
    """Cursor, totals and what is held, as the journal's own reader tells them."""
    file = await open_file(journal)
    with Reader.open(journal) as reader:
        told = [row.view() for row in reader.connectors()]
        assert await file.connectors() == [view for view in told if view.kind != "schedule"]
    assert [(view.name, view.status) for view in await file.connectors()] == [("charges", "ok"), ("crm", "paused")]
    await file.close()


@pytest.mark.slow
async def test_without_a_daemon_the_file_is_shown(journal: Path) -> None:
    """Where each stands, why nothing polls, and no card that could change it; what only a daemon counts is not 0."""
    daemon = ConnectorDaemon()
    daemon.up = False
    async with driven(daemon, journal=journal, connected=False, size=(120, 30), area="connectors") as shown:
        await shown.sees("ch_9", "2 connectors", "starting the daemon wakes it")
        row, totals = (
            next(line for line in shown.text.splitlines() if word in line) for word in ("> charges", "totals")
        )
        assert row.split()[-1] == "-" and " ".join(totals.split()) == "totals 12 records 0 repeated 0 refused"
        assert "failures in a row" not in shown.text
        await opened(shown, "z")
        await shown.sees("nothing can be submitted")
