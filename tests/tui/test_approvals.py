"""The inbox of approvals: what it lists, in which order, and what it shows of each."""

from __future__ import annotations

import msgspec
import pytest

from runtimed.wire import CallerView
from tests.tui import goldens
from tests.tui.driving import driven
from tests.tui.fake_daemon import at
from tests.tui.hostile import HOSTILE
from tests.tui.people_world import PeopleDaemon, history, people_world
from tests.tui.screen_text import screen_lines
from tui.approval_text import Context, context_of, story_of, why_not_decide, wrap
from tui.format import cells, line_cells
from tui.glyphs import UTF8
from tui.screens.decision_card import DecisionCard

pytestmark = pytest.mark.anyio


@pytest.fixture
def daemon() -> PeopleDaemon:
    return people_world()


@pytest.mark.slow
@pytest.mark.parametrize(("width", "height"), [(80, 24), (200, 50), (60, 15)])
async def test_the_inbox_looks_like_its_sketch(daemon: PeopleDaemon, width: int, height: int) -> None:
    """What waits, what the one at the cursor asks, what was decided last: at each size that is promised."""
    async with driven(daemon, size=(width, height), area="approvals") as shown:
        await shown.sees("812", "it undoes", "mine 3")
        await goldens.check(f"approvals_{width}x{height}", shown)


async def test_what_expires_first_is_first(daemon: PeopleDaemon) -> None:
    """The order is that of the deadlines, those without one last; `s` takes waiting time and risk, `S` turns it."""
    async with driven(daemon, area="approvals") as shown:
        await shown.sees("815")

        def order() -> list[str]:
            return [line[7:15].strip() for line in screen_lines(shown.app)[4:7]]

        assert order() == ["812", "815", "809"]
        await shown.press("s")
        assert order() == ["809", "812", "815"]
        await shown.press("s")
        assert order() == ["812", "809", "815"]
        await shown.press("S")
        assert order() == ["815", "809", "812"]


async def test_mine_is_what_the_daemon_would_let_me_decide(daemon: PeopleDaemon) -> None:
    """`m` leaves what is open, for a group of mine, and not voted on by me; `m` or escape shows all again."""
    daemon.caller = CallerView(by="uid:1001", level="approver", roles=["ops"], via="alice pts/1")
    async with driven(daemon, area="approvals") as shown:
        await shown.sees("open 3  mine 2")
        await shown.press("m")
        await shown.sees("shown: mine")
        assert "refund EUR 1240.00 ord 991   " not in "\n".join(screen_lines(shown.app)[4:7])
        await shown.press("escape")
        await shown.sees("shown: open")


async def test_decided_ones_are_a_list_of_their_own(daemon: PeopleDaemon) -> None:
    """`h` lists what was decided: by whom, and how; opening one shows its card without fields."""
    async with driven(daemon, area="approvals") as shown:
        await shown.sees("812")
        await shown.press("h")
        await shown.sees("ANSWER", "DENY", "uid:1001")
        await shown.press("enter")
        await shown.until(lambda: isinstance(shown.app.screen, DecisionCard))
        await shown.sees("refused by uid:1001 (alice pts/1)", "duplicate of 801")
        assert "Decision" not in shown.text


async def test_a_filter_says_why_the_list_is_empty(daemon: PeopleDaemon) -> None:
    """Words, `risk:` and `role:` choose; nothing found names the filter and how to clear it."""
    async with driven(daemon, area="approvals") as shown:
        await shown.sees("812")
        shown.app.area_screen.set_filter("risk:high role:ops")  # type: ignore[union-attr]
        await shown.sees("refund EUR 1240.00")
        assert "deploy billing" not in shown.text
        shown.app.area_screen.set_filter("nowhere")  # type: ignore[union-attr]
        await shown.sees("nothing matches nowhere (3 open) - esc clears the filter")


async def test_a_new_request_appears_by_itself(daemon: PeopleDaemon) -> None:
    """A request that arrives is listed without a key; nothing opens."""
    late = daemon.approvals.pop(0)
    async with driven(daemon, area="approvals") as shown:
        await shown.sees("open 2")
        daemon.approvals.insert(0, late)
        daemon.put(late)
        await shown.sees("open 3", "refund EUR 1240.00")
        assert shown.app.area_screen is shown.app.screen


async def test_an_empty_inbox_says_so() -> None:
    """Nobody is asked: said in words."""
    async with driven(PeopleDaemon(), area="approvals") as shown:
        await shown.sees("nobody is asked for anything")


@pytest.mark.slow
@pytest.mark.parametrize("width", [80, 200])
async def test_hostile_text_is_shown_escaped_everywhere(daemon: PeopleDaemon, width: int) -> None:
    """Titles, details, reasons, names and roles from outside reach the screen as text, counted, and break nothing."""
    for number, text in enumerate(HOSTILE):
        view = daemon.approvals[0]
        vote = msgspec.structs.replace(view.votes[0], by=text, reason=text, via=text)
        detail = msgspec.Raw(msgspec.json.encode({text[:50] or "x": text}))
        more = {"title": text, "detail": detail, "votes": [vote], "roles": [text], "workflow": text, "risk": text[:9]}
        daemon.approvals.append(msgspec.structs.replace(view, id=str(900 + number), expires_at=at(-number), **more))
    async with driven(daemon, size=(width, 30), area="approvals") as shown:
        await shown.sees("open 17")
        for _ in HOSTILE:
            await shown.press("j")
            assert all(char.isprintable() or char == "\n" for char in shown.text)


# --- the pure half ----------------------------------------------------------------------------------------------------


async def test_a_run_s_records_say_what_a_no_would_undo() -> None:
    """Completed steps, the last first; what is undone already, and what a run before it did, is not among them."""
    told = context_of(
        history(
            ("run_started", None, None, {"by": "uid:7"}),
            ("step_completed", "1", "reserve", {}),
            ("run_started", None, None, {"by": "uid:8"}),
            ("step_completed", "1", "lock", {}),
            ("step_completed", "2", "charge", {}),
            ("compensation_completed", "2!", "charge", {}),
            ("compensation_added", "3", "tell", {}),
        )
    )
    assert told.starter == "uid:8"
    assert told.undo == ("tell", "lock")


async def test_what_a_fork_took_over_a_no_would_undo_too() -> None:
    """The steps of its past are its own; who asked for the fork is who started it."""
    past = [
        [1, 5, {"kind": "run_started", "id": "r", "workflow": "w", "input": None, "by": "uid:7"}],
        [2, 6, {"kind": "step_scheduled", "key": "0", "name": "lock", "args": None}],
        [3, 7, {"kind": "step_completed", "key": "0", "name": "lock", "result": 1}],
    ]
    told = context_of(
        history(
            ("run_started", None, None, {"by": "uid:8"}),
            ("run_forked", None, None, {"from_id": "r", "from_seq": 3, "past": past}),
            ("step_scheduled", "1", "charge", {}),
        )
    )
    assert (told.starter, told.undo, told.steps) == ("uid:8", ("lock",), (("lock", "DONE"), ("charge", "RUN")))


async def test_the_reason_why_one_may_not_decide_is_named() -> None:
    """Level, group, four eyes, a vote given: each in a sentence that says what is missing."""
    view = people_world().view("812")
    bob = CallerView(by="uid:1002", level="approver", roles=["ops"], via=None)
    known = Context(True, "uid:1000")
    assert why_not_decide(view, bob, known) == ""
    assert "level approver; uid:1002 is viewer" in why_not_decide(view, _with(bob, level="viewer"), known)
    assert why_not_decide(view, _with(bob, roles=["finance"]), known) == "this is for ops; uid:1002 is in finance"
    assert "no group" in why_not_decide(view, _with(bob, roles=[]), known)
    assert "different people" in why_not_decide(view, _with(bob, by="uid:1001"), known)
    four = msgspec.structs.replace(view, four_eyes=True)
    assert "somebody else must decide" in why_not_decide(four, _with(bob, by="uid:1000"), known)
    assert why_not_decide(view, None, known) == ""


def _with(caller: CallerView, **changes: object) -> CallerView:
    return msgspec.structs.replace(caller, **changes)


async def test_a_large_payload_is_cut_and_said_to_be() -> None:
    """The first 4 KiB with the whole size and the command that shows all."""
    view = msgspec.structs.replace(people_world().view("812"), detail=msgspec.Raw(b'"' + b"y" * 100_000 + b'"'))
    lines = ["".join(piece.text for piece in line) for line in story_of(view, Context(), 0, 80, UTF8)]
    assert lines[-1] == " first 4.0k of 98kB; all of it: runtimed approvals show 812"
    assert len(lines) < 80


async def test_lines_are_as_wide_as_they_are_told() -> None:
    """Wrapping counts cells, not characters, and loses nothing."""
    assert wrap("one two three four", 9, 9) == ["one two", "three", "four"]
    assert all(cells(line) <= 10 for line in wrap("漢字" * 20, 10, 99))
    assert "".join(wrap("x" * 95, 10, 99)) == "x" * 95
    rules = [line for line in story_of(people_world().view("812"), Context(), 0, 70, UTF8) if line[0].look == "frame"]
    assert [line_cells(line) for line in rules] == [70]
