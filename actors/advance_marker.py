"""Marks which run is being advanced, so that one whose code never yields does not freeze the others for ever.

Workflow code runs on the daemon's only loop. Code that never awaits stops everything; the watchdog then kills the
daemon, and after the restart the same run would be advanced again. The mark is a small memory-mapped file: it survives
the process, and costs no system call. A run that was being advanced at two deaths in a row is a suspect, and its run is
blocked instead. A successful advance clears the suspicion, so that a plain `kill -9` at the wrong moment does no harm.
"""

from __future__ import annotations

import mmap
import os
import struct
from pathlib import Path

_MARK = struct.Struct("<qqq")  # the run being advanced, the suspect, how often it was there at a death
DEATHS_MAX = 2


def in_transaction(run_key: int) -> int:
    """What is marked while a transaction of this run is run. A mark of its own, for after a death the run's code is
    advanced first, and well, which says nothing of the transaction that comes next."""
    return -run_key


class AdvanceMarker:
    """The mark of one data folder; without a path it lives in memory only."""

    __slots__ = ("_entered_suspect", "_map", "_suspect", "deaths")

    def __init__(self, path: Path | None = None) -> None:
        if path is None:
            self._map: mmap.mmap | bytearray = bytearray(_MARK.size)
        else:
            fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
            try:
                if os.fstat(fd).st_size < _MARK.size:
                    os.ftruncate(fd, _MARK.size)
                self._map = mmap.mmap(fd, _MARK.size)
            finally:
                os.close(fd)
        advancing, suspect, deaths = _MARK.unpack_from(self._map)
        self.deaths = (deaths + 1 if advancing == suspect else 1) if advancing else 0
        self._suspect = advancing
        self._entered_suspect = False
        _MARK.pack_into(self._map, 0, 0, self._suspect, self.deaths)

    def suspected(self, run_key: int) -> bool:
        """Whether the daemon has died often enough while it advanced this run."""
        return run_key == self._suspect and self.deaths >= DEATHS_MAX

    def enter(self, run_key: int) -> None:
        """This run is being advanced."""
        _PUT(self._map, 0, run_key)

        if run_key == self._suspect:
            self._entered_suspect = True

    def rest(self) -> None:
        """Whatever was being advanced has yielded."""
        _PUT(self._map, 0, 0)
        if self._entered_suspect:
            self.clear()

    def clear(self) -> None:
        """Nobody is suspected any more."""
        self._entered_suspect = False
        self._suspect, self.deaths = 0, 0
        _MARK.pack_into(self._map, 0, 0, 0, 0)

    def close(self) -> None:
        """Close the file; nothing is advanced any more."""
        if isinstance(self._map, mmap.mmap):
            self._map.close()


_PUT = struct.Struct("<q").pack_into
