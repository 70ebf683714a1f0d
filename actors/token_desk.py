"""Making and revoking bearer tokens: what is recorded of them. The secret never comes here, only its digest."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Final

from actors import messages as m
from actors.clock import Clock
from actors.errors import InvalidInput, TokenExists, TokenNotFound
from actors.mailbox import Letter
from actors.wal_writer import WalWriter
from wal import records as r
from wal.queries import Reader
from wal.tokens import TokenRow

ROLES: Final = ("viewer", "operator", "approver", "admin")
TOKENS_MAX: Final = 10_000
"""Tokens that are not revoked; all of them are in memory, and each is somebody's to look after."""

_NAME = re.compile(r"[A-Za-z0-9_.-]{1,64}\Z")


class TokenDesk:
    """Handles `CreateToken` and `RevokeToken`. `changed` is called when a change is durable, before it is answered."""

    def __init__(self, reader: Reader, writer: WalWriter, clock: Clock, changed: Callable[[], None]) -> None:
        self._reader, self._writer, self._clock, self._changed = reader, writer, clock, changed
        self._undurable: dict[str, str] = {}  # names by id
        self._accept: Callable[[Letter, m.Message], None]

    def handlers(self, accept: Callable[[Letter, m.Message], None]) -> dict[type[m.Message], Callable[..., None]]:
        """What handles each command; `accept` answers once all is durable."""
        self._accept = accept
        return {m.CreateToken: self._create, m.RevokeToken: self._revoke}

    def _create(self, command: m.CreateToken, letter: Letter) -> None:
        if _NAME.match(command.name) is None:
            raise InvalidInput("$.name: expected 1 to 64 characters of A-Z a-z 0-9 _ . -")
        if command.role not in ROLES:
            raise InvalidInput(f"$.role: expected one of {', '.join(ROLES)}")
        counting = self._counting()
        if command.name in {row.name for row in counting} | set(self._undurable.values()):
            raise TokenExists(f"there is a token {command.name!r} that counts")
        if len(counting) + len(self._undurable) >= TOKENS_MAX:
            raise TokenExists(f"there are {TOKENS_MAX} tokens that count", hint="Revoke those that nobody uses.")
        by, reason = command.origin.by, command.reason or command.origin.reason
        record = r.TokenCreated(command.id, command.name, command.role, command.digest, command.expires_at, by, reason)
        seq = self._writer.append(record)
        self._undurable[command.id] = command.name
        self._writer.when_durable(seq, self._durable, command.id)
        self._accept(letter, m.Accepted(seq=seq, id=command.id))

    def _revoke(self, command: m.RevokeToken, letter: Letter) -> None:
        row = self._find(command.token)
        if row.revoked_at is not None:  # it is so already
            self._writer.when_durable(self._writer.seq, letter.reply, m.Accepted(seq=self._writer.seq, id=row.id))
            return
        origin = command.origin
        seq = self._writer.append(r.TokenRevoked(row.id, origin.by, command.reason or origin.reason))
        self._writer.when_durable(seq, self._durable, row.id)
        self._accept(letter, m.Accepted(seq=seq, id=row.id))

    def _durable(self, token_id: str) -> None:
        self._undurable.pop(token_id, None)
        self._changed()

    def _counting(self) -> list[TokenRow]:
        now = self._clock.now_us()
        return [
            row
            for row in self._reader.tokens()
            if row.revoked_at is None and (row.expires_at is None or row.expires_at > now)
        ]

    def _find(self, token: str) -> TokenRow:
        for row in self._reader.tokens():
            if row.id == token:
                return row
        for row in self._counting():
            if row.name == token:
                return row
        raise TokenNotFound(f"there is no token {token[:80]!r}")
