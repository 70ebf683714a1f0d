"""Work that a screen starts beside itself: the last of a group wins, and what never began leaves nothing behind."""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from functools import partial
from typing import Any, ParamSpec

from textual.dom import DOMNode

P = ParamSpec("P")


def begin(
    node: DOMNode, group: str, work: Callable[P, Coroutine[Any, Any, None]], *args: P.args, **more: P.kwargs
) -> None:
    """Run `work(...)` as a worker of `node`, which it ends with, in place of the one of this group that still runs."""
    call: Any = partial(work, *args, **more)  # not the coroutine itself: one that is replaced at once would never start
    node.run_worker(call, group=group, exclusive=True)
