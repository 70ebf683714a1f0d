"""The key of the tokens: a private file or a credential, made once, refused where it lies open."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest

from actors.errors import SecretsRefused
from runtimed.token_key import CREDENTIAL, FILE_NAME, make_token_key, read_token_key


def test_a_key_is_made_once_and_private(tmp_path: Path) -> None:
    """There is none until it is made; then it is a file of mode 0600 that reads back the same."""
    assert read_token_key(tmp_path, {}) is None
    key = make_token_key(tmp_path)
    assert len(key) == 32
    assert stat.S_IMODE((tmp_path / FILE_NAME).stat().st_mode) == 0o600
    assert read_token_key(tmp_path, {}) == key
    assert os.listdir(tmp_path) == [FILE_NAME]


def test_a_credential_counts_before_the_file(tmp_path: Path) -> None:
    """What the service manager gives is the key, raw or as hexadecimal digits."""
    make_token_key(tmp_path)
    given = tmp_path / "credentials"
    given.mkdir()
    environ = {"CREDENTIALS_DIRECTORY": str(given)}
    (given / CREDENTIAL).write_bytes(b"r" * 32)
    (given / CREDENTIAL).chmod(0o440)
    assert read_token_key(tmp_path, environ) == b"r" * 32
    (given / CREDENTIAL).chmod(0o600)
    (given / CREDENTIAL).write_text((b"h" * 32).hex() + "\n")
    assert read_token_key(tmp_path, environ) == b"h" * 32


@pytest.mark.parametrize(
    ("content", "mode"),
    [(b"short", 0o600), (b"z" * 64, 0o600), (b"k" * 32, 0o644), (b"k" * 32, 0o660), (b"k" * 5_000, 0o600)],
)
def test_what_is_no_private_key_is_refused(tmp_path: Path, content: bytes, mode: int) -> None:
    """A file of another length, or open to others, is refused with its name; nothing is put in its place."""
    path = tmp_path / FILE_NAME
    path.write_bytes(content)
    path.chmod(mode)
    with pytest.raises(SecretsRefused, match=r"token\.key"):
        read_token_key(tmp_path, {})
    assert path.read_bytes() == content
