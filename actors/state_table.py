"""The versioned key-value state surface: what is written and not durable yet over what the journal holds."""

from __future__ import annotations

from collections.abc import Callable

import msgspec
from msgspec import Raw

from actors.flow.calls import StateCall, StateGet, StatePut
from wal import records as r
from wal.queries import Reader


class Value(msgspec.Struct, frozen=True):
    """A value and its version; a deleted one keeps the version, so that versions never repeat."""

    value: Raw
    version: int
    deleted: bool

    @property
    def visible_version(self) -> int:
        """The version that a reader sees: 0 for what is not there."""
        return 0 if self.deleted else self.version


ABSENT = Value(Raw(b"null"), 0, True)


class StateTable:
    """Owned by the saga coordinator: reads and writes happen in its order."""

    def __init__(self, reader: Reader, when_durable: Callable[..., None]) -> None:
        self._reader, self._when_durable = reader, when_durable
        self._undurable: dict[tuple[str, str], tuple[Value, int]] = {}

    def get(self, scope: str, name: str) -> Value:
        """The newest value, durable or not."""
        waiting = self._undurable.get((scope, name))
        if waiting is not None:
            return waiting[0]
        row = self._reader.state(scope, name)
        return ABSENT if row is None else Value(row.value, row.version, row.deleted)

    def has_any(self, scope: str) -> bool:
        """Whether there is a value in this scope, or was one."""
        return any(key[0] == scope for key in self._undurable) or self._reader.has_state(scope)

    def answer(self, call: StateCall, tenant: str | None, classification: str) -> r.Fact:
        """The record that answers a workflow's call."""
        now = self.get(call.scope_name, call.item)
        if isinstance(call, StateGet):
            return r.StateRead(call.key, call.scope_name, call.item, not now.deleted, now.value, now.visible_version)
        assert isinstance(call, StatePut)
        if call.expect_version is not None and call.expect_version != now.visible_version:
            return r.StateRefused(call.key, call.scope_name, call.item, call.expect_version, now.visible_version)
        return r.StateWritten(
            call.key,
            call.scope_name,
            call.item,
            now.version + 1,
            call.value or Raw(b"null"),
            call.value is None,
            tenant,
            classification,
        )

    def written(self, record: r.StateWritten, seq: int) -> None:
        """A write was recorded as `seq`."""
        key = (record.scope, record.name)
        self._undurable[key] = (Value(record.value, record.version, record.deleted), seq)
        self._when_durable(seq, self._forget, key, seq)

    def _forget(self, key: tuple[str, str], seq: int) -> None:
        waiting = self._undurable.get(key)
        if waiting is not None and waiting[1] <= seq:
            del self._undurable[key]
