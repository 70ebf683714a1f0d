"""Lines of text that are drawn again only where they differ."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tui.format import Line, Piece, line
from tui.widgets.lines import difference

PIECES = st.lists(st.builds(Piece, st.text("abc█ ", max_size=5), st.sampled_from(["", "dim"])), max_size=5)


@pytest.mark.parametrize(
    ("old", "new", "cells"),
    [
        (line("steps/s  4.0"), line("steps/s  5.1"), (9, 12)),
        (line("run 9"), line("run 10"), (4, None)),
        (line("same"), line(Piece("same", "dim")), (0, 4)),
        (line("日本"), line("日本語"), (0, None)),
        (line("\x1b[2J"), line("x"), (0, None)),
        ((), line("new"), (0, None)),
    ],
)
def test_a_difference_is_found(old: Line, new: Line, cells: tuple[int, int | None]) -> None:
    """From the first to the last cell that looks different; to the end where cells and characters are not the same."""
    assert difference(old, new) == cells


@given(PIECES, PIECES)
def test_what_is_outside_the_difference_is_the_same(old: list[Piece], new: list[Piece]) -> None:
    """Drawing only the difference gives the new line."""
    before = [(char, piece.look) for piece in old for char in piece.text]
    after = [(char, piece.look) for piece in new for char in piece.text]
    if before == after:
        return
    first, last = difference(old, new)
    drawn = before[:first] + after[first:] if last is None else before[:first] + after[first:last] + before[last:]
    assert drawn == after
