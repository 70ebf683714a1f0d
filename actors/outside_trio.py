"""Hides trio's current task while workflow code runs.

A workflow runs inside the coordinator's task. `with trio.move_on_after(1): await ctx.signal(...)` in it would enter its
scope on the coordinator's task and cancel *that* (seen). So for the time of a `send` the slot that trio keeps the
current task in holds an object that raises `ForeignAwait` whatever is asked of it: the mistake shows at the user's
own line. The slot is private to trio; `tests/actors/test_outside_trio.py` fails when it moves.
"""

from __future__ import annotations

from typing import Any, Final, NoReturn

from trio._core._run import GLOBAL_RUN_CONTEXT as _SLOT

from actors.errors import ForeignAwait


class _NoTask:
    def __getattr__(self, name: str) -> NoReturn:
        raise ForeignAwait("a workflow may await only ctx: trio and anyio do not work inside it")


_NO_TASK: Final[Any] = _NoTask()


class OutsideTrio:
    """A context manager that hides the current task; it may be entered again and again, and nested."""

    __slots__ = ("_saved",)

    def __init__(self) -> None:
        self._saved: list[Any] = []

    def __enter__(self) -> None:
        self._saved.append(_SLOT.__dict__.get("task", self))
        _SLOT.task = _NO_TASK

    def __exit__(self, *_: object) -> None:
        saved = self._saved.pop()
        if saved is self:
            del _SLOT.task
        else:
            _SLOT.task = saved
