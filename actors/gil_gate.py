"""Lets threads run beside a busy loop.

A saturated trio loop gives the GIL up for a microsecond in each epoll and is first to take it back, so a waiting thread
loses the race again and again: a `def` step or a reader was seen to start after seconds. While work is outstanding in
threads, the gate sleeps for 0 seconds before each poll: a real yield, at which a thread takes the GIL. It costs nothing
when no thread works. `sys.setswitchinterval` alone does not cure it.
"""

from __future__ import annotations

import time
from types import TracebackType

import trio


class GilGate(trio.abc.Instrument):
    """A trio instrument; enter it (as a context manager) around each piece of work that a thread does. It is installed
    only for as long as there is such work, because an instrument costs each turn of the loop a microsecond."""

    def __init__(self) -> None:
        self._outstanding = 0

    def __enter__(self) -> None:
        if not self._outstanding:
            trio.lowlevel.add_instrument(self)
        self._outstanding += 1

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        self._outstanding -= 1
        if not self._outstanding:
            trio.lowlevel.remove_instrument(self)

    def before_io_wait(self, timeout: float) -> None:
        time.sleep(0)
