"""Sessions, and who changed what."""

from __future__ import annotations

import msgspec
import pytest

from tests.tui import goldens
from tests.tui.driving import driven
from tests.tui.fake_daemon import event
from tests.tui.hostile import HOSTILE
from tests.tui.people_world import PeopleDaemon, sessions
from tui.audit import HELD_MAX, AuditTrail, entry_of

pytestmark = pytest.mark.anyio


@pytest.fixture
def daemon() -> PeopleDaemon:
    world = PeopleDaemon()
    world.sessions = sessions()
    world.events = [
        event(11, "run_started", "7f3a2c", ago=90, by="uid:1000"),
        event(12, "step_completed", "7f3a2c", ago=80, name="charge"),
        event(13, "approval_voted", "7f3a2c", ago=70, approve=True, by="uid:1001", via="alice pts/1", reason="checked"),
        event(14, "approval_decided", "7f3a2c", ago=70, approved=True, by="uid:1001"),
        event(15, "run_paused", "19bc04", ago=60, by="uid:1001", reason="waiting for SRE"),
    ]
    world.seq = 15
    return world


@pytest.mark.slow
@pytest.mark.parametrize(("width", "height"), [(80, 24), (200, 50)])
async def test_the_sessions_look_like_their_sketch(daemon: PeopleDaemon, width: int, height: int) -> None:
    """The sessions above, below who changed what, with why; the thing at the cursor in full."""
    async with driven(daemon, size=(width, height), area="sessions") as shown:
        await shown.sees("s-ann", "approval.APPROVE", "run.paused")
        await goldens.check(f"sessions_{width}x{height}", shown)


async def test_the_audit_tells_who_why_and_from_where(daemon: PeopleDaemon) -> None:
    """Tab goes to the audit, `a` gives it the screen; each change with its person, terminal and reason."""
    async with driven(daemon, area="sessions") as shown:
        await shown.sees("s-ann", "run.paused")
        await shown.press("tab", "j")
        await shown.sees("uid:1001 (alice pts/1) did approval.APPROVE 7f3a2c", 'saying "checked"')
        await shown.press("a")
        assert "s-ann" not in shown.text
        await shown.press("escape")
        await shown.sees("s-ann")


async def test_new_changes_appear_by_themselves(daemon: PeopleDaemon) -> None:
    """The audit follows the events."""
    async with driven(daemon, area="sessions") as shown:
        await shown.sees("run.paused")
        daemon.push(event(16, "run_cancel_requested", "19bc04", by="uid:0", reason="too late"))
        await shown.sees("run.cancel_requested", "too late")


async def test_a_filter_goes_for_both(daemon: PeopleDaemon) -> None:
    """One line filters the sessions and the audit; empty lists say why."""
    async with driven(daemon, area="sessions") as shown:
        await shown.sees("s-ann")
        shown.app.area_screen.set_filter("bob")  # type: ignore[union-attr]
        await shown.sees("s-bob", "nobody changed anything in the last 5 records that matches")
        shown.app.area_screen.set_filter("SRE")  # type: ignore[union-attr]
        await shown.sees("no session matches SRE (2 exist) - esc clears the filter", "run.paused")


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
        daemon.events.append(event(16 + number, "run_paused", text[:99], by=text[:99], reason=text, via=text[:120]))
    daemon.seq = daemon.events[-1].seq
    async with driven(daemon, area="sessions") as shown:
        await shown.sees("s-ann")
        for key in ["j"] * len(daemon.sessions) + ["tab"] + ["j"] * len(HOSTILE):
            await shown.press(key)
            assert all(char.isprintable() or char == "\n" for char in shown.text)


async def test_only_what_somebody_did_is_in_the_audit() -> None:
    """Records without a person are left out, and what only follows from one is not told twice."""
    assert entry_of(event(1, "step_completed", "r", name="charge")) is None
    assert entry_of(event(1, "approval_decided", "r", approved=True, by="uid:1")) is None
    assert entry_of(event(1, "run_paused", "r", by=7)) is None
    entry = entry_of(event(1, "state_written", None, name="limit", scope="global", by="uid:1"))
    assert entry is not None and (entry.deed, entry.what, entry.name) == ("state.written", "global", "limit")


async def test_the_trail_looks_at_each_event_once_and_is_bounded() -> None:
    """Fed with the same events again it says that there is nothing new."""
    trail = AuditTrail()
    events = [event(seq, "run_paused", "r", by="uid:1") for seq in range(1, HELD_MAX + 50)]
    assert trail.feed(events) and not trail.feed(events)
    assert len(trail.entries) == HELD_MAX and trail.entries[0].seq == HELD_MAX + 49
