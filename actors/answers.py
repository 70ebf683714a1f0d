"""What is recorded beside a command that was carried out: who asked for it, and the first answer to its key.

First answers are found again in memory while they are not durable, in the journal after."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import msgspec
from msgspec import Raw

from actors.audit import audited
from actors.errors import KeyReused
from actors.messages import Message, RequestKey
from wal import records as r
from wal.queries import Reader


class Known(msgspec.Struct, frozen=True):
    """A first answer: its JSON, and the seq that must be durable before it is given again."""

    body: Raw
    seq: int


class Answers:
    """Shared by the actors that take requests, so that one key has one answer whoever gives it."""

    def __init__(self, reader: Reader, append: Callable[..., int], when_durable: Callable[..., None]) -> None:
        self._reader, self._append, self._when_durable = reader, append, when_durable
        self._undurable: dict[tuple[str, str], tuple[str, Known]] = {}

    def find(self, request: RequestKey | None) -> Known | None:
        """The answer that this request had before. Raises KeyReused where the key stood for another request."""
        if request is None:
            return None
        waiting = self._undurable.get((request.principal, request.key))
        if waiting is not None:
            digest, known = waiting
        else:
            row = self._reader.answer(request.principal, request.key)
            if row is None:
                return None
            digest, known = row.digest, Known(row.body, row.seq)
        if digest != request.digest:
            raise KeyReused(f"Idempotency-Key {request.key!r} was used for another request")
        return known

    def accept(self, command: Any, reply: Message) -> None:
        """Record that a command was carried out, in the commit of what it changed: call this before any `cut`."""
        record = audited(command, reply)
        if record is not None:
            self._append(record, weight=len(record.reason or ""))
        self.keep(command.origin.request, reply)

    def keep(self, request: RequestKey | None, reply: msgspec.Struct) -> None:
        """Record the answer, in the commit of what it answers."""
        if request is None:
            return
        body = Raw(msgspec.json.encode(reply))
        seq = self._append(r.RequestAnswered(request.principal, request.key, request.digest, 0, body), weight=len(body))
        key = (request.principal, request.key)
        self._undurable[key] = (request.digest, Known(body, seq))
        self._when_durable(seq, self._forget, key)

    def _forget(self, key: tuple[str, str]) -> None:
        self._undurable.pop(key, None)
