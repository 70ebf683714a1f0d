"""A screen's workers: how they are started, and when they end.

They are started by the function, not by its coroutine: a worker that is put aside before it begins (an exclusive one by
the next) would leave a coroutine that nobody awaited. And they end before the screen's parts are taken down: Textual
cancels them after, and one that comes back in between looks for parts that are gone, and takes the dashboard down with
an error as it is left."""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from typing import Any, cast

from textual.await_complete import AwaitComplete
from textual.dom import DOMNode
from textual.messages import Prune
from textual.screen import Screen


def begin(node: DOMNode, work: Callable[[], Coroutine[Any, Any, None]], *, group: str, exclusive: bool = False) -> None:
    """Start it; it ends with its screen. With `exclusive` it takes the place of those of its group."""
    node.run_worker(cast("Any", work), group=group, exclusive=exclusive)


class EndsWork:
    """A screen that has workers. To be named before Textual's class."""

    async def on_prune(self, event: Prune) -> None:
        """The screen is about to be taken down."""
        node = cast("DOMNode", self)
        node.workers.cancel_node(node)


class LeavesOnce:
    """A screen that is left only while it is on top. To be named before Textual's class.

    Textual takes down whatever is on top: a second key that leaves, come before the first one was done, would take the
    screen below along, and the last one with the whole dashboard."""

    def dismiss(self, result: object = None) -> AwaitComplete:
        """Leave, with a result; nothing if it has been left."""
        screen = cast("Screen[Any]", self)
        if not screen.is_active:
            nothing: AwaitComplete = AwaitComplete.nothing()  # type: ignore[no-untyped-call]
            return nothing
        return Screen.dismiss(screen, result)
