"""Runs transactions: each to its end within one turn of the coordinator, and its writes, its result and the record of
that in one commit."""

from __future__ import annotations

from actors.active_run import ActiveRun
from actors.advance_marker import in_transaction
from actors.run_advancer import RunAdvancer
from actors.transaction import Draft, Transaction, TransactionDue
from wal import records as r


class TransactionDesk:
    """Of the coordinator's life. Call `run` inside the engine's `stage`, where a group of records has just begun."""

    def __init__(self, engine: RunAdvancer) -> None:
        self._engine = engine

    def run(self, due: TransactionDue) -> None:
        """Run a transaction whose turn has come, unless it is not wanted any more, and let its run go on. While too
        much waits for the disk its turn comes later: what thousands of them write would fill the memory."""
        engine, attempt = self._engine, due.attempt
        if engine.writer.crowded:
            engine.writer.when_durable(engine.writer.seq, engine.transact_later, due)
            return
        run = engine.active.by_key.get(attempt.run_key)
        if run is None or run.attempts.get(attempt.call_key) is not attempt:
            return  # of a life before this one: nothing of it was recorded
        draft = Draft(engine.state.get)
        engine.marker.enter(in_transaction(run.run_key))
        engine.runner.transact(attempt, Transaction(due.info, draft, engine.limits.payload_max_bytes))
        written = draft.close(due.info)
        if draft.fault is not None:
            raise draft.fault
        if attempt.outcome == "completed":
            engine.writer.keep_whole()
            for record in written:
                self._record(run, record)
        engine.attempt_ended(attempt)

    def _record(self, run: ActiveRun, record: r.StateWritten) -> None:
        engine, at = self._engine, self._engine.clock.now_us()
        seq = engine.append(run, record, len(record.value), at)
        engine.state.written(record, seq)
        if run.flow is not None:
            engine.apply(run, record, at)  # which only counts it, as replay will
