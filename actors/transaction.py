"""What a transaction is given: the state surface without waiting, and a draft of what it writes, kept whole or not.

It reads the newest state there is, durable or not, for it is run in the turn of whoever owns the state's order. What it
writes is seen by itself alone until it returns; a key that it writes again and again is one write, of the version after
the one that was there.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import msgspec
from msgspec import Raw

from actors.errors import DefinitionError, InvalidId, PayloadTooLarge, VersionConflict
from actors.flow.calls import NULL, payload
from actors.flow.context import decoder_for
from actors.flow.definitions import NAME
from actors.flow.run_info import RunInfo
from actors.state_table import Value
from wal import records as r

if TYPE_CHECKING:
    from actors.step_runner import Attempt

WRITES_MAX = 1_000
WRITTEN_BYTES_MAX = 32 << 20
"""What one transaction writes: so many values, and so much of them together, as a batch of runs may have, for it is one
commit whatever its size."""


SMALLER = "Write less at once: in several transactions, or in fewer and smaller values."


class TransactionDue(msgspec.Struct, frozen=True):
    """The record that schedules a transaction is durable: its turn has come."""

    attempt: Attempt
    info: RunInfo


class Draft:
    """What a transaction has written so far, over what `read` gives of the state there is."""

    def __init__(self, read: Callable[[str, str], Value]) -> None:
        self._read = read
        self._written: dict[tuple[str, str], Value] = {}
        self._bytes = 0
        self._over = False
        self.fault: Exception | None = None
        """Why the state could not be read: not the transaction's doing, whatever it makes of it."""

    def get(self, scope: str, name: str) -> Value:
        """The newest value, the transaction's own if it has written one. Raises DefinitionError once it is over."""
        if self._over:
            raise DefinitionError(
                "the transaction is over", hint="Use it only inside the function that it was given to."
            )
        written = self._written.get((scope, name))
        if written is not None:
            return written
        try:
            return self._read(scope, name)
        except RecursionError:
            raise  # so deep was the function by itself: it fails, or the engine would start anew for ever
        except Exception as error:
            self.fault = error
            raise

    def write(self, scope: str, name: str, value: Raw | None, expect_version: int | None) -> int:
        """Put a value, or delete it (None); gives its version. Raises VersionConflict and PayloadTooLarge, and has then
        changed nothing."""
        now, before = self.get(scope, name), self._written.get((scope, name))
        if expect_version is not None and expect_version != now.visible_version:
            there = f"version {now.visible_version}" if now.visible_version else "no value"
            raise VersionConflict(f"{scope}/{name}: expected version {expect_version}, found {there}")
        size = self._bytes + len(value or NULL) - (len(before.value) if before is not None else 0)
        if before is None and len(self._written) >= WRITES_MAX:
            raise PayloadTooLarge(f"a transaction writes at most {WRITES_MAX} values", hint=SMALLER)
        if size > WRITTEN_BYTES_MAX:
            raise PayloadTooLarge(f"a transaction writes at most {WRITTEN_BYTES_MAX} bytes", hint=SMALLER)
        version = now.version + 1 if before is None else before.version
        self._written[scope, name], self._bytes = Value(value or NULL, version, value is None), size
        return version

    def close(self, info: RunInfo) -> list[r.StateWritten]:
        """The transaction is over: the records of what it has written. They have no key, as of a write from outside,
        which a replay passes by: what the code goes on with is the transaction's result."""
        self._over = True
        return [
            r.StateWritten("", scope, name, value.version, value.value, value.deleted, info.tenant, info.classification)
            for (scope, name), value in self._written.items()
        ]


class TransactionScope:
    """One scope of the state surface, as in `ctx`, without waiting."""

    def __init__(self, draft: Draft, scope: str, payload_max_bytes: int) -> None:
        self._draft, self._scope, self._payload_max_bytes = draft, scope, payload_max_bytes

    def get(self, key: str, type: Any = Any, default: Any = None) -> Any:
        """The value, decoded to `type`, or `default`."""
        return self.get_versioned(key, type, default)[0]

    def get_versioned(self, key: str, type: Any = Any, default: Any = None) -> tuple[Any, int]:
        """`(value, version)`; the version of what does not exist is 0."""
        now = self._draft.get(self._scope, _checked(key))
        return (default if now.deleted else decoder_for(type).decode(now.value)), now.visible_version

    def put(self, key: str, value: Any, expect_version: int | None = None) -> int:
        """Write a value; gives its version. Raises VersionConflict where `expect_version` does not hold, and
        PayloadTooLarge for too large a value or too many."""
        data = payload(value, self._payload_max_bytes, f"state {key}")
        return self._draft.write(self._scope, _checked(key), data, expect_version)

    def delete(self, key: str, expect_version: int | None = None) -> int:
        """Delete a value; gives the version that it ended at."""
        return self._draft.write(self._scope, _checked(key), None, expect_version)


class Transaction:
    """What a function declared with `@app.transaction` is given first: all the state that its run may see. Valid until
    the function returns."""

    def __init__(self, info: RunInfo, draft: Draft, payload_max_bytes: int) -> None:
        self._info, self._draft, self._payload_max_bytes = info, draft, payload_max_bytes

    @property
    def state(self) -> TransactionScope:
        """The run's own state."""
        return self._scope(f"run:{self._info.id}")

    @property
    def session_state(self) -> TransactionScope:
        """The state of the run's session."""
        if self._info.session_id is None:
            raise DefinitionError("this run belongs to no session", hint="Start it with a session_id.")
        return self._scope(f"session:{self._info.session_id}")

    @property
    def tenant_state(self) -> TransactionScope:
        """The state of the run's tenant."""
        if self._info.tenant is None:
            raise DefinitionError("this run belongs to no tenant", hint="Start it in a session that has a tenant.")
        return self._scope(f"tenant:{self._info.tenant}")

    @property
    def global_state(self) -> TransactionScope:
        """The state that all runs share."""
        return self._scope("global")

    def _scope(self, scope: str) -> TransactionScope:
        return TransactionScope(self._draft, scope, self._payload_max_bytes)


def _checked(key: str) -> str:
    if not NAME.match(key):
        raise InvalidId(f"state key {key!r} is not 1 to 200 characters of A-Z a-z 0-9 . _ : -")
    return key
