"""The time limit round users' code: what it ends, what cannot keep it, and what it leaves as it was."""

from __future__ import annotations

import itertools
import os
import signal
import threading
import time
from collections.abc import Callable

import pytest

from runtimed.cli import time_limit
from runtimed.cli.time_limit import TimeLimit, TimeUp


class GivenUp(BaseException):
    """Stands for the end of the process."""


def give_up() -> None:
    raise GivenUp


def for_ever() -> None:
    for _ in itertools.count():
        pass


def asleep() -> None:
    time.sleep(60)


def on_a_lock() -> None:
    threading.Event().wait(60)


def swallows_once() -> str:
    try:
        for_ever()
    except BaseException:  # noqa: BLE001 - the point of the test
        return "as if nothing had been"
    return ""


def swallows_errors() -> None:
    while True:
        try:
            for_ever()
        except Exception:  # noqa: BLE001 - the point of the test
            continue


@pytest.mark.parametrize("work", [for_ever, asleep, on_a_lock, swallows_once, swallows_errors])
def test_what_does_not_come_back_is_ended(work: Callable[[], object]) -> None:
    """Whatever the code does meanwhile, and also if it makes of it an end of its own."""
    with TimeLimit(0.02, give_up) as limit:
        assert limit.run(work) is None
        assert limit.run(lambda: "well") == "well"


def test_what_is_raised_comes_through() -> None:
    """An error of what was called is an error, and the next call has its time again."""
    with TimeLimit(5.0, give_up) as limit:
        with pytest.raises(ZeroDivisionError):
            limit.run(lambda: 1 // 0)
        assert limit.run(lambda: 1) == 1


def test_code_that_swallows_all_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    """What catches all that is raised in it, for ever, is left to whoever can end the process."""
    monkeypatch.setattr(time_limit, "AGAIN_SECONDS", 0.001)

    def deaf() -> None:
        while True:
            try:
                for_ever()
            except TimeUp:
                continue

    with TimeLimit(0.01, give_up) as limit, pytest.raises(GivenUp):
        limit.run(deaf)


def test_an_interrupt_that_was_swallowed_comes_after_all() -> None:
    """Ctrl-C ends the whole, also if it struck in code that catches everything."""

    def deaf() -> None:
        try:
            os.kill(os.getpid(), signal.SIGINT)
            for_ever()
        except BaseException:  # noqa: BLE001 - the point of the test
            pass

    with TimeLimit(5.0, give_up) as limit, pytest.raises(KeyboardInterrupt):
        limit.run(deaf)


def test_the_signals_are_as_they_were() -> None:
    """Outside of it, signals do what they did, and none is on its way."""
    before = signal.getsignal(signal.SIGALRM), signal.getsignal(signal.SIGINT)
    with TimeLimit(0.05, give_up) as limit:
        limit.run(lambda: None)
    assert (signal.getsignal(signal.SIGALRM), signal.getsignal(signal.SIGINT)) == before
    assert signal.getitimer(signal.ITIMER_REAL) == (0.0, 0.0)
