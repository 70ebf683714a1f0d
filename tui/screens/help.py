"""What the keys do on a screen, out of the keys that are live there."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.screen import ModalScreen

from tui.widgets.virtual_list import Column, ListRows, VirtualList
from tui.work import LeavesOnce

_COLUMNS = (
    Column("KEY", (16, 18, 20, 20)),
    Column("DOES", (24, 30, 50, 60)),
    Column("NAME FOR KEYMAPS", (0, 20, 30, 40), grow=True),
)
_GENERAL = ("", "screen", "list", "app", "area")
"""Whose keys stand first: those that only this screen has."""


def _group(key: tuple[str, str, str]) -> str:
    group = key[2].partition(".")[0]
    return group if group in _GENERAL else ""


class Help(LeavesOnce, ModalScreen[None]):
    """A list of keys; any of escape, `q` and `?` leaves it."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("escape,q,question_mark", "leave", "leave", id="help.leave"),
    ]

    def __init__(self, keys: Sequence[tuple[str, str, str]]) -> None:
        super().__init__()
        self._rows: ListRows[tuple[str, str, str]] = ListRows(lambda key: key[0] + key[1], lambda key: key)
        self._rows.items = sorted(keys, key=lambda key: (_GENERAL.index(_group(key)), key[2], key[0]))

    def compose(self) -> ComposeResult:
        """The list."""
        yield VirtualList(_COLUMNS, self._rows, id="help-list")

    def action_leave(self) -> None:
        self.dismiss(None)
