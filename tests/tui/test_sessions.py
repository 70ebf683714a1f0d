"""Sessions, and who changed what."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from tests.tui import goldens
from tests.tui.driving import driven
from tests.tui.fake_daemon import event
from tests.tui.hostile import HOSTILE
from tests.tui.people_world import PeopleDaemon, sessions
from tui.audit import HELD_MAX, AuditTrail, entry_of
from wal.views import EventView

pytestmark = pytest.mark.anyio


def call(seq: int, action: str, target: str, **said: Any) -> EventView:
    """An audited call as the event stream tells it."""
    return event(seq, "call_audited", None, action=action, target=target, **said)


@pytest.fixture
def daemon() -> PeopleDaemon:
    world = PeopleDaemon()
    world.sessions = sessions()
    world.events = [
        call(11, "run.start", "7f3a2c", ago=90, by="uid:1000"),
        event(12, "step_completed", "7f3a2c", ago=80, name="charge"),
        call(13, "approval.approve", "812", ago=70, by="uid:1001", via="alice pts/1", reason="checked"),
        event(14, "approval_decided", "7f3a2c", ago=70, approved=True, by="uid:1001"),
        call(15, "run.pause", "19bc04", ago=60, by="uid:1001", reason="waiting for SRE"),
    ]
    world.seq = 15
    return world


@pytest.mark.slow
@pytest.mark.parametrize(("width", "height"), [(80, 24), (200, 50)])
async def test_the_sessions_look_like_their_sketch(daemon: PeopleDaemon, width: int, height: int) -> None:
    """The sessions above, below who changed what, with why; the thing at the cursor in full."""
    async with driven(daemon, size=(width, height), area="sessions") as shown:
        await shown.sees("s-ann", "approval.approve", "run.pause")
        await goldens.check(f"sessions_{width}x{height}", shown)


async def test_the_audit_tells_who_why_and_from_where(daemon: PeopleDaemon) -> None:
    """Tab goes to the audit, `a` gives it the screen; each change with its person, terminal and reason."""
    async with driven(daemon, area="sessions") as shown:
        await shown.sees("s-ann", "run.pause")
        await shown.press("tab", "j")
        await shown.sees("uid:1001 (alice pts/1) did approval.approve 812", 'saying "checked"')
        await shown.press("a")
        await shown.until(lambda: "s-ann" not in shown.text)
        await shown.press("escape")
        await shown.sees("s-ann")


async def test_new_changes_appear_by_themselves(daemon: PeopleDaemon) -> None:
    """The audit follows the events."""
    async with driven(daemon, area="sessions") as shown:
        await shown.sees("run.pause")
        daemon.push(call(16, "run.cancel", "19bc04", by="uid:0", reason="too late"))
        await shown.sees("run.cancel", "too late")


async def test_a_filter_goes_for_both(daemon: PeopleDaemon) -> None:
    """One line filters the sessions and the audit; empty lists say why."""
    async with driven(daemon, area="sessions") as shown:
        await shown.sees("s-ann")
        shown.app.area_screen.set_filter("bob")  # type: ignore[union-attr]
        await shown.sees("s-bob", "nobody changed anything in the last 5 records that matches")
        shown.app.area_screen.set_filter("SRE")  # type: ignore[union-attr]
        await shown.sees("no session matches SRE (2 exist) - esc clears the filter", "run.pause")


@pytest.mark.slow
async def test_hostile_sessions_and_reasons_are_shown_escaped(daemon: PeopleDaemon) -> None:
    """Ids, subjects, attributes, reasons and places from outside reach the screen as text."""
    for number, text in enumerate(HOSTILE):
        view = daemon.sessions[0]
        daemon.sessions.append(
            msgspec.structs.replace(
                view, id=f"{number}{text}"[:190], subject=text, tenant=text, attributes={text[:20]: text}
            )
        )
        daemon.events.append(call(16 + number, "run.pause", text[:99], by=text[:99], reason=text, via=text[:120]))
    daemon.seq = daemon.events[-1].seq
    async with driven(daemon, area="sessions") as shown:
        await shown.sees("s-ann")
        for key in ["j"] * len(daemon.sessions) + ["tab"] + ["j"] * len(HOSTILE):
            await shown.press(key)
            assert all(char.isprintable() or char == "\n" for char in shown.text)


async def test_only_what_somebody_did_is_in_the_audit() -> None:
    """Only audited calls count; the records of what they changed may name the same person and are no second deed."""
    assert entry_of(event(1, "step_completed", "r", name="charge")) is None
    assert entry_of(event(1, "run_paused", "r", by="uid:1")) is None
    entry = entry_of(call(1, "state.put", "global/limit", by="uid:1", via=7))
    assert entry is not None and entry[2:] == ("uid:1", "state.put", "global/limit", "", "")


async def test_the_trail_looks_at_each_event_once_and_is_bounded() -> None:
    """Fed with the same events again it says that there is nothing new."""
    trail = AuditTrail()
    events = [call(seq, "run.pause", "r", by="uid:1") for seq in range(1, HELD_MAX + 50)]
    assert trail.feed(events) and not trail.feed(events)
    assert len(trail.entries) == HELD_MAX and trail.entries[0].seq == HELD_MAX + 49


async def test_the_audit_of_a_journal_that_was_put_back_is_its_own() -> None:
    """After a restore the deeds of the other journal are gone, and those of this one are listed."""
    daemon = PeopleDaemon()
    daemon.events = [event(n, "call_audited", None, by="ann", action=f"old{n}") for n in range(1, 101)]
    daemon.seq = 100
    async with driven(daemon, area="sessions") as shown:
        await shown.sees("old100")
        daemon.go_down()
        await shown.sees("STALE")
        daemon.events = [event(n, "call_audited", None, by="bob", action=f"new{n}") for n in range(1, 41)]
        daemon.seq, daemon.up = 40, True
        await shown.sees("new40")
        assert "old" not in shown.text
