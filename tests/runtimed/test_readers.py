"""The readers: all connections are there from the start, so that no query has to wait for a file descriptor."""

from __future__ import annotations

import contextlib
import os
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NoReturn

import pytest
import trio

from actors.gil_gate import GilGate
from runtimed.readers import Readers
from wal.errors import JournalError
from wal.journal import Journal
from wal.queries import Reader


@pytest.fixture
def journal(tmp_path: Path) -> Iterator[Path]:
    with Journal.open(tmp_path / "journal.db", ballast_bytes=0):
        yield tmp_path / "journal.db"


def connections(journal: Path) -> int:
    """How many connections to this journal are open in this process, by their descriptors of SQLite's WAL: of the file
    itself SQLite keeps those of closed connections for the next ones, as long as another has a lock."""
    found = 0
    for one in os.listdir("/proc/self/fd"):
        with contextlib.suppress(FileNotFoundError):  # that of the listing itself
            found += os.readlink(f"/proc/self/fd/{one}") == f"{journal}-wal"
    return found


@pytest.mark.trio
async def test_no_query_opens_a_connection(journal: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As many queries at once as there are readers, after which no more is open than before the first."""
    before = connections(journal)
    readers = Readers(journal, 3, GilGate())
    monkeypatch.setattr(Reader, "open", _refuses)
    assert connections(journal) == before + 4  # and one for the loop
    together = threading.Barrier(3)

    def query(reader: Reader) -> int:
        together.wait(30)
        return reader.head_seq()

    heads: list[Any] = []

    async def ask() -> None:
        heads.append(await readers.read(query))

    async with trio.open_nursery() as nursery:
        for _ in range(3):
            nursery.start_soon(ask)
    assert heads == [0, 0, 0]
    assert connections(journal) == before + 4
    readers.close()
    assert connections(journal) == before


def test_a_reader_that_does_not_open_leaves_none(journal: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """If there is no room for all of them, the start fails, and those that were open are closed."""
    before, real, left = connections(journal), Reader.open, [None, None]

    def scarce(path: Path) -> Reader:
        if not left:
            _refuses()
        left.pop()
        return real(path)

    monkeypatch.setattr(Reader, "open", scarce)
    with pytest.raises(JournalError, match="as asked"):
        Readers(journal, 3, GilGate())
    assert connections(journal) == before


def _refuses(*_: object) -> NoReturn:
    raise JournalError("as asked")
