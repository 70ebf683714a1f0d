"""The master key of secrets: from the service manager's credentials, or a private file that is made at first use.

With `$CREDENTIALS_DIRECTORY/runtimed_master_key` that key counts (`..._former` opens what is still under the one
before); without it `master.key` in the data folder. `master.key.next` is there only while the key is being changed.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator, Mapping
from pathlib import Path

from actors.errors import SecretsRefused

CREDENTIAL = "runtimed_master_key"
FORMER = f"{CREDENTIAL}_former"
FILE_NAME, NEXT_NAME = "master.key", "master.key.next"
KEY_FILE_MAX_BYTES = 4_096


class MasterKeys:
    """The master keys at hand, by their ids (`runtimed.envelope.key_id`). Keys stay in memory once read."""

    def __init__(self, folder: Path, environ: Mapping[str, str]) -> None:
        self._file, self._next = folder / FILE_NAME, folder / NEXT_NAME
        given = environ.get("CREDENTIALS_DIRECTORY", "")
        self._credential = Path(given) / CREDENTIAL if given else None
        self._former = Path(given) / FORMER if given else None
        self._known: dict[str, bytes] = {}

    def __repr__(self) -> str:
        return f"<master keys of {self._file.parent}>"

    def named(self, identity: str) -> bytes:
        """The key with this id. Raises SecretsRefused if it is not at hand, or lies open to others."""
        from runtimed.envelope import key_id

        if identity not in self._known:
            for _, key in self._at_hand():
                self._known.setdefault(key_id(key), key)
        if identity not in self._known:
            raise SecretsRefused(
                "the master key that secrets.json is under is not here",
                hint=f"Give it as the credential {CREDENTIAL} ({FORMER} after a change), or put {FILE_NAME} back.",
            )
        return self._known[identity]

    def first(self) -> str:
        """The id of the key for a new file: the credential, or `master.key`, which is made if it is not there."""
        from runtimed.envelope import key_id, new_master

        for path, key in self._at_hand():
            if path in (self._credential, self._file):
                self._known[key_id(key)] = key
                return key_id(key)
        key = new_master()
        write_whole(self._file, key.hex().encode() + b"\n")
        self._known[key_id(key)] = key
        return key_id(key)

    def check_successor(self, identity: str) -> None:
        """Raise SecretsRefused where the service manager gives the key and has given no other than this one."""
        from runtimed.envelope import key_id

        if self._credential is not None and self._credential.exists() and key_id(_key_in(self._credential)) == identity:
            raise SecretsRefused(
                f"the master key comes from the credential {CREDENTIAL}, and it is the one in use",
                hint=f"Give the new key as {CREDENTIAL} and this one as {FORMER}, restart, and rotate again.",
            )

    def successor(self, identity: str) -> tuple[bytes, str]:
        """The key to change to from this one, and its id; a fresh one is on disk as `master.key.next` by then. Raises
        SecretsRefused where the service manager gives the key and has given no other yet."""
        from runtimed.envelope import key_id, new_master

        self.check_successor(identity)
        if self._credential is not None and self._credential.exists():
            key = _key_in(self._credential)
        else:
            key = new_master()
            write_whole(self._next, key.hex().encode() + b"\n")
        self._known[key_id(key)] = key
        return key, key_id(key)

    def settle(self, identity: str) -> None:
        """The file is under this key now: if it is the next one, it takes its place."""
        from runtimed.envelope import key_id

        if self._next.exists():
            if key_id(_key_in(self._next)) == identity:
                os.replace(self._next, self._file)
            else:  # the file was never put under it
                self._next.unlink()
            sync_folder(self._file.parent)

    def _at_hand(self) -> Iterator[tuple[Path, bytes]]:
        for path in (self._credential, self._former, self._file, self._next):
            if path is not None and path.exists():
                yield path, _key_in(path)


def _key_in(path: Path) -> bytes:
    from runtimed.envelope import read_key

    # The service manager guards its credentials itself, with access lists that show as rights of the group.
    data = read_private(path, KEY_FILE_MAX_BYTES, ours=path.name not in (CREDENTIAL, FORMER))
    key = read_key(data)
    if key is None:
        raise SecretsRefused(f"{path} holds no key: expected 32 bytes, raw, as 64 hexadecimal digits or in base64")
    return key


def read_private(path: Path, max_bytes: int, *, ours: bool = True, owner: int | None = None) -> bytes:
    """A file that nobody else may read. Raises SecretsRefused if it is another user's than `owner`, who is the daemon's
    (this process's, unless said), or open to others; `ours` False looks at others' rights alone."""
    extra = os.O_CLOEXEC | (os.O_NOFOLLOW if ours else 0)  # orchestrators give their credentials as links
    try:
        with open(path, "rb", opener=lambda name, flags: os.open(name, flags | extra)) as file:
            found = os.fstat(file.fileno())
            if ours and found.st_uid != (os.geteuid() if owner is None else owner):
                raise SecretsRefused(f"{path} belongs to user {found.st_uid}, not to the daemon's", hint=_CHOWN)
            if found.st_mode & ((stat.S_IRWXG | stat.S_IRWXO) if ours else stat.S_IRWXO):
                mode = stat.S_IMODE(found.st_mode)
                raise SecretsRefused(f"{path} is open to others (mode {mode:04o})", hint=f"chmod 600 {path}")
            data = file.read(max_bytes + 1)
    except OSError as error:
        raise SecretsRefused(f"{path} cannot be read: {error.strerror}") from None
    if len(data) > max_bytes:
        raise SecretsRefused(f"{path} is larger than {max_bytes} bytes")
    return data


def write_whole(path: Path, data: bytes) -> None:
    """Put a private file in place of another, so that a crash leaves one of them whole. Blocks for two fsyncs. Raises
    SecretsRefused, and then nothing has changed."""
    part = path.with_name(f".{path.name}.part")
    try:
        part.unlink(missing_ok=True)  # what a killed writer left; the caller holds the lock
        fd = os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        with os.fdopen(fd, "wb") as file:
            os.fchmod(file.fileno(), 0o600)
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        os.replace(part, path)
        sync_folder(path.parent)
    except OSError as error:
        raise SecretsRefused(f"{path} cannot be written: {error.strerror}") from None


def sync_folder(folder: Path) -> None:
    """Have a folder's entries on disk."""
    fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


_CHOWN = "The file of another user could be changed by them: chown it to the user of the daemon."
