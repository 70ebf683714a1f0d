"""The fields of a card: a line of text, a choice with nothing chosen, and the one place where Enter does something."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from textual import events
from textual.binding import Binding, BindingType
from textual.message import Message
from textual.strip import Strip
from textual.widget import Widget
from textual.widgets import Input

from runtimed.escape import escape
from tui.format import Piece, cells
from tui.widgets.lines import dashboard

FIELD_CHARACTERS_MAX = 2_000


def clean(text: str) -> str:
    """A text without what could act on a terminal or hide in it: fields show what they hold as it is."""
    return text if text.isascii() and text.isprintable() else "".join(char for char in text if escape(char) == char)


class Field(Input):
    """One line of text. Enter does nothing; what is pasted is cleaned; the cursor does not blink, which costs bytes."""

    DEFAULT_CSS = """
    Field, Field:focus { border: none; height: 1; padding: 0; width: 1fr; background: $panel; }
    Field:disabled { opacity: 100%; background: $background; }
    """

    def __init__(self, *, id: str, hint: str = "", limit: int = FIELD_CHARACTERS_MAX) -> None:
        super().__init__(id=id, placeholder=clean(hint), max_length=limit, compact=True, select_on_focus=False)
        self.cursor_blink = False

    def validate_value(self, value: str) -> str:
        """Whatever way a text comes in, it is clean."""
        return clean(value)

    def insert_text_at_cursor(self, text: str) -> None:
        """Typed or pasted."""
        super().insert_text_at_cursor(clean(text))

    def replace(self, text: str, start: int, end: int) -> None:
        """Typed or pasted over a selection."""
        super().replace(clean(text), start, end)

    async def action_submit(self) -> None:
        """Enter works on Submit only."""


class Choice(Widget, can_focus=True):
    """One of a few; none is chosen at first, and only space or a click chooses."""

    DEFAULT_CSS = "Choice { height: 1; width: 1fr; }"
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("left,up", "move(-1)", "other choice", show=False, id="choice.previous"),
        Binding("right,down", "move(1)", "other choice", show=False, id="choice.next"),
        Binding("space", "choose", "choose", show=False, id="choice.choose"),
    ]

    @dataclass
    class Changed(Message):
        """Something was chosen."""

        chosen: str

    def __init__(self, options: Sequence[tuple[str, str]], *, id: str) -> None:
        """`options` are names and what stands there."""
        super().__init__(id=id)
        self.options = list(options)
        self.chosen: str | None = None
        self.at = 0

    def render_line(self, y: int) -> Strip:
        """The one line there is."""
        pieces: list[Piece] = []
        for number, (name, text) in enumerate(self.options):
            mark = "(o)" if name == self.chosen else "( )"
            look = "head" if self.has_focus and number == self.at else "bold" if name == self.chosen else ""
            pieces += [Piece(f"{mark} {text}", look), Piece("    ")]
        if self.chosen is None:
            pieces.append(Piece("nothing preselected", "dim"))
        return dashboard(self).looks.strip(pieces if y == 0 else (), self.size.width)

    def choose(self, name: str) -> None:
        """Choose by name."""
        self.at = [option for option, _ in self.options].index(name)
        self.chosen = name
        self.refresh()
        self.post_message(self.Changed(name))

    def action_move(self, by: int) -> None:
        self.at = (self.at + by) % len(self.options)
        self.refresh()

    def action_choose(self) -> None:
        self.choose(self.options[self.at][0])

    def on_focus(self) -> None:
        self.refresh()

    def on_blur(self) -> None:
        self.refresh()

    def on_click(self, event: events.Click) -> None:
        """A click chooses what stands there."""
        start = 0
        for name, text in self.options:
            end = start + 4 + cells(text)
            if start <= event.x < end:
                self.choose(name)
            start = end + 4


class Submit(Widget, can_focus=True):
    """The only place of a card where Enter does something."""

    DEFAULT_CSS = "Submit { height: 1; width: 10; }"
    BINDINGS: ClassVar[list[BindingType]] = [Binding("enter", "press", "submit", show=False, id="card.submit")]

    @dataclass
    class Pressed(Message):
        """Enter or a click on Submit."""

    def __init__(self, *, id: str = "submit") -> None:
        super().__init__(id=id)
        self.live = True

    def show_live(self, live: bool) -> None:
        """Whether it looks as if it did something."""
        if live != self.live:
            self.live = live
            self.refresh()

    def render_line(self, y: int) -> Strip:
        """The one line there is."""
        look = "dim" if not self.live else "head" if self.has_focus else "bold"
        return dashboard(self).looks.strip([Piece("[Submit]", look)] if y == 0 else (), self.size.width)

    def action_press(self) -> None:
        self.post_message(self.Pressed())

    def on_click(self) -> None:
        """As Enter."""
        self.post_message(self.Pressed())

    def on_focus(self) -> None:
        self.refresh()

    def on_blur(self) -> None:
        self.refresh()
