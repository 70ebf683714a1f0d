"""The decision card keeps its rules: nothing by accident, nothing twice, nothing unseen."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import msgspec
import pytest
from msgspec import Raw
from textual.widgets import Input

from runtimed.wire import CallerView
from tests.tui import goldens
from tests.tui.driving import Driven, driven
from tests.tui.fake_daemon import NOW, at
from tests.tui.people_world import SCHEMA, PeopleDaemon, people_world
from tests.tui.screen_text import screen_lines
from tui.form_fields import BadForm, FormField, data_of, fields_of
from tui.screens.card_base import CHECKING, DONE, OPEN, SENDING
from tui.screens.decision_card import DecisionCard
from tui.widgets.fields import Choice
from wal.errors import RuntimedError

pytestmark = [pytest.mark.anyio, pytest.mark.slow]  # each waits for the dead time of a card
HASH = "7f3a91c2" * 8


@pytest.fixture
def daemon() -> PeopleDaemon:
    return people_world()


@asynccontextmanager
async def card_of(
    daemon: PeopleDaemon, approval_id: str, *, armed: bool = True, size: tuple[int, int] = (80, 24)
) -> AsyncIterator[tuple[Driven, DecisionCard]]:
    """The card of an approval, opened by the operator; ready for keys unless said otherwise."""
    async with driven(daemon, area="approvals", size=size) as shown:
        await shown.sees(approval_id)
        shown.app.jump(f"a {approval_id}")
        await shown.until(lambda: isinstance(shown.app.screen, DecisionCard))
        card = shown.app.screen
        assert isinstance(card, DecisionCard)
        if armed:
            await shown.until(lambda: card.armed)
        yield shown, card


async def approve(shown: Driven, reason: str = "") -> None:
    """Fill in a yes at low risk, up to the button."""
    await shown.press("tab", "space", "tab", *reason, "tab")


@pytest.mark.parametrize(("width", "height"), [(80, 24), (200, 50), (60, 15)])
async def test_the_card_looks_like_its_sketch(daemon: PeopleDaemon, width: int, height: int) -> None:
    """What is asked, what each answer does, the exact payload, the votes, the fields with nothing in them."""
    async with card_of(daemon, "812", size=(width, height)) as (shown, _):
        await shown.sees("uid:1002")
        await goldens.check(f"decision_{width}x{height}", shown)


async def test_keys_typed_before_it_was_seen_answer_nothing(
    daemon: PeopleDaemon, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Within the dead time no key counts: no tab, no space, no enter, no escape; then it waits for them."""
    monkeypatch.setattr(DecisionCard, "DEAD_SECONDS", 3_600.0)
    async with card_of(daemon, "815", armed=False) as (shown, card):
        await shown.press("tab", "space", "tab", "tab", "enter", "escape", "y")
        assert shown.app.screen is card
        assert card.focused is None and daemon.decided == []
        assert not card.armed
        card._arm()
        await shown.until(lambda: card.armed)
        assert "( ) approve    ( ) deny    nothing preselected" in shown.text


async def test_letters_and_digits_do_nothing_outside_fields(daemon: PeopleDaemon) -> None:
    """The keys of the areas, the jump, the palette of letters: dead on a card; enter without the button too."""
    async with card_of(daemon, "815") as (shown, card):
        await shown.press(*"12345678qmhsyYpTt", "enter", "space", "colon", "slash")
        assert shown.app.screen is card
        assert shown.app.current_mode == "approvals"
        await shown.press("tab", "space", "enter", "tab", "enter")  # enter on a choice, and in a line
        assert daemon.decided == [] and card.phase == OPEN


async def test_a_yes_is_sent_once_with_the_hash_that_was_shown(daemon: PeopleDaemon) -> None:
    """One request, bound to the payload, under an idempotency key; it says as whom it is recorded."""
    async with card_of(daemon, "815") as (shown, card):
        await approve(shown, "ok by me")
        await shown.press("enter", "enter", "enter")
        await shown.sees("APPROVE by uid:1002 is recorded; the run goes on with it")
        assert card.phase == DONE
        (approval_id, said, key) = daemon.decided[0]
        assert len(daemon.decided) == 1 and len(key) == 32
        assert (approval_id, said) == (
            "815",
            {"approve": True, "payload_hash": HASH, "reason": "ok by me", "data": None},
        )
        await shown.press("escape")
        await shown.sees("open 2")


async def test_what_was_submitted_is_sent_whatever_comes_in_between(daemon: PeopleDaemon) -> None:
    """What is asked changes between [Submit] and the request: the choice goes out bound to the hash that was shown, and
    never as a deny that nobody chose."""
    async with card_of(daemon, "815") as (shown, card):
        card.query_one("#decision", Choice).choose("approve")
        await shown.pilot.pause()
        other = msgspec.structs.replace(card.view, payload_hash="beef" * 16, detail=Raw(b'{"to":"all"}'))
        daemon.approvals = [other if view.id == "815" else view for view in daemon.approvals]
        card.on_submit_pressed()
        card.seen(other)
        await shown.sees("refused: approval 815 asks for something else now")
        assert [(said["approve"], said["payload_hash"]) for _, said, _ in daemon.decided] == [(True, HASH)]
        assert card.query_one("#decision", Choice).chosen is None


async def test_without_a_choice_nothing_is_sent(daemon: PeopleDaemon) -> None:
    """Not even where the card is asked to send past its own check: an approval that is not chosen is no deny."""
    async with card_of(daemon, "815") as (_, card):
        card.take()
        with pytest.raises(RuntimedError, match="nothing is chosen"):
            await card.send()
        assert daemon.decided == []


async def test_while_it_is_sent_nothing_can_be_sent(daemon: PeopleDaemon) -> None:
    """The button is dead while the request is on its way, and so is escape: its outcome would be nobody's."""
    daemon.held = asyncio.Event()
    async with card_of(daemon, "815") as (shown, card):
        await approve(shown)
        await shown.press("enter")
        await shown.until(lambda: card.phase == SENDING)
        await shown.press("enter", "enter", "escape")
        assert shown.app.screen is card
        daemon.held.set()
        await shown.until(lambda: card.phase == DONE)
        assert len(daemon.decided) == 1


async def test_a_no_needs_a_reason_that_says_something(daemon: PeopleDaemon) -> None:
    """Less than eight characters are no reason; the card says what is missing and sends nothing."""
    async with card_of(daemon, "815") as (shown, _):
        await shown.press("tab", "right", "space", "tab", *"no", "tab", "enter")
        await shown.sees("a reason of at least 8 characters is required to deny")
        await shown.press("shift+tab", *" goods came back", "tab", "enter")
        await shown.sees("DENY by uid:1002 is recorded")
        assert [said["reason"] for _, said, _ in daemon.decided] == ["no goods came back"]
        assert daemon.decided[0][1]["data"] is None


async def test_nothing_is_chosen_for_anybody(daemon: PeopleDaemon) -> None:
    """Submit without a choice says what is missing."""
    async with card_of(daemon, "815") as (shown, _):
        await shown.press("tab", "tab", "tab", "enter")
        await shown.sees("choose approve or deny")
        assert daemon.decided == []


async def test_high_risk_needs_the_code_and_a_reason(daemon: PeopleDaemon) -> None:
    """The first four digits of the hash are typed; another code, or none, sends nothing."""
    async with card_of(daemon, "812") as (shown, _):
        await shown.press("tab", "space", "tab", *"checked with Kim", "tab", *"7f3b", "tab", "enter")
        await shown.sees("type 7F3A, the first digits of the payload's hash, on Confirm")
        await shown.press("shift+tab", "backspace", "A", "tab", "enter")
        await shown.sees("is recorded")
        assert len(daemon.decided) == 1


async def test_somebody_else_was_first(daemon: PeopleDaemon) -> None:
    """A decision meanwhile shows by itself: who, when and why; the fields go, and nothing is sent."""
    async with card_of(daemon, "815") as (shown, _):
        await approve(shown, "fine with me")
        daemon.others_decide("815")
        await shown.sees("refused by uid:1001 (alice pts/1) at 2026-09-21", "duplicate of 801")
        assert "Decision" not in shown.text
        await shown.press("enter")
        assert daemon.decided == []


async def test_two_people_at_once_one_is_told_who_was_first(daemon: PeopleDaemon) -> None:
    """A refusal of the daemon is shown as it is, and the card looks again at what it was about."""
    async with card_of(daemon, "815") as (shown, _):
        await approve(shown)
        vote = msgspec.structs.replace(daemon.view("812").votes[0], approve=False, reason="too late")
        changed = msgspec.structs.replace(daemon.view("815"), status="refused", votes=[vote], decided_at=at(0))
        daemon.approvals = [changed if view.id == "815" else view for view in daemon.approvals]  # no event yet
        await shown.press("enter")
        await shown.sees("refused by uid:1001 (alice pts/1)", "too late")
        assert len(daemon.decided) == 1


async def test_another_payload_is_shown_and_the_code_is_typed_anew(daemon: PeopleDaemon) -> None:
    """A stale hash is refused; the card shows what is asked now, keeps the reason, forgets the code."""
    async with card_of(daemon, "812") as (shown, card):
        await shown.press("tab", "space", "tab", *"checked with Kim", "tab", *"7f3a", "tab")
        other = msgspec.structs.replace(
            daemon.view("812"), payload_hash="beef" * 16, detail=Raw(b'{"amount":"9999.00 EUR"}')
        )
        daemon.approvals = [other if view.id == "812" else view for view in daemon.approvals]
        await shown.press("enter")
        await shown.sees("what is asked has changed", "9999.00 EUR")
        assert card.query_one("#code", Input).value == ""
        assert "type BEEF" in shown.text and "nothing preselected" in shown.text
        assert card.query_one("#reason", Input).value == "checked with Kim"


@pytest.mark.parametrize(("lose", "sentence"), [("after", "it did happen"), ("before", "not in the journal")])
async def test_a_lost_answer_is_looked_for_and_nothing_is_sent_again(
    daemon: PeopleDaemon, lose: str, sentence: str
) -> None:
    """When the connection breaks the card asks the daemon by the key, and never sends by itself."""
    async with card_of(daemon, "815") as (shown, card):
        await approve(shown)
        daemon.lose = lose
        await shown.press("enter")
        await shown.sees(sentence)
        assert len(daemon.decided) == 1
        if lose == "before":
            await shown.press("tab", "tab", "tab", "enter")
            await shown.until(lambda: card.phase == DONE)
            assert {key for _, _, key in daemon.decided} == {daemon.decided[0][2]}


async def test_a_daemon_that_dies_leaves_the_card_waiting_and_dead(daemon: PeopleDaemon) -> None:
    """Killed while the card is open: fields keep what was typed and take nothing; when it is back they do again."""
    async with card_of(daemon, "815") as (shown, card):
        await approve(shown, "still here")
        daemon.go_down()
        await shown.sees("nothing can be submitted: the daemon does not answer")
        await shown.press("enter")
        assert daemon.decided == [] and card.phase == OPEN
        daemon.up = True
        await shown.until(lambda: shown.app.link_state.live and not card.why_not())
        assert card.query_one("#reason", Input).value == "still here"


async def test_a_daemon_that_dies_over_a_decision_is_asked_when_it_is_back(daemon: PeopleDaemon) -> None:
    """The outcome stays unknown, and is said to be, until there is somebody to ask."""
    async with card_of(daemon, "815") as (shown, card):
        await approve(shown)
        daemon.lose = "after"
        daemon.held = asyncio.Event()
        await shown.press("enter")
        await shown.until(lambda: card.phase == SENDING)
        daemon.go_down()
        daemon.held.set()
        await shown.until(lambda: card.phase == CHECKING)
        await shown.sees("outcome unknown, checking")
        daemon.up = True
        await shown.until(lambda: card.phase == DONE)
        assert len(daemon.decided) == 1


async def test_time_repaints_the_head_and_never_the_fields(daemon: PeopleDaemon) -> None:
    """The deadline counts down in the first line; what is typed stays as it is."""
    clock = [NOW]
    async with driven(daemon, area="approvals", now=lambda: clock[0]) as shown:
        await shown.sees("815")
        shown.app.jump("a 812")
        await shown.until(lambda: isinstance(shown.app.screen, DecisionCard) and shown.app.screen.armed)
        await shown.press("tab", "space", "tab", *"half a sent")
        assert "(46m)" in screen_lines(shown.app)[0]
        clock[0] += 600_000_000
        await shown.until(lambda: "(36m)" in screen_lines(shown.app)[0])
        assert "half a sent" in shown.text
        assert "(o) approve" in shown.text


async def test_without_rights_the_fields_are_hidden(daemon: PeopleDaemon) -> None:
    """One line says which right is missing, and as whom."""
    daemon.caller = CallerView(by="uid:4242", level="viewer", roles=[], via=None)
    async with card_of(daemon, "815") as (shown, _):
        await shown.sees("deciding wants the level approver; uid:4242 is viewer")
        assert "Decision" not in shown.text
        await shown.press("tab", "enter")
        assert daemon.decided == []


async def test_a_form_becomes_fields_and_their_data(daemon: PeopleDaemon) -> None:
    """A field a property, required ones named; what is typed is sent in the form's types."""
    form = Raw(msgspec.json.encode(SCHEMA))
    daemon.approvals[2] = msgspec.structs.replace(daemon.approvals[2], form=form)
    async with card_of(daemon, "815") as (shown, _):
        await shown.sees("ticket", "amount", "( ) full    ( ) part")
        await shown.press("tab", "space", "tab", "tab", *"12.5", "tab", "tab", "tab", "enter")
        await shown.sees("ticket is required")
        await shown.press("tab", "tab", *"OPS-1", "tab", "tab", "right", "space", "tab", "tab", "enter")
        await shown.sees("is recorded")
        assert daemon.decided[0][1]["data"] == {"ticket": "OPS-1", "amount": 12.5, "kind": "part"}


async def test_pasted_controls_do_not_get_into_a_field(daemon: PeopleDaemon) -> None:
    """What could act on the terminal or hide is not taken by a field, by whichever way it comes."""
    async with card_of(daemon, "815") as (shown, card):
        field = card.query_one("#reason", Input)
        field.insert_text_at_cursor("a\x1b]52;c;x\x07b\u202ec")
        field.value += "\x9b2J"
        await shown.pilot.pause()
        assert field.value == "a]52;c;xbc2J"


# --- forms, pure ------------------------------------------------------------------------------------------------------


async def test_a_form_that_is_no_object_is_one_field() -> None:
    """The data is the value itself."""
    fields = fields_of(Raw(b'{"type":"integer"}'))
    assert data_of(fields, {"": "7"}) == 7
    with pytest.raises(BadForm, match="the form must be a whole number"):
        data_of(fields, {"": "seven"})


async def test_what_is_left_empty_is_left_out() -> None:
    """The workflow's defaults stay its own."""
    fields = fields_of(Raw(msgspec.json.encode(SCHEMA)))
    assert data_of(fields, {"ticket": "x", "amount": "1"}) == {"ticket": "x", "amount": 1.0}
    assert data_of([], {}) is None


async def test_strange_schemas_break_nothing() -> None:
    """References in circles, wrong types, no properties, too many fields: a sentence, or a field that takes JSON."""
    circle = {"$ref": "#/$defs/A", "$defs": {"A": {"$ref": "#/$defs/A"}}}
    for schema in (circle, [], 7, "x", {"anyOf": 3}, {"properties": {"a": None, "b": {"enum": [{"x": 1}] * 9}}}):
        for field in fields_of(Raw(msgspec.json.encode(schema))):
            assert isinstance(field, FormField)
    many = {"properties": {f"f{number}": {"type": "string"} for number in range(100)}}
    with pytest.raises(BadForm, match="too long for a card"):
        fields_of(Raw(msgspec.json.encode(many)))
    for text in ("nan", "inf", "1e999"):
        with pytest.raises(BadForm):
            data_of([FormField("n", "number", True)], {"n": text})
