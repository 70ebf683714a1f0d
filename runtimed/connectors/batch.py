"""Records of several streams, and the state that came after them, as pages: a state never goes first. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from msgspec import Raw

from actors.connector_spec import PAGE_RECORDS_MAX, Page

BATCH_BYTES_MAX = 4 * 1024 * 1024
"""So much is collected before it is handed on, however few records it is."""


class Batch:
    """What a child has said and the journal does not have yet.

    `add` into `items(stream)` directly and count with `grew`: the loop over records is the hot path. `seal(state)` says
    that all so far belongs to this state. `pages` gives what may go: up to the last seal with its state, and the rest
    once there is enough of it, without a state, because none covers it yet.
    """

    def __init__(self) -> None:
        self._items: dict[str, list[Any]] = {}
        self._marks: dict[str, int] = {}
        self._state: Raw | None = None
        self._bytes = 0

    def items(self, stream: str) -> list[Any]:
        """The list that the stream's records are appended to, in order. It stays the same list."""
        return self._items.setdefault(stream, [])

    def grew(self, size_bytes: int) -> None:
        """So many bytes of records were added."""
        self._bytes += size_bytes

    def seal(self, state: Raw) -> None:
        """All records so far belong to this state. One without records is kept too."""
        self._state = Raw(bytes(state))  # a copy: the state would keep the whole chunk in memory
        self._marks = {stream: len(items) for stream, items in self._items.items()}

    @property
    def count(self) -> int:
        """Records that wait."""
        return sum([len(items) for items in self._items.values()])

    @property
    def waits(self) -> bool:
        """Whether there is anything to hand on."""
        return self._state is not None or any(self._items.values())

    @property
    def is_full(self) -> bool:
        """Whether it is time to hand on what there is."""
        return self.count >= PAGE_RECORDS_MAX or self._bytes >= BATCH_BYTES_MAX

    def pages(self, *, everything: bool = False) -> list[Page]:
        """What goes now, in order; the last page of a sealed part moves the cursor to its state. With `everything`,
        also what no state covers yet."""
        pages = self._sealed() if self._state is not None else []
        self._bytes = 0 if everything or not pages else self._bytes
        if everything or self.is_full:
            pages += [page for stream, items in self._items.items() for page in _cut(stream, items)]
            self._clear()
        return pages

    def _sealed(self) -> list[Page]:
        pages = []
        for stream, mark in self._marks.items():
            pages += _cut(stream, self._items[stream][:mark])
            del self._items[stream][:mark]
        last = pages.pop() if pages else Page()
        pages.append(Page(records=last.records, cursor=self._state, stream=last.stream))
        self._state, self._marks = None, {}
        return pages

    def _clear(self) -> None:
        for items in self._items.values():
            items.clear()
        self._bytes = 0


def _cut(stream: str, items: Sequence[Any]) -> list[Page]:
    return [
        Page(records=items[place : place + PAGE_RECORDS_MAX], stream=stream)
        for place in range(0, len(items), PAGE_RECORDS_MAX)
    ]
