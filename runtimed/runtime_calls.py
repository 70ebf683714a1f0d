"""Calls that no command stands for (a backup, a poll, a restart): what is recorded of them, and their first answers."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any, TypeVar

import msgspec
import trio

from actors import messages as m
from actors.audit import call
from actors.errors import KeyReused
from runtimed.assembly import Actors

S = TypeVar("S", bound=msgspec.Struct)

UNWRITTEN_S = 600.0
UNWRITTEN_MAX = 100


class UnwrittenAnswers:
    """First answers that are not for the disk: one holds a token's text, another's request has a digest from which a
    secret's value could be guessed. They are given again for ten minutes, by this process alone: so long as a client
    that lost the answer goes on asking."""

    def __init__(self) -> None:
        self._kept: OrderedDict[tuple[str, str], tuple[float, str, msgspec.Struct]] = OrderedDict()

    def find(self, request: m.RequestKey) -> Any:
        """The answer that this request had, or None. Raises KeyReused where the key stood for another request."""
        while self._kept and next(iter(self._kept.values()))[0] <= trio.current_time():
            self._kept.popitem(last=False)
        _, digest, answer = self._kept.get((request.principal, request.key), (0.0, request.digest, None))
        if digest != request.digest:
            raise KeyReused(f"Idempotency-Key {request.key!r} was used for another request")
        return answer

    def keep(self, request: m.RequestKey, answer: msgspec.Struct) -> None:
        """Remember it, in place of the oldest if there are very many."""
        self._kept[request.principal, request.key] = (trio.current_time() + UNWRITTEN_S, request.digest, answer)
        if len(self._kept) > UNWRITTEN_MAX:
            self._kept.popitem(last=False)


class CallVerbs:
    """What `Runtime` has for them. `calls_at_work` are those with a key that have no answer yet."""

    actors: Actors
    unwritten: UnwrittenAnswers
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
        answers, writer, request = self.actors.answers, self.actors.writer, origin.request
        if request is None:
            return await work()
        async with self._alone(request):
            known = answers.find(request)
            if known is not None:
                await writer.wait_durable(known.seq)
                return msgspec.json.decode(known.body, type=kind)
            answer = await work()
            answers.find(request)  # another request may have had an answer under this key meanwhile
            answers.keep(request, answer)
            writer.cut()
            await writer.wait_durable(writer.seq)
            return answer

    async def once_unwritten(self, origin: m.Origin, work: Callable[[], Awaitable[S]]) -> S:
        """The same, with an answer that is not for the disk; see `UnwrittenAnswers`."""
        request = origin.request
        if request is None:
            return await work()
        async with self._alone(request):
            known: S | None = self.unwritten.find(request)
            if known is not None:
                return known
            answer = await work()
            self.unwritten.keep(request, answer)
            return answer

    @asynccontextmanager
    async def _alone(self, request: m.RequestKey) -> AsyncGenerator[None]:
        """One call under a key at a time."""
        place = (request.principal, request.key)
        while (first := self.calls_at_work.get(place)) is not None:
            await first.wait()
        self.calls_at_work[place] = over = trio.Event()
        try:
            yield
        finally:
            del self.calls_at_work[place]
            over.set()
