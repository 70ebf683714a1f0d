"""The files that are handed to a child process: in a folder that only we can read, gone as soon as they were read."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import msgspec

from actors.errors import SecretMissing

PREFIX = "poll-"
SECRET = "secret:"


class Scratch:
    """A folder for one poll, below the connector's own or in the system's for temporary files."""

    def __init__(self, folder: Path | None) -> None:
        if folder is not None:
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            for left in folder.glob(PREFIX + "*"):  # a killed daemon left it, perhaps with a configuration in it
                shutil.rmtree(left)
        self.path = Path(tempfile.mkdtemp(prefix=PREFIX, dir=folder))

    def write(self, name: str, value: Any) -> Path:
        """A new file with this value as JSON, readable by us alone."""
        path = self.path / name
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600)
        with os.fdopen(descriptor, "wb") as file:
            file.write(msgspec.json.encode(value))
        return path

    def forget_files(self) -> None:
        """Remove the files: whoever was to read them has begun."""
        for path in self.path.glob("*.json"):
            path.unlink()

    def close(self) -> None:
        """Remove the folder and all that is in it."""
        shutil.rmtree(self.path, ignore_errors=True)  # the child may have made its files unwritable; the next poll asks


def with_secrets(value: Any, secret: Callable[[str], str] | None) -> Any:
    """The value with each text `secret:NAME` in it replaced by that secret. Raises SecretMissing."""
    if isinstance(value, str) and value.startswith(SECRET):
        if secret is None:
            raise SecretMissing(f"there is no secret {value.removeprefix(SECRET)!r} here")
        return secret(value)
    if isinstance(value, Mapping):
        return {key: with_secrets(each, secret) for key, each in value.items()}
    if isinstance(value, list | tuple):
        return [with_secrets(each, secret) for each in value]
    return value
