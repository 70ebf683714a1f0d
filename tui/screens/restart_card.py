"""The card for the restart of an actor: whom it takes along, and what that means for work in flight."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Sequence
from typing import ClassVar

from runtimed.client import DaemonUnreachable
from tui.actor_tree import restarted_with
from tui.format import Line, Piece
from tui.screens.card_base import CHECK_SECONDS, CHECKING, OPEN, UNKNOWN_OUTCOME, CardBase, FormRow
from tui.widgets.fields import Field
from wal.errors import RuntimedError
from wal.views import ActorView

REASON_CHARACTERS_MAX = 1_000


class RestartCard(CardBase):
    """A card for one actor. A restart is no record, so its outcome is looked for in the tree itself."""

    LEVEL: ClassVar[str] = "admin"

    def __init__(self, actor: ActorView) -> None:
        super().__init__()
        self.actor = actor

    def head(self) -> tuple[Line, Line]:
        left = [Piece("restart   ", "bold"), Piece(self.actor.path, "bold")]
        return left, [Piece(f"{self.actor.status.upper()}   restarts {self.actor.restarts}")]

    def facts(self) -> Sequence[Line]:
        """Whom it takes along, and what becomes of work."""
        taken = restarted_with(self.dash.model.actors, self.actor.path)
        lines: list[Line] = [
            [Piece(" ACTOR      ", "dim"), Piece(self.actor.path)],
            [Piece(" RESTARTS   ", "dim"), Piece(f"{len(taken)}, in the order of their start:" if taken else "nobody")],
        ]
        lines += [[Piece("            "), Piece(path, "warn" if path != self.actor.path else "")] for path in taken]
        lines += [
            [Piece(" IN FLIGHT  ", "dim"), Piece("attempts are cut off and made again, with the same idempotency key")],
            [
                Piece(" MAILBOX    ", "dim"),
                Piece(f"{self.actor.mailbox_size} waiting; what was asked is told to ask again"),
            ],
            [Piece(" ON DISK    ", "dim"), Piece("nothing that was acknowledged is lost")],
        ]
        if self.actor.last_error:
            lines.append([Piece(" LAST ERROR ", "dim"), Piece(self.actor.last_error)])
        return lines

    def fields(self) -> Iterable[FormRow]:
        """Why."""
        yield FormRow("Reason", Field(id="reason", limit=REASON_CHARACTERS_MAX), "optional")

    def command(self) -> str:
        return self.dash.command("actors", "restart", self.actor.path)

    async def send(self) -> str:
        """Ask for it."""
        client = self.dash.client
        if client is None:
            raise DaemonUnreachable("the connection went before anything was sent")
        reason = self.text("reason") or None
        await client.restart_actor(self.actor.path, reason=reason, idempotency_key=self.asked_key)
        return f"{self.actor.path} is asked to restart"

    async def _check(self, problem: str) -> None:
        """Look at the tree: more restarts than before are the answer."""
        self.phase = CHECKING
        self.say(f" outcome unknown, checking: {problem}", "need")
        while True:
            source = self.dash.source
            if source is not None and not source.offline and self.dash.link_state.live:
                try:
                    actors = await source.actors()
                except (*UNKNOWN_OUTCOME, RuntimedError):
                    actors = []
                now = next((actor for actor in actors if actor.path == self.actor.path), None)
                if now is not None:
                    self._compare(now)
                    return
            await asyncio.sleep(CHECK_SECONDS)

    def _compare(self, now: ActorView) -> None:
        before = self.actor.restarts
        if now.restarts > before:
            self.succeed(f"{now.path} did restart: {before} restarts before, {now.restarts} now")
            return
        self.phase = OPEN
        self.say(f" no restart is seen ({now.restarts} restarts as before; a restarted daemon begins at 0)", "warn")
