"""One run on the screen: its calls in time, its pages, its past."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.tui import goldens
from tests.tui.driving import Driven, driven
from tests.tui.fake_daemon import at, event, run
from tests.tui.hostile import HOSTILE, ONE_MEGABYTE_LINE
from tests.tui.run_world import RunDaemon, detail, fork_history, record, refund_history, refund_world
from tui.run_pages import PAGES
from tui.screens.run_detail import RunDetailScreen

pytestmark = [pytest.mark.anyio, pytest.mark.slow]


async def opened(shown: Driven, run_id: str = "7f3a2c") -> RunDetailScreen:
    """The screen of a run, read."""
    screen = RunDetailScreen(run_id)
    shown.app.push_screen(screen)
    await shown.until(lambda: screen.detail is not None and len(screen.history) and not screen._loading)
    await shown.sees("time ")
    return screen


@pytest.mark.parametrize("size", [(80, 24), (200, 50), (60, 15)])
async def test_a_run_looks_as_drawn(size: tuple[int, int]) -> None:
    """Header, calls with attempts and folded idle time, undo list, page, journal and line of time, at each size."""
    async with driven(refund_world(), size=size, area="runs") as shown:
        await opened(shown)
        await shown.press("j")
        await shown.sees("psp_lookup", "LIVE")
        await goldens.check(f"run_{size[0]}x{size[1]}", shown)


async def test_attempts_tell_when_how_long_and_why() -> None:
    """The page of attempts names each try with its begin, its length, its end and the wait after it."""
    async with driven(refund_world(), area="runs", size=(100, 40)) as shown:
        await opened(shown)
        await shown.press("j")
        await shown.sees("[attempts]", "#1 ", "+2.0s", "TimeoutError: psp.example 202   backoff 1.0s", "#3 ", "ok")
        await shown.sees("one idempotency key on all 3 attempts")


async def test_pages_show_what_went_in_came_out_and_was_recorded() -> None:
    """Tab goes round the pages; each tells of the call at the cursor."""
    async with driven(refund_world(), area="runs", size=(100, 40)) as shown:
        screen = await opened(shown)
        await shown.press("j", "tab")
        await shown.sees("[input]", "991")
        await shown.press("tab")
        await shown.sees("[output]", '"charge": "ch_91xx"')
        await shown.press("tab")
        await shown.sees("[error]", "TimeoutError: psp.example 202")
        await shown.press("tab")
        await shown.sees("[journal]", "10404", "step_scheduled")
        await shown.press("tab")
        await shown.sees("[state]", "waits for", "approval approve_refund")
        await shown.press("tab")
        assert screen.page == PAGES[0]
        await shown.press("o")
        assert screen.page == "output"


async def test_time_travel_shows_the_run_as_it_was_and_back() -> None:
    """`,` and `.` go by records, `<` and `>` by changes of state; the head, the calls and the undos are of then; escape
    goes back to LIVE, and no action is offered of the past."""
    daemon = refund_world()
    async with driven(daemon, area="runs", size=(120, 40)) as shown:
        screen = await opened(shown)
        await shown.press("comma", "comma", "comma")
        await shown.sees("AS OF 10410", "runs in this order): psp_lookup -> lock_order", "o RUN   since")
        assert "approve_refund" not in shown.text.split("SEQ")[0]
        await shown.press("full_stop")
        await shown.sees("AS OF 10411")
        await shown.press("less_than_sign")
        await shown.sees("AS OF 10401")
        await shown.press("c")
        await shown.sees("this is the past")
        await shown.press("greater_than_sign")
        await shown.sees("]", "LIVE")
        assert screen.seq is None
        await shown.press("comma", "escape")
        assert screen.seq is None
        assert shown.app.screen is screen
        await shown.press("escape")
        assert shown.app.screen is not screen


async def test_a_seq_can_be_asked_for() -> None:
    """`@` takes a seq and goes to the last record up to it; what is no seq is told."""
    async with driven(refund_world(), area="runs", size=(120, 40)) as shown:
        await opened(shown)
        await shown.press("at", *"10405", "enter")
        await shown.sees("AS OF 10405", "~ RETRY")
        await shown.press("at", *"soon", "enter")
        await shown.sees("soon is no seq")


async def test_a_fork_shows_what_it_took_over() -> None:
    """Its page says what it is a fork of; the steps of its past have their attempts, results and records, and whose
    these were; travelling in time goes through its own records, and the one that holds the past is told in words."""
    daemon = refund_world()
    daemon.runs.append(run("again", "refund_saga", seq=10453))
    daemon.histories["again"] = fork_history()
    async with driven(daemon, area="runs", size=(140, 40)) as shown:
        await opened(shown, "again")
        await shown.sees("fork of 7f3a2c at 10410", "lock_order", "runs in this order): psp_lookup -> lock_order")
        await shown.sees('from 7f3a2c at record 10410, 8 records by uid:1002 "again"')
        await shown.press("j")
        await shown.sees("TimeoutError: late", "record 10409   in run 7f3a2c", "one idempotency key on all 2 attempts")
        await shown.press("o")
        await shown.sees('"charge": "ch_91xx"')
        await shown.press("tab", "tab")
        await shown.sees("[journal]", "10404  13:51:20Z  step_scheduled")
        await shown.press("j", *["shift+tab"] * 4)
        await shown.sees("it was not over where this run was forked", "under way")
        assert "one idempotency key" not in shown.text
        await shown.press(*["comma"] * 9)
        await shown.sees("AS OF 10449", "nothing has completed yet")
        await shown.press("full_stop")
        await shown.sees("AS OF 10450", "psp_lookup -> lock_order")


async def test_the_state_page_names_what_a_record_changed() -> None:
    """In the past, the state begins with the difference that the record made."""
    async with driven(refund_world(), area="runs", size=(120, 40)) as shown:
        screen = await opened(shown)
        await shown.press("comma", "comma")
        screen.action_open_page("state")
        await shown.sees("+ call 2", "fraud_check RUN -> DONE try 1", "+ undo")


async def test_wide_screens_show_state_and_record_beside_the_page() -> None:
    """From 160 columns the state and the record stand beside the page, and follow the time."""
    async with driven(refund_world(), area="runs", size=(200, 50)) as shown:
        await opened(shown)
        await shown.sees("State at 10413", "Record 10413 run_waiting")
        await shown.press("comma", "comma")
        await shown.sees("State at 10411", "Record 10411 step_completed", '"score": 0.08')


async def test_new_records_arrive_by_themselves() -> None:
    """What is committed while the run is looked at is read and shown; the past stays where we are."""
    daemon = refund_world()
    async with driven(daemon, area="runs", size=(100, 40)) as shown:
        screen = await opened(shown)
        await shown.press("comma")
        held = screen.seq
        more = record(10449, "approval_decided", 1, "3", approved=True, by="uid:1002")
        daemon.histories["7f3a2c"] = [*refund_history(), more]
        daemon.push(event(10449, "approval_decided", "7f3a2c", call="3", approved=True))
        await shown.until(lambda: len(screen.history) == 14)
        assert screen.seq == held
        await shown.press("escape")
        await shown.until(lambda: screen.picture().calls["3"].word == "DONE")


async def test_enter_gives_a_page_the_whole_screen() -> None:
    """A long payload is read on the whole screen: the first 4 KiB and its size at first, more with enter."""
    daemon = refund_world()
    daemon.details["7f3a2c"] = detail(daemon.runs[0])
    big = {"rows": [f"row {n:05}" for n in range(3_000)]}
    daemon.histories["7f3a2c"][8] = record(10409, "step_completed", 1311.5, "1", "psp_lookup", 3, result=big)
    async with driven(daemon, area="runs") as shown:
        screen = await opened(shown)
        await shown.press("j", "o")
        await shown.sees('"row 00000"')
        assert "row 00280" not in str(screen._page_rows.items)
        await shown.press("enter")
        await shown.until(lambda: screen.has_class("expanded") and len(screen._page_rows.items) > 3_000)
        await shown.press("G")
        await shown.sees("}")
        await shown.press("escape")
        await shown.until(lambda: not screen.has_class("expanded"))


async def test_a_run_that_does_not_exist_is_said_to() -> None:
    """A wrong id is told in the list and by a note; nothing breaks."""
    async with driven(refund_world(), area="runs") as shown:
        shown.app.push_screen(RunDetailScreen("nosuch"))
        await shown.sees("there is no run nosuch")


async def test_a_run_is_not_said_to_be_missing_when_nobody_answers() -> None:
    """That there is no such run only the daemon or its file can say; once it answers again the run is shown."""
    daemon = refund_world()
    async with driven(daemon, area="runs") as shown:
        daemon.go_down()
        await shown.sees("STALE")
        shown.app.push_screen(RunDetailScreen("7f3a2c"))
        await shown.sees("it cannot be read now")
        assert "there is no run" not in shown.text
        daemon.up = True
        await shown.sees("psp_lookup")


async def test_a_filter_leads_back_to_the_list() -> None:
    """`:runs st:fail` in a run is of the list; `/` has nothing to filter here, and asks nothing."""
    daemon = refund_world()
    daemon.runs.append(run("f00d", status="failed", ended_at=at(1)))
    async with driven(daemon, area="runs") as shown:
        screen = await opened(shown)
        await shown.press("slash")
        assert shown.app.screen is screen
        await shown.press("colon", *"runs", "space", *"st", "colon", *"fail", "enter")
        await shown.sees("filter: st:fail", "f00d")
        assert "7f3a2c" not in shown.text


async def test_actions_open_their_card() -> None:
    """Every action goes through the card; leaving it leaves the run as it was."""
    daemon = refund_world()
    async with driven(daemon, area="runs") as shown:
        await opened(shown)
        await shown.press("c")
        await shown.sees("cancel run 7f3a2c", "1  fraud_check")
        assert daemon.acted == []


@pytest.mark.parametrize("size", [(60, 15), (200, 50)])
async def test_hostile_histories_are_shown_and_never_act(size: tuple[int, int]) -> None:
    """Every field of every record full of what acts on terminals and markup, and a line of a megabyte: all pages of all
    calls and the past are walked without a crash and without a control character."""
    daemon = RunDaemon()
    tower = HOSTILE[0] + HOSTILE[1]
    daemon.runs = [run("r", tower, "blocked", version=tower, parent_id=tower, trace_id=tower)]
    history = [record(1, "run_started", 90, workflow=tower, input={tower: tower}, attributes={tower: tower})]
    for number, text in enumerate([*HOSTILE, ONE_MEGABYTE_LINE], start=1):
        error = {"type": text, "message": text, "traceback": text}
        history += [
            record(number * 10, "step_scheduled", 50, f"{number}{text[:50]}", text, args=[[text], {}], undo="undo_it"),
            record(number * 10 + 1, "step_failed", 49, f"{number}{text[:50]}", text, 1, error=error),
            record(number * 10 + 2, "signal_received", 48, None, text, value=text),
        ]
    daemon.histories["r"] = [*history, record(900, "run_blocked", 48, tower, code=tower, message=tower)]
    async with driven(daemon, area="runs", size=size, connected=False) as shown:
        await shown.until(lambda: shown.app.model.total == 1)
        screen = await opened(shown, "r")
        for _ in range(len(HOSTILE) + 1):
            for page in PAGES:
                screen.action_open_page(page)
                await shown.pilot.pause()
                assert not any((ord(char) < 32 and char != "\n") or 127 <= ord(char) < 160 for char in shown.text)
            await shown.press("comma", "j")


async def test_a_run_can_be_read_from_the_file(tmp_path: Path) -> None:
    """With the daemon away the same screen stands, and its actions say why they cannot be asked for."""
    daemon = refund_world()
    async with driven(daemon, area="runs") as shown:
        await opened(shown)
        daemon.go_down()
        await shown.sees("STALE")
        await shown.press("c")
        await shown.sees("nothing can be submitted: the daemon does not answer")
