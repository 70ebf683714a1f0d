"""Starts a worker of a screen by the function, not by its coroutine.

A worker that is put aside before it begins (an exclusive one by the next) would leave a coroutine that nobody awaited.
"""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from typing import Any, cast

from textual.dom import DOMNode


def begin(node: DOMNode, work: Callable[[], Coroutine[Any, Any, None]], *, group: str, exclusive: bool = False) -> None:
    """Start it; it ends with its screen. With `exclusive` it takes the place of those of its group."""
    node.run_worker(cast("Any", work), group=group, exclusive=exclusive)
