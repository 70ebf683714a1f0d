"""The key under which tokens are digested: a credential of the service manager, or a private file made at first use."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from actors.errors import SecretsRefused
from runtimed.master_key import read_private, write_whole
from runtimed.tokens import KEY_BYTES

CREDENTIAL: Final = "runtimed_token_key"
FILE_NAME: Final = "token.key"
FILE_MAX_BYTES: Final = 1_024


def read_token_key(folder: Path, environ: Mapping[str, str] = os.environ, *, owner: int | None = None) -> bytes | None:
    """The key, or None where none was made yet; its file must be `owner`'s, the daemon's user, by default that
    of this process. Raises SecretsRefused for one that lies open to others or is none."""
    given = environ.get("CREDENTIALS_DIRECTORY", "")
    for path, ours in ((Path(given) / CREDENTIAL if given else None, False), (folder / FILE_NAME, True)):
        if path is not None and path.exists():
            return _decoded(path, read_private(path, FILE_MAX_BYTES, ours=ours, owner=owner))
    return None


def make_token_key(folder: Path) -> bytes:
    """A new key, on disk when this returns (mode 0600). Blocks for two fsyncs. Raises SecretsRefused."""
    key = os.urandom(KEY_BYTES)
    write_whole(folder / FILE_NAME, key.hex().encode() + b"\n")
    return key


def _decoded(path: Path, data: bytes) -> bytes:
    try:
        key = bytes.fromhex(data.decode("ascii"))
    except ValueError:
        key = data
    if len(key) != KEY_BYTES:
        raise SecretsRefused(f"{path} holds no key: expected {KEY_BYTES} bytes, raw or as hexadecimal digits")
    return key
