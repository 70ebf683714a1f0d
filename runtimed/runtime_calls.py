"""Calls that no command stands for (a backup, a poll, a restart): what is recorded of them, and their first answers."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import TypeVar

import msgspec
import trio

from actors import messages as m
from actors.audit import call
from runtimed.assembly import Actors

S = TypeVar("S", bound=msgspec.Struct)


class CallVerbs:
    """What `Runtime` has for them. `calls_at_work` are those with a key that have no answer yet."""

    actors: Actors
    calls_at_work: dict[tuple[str, str], trio.Event]

    async def audit(self, action: str, target: str, origin: m.Origin, reason: str | None = None, /) -> int:
        """Record a call that no command stands for, and wait until that is on disk; the record's seq, 0 for what is
        not audited. For calls that change no record: those that do are audited in the commit of what they change."""
        if origin.via is None:
            return 0
        writer = self.actors.writer
        seq = writer.append(call(action, target, origin, reason))
        writer.cut()
        await writer.wait_durable(seq)
        return seq

    async def once(self, origin: m.Origin, kind: type[S], work: Callable[[], Awaitable[S]]) -> S:
        """Do the work, or give the first answer to this call's idempotency key; a repeat that comes meanwhile waits for
        it. What fails leaves no answer. Raises KeyReused where the key stood for another request, and what the work
        raises; cancelled, the work is, and a repeat does it anew."""
        request = origin.request
        if request is None:
            return await work()
        place = (request.principal, request.key)
        while (first := self.calls_at_work.get(place)) is not None:
            await first.wait()
        answers, writer = self.actors.answers, self.actors.writer
        known = answers.find(request)
        if known is not None:
            await writer.wait_durable(known.seq)
            return msgspec.json.decode(known.body, type=kind)
        self.calls_at_work[place] = answered = trio.Event()
        try:
            answer = await work()
            answers.keep(request, answer)
            writer.cut()
            await writer.wait_durable(writer.seq)
        finally:
            del self.calls_at_work[place]
            answered.set()
        return answer
