"""A WAL writer by hand, for tests of what lies over the journal until it is durable."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest

from wal.journal import Journal
from wal.records import Entry


class HandWriter:
    """`flush` makes what was appended durable, and then calls what waited for that."""

    def __init__(self, journal: Journal) -> None:
        self.journal, self.seq, self.durable = journal, 0, 0
        self.pending: list[Entry] = []
        self.then: list[tuple[int, Callable[..., None], tuple[Any, ...]]] = []

    def append(self, record: Any, weight: int = 0) -> int:
        self.seq += 1
        self.pending.append(Entry(self.seq, 0, 0, self.seq, record))
        return self.seq

    def when_durable(self, seq: int, then: Callable[..., None], *args: Any) -> None:
        self.then.append((seq, then, args))

    def flush(self) -> None:
        self.journal.commit(self.pending)
        self.pending.clear()
        for _, then, args in self.then:
            then(*args)
        self.then.clear()


@pytest.fixture
def writer() -> Iterator[HandWriter]:
    """A writer of a journal in memory."""
    with Journal.open(None) as journal:
        yield HandWriter(journal)
