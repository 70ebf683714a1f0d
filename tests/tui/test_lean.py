"""Repaints that write the cells which differ and nothing beside them."""

from __future__ import annotations

import re

import pytest
from rich.console import Console
from rich.segment import Segment
from textual._compositor import ChopsUpdate, Compositor
from textual.geometry import Region
from textual.screen import Screen
from textual.strip import Strip

from tests.tui.driving import driven
from tests.tui.fake_daemon import FakeDaemon, run
from tests.tui.screen_text import screen_lines
from tui.lean import LeanCompositor, LeanUpdate
from tui.widgets.virtual_list import VirtualList

COLOURS = re.compile(r"\x1b\[[\d;]*m")
MOVES = re.compile(r"\x1b\[(\d+);(\d+)H([^\x1b]*)")


def written(
    spans: list[tuple[int, int, int]], chops: list[dict[int, Strip | None]], ends: list[list[int]]
) -> list[str]:
    """`line;column text` of each thing that a repaint writes, counted from 1 as terminals do."""
    return texts_of(LeanUpdate(chops, spans, ends))


def texts_of(update: LeanUpdate) -> list[str]:
    said = COLOURS.sub("", update.render_segments(Console(force_terminal=True)))
    return [f"{line};{column} {text}" for line, column, text in MOVES.findall(said)]


def line(*texts: str) -> Strip:
    return Strip([Segment(text) for text in texts])


def test_a_span_in_the_middle_of_a_line_is_written_alone() -> None:
    """Neither what stands left of a span is written, nor what stands right of it."""
    chops: list[dict[int, Strip | None]] = [{0: line("abc", "defgh", "ij"), 10: line("|")}]
    assert written([(0, 4, 7)], chops, [[10, 11]]) == ["1;5 efg"]
    assert written([(0, 8, 10)], chops, [[10, 11]]) == ["1;9 ij"]
    assert written([(0, 8, 11)], chops, [[10, 11]]) == ["1;9 ij", "1;11 |"]
    assert written([(0, 0, 11)], chops, [[10, 11]]) == ["1;1 abcdefghij", "1;11 |"]


def test_what_lies_below_another_widget_is_not_written() -> None:
    """A part of a line that nobody draws is left as it is; lines between the spans too."""
    chops: list[dict[int, Strip | None]] = [{0: None, 4: line("wide")}, {0: line("nothing")}, {0: line("12345678")}]
    assert written([(0, 0, 8), (2, 2, 3)], chops, [[4, 8], [8], [8]]) == ["1;5 wide", "3;3 3"]


def test_a_wide_character_in_a_span_is_whole() -> None:
    """A character of two cells at the edges of a span is written with both."""
    chops: list[dict[int, Strip | None]] = [{0: line("ab漢字cd")}]
    assert written([(0, 2, 6)], chops, [[8]]) == ["1;3 漢字"]


def test_the_toolkit_still_paints_in_the_way_that_is_replaced() -> None:
    """A screen has a compositor, its partial repaints are updates made of chops, spans and ends."""
    assert type(Screen()._compositor) is Compositor
    assert Compositor.render_partial_update.__annotations__["return"] == "ChopsUpdate | None"
    assert vars(ChopsUpdate([], [(0, 0, 1)], [])).keys() == {"chops", "spans", "chop_ends"}


@pytest.mark.anyio
async def test_an_age_costs_its_cells_and_not_its_row() -> None:
    """What a list marks as different is all that goes to the terminal."""
    daemon = FakeDaemon()
    daemon.runs = [run(f"r{number}") for number in range(5)]
    async with driven(daemon, area="runs") as shown:
        await shown.sees("r4")
        screen = shown.app.screen
        compositor = screen._compositor
        assert isinstance(compositor, LeanCompositor)
        listing = screen.query_one("#runs", VirtualList)
        x, y = listing.region.offset
        compositor._dirty_regions.clear()
        compositor._dirty_regions.add(Region(x + 40, y + 2, 6, 1))
        update = compositor.render_partial_update()
        assert isinstance(update, LeanUpdate)
        (said,) = texts_of(update)
        assert said == f"{y + 3};{x + 41} {screen_lines(shown.app)[y + 2][x + 40 :].ljust(6)[:6]}"
