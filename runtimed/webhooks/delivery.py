"""A delivery as it came, and what providers share: headers read strictly, HMACs compared in constant time."""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Mapping

import msgspec

from actors.errors import BadSignature

HEADER_CHARACTERS_MAX = 4_096
KEY_CHARACTERS_MAX = 512


class Delivery(msgspec.Struct, frozen=True, kw_only=True):
    """One request to a webhook. `headers` are as they came, names in lower case; `twice` those that came several
    times; `urls` the addresses that its sender may have meant, since a proxy may stand between."""

    method: str
    body: bytes
    headers: Mapping[str, bytes]
    twice: frozenset[str] = frozenset()
    urls: tuple[str, ...] = ()


def header(delivery: Delivery, name: str) -> str:
    """A header that must be there once, in printable ASCII. Raises BadSignature."""
    value = delivery.headers.get(name)
    if value is None:
        raise BadSignature(f"the header {name} is not there")
    if name in delivery.twice:
        raise BadSignature(f"the header {name} is there twice")
    text = value.decode("latin-1")
    if len(text) > HEADER_CHARACTERS_MAX or not text.isascii() or not text.isprintable() or not text.strip():
        raise BadSignature(f"the header {name} is not as it should be")
    return text.strip()


def seconds(text: str, name: str) -> int:
    """A timestamp in digits. Raises BadSignature."""
    if not (text.isdecimal() and text.isascii() and len(text) <= 16):
        raise BadSignature(f"{name} is no timestamp")
    return int(text)


def check_age(at_s: float, now_s: float, tolerance_s: float) -> None:
    """Raise BadSignature for what was signed too long ago, or too far ahead: clocks go wrong both ways."""
    if at_s < now_s - tolerance_s:
        raise BadSignature(f"the signature is older than {tolerance_s:g} s")
    if at_s > now_s + tolerance_s:
        raise BadSignature(f"the signature is from more than {tolerance_s:g} s ahead")


def sha256(secret: str, *parts: bytes) -> bytes:
    """HMAC-SHA256 of some bytes after each other."""
    made = hmac.new(secret.encode(), digestmod=hashlib.sha256)
    for part in parts:
        made.update(part)
    return made.digest()


def same(expected: bytes, given: str) -> bool:
    """Whether these are the same, in a time that does not tell where they differ."""
    return hmac.compare_digest(expected, given.encode())
