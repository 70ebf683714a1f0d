"""Bars on a line of time, with idle stretches folded."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from tui.gantt import FAILED, WAIT, WORK, Span, axis, bar, heading
from tui.glyphs import ASCII, UTF8

SECOND = 1_000_000


def test_a_long_idle_time_is_folded() -> None:
    """Two seconds of work and a day of waiting fit one line: the day is a fold that says how long it was."""
    spans = [Span(0, SECOND), Span(SECOND, 86_400 * SECOND, WAIT), Span(86_400 * SECOND, 86_401 * SECOND)]
    on = axis(spans, 86_401 * SECOND, 40)
    assert heading(on, UTF8) == "00:00:00Z     ‖ idle 23h ‖00:00:00Z"
    assert bar(spans[1:2], on, UTF8).strip() == "‖▒▒▒▒▒▒▒▒▒▒‖"
    assert bar(spans[:1], on, UTF8) == "█" * 14


def test_what_goes_on_ends_with_an_arrow() -> None:
    """A call that is open points to the right, in ASCII too."""
    on = axis([Span(0, None)], 10 * SECOND, 10)
    assert bar([Span(0, None)], on, UTF8) == "█████████▸"
    assert bar([Span(0, None)], on, ASCII) == "#########>"


def test_work_outdraws_failure_and_waiting() -> None:
    """Where one cell stands for several, the most telling one is drawn."""
    spans = [Span(0, 10, FAILED), Span(0, 10, WAIT), Span(0, 10, WORK)]
    assert bar(spans, axis(spans, 10, 4), UTF8) == "████"
    assert bar(spans[:2], axis(spans[:2], 10, 4), UTF8) == "░░░░"


def test_nothing_is_drawn_of_nothing() -> None:
    """Without calls, and without room, there is no axis and nothing breaks."""
    assert bar([], axis([], 5, 10), UTF8) == ""
    assert heading(axis([Span(0, 1)], 5, 0), UTF8) == ""


instants = st.integers(0, 10**15)
spans = st.builds(
    lambda start, length, open_, ink: Span(start, None if open_ else start + length, ink),
    instants, st.integers(0, 10**13), st.booleans(), st.sampled_from([WORK, FAILED, WAIT]),
)  # fmt: skip


@given(st.lists(spans, max_size=12), st.integers(0, 120))
def test_bars_keep_to_their_width(found: list[Span], width: int) -> None:
    """Whatever happened, no line is wider than its column, and every call of a line with room leaves a mark."""
    now = 10**15 + 10**14
    on = axis(found, now, width)
    assert len(heading(on, UTF8)) <= width
    for span in found:
        drawn = bar([span], on, UTF8)
        assert len(drawn) <= width
        if width >= 4 * len(found) + 4:
            assert drawn.strip()
