"""The retention desk: forgets ended runs for the coordinator, in whose turn nothing of them can be under way."""

from __future__ import annotations

from collections.abc import Callable

from actors import messages as m
from actors.mailbox import Letter
from actors.run_advancer import RunAdvancer
from wal import records as r
from wal.queries import Reader


class RetentionDesk:
    """Handles `ForgetRuns`. What was chosen off the loop is looked at once more: it may have changed since."""

    def __init__(self, engine: RunAdvancer, reader: Reader, accept: Callable[[Letter, m.Message], None]) -> None:
        self._engine, self._reader, self._accept = engine, reader, accept

    def forget(self, command: m.ForgetRuns, letter: Letter) -> None:
        """Record that these runs are forgotten, those apart that are in memory, have not ended before the instant, or
        hold the largest run key."""
        newest = self._reader.newest_run_key()
        gone: list[int] = []
        scopes: list[str] = []
        for wanted in command.runs:
            row = self._reader.run_by_key(wanted.run_key)
            if row is None or row.ended_at is None or row.ended_at >= command.older_than or row.run_key >= newest:
                continue
            if row.run_key in self._engine.active.by_key:
                continue
            gone.append(row.run_key)
            if self._engine.state.has_any(f"run:{row.id}"):  # not as it was when the run was chosen
                scopes.append(f"run:{row.id}")
        writer = self._engine.writer
        seq = writer.append(r.RunsForgotten(gone, command.older_than, scopes)) if gone else writer.seq
        self._accept(letter, m.Forgotten(seq=seq, runs=len(gone)))
