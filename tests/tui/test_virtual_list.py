"""The list that holds no rows: quick at any length, quiet when little changes."""

from __future__ import annotations

import statistics
import time
from collections.abc import Sequence
from typing import ClassVar

import pytest
from textual.app import App, ComposeResult
from textual.geometry import Region
from textual.strip import Strip

from tui.format import Cell
from tui.glyphs import UTF8
from tui.looks import Looks
from tui.messages import MarksChanged, RowHighlighted, RowOpened
from tui.widgets.virtual_list import Column, ListRows, MarkingList, Rows, VirtualList

pytestmark = pytest.mark.anyio

COLUMNS = (Column("ID", (8, 8, 8, 8)), Column("TEXT", (10, 10, 10, 10), grow=True), Column("AGE", (4, 4, 4, 4), ">"))


class Counted(MarkingList):
    """Notes what it was asked to redraw."""

    regions: ClassVar[list[Region]] = []

    def refresh(self, *regions: Region, repaint: bool = True, layout: bool = False, recompose: bool = False) -> Counted:
        self.regions.extend(regions)
        super().refresh(*regions, repaint=repaint, layout=layout, recompose=recompose)
        return self


class ListApp(App[None]):
    """One list; has what the widgets of the dashboard ask of their app."""

    def __init__(self, rows: Rows) -> None:
        super().__init__()
        self.looks, self.glyphs, self.width_class = Looks(), UTF8, 1
        self.rows = rows
        self.said: list[object] = []

    def compose(self) -> ComposeResult:
        yield Counted(COLUMNS, self.rows, id="list", empty=lambda: "none at all")

    @property
    def listing(self) -> Counted:
        return self.query_one(Counted)

    def lines(self) -> list[str]:
        return [
            "".join(segment.text for segment in strip).rstrip() for strip in self.screen._compositor.render_strips()
        ]

    def on_row_highlighted(self, message: RowHighlighted) -> None:
        self.said.append(message.key)

    def on_row_opened(self, message: RowOpened) -> None:
        self.said.append(f"open {message.key}")

    def on_marks_changed(self, message: MarksChanged) -> None:
        self.said.append(set(message.marks))


class Endless:
    """A hundred thousand rows, none of them anywhere."""

    def count(self) -> int:
        return 100_000

    def key(self, number: int) -> str | None:
        return f"run-{number:06}"

    def cells(self, number: int) -> Sequence[Cell] | None:
        return [f"{number:06}", f"text of {number}", "4m"]

    def number_of(self, key: str) -> int | None:
        return int(key[4:])


def small(count: int = 5) -> ListRows[str]:
    rows: ListRows[str] = ListRows(lambda item: item, lambda item: [item, f"text of {item}", "1s"])
    rows.items = [f"row{n}" for n in range(count)]
    return rows


@pytest.mark.slow
async def test_a_hundred_thousand_rows_cost_no_more_than_twenty() -> None:
    """Opening, jumping to the end and walking back are quick, because only what is on screen is asked for."""
    async with ListApp(Endless()).run_test(size=(80, 24)) as pilot:
        app = pilot.app
        assert isinstance(app, ListApp)
        spent = []
        for _ in range(20):
            began = time.perf_counter()
            app.listing.move_to(99_999)
            app.listing.move_to(0)
            spent.append(time.perf_counter() - began)
        await pilot.pause()
        assert app.lines()[1].startswith("> 000000")
        await pilot.press("G")
        await pilot.pause()
        assert app.lines()[23].startswith("> 099999")
        assert statistics.median(spent) < 0.1


async def test_an_age_costs_its_cells_and_no_more() -> None:
    """When one cell of one row changes, only that part of the line is drawn again."""
    rows = small()
    async with ListApp(rows).run_test(size=(80, 24)) as pilot:
        listing = pilot.app.query_one(Counted)
        listing.reload()
        await pilot.pause()
        listing.regions.clear()
        listing.repaint()
        assert listing.regions == []
        rows._cells = lambda item: [item, f"text of {item}", "2s" if item == "row3" else "1s"]
        listing.repaint()
        assert listing.regions == [Region(76, 4, 4, 1)]


async def test_the_cursor_stays_on_its_row() -> None:
    """Rows that come above do not move the cursor to another row; a row that goes leaves it near."""
    rows = small()
    async with ListApp(rows).run_test(size=(80, 24)) as pilot:
        listing = pilot.app.query_one(Counted)
        await pilot.press("j", "j")
        assert listing.cursor_key == "row2"
        rows.items = ["new1", "new2", *rows.items]
        listing.reload()
        assert (listing.cursor_key, listing.cursor) == ("row2", 4)
        rows.items = rows.items[:4]
        listing.reload()
        assert listing.cursor_key == "row1"


async def test_marks_go_by_row_and_by_range() -> None:
    """Space marks and goes on, the asterisk marks from the last mark to here; marks follow their rows."""
    rows = small(8)
    app = ListApp(rows)
    async with app.run_test(size=(80, 24)) as pilot:
        await pilot.press("j", "space", "j", "j", "asterisk")
        await pilot.pause()
        assert app.listing.marks == {"row1", "row2", "row3", "row4"}
        assert {"row1", "row2", "row3", "row4"} in app.said
        app.listing.clear_marks()
        assert app.listing.marks == set()


async def test_enter_and_a_double_click_open() -> None:
    """The key and the mouse do the same."""
    app = ListApp(small())
    async with app.run_test(size=(80, 24)) as pilot:
        await pilot.press("j", "enter")
        await pilot.click(offset=(5, 4), times=2)
        await pilot.pause()
        assert [word for word in app.said if str(word).startswith("open")] == ["open row1", "open row3"]


async def test_an_empty_list_says_why() -> None:
    """Nothing is told in words, and every key is harmless."""
    app = ListApp(small(0))
    async with app.run_test(size=(80, 24)) as pilot:
        await pilot.press("j", "k", "G", "g", "enter", "space", "asterisk", "pagedown")
        assert app.lines()[1] == "  none at all"
        assert app.listing.cursor_key is None


async def test_a_row_is_exactly_as_wide_as_the_screen() -> None:
    """Whatever is in the cells, the line fits."""
    rows = small()
    rows._cells = lambda item: ["日本語日本語日本語", "x" * 500, "\x1b[2J"]
    async with ListApp(rows).run_test(size=(80, 24)) as pilot:
        strip = pilot.app.query_one(VirtualList).render_line(2)
        assert isinstance(strip, Strip)
        assert strip.cell_length == 80
