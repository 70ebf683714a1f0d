"""What is said of connectors: folds of events, counts, the line of the overview, what can be asked and what follows."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
from msgspec import Raw

from tests.tui.connector_world import connector, connectors
from tests.tui.fake_daemon import NOW, at, event
from tui.connector_fold import KINDS, advance
from tui.connector_text import DEEDS, consequences, counts_line, cursor_text, health_line, lag_text, next_text, refusal
from tui.event_text import says
from tui.model import CONNECTORS, EVENTS, Model
from wal import records
from wal.views import ConnectorView


def text_of(line: Any) -> str:
    return "".join(piece.text for piece in line)


# --- events -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("kind", "data", "changes"),
    [
        (
            "cursor_advanced",
            {"connector": "crm", "cursor": 9, "records": 5, "repeated": 2, "refused": 1},
            {"records_total": 36, "repeated_total": 14, "refused_total": 1, "status": "ok", "failures": 0},
        ),
        ("connector_paused", {"connector": "crm", "by": "uid:1"}, {"status": "paused", "next_poll_at": None}),
        ("connector_resumed", {"connector": "crm"}, {"status": "ok", "failures": 0}),
        ("connector_reset", {"connector": "crm", "cursor": None}, {"generation": 1, "cursor": Raw(b"null")}),
        (
            "connector_quarantined",
            {"connector": "crm", "error": {"type": "KeyError", "message": "'vat'"}},
            {"status": "quarantined", "last_error": "KeyError: 'vat'"},
        ),
        ("delivery_refused", {"connector": "crm", "code": "x", "message": "y"}, {"last_error": "x: y"}),
    ],
)
def test_a_record_moves_the_view_of_its_connector(kind: str, data: dict[str, Any], changes: dict[str, Any]) -> None:
    """What a record tells is in the model at once, of that connector alone."""
    model = Model()
    model.connectors = connectors()
    change = model.apply(event(11, kind, **data))
    assert change.topics == {EVENTS, CONNECTORS}
    before = {view.name: view for view in connectors()}
    for view in model.connectors:
        if view.name == "crm":
            assert {name: getattr(view, name) for name in changes} == changes
        else:
            assert view == before[view.name]


def test_a_delivery_counts_for_its_webhook() -> None:
    """A webhook's record names it by another field; its time is that of the last delivery. A connector of the same name
    is another thing."""
    views = [connectors()[-1], connector("hooks", "files")]
    hook, other = advance(views, event(11, "webhook_received", webhook="hooks", key="evt_1", ago=0))
    assert (hook.records_total, hook.last_poll_at) == (8, at(0))
    assert other == views[1]
    hook, other = advance(views, event(12, "delivery_refused", connector="webhook:hooks", code="x", message="y"))
    assert (hook.last_error, other.last_error) == ("x: y", None)


def test_other_records_are_about_no_connector() -> None:
    """Nothing is asked for because of them; a connector that is not known yet is."""
    model = Model()
    assert model.apply(event(11, "session_opened", id="s")).topics == {EVENTS}
    assert CONNECTORS in model.apply(event(13, "cursor_advanced", connector="new", cursor=1)).topics
    assert model.connectors == []


def test_every_record_of_a_connector_is_folded() -> None:
    """A record type that names a connector has its effect here, those of its stream apart."""
    named = {kind.__struct_config__.tag for kind in records.RECORD_TYPES if "connector" in kind.__struct_fields__}
    assert named - KINDS == {"schema_seen"}


@pytest.mark.parametrize(
    ("kind", "data", "said"),
    [
        (
            "cursor_advanced",
            {"connector": "crm", "cursor": 9, "records": 5, "refused": 1, "keys": ["k"] * 90},
            "crm 5 records, 1 refused, cursor 9",
        ),
        ("cursor_advanced", {"connector": "crm", "cursor": {"a": 1}}, "crm no records, cursor {'a': 1}"),
        ("records_stored", {"stream": "people", "items": [{}, {}]}, "people 2 records"),
        ("records_stored", {"stream": "people", "items": "(90000 bytes)"}, "people (90000 bytes)"),
        ("connector_paused", {"connector": "crm", "by": "uid:1", "reason": "why"}, 'crm by uid:1 "why"'),
        ("connector_reset", {"connector": "crm", "cursor": 3, "by": "uid:1"}, "crm to cursor 3 by uid:1"),
        (
            "connector_quarantined",
            {"connector": "crm", "error": {"type": "KeyError", "message": "x"}, "crashes": 5},
            "crm after 5 crashes: KeyError: x",
        ),
        ("delivery_refused", {"connector": "crm", "key": "7", "code": "c", "message": "m"}, "crm 7 c: m"),
    ],
)
def test_a_record_of_a_connector_is_told_in_few_words(kind: str, data: dict[str, Any], said: str) -> None:
    """Never its keys and items, of which there may be thousands."""
    assert says(event(1, kind, **data)) == said


# --- words ------------------------------------------------------------------------------------------------------------


def test_counts_name_what_is_rare_only_where_there_is_some() -> None:
    """The three that matter always, the others if any; one that polls is ok."""
    assert text_of(counts_line([], "")) == "0 connectors   0 ok  0 backoff  0 open-breaker"
    one = [connector("a", "files", "polling")]
    assert text_of(counts_line(one, "x")) == "1 connector   1 ok  0 backoff  0 open-breaker   filter: x"
    told = text_of(counts_line(connectors(), ""))
    assert told == "6 connectors   2 ok  1 backoff  1 open-breaker  1 quarantined  1 paused"


def test_the_health_line_names_the_worst_first() -> None:
    """One by name, others as a number; without connectors there is no line."""
    assert not health_line([])
    assert text_of(health_line(connectors()[:2])) == "conn 1 ok, 1 backoff (crm)"
    many = [*connectors()[:3], connector("b", "files", "backoff")]
    line = health_line(many)
    assert text_of(line) == "conn 1 ok, 1 quarantined (bank), 2 backoff (crm +1)"
    assert line[0].look == "need"


@pytest.mark.parametrize(
    ("view", "ahead", "lag", "cursor"),
    [
        (connector("a", "files", cursor=Raw(b'{"a":1}')), "10s", "0s", '{"a":1}'),
        (connector("a", "files", next_poll_at=at(3), lag=80.0), "due", "1m", "-"),
        (connector("a", "files", next_poll_at=at(-3)), "<10s", "0s", "-"),
        (connector("a", "files", next_poll_at=None, lag=None), "-", "-", "-"),
        (connector("a", "webhook", next_poll_at=None), "push", "0s", "-"),
    ],
)
def test_times_and_cursors_in_a_cell(view: ConnectorView, ahead: str, lag: str, cursor: str) -> None:
    """How long until it polls, how far behind it is, where it stands."""
    assert (next_text(view, NOW), lag_text(view), cursor_text(view)) == (ahead, lag, cursor)


def test_everything_that_can_be_asked_has_its_consequences() -> None:
    """What is refused says why; what is not says what follows, of a reset the daemon does."""
    for status in ("ok", "polling", "backoff", "open_breaker", "quarantined", "paused"):
        view = connector("a", "files", status)
        asked = {verb for verb in DEEDS if not refusal(verb, view)}
        held = status in ("paused", "quarantined")
        assert asked == ({"resume", "reset"} if held else {"poll", "pause", "reset"}) | (
            {"pause"} if status == "quarantined" else set()
        )
        assert all(consequences(verb, view) for verb in asked - {"reset"})
        assert consequences("reset", view) == []
    hook = msgspec.structs.replace(connector("a", "webhook"))
    assert {verb for verb in DEEDS if not refusal(verb, hook)} == set()
