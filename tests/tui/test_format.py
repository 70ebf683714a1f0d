"""How values look in cells."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.tui.hostile import HOSTILE
from tui import format as f
from tui.format import Piece


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0, "0s"), (9.9, "9s"), (10, "10s"), (19, "10s"), (59, "50s"), (60, "1m"), (3599, "59m"), (3600, "1h"),
     (86_399, "23h"), (86_400, "1d"), (12 * 86_400 + 5, "12d"), (-3, "0s")],
)  # fmt: skip
def test_ages_go_in_steps(seconds: float, text: str) -> None:
    """Exact below ten seconds, then tens, minutes, hours, days: a row repaints only when its text changes."""
    assert f.age(seconds) == text


@pytest.mark.parametrize(
    ("number", "text"),
    [(0, "0"), (412, "412"), (1023, "1.0k"), (2_202_009, "2.1M"), (65_498_251_264, "61G"), (5e15, "4547T")],
)
def test_sizes_are_short(number: float, text: str) -> None:
    """Bytes with a unit, a decimal only below ten."""
    assert f.size(number) == text


@pytest.mark.parametrize(
    ("seconds", "text"), [(None, "-"), (0.0034, "3ms"), (0.4, "0.4s"), (8.12, "8.1s"), (130, "2m"), (9_000, "2h")]
)
def test_durations_are_short(seconds: float | None, text: str) -> None:
    """Measured times in the unit in which a person reads them."""
    assert f.duration(seconds) == text


@pytest.mark.slow
@given(st.text(), st.integers(1, 60))
def test_a_fitted_text_has_its_width(text: str, width: int) -> None:
    """Whatever the text, a cell is as wide as its column and holds nothing that acts."""
    fitted = f.fit(text, width)

    assert f.cells(fitted) == width
    assert fitted == f.safe(fitted)


@given(st.lists(st.text(max_size=20)), st.integers(0, 60))
def test_a_fitted_line_has_its_width(texts: list[str], width: int) -> None:
    """The same for a line of pieces."""
    assert f.line_cells(f.fit_line([Piece(text) for text in texts], width)) == width


@pytest.mark.parametrize("text", HOSTILE)
def test_hostile_text_is_escaped(text: str) -> None:
    """Nothing of the corpus leaves a control character, a direction mark or an invisible one."""
    shown = f.fit(text, 78)

    assert not any(ord(char) < 32 or 0x7F <= ord(char) < 0xA0 or 0x202A <= ord(char) <= 0x202E for char in shown)
    assert f.cells(shown) == 78


def test_escapes_are_counted() -> None:
    """A card can say how many characters are shown escaped."""
    assert f.escapes("pls\x1b[2J asap\u202e") == 2


def test_the_end_of_an_id_is_shown() -> None:
    """Ids begin alike and differ at their ends."""
    assert f.short_id("0192f0c1a2b34c5d8e9fa0b1c2d3e4f5", 6) == "d3e4f5"
    assert f.short_id("checkout-SO-100031", 10) == "…SO-100031"
    assert f.short_id("r1", 6) == "r1"


@pytest.mark.parametrize("text", [None, "", "yesterday", "2026-99-99T00:00:00Z"])
def test_what_is_no_instant_is_a_dash(text: str | None) -> None:
    """An instant that cannot be read is shown as none, and breaks nothing."""
    assert f.micros(text) is None
    assert f.clock(text) == "-"
    assert f.age_between(text, 5) == "-"


def test_instants_keep_their_microseconds() -> None:
    """Text and integer are the same instant."""
    text = "2026-09-21T14:13:20.000123Z"
    assert f.micros(text) == 1_790_000_000_000_123
    assert f.rfc3339_now(1_790_000_000_000_123) == text
    assert f.clock(text) == "14:13:20Z"
    assert f.clock(text, "rel", now=1_790_000_060_000_000) == "50s"


def test_the_right_line_yields() -> None:
    """Where both do not fit the left line stays and the right one is cut."""
    assert "".join(piece.text for piece in f.spread([Piece("left")], [Piece("right")], 12)) == "left   right"
    assert "".join(piece.text for piece in f.spread([Piece("left")], [Piece("right")], 8)) == "left ri…"
