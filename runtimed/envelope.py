"""Envelope encryption: each value under a random key of its own, that key under the master key, both bound to a label.

AES-256-GCM (NIST SP 800-38D) with random 96-bit nonces. A data key is used once; the master key wraps one data key a
version of a secret, far below the 2^32 messages after which random nonces may meet. The label (the secret's name and
version) is associated data, so that nobody who can write the file can put one secret in the place of another.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import os
import re

import msgspec
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

KEY_BYTES = 32
NONCE_BYTES = 12


class Broken(Exception):
    """What was sealed does not open: another key, another label, or changed bytes."""


class Sealed(msgspec.Struct, frozen=True):
    """A sealed value: the wrapped data key and the encrypted body, each with its nonce before it."""

    wrapped: bytes
    body: bytes


def seal(master: bytes, value: bytes, label: str) -> Sealed:
    """Encrypt a value under a fresh data key, and that under the master key."""
    key = AESGCM.generate_key(KEY_BYTES * 8)
    return Sealed(_encrypt(master, key, _bound("key", label)), _encrypt(key, value, _bound("value", label)))


def unseal(master: bytes, sealed: Sealed, label: str) -> bytes:
    """The value. Raises Broken."""
    return _decrypt(_decrypt(master, sealed.wrapped, _bound("key", label)), sealed.body, _bound("value", label))


def rewrap(old: bytes, new: bytes, sealed: Sealed, label: str) -> Sealed:
    """The same value under another master key; its body stays as it is. Raises Broken."""
    key = _decrypt(old, sealed.wrapped, _bound("key", label))
    return Sealed(_encrypt(new, key, _bound("key", label)), sealed.body)


def new_master() -> bytes:
    """A fresh master key."""
    return os.urandom(KEY_BYTES)


def key_id(master: bytes) -> str:
    """What names a master key without telling of it."""
    return hashlib.blake2b(master, digest_size=8, person=b"rtd-master-key").hexdigest()


def read_key(text: bytes) -> bytes | None:
    """A key as people and machines write 32 bytes: raw, as 64 hexadecimal digits, or in base64; else None."""
    if len(text) == KEY_BYTES:
        return text
    text = text.strip()
    if re.fullmatch(rb"[0-9A-Fa-f]{64}", text):
        return bytes.fromhex(text.decode())
    try:
        key = base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        return None
    return key if len(key) == KEY_BYTES else None


def _bound(part: str, label: str) -> bytes:
    return f"runtimed secret {part}\0{label}".encode()


def _encrypt(key: bytes, value: bytes, label: bytes) -> bytes:
    nonce = os.urandom(NONCE_BYTES)
    return nonce + AESGCM(key).encrypt(nonce, value, label)


def _decrypt(key: bytes, data: bytes, label: bytes) -> bytes:
    try:
        return AESGCM(key).decrypt(data[:NONCE_BYTES], data[NONCE_BYTES:], label)
    except (InvalidTag, ValueError):  # ValueError: too short for a nonce, or a key of another size
        raise Broken from None
