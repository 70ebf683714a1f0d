"""What can be said of one record's place in the digest chain: read from the file, where this user may read it."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

from tui.offline import JournalFile, open_file
from tui.source import Source
from wal.errors import RuntimedError

DIGEST_SHOWN = 8


class ChainFigure(NamedTuple):
    """The words and their look."""

    text: str
    look: str = "dim"


async def chain_figure(source: Source | None, journal: Path | None, seq: int, tick: str, cross: str) -> ChainFigure:
    """Look at one record. Over the network, or without the right to read the file, it says so; nothing is claimed."""
    if isinstance(source, JournalFile):
        return await _read(source, seq, tick, cross)
    if journal is None:
        return ChainFigure("chain: not seen from here")
    try:
        file = await open_file(journal)
    except RuntimedError:
        return ChainFigure("chain: this user may not read the file")
    try:
        return await _read(file, seq, tick, cross)
    finally:
        await file.close()


async def _read(file: JournalFile, seq: int, tick: str, cross: str) -> ChainFigure:
    try:
        told = await file.chain_of(seq)
    except RuntimedError as error:
        return ChainFigure(f"chain: {error}", "bad")
    if told is None:
        return ChainFigure("chain: not in the file")
    before, digest, holds = told
    text = f"prev {before or '-'}   digest {digest[:DIGEST_SHOWN]}..   chain {tick if holds else cross + ' BROKEN'}"
    return ChainFigure(text, "good" if holds else "bad")
