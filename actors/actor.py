"""The common anatomy of an actor: a name, a mailbox, and a loop that takes letters in batches.

A subclass says what it does with one letter (`handle`), and perhaps what it does before it is ready (`prepare`). An
actor whose throughput matters may write its own `run`, with the same anatomy: prepare, `task_status.started()`, then
take and handle until cancelled; and `put_back` for what it did not begin.

What a crash costs: the letter at hand. Its asker, and askers that wait for a late answer, are refused with
`ActorRestarted` by the supervisor; the rest of the batch goes back into the mailbox and is handled by the next life.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable
from typing import Any

import trio

from actors.mailbox import TAKE_MAX, Letter, Mailbox
from actors.supervisor_spec import ChildSpec


class Actor(ABC):
    """An actor named `name`; its mailbox is bounded by `limit_messages` and taken up to `take_max` letters a time."""

    def __init__(self, name: str, *, limit_messages: int, take_max: int = TAKE_MAX) -> None:
        self.name = name
        self.mailbox = Mailbox(name, limit_messages)
        self._take_max = take_max

    async def prepare(self) -> None:  # noqa: B027 - most actors have nothing to prepare
        """Get ready, at the beginning of each life; the letters wait meanwhile."""

    @abstractmethod
    async def handle(self, letter: Letter) -> None:
        """Do what one letter says, and answer it, now or later. An exception that leaves here is a crash."""

    def statistics(self) -> dict[str, Any]:
        """Figures of its own for the tree."""
        return {}

    async def run(self, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Live: prepare, be ready, then handle letters until cancelled."""
        await self.prepare()
        task_status.started()
        while True:
            await self.handle_all(await self.mailbox.take(self._take_max))

    async def handle_all(self, letters: Iterable[Letter]) -> None:
        """Handle letters in order; if that ends early, by a crash or by cancellation, hand back those not begun."""
        not_begun = iter(letters)
        try:
            for letter in not_begun:
                await self.handle(letter)
        except BaseException:
            self.mailbox.put_back(not_begun)
            raise

    def as_child(self, **changes: Any) -> ChildSpec:
        """This actor as a child of a supervisor; `changes` are fields of `ChildSpec`."""
        return ChildSpec(name=self.name, run=self.run, mailbox=self.mailbox, statistics=self.statistics, **changes)
