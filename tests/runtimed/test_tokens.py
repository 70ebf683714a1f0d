"""Bearer tokens as values: how they are written, kept and checked."""

from __future__ import annotations

import re
from typing import Any

import msgspec
import pytest

from runtimed import tokens
from runtimed.tokens import TokenTable
from wal.tokens import TokenRow

KEY = b"k" * 32
NOW = 1_700_000_000_000_000


def made(name: str = "ci", role: str = "viewer", key: bytes = KEY, **fields: Any) -> tuple[TokenRow, bytes]:
    """A token as the journal has it, and its text."""
    token_id, secret = tokens.new_id(), tokens.new_secret()
    bare = TokenRow(token_id, name, role, tokens.digest(key, token_id, secret), NOW, None, None, None, None)
    return msgspec.structs.replace(bare, **fields), tokens.written(token_id, secret).encode()


def test_a_token_has_256_bits_and_a_shape() -> None:
    """`rtd_<id>_<secret>`; no two are the same, and no part of the secret is in what is kept."""
    row, text = made()
    assert re.fullmatch(rb"rtd_[0-9a-f]{12}_[0-9a-f]{64}", text)
    secret = text.decode().rpartition("_")[2]
    assert len(bytes.fromhex(secret)) == tokens.SECRET_BYTES == 32
    assert secret not in msgspec.json.encode(row).decode()
    assert len({made()[1] for _ in range(100)}) == 100


def test_the_right_token_is_found_and_its_use_is_noted() -> None:
    """A check gives the token's row; when it was used is told once, and shown in the list meanwhile."""
    row, text = made()
    table = TokenTable(KEY, [made("other")[0], row])
    assert table.check(text, NOW + 5) == row
    assert [each.used_at for each in table.rows()] == [None, NOW + 5]
    assert table.take_used() == {row.id: NOW + 5}
    assert table.take_used() == {}


def test_what_is_no_token_is_told_apart() -> None:
    """Who has the whole secret learns that it was revoked or has expired; all others learn that there is none."""
    row, text = made()
    head = text[: len(b"rtd_") + 12]
    revoked, revoked_text = made(revoked_at=NOW)
    expired, expired_text = made(expires_at=NOW)
    table = TokenTable(KEY, [row, revoked, expired])
    assert table.check(revoked_text, NOW) == "revoked"
    assert table.check(expired_text, NOW) == "expired"
    assert table.check(expired_text, NOW - 1) == expired
    for wrong in (head + b"_" + b"0" * 64, revoked_text[:17] + b"0" * 64, made()[1], text[:-1] + b"g"[:0] + b"f"):
        assert wrong == text or table.check(wrong, NOW) in ("unknown", "malformed")
    for bad in (b"", b"rtd_", text + b"0", text.upper(), text[:-1] + b"\xff", b"x" * 100_000, head, b" " + text):
        assert table.check(bad, NOW) == "malformed"


def test_without_the_key_or_under_another_no_token_counts() -> None:
    """The journal alone is worth nothing: a digest is checked under the key that is beside it."""
    row, text = made()
    assert TokenTable(None, [row]).check(text, NOW) == "unknown"
    assert TokenTable(b"x" * 32, [row]).check(text, NOW) == "unknown"
    # not even a digest that somebody wrote into the journal under the all-zero key
    zero, zero_text = made(key=bytes(32))
    assert TokenTable(None, [zero]).check(zero_text, NOW) == "unknown"


def test_a_digest_belongs_to_its_id() -> None:
    """A digest copied to another row does not make that row's token out of this one's secret."""
    viewer, text = made("viewer")
    admin = msgspec.structs.replace(made("admin", "admin")[0], digest=viewer.digest)
    table = TokenTable(KEY, [viewer, admin])
    forged = b"rtd_" + admin.id.encode() + text[16:]
    assert table.check(forged, NOW) == "unknown"


@pytest.mark.parametrize(
    ("changes", "status"),
    [
        ({}, "active"),
        ({"expires_at": NOW}, "expired"),
        ({"expires_at": NOW + 1}, "active"),
        ({"revoked_at": 1, "expires_at": 1}, "revoked"),
    ],
)
def test_a_token_says_how_it_stands(changes: dict[str, Any], status: str) -> None:
    """Revoked outweighs expired."""
    assert tokens.standing(made(**changes)[0], NOW) == status
