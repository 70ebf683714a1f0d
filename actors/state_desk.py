"""The state surface from outside: values put and deleted by request, each with the version that it was to have.

What is put into the scope of a run is a record of that run, with which it is forgotten; so it is taken only while the
run is open.
"""

from __future__ import annotations

from collections.abc import Callable

from msgspec import Raw

from actors import messages as m
from actors.active_run import ActiveRun
from actors.checks import check_id, check_scope
from actors.errors import NotFound, PayloadTooLarge, VersionConflict
from actors.mailbox import Letter
from actors.run_advancer import RunAdvancer
from wal import records as r
from wal.retention import RUN_SCOPE
from wal.views import StateView, rfc3339


class StateDesk:
    """Handles `PutState` and `DeleteState`. `owner_of` gives the tenant and classification that a scope's value has;
    `open_run` brings a run into memory, or raises what says why not, and `rest` lets it go again."""

    def __init__(
        self,
        engine: RunAdvancer,
        owner_of: Callable[[str], tuple[str | None, str]],
        open_run: Callable[[str], ActiveRun],
        rest: Callable[[ActiveRun], None],
        accept: Callable[[Letter, m.Message], None],
    ) -> None:
        self._engine, self._writer, self._owner_of, self._accept = engine, engine.writer, owner_of, accept
        self._open_run, self._rest = open_run, rest

    def put(self, command: m.PutState, letter: Letter) -> None:
        limit = self._engine.limits.payload_max_bytes
        if len(command.value) > limit:
            raise PayloadTooLarge(f"the value is {len(command.value)} bytes, over the limit of {limit}")
        record, seq = self._write(command, command.value)
        view = StateView(
            scope=command.scope,
            key=command.key,
            value=command.value,
            version=record.version,
            tenant=record.tenant,
            classification=record.classification,
            updated_at=rfc3339(self._engine.clock.now_us()),
        )
        self._accept(
            letter, m.StateReply(state=view, created=command.expect_version == 0 or record.version == 1, seq=seq)
        )

    def delete(self, command: m.DeleteState, letter: Letter) -> None:
        state = self._engine.state
        if state.get(check_scope(command.scope), check_id(command.key, "state key")).deleted:
            raise NotFound(f"there is no state {command.scope}/{command.key}")
        _, seq = self._write(command, None)
        self._accept(letter, m.Accepted(seq=seq, id=command.key))

    def _write(self, command: m.PutState | m.DeleteState, value: Raw | None) -> tuple[r.StateWritten, int]:
        engine = self._engine
        scope, key = check_scope(command.scope), check_id(command.key, "state key")
        now = engine.state.get(scope, key)
        if command.expect_version is not None and command.expect_version != now.visible_version:
            there = f"it has version {now.visible_version}" if now.visible_version else "it does not exist"
            raise VersionConflict(f"state {scope}/{key}: expected version {command.expect_version}; {there}")
        tenant, classification = self._owner_of(scope)
        record = r.StateWritten(
            "",
            scope,
            key,
            now.version + 1,
            value or Raw(b"null"),
            value is None,
            tenant,
            classification,
            command.origin.by,
            command.origin.trace_id,
        )
        if scope.startswith(RUN_SCOPE):  # last of all: a run that was brought into memory is let go of below
            seq = self._append_to_run(self._open_run(scope.removeprefix(RUN_SCOPE)), record)
        else:
            seq = self._writer.append(record, weight=len(record.value))
        engine.state.written(record, seq)
        return record, seq

    def _append_to_run(self, run: ActiveRun, record: r.StateWritten) -> int:
        engine, at = self._engine, self._engine.clock.now_us()
        seq = engine.append(run, record, len(record.value), at)
        if run.flow is not None:
            engine.apply(run, record, at)  # which only counts it, as replay will
        self._rest(run)
        return seq
