"""Secrets at rest: one encrypted file in the data folder, its master key beside it or from the service manager.

`secrets.json` holds each secret under an envelope (`runtimed/envelope.py`); without the master key it tells names,
versions and dates. Changes are written whole: new file, fsync, rename, fsync of the folder, under a lock of their own.
Readers look at the file's identity and read it again when it has changed, so a change counts at once.
"""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import msgspec

from actors.checks import check_id
from actors.errors import InvalidInput, NotFound, SecretMissing, SecretsRefused
from runtimed.master_key import CREDENTIAL, MasterKeys, read_private, write_whole
from wal.lock import FileLock

FILE_NAME = "secrets.json"
VALUE_MAX_BYTES = 64 * 1024
SECRETS_MAX = 1_000
FILE_MAX_BYTES = 256 * 1024 * 1024
GRACE_MAX_S = 86_400.0 * 366
LOCK_WAIT_S = 10.0
PREFIX = "secret:"
"""How configuration refers to a secret: `secret:NAME`."""

Now = Callable[[], int]


class Version(msgspec.Struct, frozen=True):
    """One value of a secret, sealed. `until` is when a former one stops counting; instants are microseconds."""

    version: int
    wrapped: bytes
    body: bytes
    changed_at: int
    until: int | None = None


class Contents(msgspec.Struct, frozen=True):
    """The file: which master key it is under, and each secret's versions, newest first."""

    format: int = 1
    master: str = ""
    secrets: dict[str, list[Version]] = {}


class SecretInfo(msgspec.Struct, frozen=True):
    """What may be known of a secret: its name, its version, when it was changed, until when the former one counts
    too (None if it does not). Instants are microseconds."""

    name: str
    version: int
    changed_at: int
    former_until: int | None = None


_contents = msgspec.json.Decoder(Contents)


class SecretStore:
    """The secrets of one data folder. Reading is cheap (a stat, and microseconds a value); changes fsync, so call them
    from a thread. Nothing here shows a value but `get` and `active`."""

    def __init__(self, folder: Path, *, environ: Mapping[str, str] | None = None, now_us: Now | None = None) -> None:
        self._path, self._lock_path = folder / FILE_NAME, folder / f"{FILE_NAME}.lock"
        self._keys = MasterKeys(folder, os.environ if environ is None else environ)
        self._now_us = now_us or (lambda: time.time_ns() // 1_000)
        self._identity: tuple[int, ...] | None = None
        self._read = Contents()

    def __repr__(self) -> str:
        return f"<secrets in {self._path}>"

    # --- reading

    def get(self, name: str) -> str:
        """The value of a secret (`NAME` or `secret:NAME`). Raises SecretMissing, SecretsRefused."""
        return self.active(name)[0]

    def active(self, name: str) -> tuple[str, ...]:
        """All values that count now, the newest first: after a rotation the former one counts for its grace. Raises
        SecretMissing, SecretsRefused."""
        name = name.removeprefix(PREFIX)
        contents = self._load()
        versions = contents.secrets.get(name)
        if not versions:
            raise SecretMissing(f"there is no secret {name!r}", hint=f"Set it with `runtimed secret set {name}`.")
        now, master = self._now_us(), self._keys.named(contents.master)
        return tuple(_open(master, name, each) for each in versions if each.until is None or each.until > now)

    def holds(self, name: str, value: str) -> bool:
        """Whether this is a secret's value now. Raises SecretsRefused."""
        contents = self._load()
        versions = contents.secrets.get(name)
        return versions is not None and _open(self._keys.named(contents.master), name, versions[0]) == value

    def listed(self) -> list[SecretInfo]:
        """All secrets by name, without their values. Raises SecretsRefused."""
        secrets = self._load().secrets
        return [self._info(name, secrets[name]) for name in sorted(secrets)]

    def info(self, name: str) -> SecretInfo:
        """One secret without its value. Raises NotFound, SecretsRefused."""
        versions = self._load().secrets.get(name)
        if not versions:
            raise NotFound(f"there is no secret {name!r}")
        return self._info(name, versions)

    def _info(self, name: str, versions: list[Version]) -> SecretInfo:
        now = self._now_us()
        untils = [each.until for each in versions[1:] if each.until is not None and each.until > now]
        return SecretInfo(name, versions[0].version, versions[0].changed_at, max(untils, default=None))

    def _load(self) -> Contents:
        try:
            found = os.stat(self._path)
        except FileNotFoundError:
            self._identity, self._read = None, Contents()
            return self._read
        except OSError as error:
            raise SecretsRefused(f"{self._path} cannot be read: {error.strerror}") from None
        identity = (found.st_ino, found.st_mtime_ns, found.st_size, found.st_mode, found.st_uid)
        if identity != self._identity:
            data = read_private(self._path, FILE_MAX_BYTES)
            try:
                read = _contents.decode(data)
            except msgspec.MsgspecError:
                raise SecretsRefused(f"{self._path} is damaged: it does not hold what it should") from None
            if read.format != 1:
                raise SecretsRefused(f"{self._path} is of a newer version of runtimed (format {read.format})")
            self._read, self._identity = read, identity
        return self._read

    # --- changing

    def set(self, name: str, value: str) -> SecretInfo:
        """Give a secret a value, in place of the one before, which counts no more. The same value again changes
        nothing. Raises InvalidInput, SecretsRefused."""
        return self._replace(name, value, 0.0)

    def rotate(self, name: str, value: str, grace_s: float = 0.0) -> SecretInfo:
        """Give a secret a new value; the former counts for `grace_s` seconds more. The same value again changes
        nothing. Raises NotFound, InvalidInput, SecretsRefused."""
        self.info(name)
        if not 0 <= grace_s <= GRACE_MAX_S:
            raise InvalidInput(f"the grace is 0 to {GRACE_MAX_S:.0f} seconds")
        return self._replace(name, value, grace_s)

    def check(self, name: str, value: str) -> None:
        """Raise InvalidInput unless this may be a secret's name and value."""
        check_id(name, "secret name")
        size = len(value.encode("utf-8", "surrogatepass"))
        if not 1 <= size <= VALUE_MAX_BYTES:
            raise InvalidInput(f"the value of a secret is 1 to {VALUE_MAX_BYTES} bytes, not {size}")
        try:
            value.encode()
        except UnicodeEncodeError:
            raise InvalidInput("the value of a secret is text in UTF-8") from None

    def check_owner(self) -> None:
        """Make the folder if it is not there. Raises SecretsRefused where we are root and it is another user's."""
        folder = self._path.parent
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        owner = folder.stat().st_uid
        if os.geteuid() == 0 != owner:
            hint = f"Run this as user {owner}, for example with `setpriv --reuid={owner}` or `sudo -u#{owner}`."
            raise SecretsRefused(f"{folder} belongs to user {owner}, who could not read what root writes", hint=hint)

    def _replace(self, name: str, value: str, grace_s: float) -> SecretInfo:
        self.check(name, value)
        with self._changing() as contents:
            before = contents.secrets.get(name, [])
            if not before and len(contents.secrets) >= SECRETS_MAX:
                raise InvalidInput(f"there are {SECRETS_MAX} secrets, the most there may be")
            master = self._keys.named(contents.master)
            if before and _open(master, name, before[0]) == value:
                return self._info(name, before)
            now = self._now_us()
            number = before[0].version + 1 if before else 1
            kept = _kept(before, now, round(grace_s * 1e6))
            sealed = _seal(master, name, number, value, now)
            self._write(contents, {**contents.secrets, name: [sealed, *kept]})
        return self.info(name)

    def delete(self, name: str) -> None:
        """Forget a secret with all its versions. Raises NotFound, SecretsRefused."""
        with self._changing() as contents:
            if name not in contents.secrets:
                raise NotFound(f"there is no secret {name!r}")
            self._write(contents, {other: versions for other, versions in contents.secrets.items() if other != name})

    def check_master(self) -> None:
        """Raise SecretsRefused unless `rotate_master` has a key to change to, and the one in use."""
        contents = self._load()
        if contents.master:
            self._keys.named(contents.master)
            self._keys.check_successor(contents.master)

    def rotate_master(self) -> int:
        """Put all secrets under another master key: the one that the service manager gives, if it is new, else a fresh
        one in place of `master.key`. Gives how many secrets there are. Raises SecretsRefused.

        A kill at any moment leaves a file and a key that fit: both keys are there until the file is in place."""
        from runtimed.envelope import Broken, Sealed, rewrap

        with self._changing() as contents:
            old = self._keys.named(contents.master)
            new, identity = self._keys.successor(contents.master)
            secrets: dict[str, list[Version]] = {}
            for name, versions in contents.secrets.items():
                secrets[name] = []
                for each in versions:
                    try:
                        sealed = rewrap(old, new, Sealed(each.wrapped, each.body), _label(name, each.version))
                    except Broken:
                        raise _does_not_open(name) from None
                    secrets[name].append(msgspec.structs.replace(each, wrapped=sealed.wrapped))
            self._write(msgspec.structs.replace(contents, master=identity), secrets)
            self._keys.settle(identity)
        return len(secrets)

    @contextlib.contextmanager
    def _changing(self) -> Iterator[Contents]:
        """The contents to change, with the lock that keeps a second writer out; a first change makes the key."""
        self.check_owner()
        with FileLock(self._lock_path, wait_seconds=LOCK_WAIT_S, held_by="somebody who changes secrets"):
            self._forget()
            contents = self._load()
            if not contents.master:
                contents = Contents(master=self._keys.first())
            else:
                self._keys.settle(contents.master)  # a rotation may have been killed before its last step
            yield contents

    def _write(self, contents: Contents, secrets: dict[str, list[Version]]) -> None:
        data = msgspec.json.format(msgspec.json.encode(msgspec.structs.replace(contents, secrets=secrets)), indent=1)
        write_whole(self._path, data)
        self._forget()

    def _forget(self) -> None:
        self._identity = None


def _kept(before: list[Version], now: int, grace_us: int) -> list[Version]:
    """Of the versions so far those that go on counting; the latest gets the grace, others what was left to them."""
    if not before or not grace_us:
        return []
    ending = [msgspec.structs.replace(before[0], until=now + grace_us), *before[1:]]
    return [each for each in ending if each.until is not None and each.until > now]


def _label(name: str, version: int) -> str:
    return f"{name}\0{version}"


def _seal(master: bytes, name: str, version: int, value: str, now: int) -> Version:
    from runtimed.envelope import seal

    sealed = seal(master, value.encode(), _label(name, version))
    return Version(version, sealed.wrapped, sealed.body, now)


def _open(master: bytes, name: str, version: Version) -> str:
    from runtimed.envelope import Broken, Sealed, unseal

    try:
        return unseal(master, Sealed(version.wrapped, version.body), _label(name, version.version)).decode()
    except Broken:
        raise _does_not_open(name) from None


def _does_not_open(name: str) -> SecretsRefused:
    return SecretsRefused(
        f"secret {name!r} does not open: its row was changed, or it is under another master key",
        hint=f"Restore secrets.json and its master key ({CREDENTIAL} or master.key) together, or set the secret anew.",
    )
