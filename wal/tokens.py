"""Bearer tokens: what their records do to the table, and how they are read back. Of a secret only a digest is kept."""

from __future__ import annotations

import apsw
import msgspec

from wal.connections import all_rows
from wal.records import Entry, TokenCreated, TokenRevoked, TokensUsed

_COLUMNS = "id, name, role, digest, created_at, created_by, expires_at, revoked_at, used_at"


class TokenRow(msgspec.Struct, frozen=True, gc=False):
    """A token; instants are microseconds since the epoch, `digest` is hexadecimal."""

    id: str
    name: str
    role: str
    digest: str
    created_at: int
    created_by: str | None
    expires_at: int | None
    revoked_at: int | None
    used_at: int | None


def created(db: apsw.Connection, entry: Entry, record: TokenCreated) -> None:
    """A token was made."""
    row = (record.id, record.name, record.role, record.digest, entry.at, record.by, record.expires_at)
    db.execute("insert into tokens values (?, ?, ?, ?, ?, ?, ?, null, null)", row)


def revoked(db: apsw.Connection, entry: Entry, record: TokenRevoked) -> None:
    """A token was revoked; a second time changes nothing."""
    db.execute("update tokens set revoked_at = coalesce(revoked_at, ?) where id = ?", (entry.at, record.id))


def used(db: apsw.Connection, entry: Entry, record: TokensUsed) -> None:
    """Tokens were used; the clock may have stepped back meanwhile."""
    rows = [(at, token) for token, at in record.used.items()]
    db.executemany("update tokens set used_at = max(coalesce(used_at, 0), ?) where id = ?", rows)


def all_tokens(db: apsw.Connection) -> list[TokenRow]:
    """All tokens that were ever made, oldest first."""
    sql = f"select {_COLUMNS} from tokens order by created_at, id"
    return [TokenRow(*row) for row in all_rows(db, sql)]
