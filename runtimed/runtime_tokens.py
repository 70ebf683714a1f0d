"""The runtime's verbs for bearer tokens: make, list, revoke, and hold a request's token against them."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

import trio

from actors import messages as m
from actors.clock import Clock
from actors.errors import SecretsRefused
from actors.wal_writer import WalWriter
from runtimed import tokens as t
from runtimed.token_key import FILE_NAME, make_token_key, read_token_key
from wal import records as r
from wal.queries import Reader
from wal.tokens import TokenRow

USED_EVERY_S: Final = 60.0
"""How often the last uses of tokens are recorded, at most: one record for all of them."""


class Tokens:
    """The tokens of one runtime. `folder` is None where nothing is on disk: then its key is of this life alone."""

    def __init__(self, folder: Path | None, reader: Reader, writer: WalWriter, clock: Clock) -> None:
        self._folder, self._reader, self._writer, self._clock = folder, reader, writer, clock
        self.table = t.TokenTable()
        self.remark: str | None = None
        self._making = trio.Lock()
        self._noted_at = -USED_EVERY_S

    def load(self) -> None:
        """Read the tokens and their key. A key that cannot be used is a remark, and no token counts then: the unix
        socket goes on, and there somebody can mend it."""
        self.reload()
        try:
            self.table.key = None if self._folder is None else read_token_key(self._folder)
        except SecretsRefused as error:
            self.remark = f"no token counts: {error}"
        else:
            if self.table.key is None and len(self.table) and self._folder is not None:
                self.remark = f"no token counts: {self._folder / FILE_NAME} is gone; put it back, or make new tokens"

    def reload(self) -> None:
        """The journal has other tokens now."""
        self.table.load(self._reader.tokens())

    async def ready_key(self) -> bytes:
        """The key, made now if there is none. Raises SecretsRefused."""
        async with self._making:
            if self.table.key is None:
                folder = self._folder
                found = (
                    None if folder is None else read_token_key(folder)
                )  # one open to others is refused, not replaced
                if found is None:
                    found = os.urandom(t.KEY_BYTES) if folder is None else await _in_thread(make_token_key, folder)
                self.table.key, self.remark = found, None
            return self.table.key

    def note_used(self, *, now: bool = False) -> None:
        """Record when tokens were used last, if that is due. It is told now and then, and not waited for."""
        if not now and trio.current_time() - self._noted_at < USED_EVERY_S:
            return
        self._noted_at = trio.current_time()
        used = self.table.take_used()
        if used:
            self._writer.append(r.TokensUsed(used))
            self._writer.cut()

    @property
    def now_us(self) -> int:
        """The time that expiry goes by."""
        return self._clock.now_us()


async def _in_thread(make: Callable[[Path], bytes], folder: Path) -> bytes:
    return await trio.to_thread.run_sync(make, folder)


class TokenVerbs:
    """Mixed into `Runtime`."""

    tokens: Tokens

    async def ask(self, command: m.Message) -> Any:
        """Given by `Runtime`."""
        raise AssertionError("abstract")

    async def create_token(
        self,
        name: str,
        role: str,
        *,
        expires_in_s: float | None = None,
        reason: str | None = None,
        origin: m.Origin = m.NOBODY,
    ) -> tuple[TokenRow, str]:
        """Make a token; the second value is its text, which is nowhere else and cannot be had again. Raises
        InvalidInput, TokenExists, SecretsRefused."""
        tokens = self.tokens
        key = await tokens.ready_key()
        token_id, secret = t.new_id(), t.new_secret()
        expires_at = None if expires_in_s is None else tokens.now_us + int(expires_in_s * 1e6)
        command = m.CreateToken(
            id=token_id, name=name, role=role, digest=t.digest(key, token_id, secret), expires_at=expires_at,
            reason=reason, origin=origin,
        )  # fmt: skip
        await self.ask(command)
        row = next(row for row in tokens.table.rows() if row.id == token_id)
        return row, t.written(token_id, secret)

    async def revoke_token(self, token: str, *, reason: str | None = None, origin: m.Origin = m.NOBODY) -> m.Accepted:
        """Make a token (its id, or the name of one that counts) worth nothing, from now on. Raises TokenNotFound."""
        accepted: m.Accepted = await self.ask(m.RevokeToken(token=token, reason=reason, origin=origin))
        return accepted

    def list_tokens(self) -> list[TokenRow]:
        """All tokens that were ever made, oldest first."""
        return self.tokens.table.rows()

    @property
    def now_us(self) -> int:
        """The time that expiry goes by, in microseconds since the epoch."""
        return self.tokens.now_us

    def token_counts(self, token_id: str) -> bool:
        """Whether a token that was right when it was shown still is; from memory alone."""
        return self.tokens.table.counts(token_id, self.tokens.now_us)

    def check_token(self, text: bytes) -> TokenRow | t.Refusal:
        """The token that a request shows, or why it is none; from memory alone."""
        return self.tokens.table.check(text, self.tokens.now_us)
