"""A connector in words: for each way to stand one sentence with the reason and what would wake it."""

from __future__ import annotations

from typing import Any

import pytest

from runtimed.connector_words import handoff, standing
from wal.views import ConnectorView

NEXT = "2026-01-31T12:00:30.000000Z"


def view(status: str, **more: Any) -> ConnectorView:
    """A connector that stands so."""
    return ConnectorView("charges", **{"kind": "stripe", "status": status, "next_poll_at": NEXT, **more})


@pytest.mark.parametrize(
    ("connector", "words"),
    [
        (view("ok"), ["waits for its time", "by itself at 2026-01-31T12:00:30Z", "connectors poll charges"]),
        (view("ok", next_poll_at=None), ["it polls by itself, sooner with"]),
        (view("polling"), ["It polls now."]),
        (view("paused"), ["a person held it", "connectors resume charges"]),
        (
            view("backoff", failures=3, last_error="503"),
            ["after 3 failures in a row (503)", "tries again by itself at"],
        ),
        (view("backoff"), ["after a failure (it did not say why)"]),
        (view("open_breaker", failures=9, last_error="TLS"), ["breaker is open after 9 failures", "one trial poll at"]),
        (
            view("quarantined", last_error="KeyError"),
            ["crashed again and again (KeyError)", "connectors resume charges"],
        ),
        (view("ok", kind="webhook", next_poll_at=None), ["its source sends to it", "each delivery wakes it"]),
    ],
)
def test_one_sentence_says_why_and_what_wakes_it(connector: ConnectorView, words: list[str]) -> None:
    """Every status has its reason and its wake source, and it is one sentence."""
    said = standing(connector)
    assert [word for word in words if word not in said] == []
    assert said.endswith(".") and ". " not in said


def test_a_file_tells_that_nothing_polls() -> None:
    """While the daemon is down nothing polls; what a person has held stays held."""
    assert "starting the daemon wakes it" in standing(view("ok"), offline=True)
    assert "connectors resume charges" in standing(view("paused"), offline=True)


def test_the_handoff_is_told_for_both_kinds() -> None:
    """A poller's cursor moves with its records; a webhook acknowledges after the commit."""
    assert "advances only after journal seq" in handoff(view("ok"))
    assert "acknowledged only after" in handoff(view("ok", kind="webhook"))
