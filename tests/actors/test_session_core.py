"""The table of a session's life."""

from __future__ import annotations

import pytest

from actors.errors import InvalidInput, SessionEnded
from actors.session_core import TTL_MAX_S, Session, check, expiry, move

NOW = 1_000_000


def test_a_touch_moves_the_expiry() -> None:
    """A touched session lives for its ttl from now; one without a ttl lives on."""
    assert move(Session("s", ttl=2.5, expires_at=5), "touch", NOW).expires_at == NOW + 2_500_000
    assert move(Session("s"), "touch", NOW).expires_at is None


@pytest.mark.parametrize(("event", "status"), [("close", "closed"), ("expire", "expired")])
def test_an_end_is_final(event: str, status: str) -> None:
    """A closed or expired session takes nothing more, and nothing has changed when it refuses."""
    ended = move(Session("s"), event, NOW)
    assert (ended.status, ended.closed_at) == (status, NOW)
    for later in ("touch", "close", "expire"):
        with pytest.raises(SessionEnded, match=status):
            move(ended, later, NOW)


def test_the_bounds_of_what_may_be_asked_for() -> None:
    """A ttl above 0 and up to ten years, cancel or leave, platform or client; else the field is named."""
    for ttl in (None, 0.001, TTL_MAX_S):
        check(ttl, "leave", "platform")
    for ttl, on_close, classification, name in (
        (0.0, "leave", "client", "ttl"), (TTL_MAX_S + 1, "leave", "client", "ttl"),
        (float("nan"), "leave", "client", "ttl"), (None, "keep", "client", "on_close"),
        (None, "cancel", "public", "classification"),
    ):  # fmt: skip
        with pytest.raises(InvalidInput, match=rf"\$\.{name}"):
            check(ttl, on_close, classification)
    assert expiry(None, NOW) is None
