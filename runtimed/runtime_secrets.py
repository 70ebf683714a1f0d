"""The runtime's verbs for secrets: values for those who need them, changes with a record of who made them and why."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable
from typing import Any, TypeVar

import trio

from actors import messages as m
from actors.errors import SecretMissing, SecretsRefused
from runtimed.secret_store import PREFIX, SecretInfo, SecretStore

T = TypeVar("T")
MASTER = "*"
"""The name under which records tell of a change of the master key: no secret can have it."""


class SecretVerbs:
    """Mixed into `Runtime`. `secrets` is None where nothing is on disk: then there are none."""

    secrets: SecretStore | None
    remarks: dict[str, str]

    async def ask(self, command: m.Message) -> Any:
        """Given by `Runtime`."""
        raise AssertionError("abstract")

    def secret(self, name: str) -> str:
        """The value of a secret (`NAME` or `secret:NAME`). Raises SecretMissing, SecretsRefused."""
        return self.active_secrets(name)[0]

    def active_secrets(self, name: str) -> tuple[str, ...]:
        """All values of a secret that count now, the newest first. Raises SecretMissing, SecretsRefused; health tells
        of it until it is there."""
        name = name.removeprefix(PREFIX)
        try:
            if self.secrets is None:
                raise SecretMissing(f"there is no secret {name!r}: a runtime in memory has none")
            values = self.secrets.active(name)
        except (SecretMissing, SecretsRefused) as error:
            self.remarks[f"secret {name}"] = str(error)
            raise
        self.remarks.pop(f"secret {name}", None)
        return values

    def note_missing(self, names: Iterable[str]) -> None:
        """Look whether these secrets are there; health tells of those that are not, until they are."""
        for name in names:
            with contextlib.suppress(SecretMissing, SecretsRefused):  # it is a remark by then, and no reason to stop
                self.active_secrets(name)

    def list_secrets(self) -> list[SecretInfo]:
        """All secrets by name, without their values. Raises SecretsRefused."""
        return [] if self.secrets is None else self.secrets.listed()

    async def set_secret(
        self, name: str, value: str, *, reason: str | None = None, origin: m.Origin = m.NOBODY
    ) -> SecretInfo:
        """Give a secret a value, in place of the one before. The same value again changes nothing. Raises
        InvalidInput, SecretsRefused."""
        store = self._store()
        store.check(name, value)
        if store.holds(name, value):
            return store.info(name)
        await self.ask(m.NoteSecret(name=name, action="set", reason=reason, origin=origin))
        info = await _in_thread(lambda: store.set(name, value))
        self.remarks.pop(f"secret {name}", None)
        return info

    async def rotate_secret(
        self, name: str, value: str, *, grace_s: float, reason: str | None = None, origin: m.Origin = m.NOBODY
    ) -> SecretInfo:
        """Give a secret a new value; the former counts for `grace_s` seconds more. The same value again changes
        nothing. Raises NotFound, InvalidInput, SecretsRefused."""
        store = self._store()
        store.check(name, value)
        found = store.info(name)
        if store.holds(name, value):
            return found
        await self.ask(m.NoteSecret(name=name, action="rotate", reason=reason, origin=origin))
        return await _in_thread(lambda: store.rotate(name, value, grace_s))

    async def delete_secret(self, name: str, *, reason: str | None = None, origin: m.Origin = m.NOBODY) -> int:
        """Forget a secret; gives the seq of the record that says so. Raises NotFound, SecretsRefused."""
        store = self._store()
        store.info(name)
        accepted = await self.ask(m.NoteSecret(name=name, action="delete", reason=reason, origin=origin))
        await _in_thread(lambda: store.delete(name))
        return int(accepted.seq)

    async def rotate_master_key(self, *, reason: str | None = None, origin: m.Origin = m.NOBODY) -> int:
        """Put all secrets under another master key; gives how many there are. Raises SecretsRefused."""
        store = self._store()
        store.check_master()
        await self.ask(m.NoteSecret(name=MASTER, action="rotate_master", reason=reason, origin=origin))
        return await _in_thread(store.rotate_master)

    def _store(self) -> SecretStore:
        if self.secrets is None:
            raise SecretsRefused("a runtime in memory keeps no secrets")
        return self.secrets


async def _in_thread(change: Callable[[], T]) -> T:
    """A change of the file fsyncs and may wait for another process. It is not abandoned when cancelled."""
    return await trio.to_thread.run_sync(change)
