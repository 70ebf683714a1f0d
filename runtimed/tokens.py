"""Bearer tokens: how one is made, what is kept of it, and the table that each request is held against. Pure.

A token is `rtd_<id>_<secret>`. The secret has 256 bits from the system; kept is only its keyed BLAKE2b (RFC 7693), so
that who reads the journal cannot use a token, and who has the key cannot find one. One check is a look into a table, a
digest and a comparison in constant time: microseconds, and no disk.
"""

from __future__ import annotations

import hmac
import re
import secrets
from collections.abc import Iterable
from hashlib import blake2b
from typing import Final, Literal

import msgspec

from runtimed.wire import TokenView
from wal.tokens import TokenRow
from wal.views import rfc3339

ID_BYTES: Final = 6
SECRET_BYTES: Final = 32
KEY_BYTES: Final = 32
TOKEN_CHARACTERS_MAX: Final = 200
"""What is longer is no token of ours, and is not looked at."""

Refusal = Literal["malformed", "unknown", "revoked", "expired"]
"""Why a token is worth nothing. Only who has the whole token learns that it was revoked or has expired."""

_TOKEN: Final = re.compile(rb"rtd_([0-9a-f]{12})_([0-9a-f]{64})")
_NOBODY: Final = bytes(32)


def new_id() -> str:
    """The public part: it names the token in records and lists."""
    return secrets.token_hex(ID_BYTES)


def new_secret() -> str:
    """The part that nobody else knows."""
    return secrets.token_hex(SECRET_BYTES)


def written(token_id: str, secret: str) -> str:
    """A token as it is shown once and sent with each request."""
    return f"rtd_{token_id}_{secret}"


def digest(key: bytes, token_id: str, secret: str) -> str:
    """What is kept of a secret. The id is part of it: a digest cannot be moved to another token."""
    return blake2b(f"{token_id}\0{secret}".encode(), key=key, digest_size=32).hexdigest()


class TokenTable:
    """All tokens in memory, as the journal has them. `key` is None until there is one: then no token is right."""

    def __init__(self, key: bytes | None = None, rows: Iterable[TokenRow] = ()) -> None:
        self.key = key
        self._rows: dict[str, TokenRow] = {}
        self._digests: dict[str, bytes] = {}
        self._used: dict[str, int] = {}
        self.load(rows)

    def __repr__(self) -> str:
        return f"<{len(self._rows)} tokens>"

    def load(self, rows: Iterable[TokenRow]) -> None:
        """Take what the journal has now in place of what it had before. What was used meanwhile stays noted."""
        self._rows = {row.id: row for row in rows}
        self._digests = {row.id: bytes.fromhex(row.digest) for row in self._rows.values()}

    def check(self, text: bytes, now_us: int) -> TokenRow | Refusal:
        """The token that this text is, or why it is none. Takes as long for an id that does not exist."""
        match = _TOKEN.fullmatch(text) if len(text) <= TOKEN_CHARACTERS_MAX else None
        if match is None:
            return "malformed"
        token_id = match[1].decode()
        found = digest(self.key or _NOBODY, token_id, match[2].decode())
        same = hmac.compare_digest(bytes.fromhex(found), self._digests.get(token_id, _NOBODY))
        row = self._rows.get(token_id)
        if row is None or self.key is None or not same:
            return "unknown"
        if row.revoked_at is not None:
            return "revoked"
        if row.expires_at is not None and row.expires_at <= now_us:
            return "expired"
        self._used[token_id] = now_us
        return row

    def counts(self, token_id: str, now_us: int) -> bool:
        """Whether a token that was right when it was shown still is."""
        row = self._rows.get(token_id)
        return row is not None and standing(row, now_us) == "active"

    def rows(self) -> list[TokenRow]:
        """All tokens, oldest first, with their last use as it is known by now."""
        return [
            msgspec.structs.replace(row, used_at=max(self._used.get(row.id, 0), row.used_at or 0) or None)
            for row in self._rows.values()
        ]

    def take_used(self) -> dict[str, int]:
        """When tokens were used since this was asked last, by id; then it is forgotten here."""
        used, self._used = self._used, {}
        return used

    def __len__(self) -> int:
        return len(self._rows)


def view_of(row: TokenRow, now_us: int) -> TokenView:
    """A token as it is shown to people, at an instant (microseconds)."""
    return TokenView(
        id=row.id,
        name=row.name,
        role=row.role,
        status=standing(row, now_us),
        created_at=rfc3339(row.created_at) or "",
        created_by=row.created_by,
        expires_at=rfc3339(row.expires_at),
        revoked_at=rfc3339(row.revoked_at),
        used_at=rfc3339(row.used_at),
    )


def standing(row: TokenRow, now_us: int) -> str:
    """`active`, `expired` or `revoked`."""
    if row.revoked_at is not None:
        return "revoked"
    return "expired" if row.expires_at is not None and row.expires_at <= now_us else "active"
