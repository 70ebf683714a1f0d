"""Ends users' code that does not come back: in the main thread, by a signal, as long as Python runs at all in it."""

from __future__ import annotations

import signal
from collections.abc import Callable
from types import FrameType, TracebackType
from typing import Any, Self, TypeVar

T = TypeVar("T")

AGAIN_SECONDS = 0.1
"""Code may swallow what is raised in it, so it is raised again and again."""
SWALLOWED_MAX = 50
"""So often; nothing else in the process could end it then."""


class TimeUp(KeyboardInterrupt):
    """The time is over. Of the kind that neither the flow core nor a user's `except Exception` keeps for itself."""


class TimeLimit:
    """A context manager for the main thread; within it `run` gives each call so many seconds. `give_up` is called where
    code swallows all that would end it, and must end the process.

    An interrupt (Ctrl-C) that such code swallows is raised when it has come back."""

    def __init__(self, seconds: float, give_up: Callable[[], None]) -> None:
        self._seconds, self._give_up = seconds, give_up
        self._armed = self._interrupted = False
        self._rung = 0
        self._before: list[tuple[int, Any]] = []

    def __enter__(self) -> Self:
        for number, handler in ((signal.SIGALRM, self._ring), (signal.SIGINT, self._interrupt)):
            self._before.append((number, signal.signal(number, handler)))
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        while self._before:
            signal.signal(*self._before.pop())

    def run(self, work: Callable[[], T]) -> T | None:
        """What `work` gives, or None if the time was up before, though it may have come to an end all the same."""
        self._rung, self._armed = 0, True
        signal.setitimer(signal.ITIMER_REAL, self._seconds, AGAIN_SECONDS)
        done: T | None = None
        try:
            try:
                done = work()
            finally:
                self._armed = False  # what rings from here on is late
        except TimeUp:
            self._armed = False  # it may have come just before
        finally:
            signal.setitimer(signal.ITIMER_REAL, 0.0)
        if self._interrupted:
            raise KeyboardInterrupt
        return None if self._rung else done

    def _ring(self, number: int, frame: FrameType | None) -> None:
        if not self._armed:
            return
        self._rung += 1
        if self._rung > SWALLOWED_MAX:
            self._give_up()
        raise TimeUp

    def _interrupt(self, number: int, frame: FrameType | None) -> None:
        self._interrupted = True
        raise KeyboardInterrupt
