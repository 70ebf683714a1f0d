"""How far each file of a folder has been read, as the cursor that remembers it; pure but for what it is told of files.

A file is known by its path, and by its inode if it was renamed. It is read on from its offset if it is the same file
that has only grown: the bytes before the offset are the same ones. Everything else is a new file.
"""

from __future__ import annotations

from hashlib import blake2b
from typing import NamedTuple

import msgspec

FILES_MAX = 2_000
"""Files that match and are remembered: the cursor holds a row for each, and is written with each page."""
CHECK_BYTES = 256
"""So many bytes before the offset say whether what was read is still there."""


class Seen(NamedTuple):
    """A file as it stands in the folder; the modification time is in nanoseconds."""

    path: str
    inode: int
    size: int
    mtime_ns: int


class Place(msgspec.Struct, frozen=True, array_like=True):
    """How far a file has been read, as it stood then; `check` is the digest of the bytes before the offset."""

    path: str
    inode: int
    size: int
    mtime_ns: int
    offset: int = 0
    check: str = ""


class FilesCursor(msgspec.Struct, frozen=True):
    """The cursor of a watched folder."""

    files: list[Place] = []


class Resume(NamedTuple):
    """Where to go on in a file. `is_final`: it has not changed since it was looked at, so that what has no newline at
    its end is a record too. `check` is what the bytes before the offset must have, else it is read from 0."""

    offset: int
    is_final: bool
    check: str


def check_of(before: bytes) -> str:
    """The digest of the bytes before an offset, of which the last `CHECK_BYTES` count."""
    return blake2b(before[-CHECK_BYTES:], digest_size=8).hexdigest()


class Places:
    """The table of a poll: what the cursor remembers, of files that are still there."""

    def __init__(self, cursor: FilesCursor | None, seen: list[Seen]) -> None:
        there = {file.path for file in seen}
        known = (cursor or FilesCursor()).files
        self._by_path = {place.path: place for place in known if place.path in there}
        self._moved = {place.inode: place for place in known if place.path not in there}
        self.changed = False  # whether there is more to be remembered than before

    def resume(self, file: Seen) -> Resume | None:
        """Where to go on in this file; None if all of it has been read."""
        place = self._by_path.get(file.path)
        if place is None and (moved := self._moved.get(file.inode)) is not None and file.size >= moved.offset:
            return Resume(moved.offset, False, moved.check)  # or a new file with an old one's inode: the check tells
        if place is None or place.inode != file.inode or file.size < place.offset:
            return Resume(0, False, "")
        unchanged = (file.size, file.mtime_ns) == (place.size, place.mtime_ns)
        if unchanged:
            return None if place.offset == file.size else Resume(place.offset, True, place.check)
        if place.offset == file.size:
            return Resume(0, False, "")  # written anew, as long as before
        return Resume(place.offset, False, place.check)

    def note(self, file: Seen, offset: int, check: str) -> None:
        """The file has been read so far."""
        place = Place(*file, offset, check)
        self.changed |= self._by_path.get(file.path) != place
        self._by_path[file.path] = place

    def cursor(self) -> FilesCursor:
        """What is to be remembered."""
        return FilesCursor(list(self._by_path.values()))
