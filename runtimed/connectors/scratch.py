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
from runtimed.escape import escape

PREFIX = "poll-"
SECRET = "secret:"
HIDDEN_CHARACTERS_MIN = 4
"""A shorter secret is none, and would be found in every other word."""


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


class Secrets:
    """Fills secrets in, and remembers which, so that nothing that a child says afterwards can show them."""

    def __init__(self, secret: Callable[[str], str] | None) -> None:
        self._secret = secret
        self._shown: set[str] = set()

    def fill(self, value: Any) -> Any:
        """The value with each text `secret:NAME` in it replaced by that secret. Raises SecretMissing."""
        if isinstance(value, str) and value.startswith(SECRET):
            if self._secret is None:
                raise SecretMissing(f"there is no secret {value.removeprefix(SECRET)!r} here")
            found = self._secret(value)
            self._shown.add(found)
            return found
        if isinstance(value, Mapping):
            return {key: self.fill(each) for key, each in value.items()}
        if isinstance(value, list | tuple):
            return [self.fill(each) for each in value]
        return value

    def hide(self, text: str) -> str:
        """The text, already escaped for people, without the secrets that were filled in."""
        for value in sorted(self._shown, key=len, reverse=True):
            for form in (value, escape(value)):
                if len(form) >= HIDDEN_CHARACTERS_MIN:
                    text = text.replace(form, "[hidden]")
        return text
