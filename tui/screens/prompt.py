"""One line at the foot for a jump or a filter; escape leaves it, nothing it can say changes anything."""

from __future__ import annotations

from typing import ClassVar

from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.screen import ModalScreen
from textual.widgets import Input

from tui.work import LeavesOnce

INPUT_MAX = 500
HISTORY_MAX = 50


class Prompt(LeavesOnce, ModalScreen[str | None]):
    """Asks for a line; dismissed with it, or with None. `up` and `down` walk what was answered before."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("escape", "leave", "leave", id="prompt.leave"),
        Binding("up", "older", "older", show=False, priority=True, id="prompt.older"),
        Binding("down", "newer", "newer", show=False, priority=True, id="prompt.newer"),
    ]

    def __init__(self, mark: str, text: str, history: list[str]) -> None:
        super().__init__()
        self._mark, self._text, self._history = mark, text, history
        self._place = len(history)

    def compose(self) -> ComposeResult:
        """The line."""
        yield Input(value=self._text, placeholder=self._mark, max_length=INPUT_MAX, compact=True, id="prompt-line")

    def on_input_submitted(self, event: Input.Submitted) -> None:
        """Answered."""
        text = event.value.strip()
        if text and text not in self._history:
            self._history.append(text)
            del self._history[:-HISTORY_MAX]
        self.dismiss(text)

    def action_leave(self) -> None:
        self.dismiss(None)

    def action_older(self) -> None:
        self._walk(-1)

    def action_newer(self) -> None:
        self._walk(1)

    def _walk(self, by: int) -> None:
        place = self._place + by
        if 0 <= place < len(self._history):
            self._place = place
            line = self.query_one(Input)
            line.value = self._history[place]
            line.cursor_position = len(line.value)
