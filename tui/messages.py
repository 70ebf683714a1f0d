"""All messages between the dashboard's parts, each a small value."""

from __future__ import annotations

from collections.abc import Set
from dataclasses import dataclass, field

from textual.message import Message

from tui.model import Change


@dataclass
class ModelChanged(Message):
    """What the daemon told has changed the model; several of these wait as one."""

    change: Change

    def can_replace(self, message: Message) -> bool:
        """Never: two changes are united by the link before they are posted."""
        return False


@dataclass
class RowHighlighted(Message):
    """The cursor of a list stands on another row; `key` is None in an empty list."""

    list_id: str | None
    key: str | None

    def can_replace(self, message: Message) -> bool:
        """Only the last place of a cursor matters."""
        return isinstance(message, RowHighlighted) and message.list_id == self.list_id


@dataclass
class RowOpened(Message):
    """Enter, or a second click, on a row."""

    list_id: str | None
    key: str


@dataclass
class RowsNeeded(Message):
    """A list shows rows that are not held: their owner should fetch them."""

    list_id: str | None
    first: int
    last: int

    def can_replace(self, message: Message) -> bool:
        """Only the rows on screen now matter."""
        return isinstance(message, RowsNeeded) and message.list_id == self.list_id


@dataclass
class MarksChanged(Message):
    """Rows of a list were marked or unmarked."""

    list_id: str | None
    marks: Set[str] = field(default_factory=frozenset)


@dataclass
class AreaChosen(Message):
    """A tab was clicked."""

    area: str
