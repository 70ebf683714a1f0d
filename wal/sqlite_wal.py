"""Whether SQLite's WAL lost committed transactions to damage: what SQLite itself passes over in silence.

SQLite reads its WAL up to the first frame whose checksum fails and takes that for the end: right after a power cut,
which can tear no more than the last transaction (each one is synced before the next is written), and wrong after a
bit has turned in the middle, where everything behind it would be dropped without a word. Frames behind the end that
belong to the same generation (same salts) tell the two apart: a torn tail is part of one transaction, so a commit
frame with yet another frame after it can only stand there if the end is no end.

A WAL is put into the file and cut back at each start (`wal.journal`), so that the remains of two cuts never mix.
Layout of the file: "WAL-mode File Format" in SQLite's documentation. Limits: damage within the last transaction
alone looks like a torn tail; and a header is taken to be written whole, as one sector.
"""

from __future__ import annotations

import os
import struct
from pathlib import Path

from wal.errors import JournalCorrupt

_HEADER = struct.Struct(">8I")  # magic, version, page size, checkpoint number, salts, checksums
_FRAME = struct.Struct(">6I")  # page, size of the file if this commits, salts, checksums
_MAGIC = 0x377F0682
_MAGICS = (_MAGIC, _MAGIC | 1)


def check_wal(path: Path, frames: int) -> None:
    """Raise `JournalCorrupt` if the WAL file at `path`, of which SQLite takes `frames` for valid, lost transactions."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        return
    try:
        _check(descriptor, path, frames)
    finally:
        os.close(descriptor)


def _check(descriptor: int, path: Path, frames: int) -> None:
    header = os.pread(descriptor, _HEADER.size, 0)
    if len(header) < _HEADER.size or not any(header):
        return  # nothing was ever committed to it
    magic, _, page_bytes, _, *salts, _, _ = _HEADER.unpack(header)
    if not _header_holds(header):
        raise JournalCorrupt(f"the header of {path} is damaged: what was committed to it cannot be read")
    assert magic in _MAGICS
    end = _HEADER.size + frames * (_FRAME.size + page_bytes)
    committed = False
    while len(head := os.pread(descriptor, _FRAME.size, end)) == _FRAME.size:
        _, size, *found, _, _ = _FRAME.unpack(head)
        if found == salts:
            if committed:
                raise JournalCorrupt(f"{path} is damaged at frame {frames + 1}: what was committed after it is lost")
            committed = size != 0
        end += _FRAME.size + page_bytes


def _header_holds(header: bytes) -> bool:
    """SQLite's checksum over the first 24 bytes, whose byte order the magic number gives."""
    words = struct.unpack(">6I" if header[3] & 1 else "<6I", header[:24])
    first = second = 0
    for even, odd in zip(words[::2], words[1::2], strict=True):
        first = (first + even + second) & 0xFFFFFFFF
        second = (second + odd + first) & 0xFFFFFFFF
    return _HEADER.unpack(header)[6:] == (first, second) and _HEADER.unpack(header)[0] in _MAGICS
