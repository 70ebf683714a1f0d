"""Starting runs: each checked whole before anything of it is recorded, all of a request in one commit."""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from typing import Any, Protocol

from msgspec import Raw

from actors import messages as m
from actors.active_run import ActiveRun
from actors.checks import check_id, check_start, check_words, decode_input, is_plain, problem
from actors.errors import IdConflict, InvalidInput, Overloaded, PayloadTooLarge, UnknownWorkflow
from actors.flow.calls import encode
from actors.flow.definitions import Workflow
from actors.flow.run_info import RunInfo
from actors.mailbox import Letter
from actors.saga_engine import SagaEngine
from wal import records as r
from wal.errors import RuntimedError
from wal.queries import Reader
from wal.views import RunView, rfc3339

BEGIN_AT_ONCE_MAX = 8
"""Runs of one request that begin in the commit that starts them; more are acknowledged first and begin in turn."""


class ReadyQueue(Protocol):
    """Runs that are to begin when there is room."""

    def put(self, run: ActiveRun) -> None: ...
    def __len__(self) -> int: ...


class RunStarts:
    """Handles `StartRuns`, and starts runs for others. `owner_of` gives an open session's tenant and classification,
    `accept` answers."""

    def __init__(
        self,
        engine: SagaEngine,
        reader: Reader,
        ready: ReadyQueue,
        new_id: Callable[[], str],
        owner_of: Callable[[str], tuple[str | None, str]],
        accept: Callable[[Letter, m.Message], None],
    ) -> None:
        self._engine, self._reader, self._ready, self.new_id = engine, reader, ready, new_id
        self._writer, self._owner_of, self._accept = engine.writer, owner_of, accept
        self._undurable: dict[str, tuple[RunView, Raw]] = {}  # by id, with the input

    def start(self, command: m.StartRuns, letter: Letter) -> None:
        if self._writer.crowded:
            raise Overloaded("too many records wait for the disk")
        limit = self._engine.limits.payload_max_bytes
        plain = is_plain(command, limit)  # one pass over all of them
        if not plain:
            check_words(command.origin, limit)
        items, new, at = [], [], self._engine.clock.now_us()
        recorded = self.recorded([item.id for item in command.items if item.id is not None])
        for item in command.items:
            try:
                if not plain:
                    check_words(item, limit)
                started, run = self.make(item, command.origin, recorded, at)
            except RuntimedError as error:
                started, run = m.StartedRun(problem=problem(error)), None
            items.append(started)
            if run is not None:
                new.append(run)
        if len(items) == 1 and items[0].problem is not None and not new:
            self._accept_problem(letter, items)
            return
        self.begin(new)
        self._accept(letter, m.StartedRuns(items=items))

    @property
    def waiting(self) -> int:
        """How many runs are recorded and wait for their turn to begin."""
        return len(self._ready)

    def begin(self, runs: list[ActiveRun]) -> None:
        """Let new runs begin: a few at once, more of them in turn, for they have been recorded."""
        if not runs:
            return
        at_once = len(runs) <= BEGIN_AT_ONCE_MAX and not len(self._ready)
        if wanted := [run.id for run in runs if run.id in self._undurable]:
            self._writer.when_durable(runs[-1].last_seq, self._forget, wanted)
        later = [run for run in runs if run.start_at is not None]
        if later:
            self._engine.sleep_until_begun(later)
        for run in runs:
            if run.start_at is not None:
                continue
            if at_once:
                self._engine.begin(run)
            else:
                self._ready.put(run)

    def _accept_problem(self, letter: Letter, items: list[m.StartedRun]) -> None:
        letter.reply(m.StartedRuns(items=items))  # nothing was recorded, so there is nothing to wait for or to keep

    def recorded(self, ids: list[str]) -> set[str]:
        """Those of these ids that are a run's in the journal: asked once for many."""
        return self._reader.run_ids_among([id for id in ids if id.isascii()])

    def make(
        self, item: m.StartRun, origin: m.Origin, recorded: set[str], at: int
    ) -> tuple[m.StartedRun, ActiveRun | None]:
        """Record the start of a run at this instant; `begin` must follow, with this run among others. None in its place
        where the run was there already, by `recorded` or not durable yet. Raises UnknownWorkflow, InvalidInput,
        IdConflict, PayloadTooLarge, SessionNotFound, SessionEnded: then nothing was recorded."""
        engine = self._engine
        workflow = engine.registry.workflows.get(item.workflow)
        if workflow is None:
            raise UnknownWorkflow(f"no workflow {item.workflow!r} is registered")
        if len(item.input) > engine.limits.payload_max_bytes:
            raise PayloadTooLarge(
                f"the input is {len(item.input)} bytes, over the limit of {engine.limits.payload_max_bytes}"
            )
        check_start(item.start_at, item.priority)
        value = decode_input(workflow, item.input)
        if item.id is not None:
            existing = self._existing(check_id(item.id, "run id"), item, workflow, value, recorded)
            if existing is not None:
                return m.StartedRun(run=existing), None
        if item.queue is not None and item.queue not in engine.queues:
            raise InvalidInput(f"$.queue: no queue {item.queue!r} is configured")
        tenant, classification = self._owner(item)
        record = r.RunStarted(
            item.id or self.new_id(),
            item.workflow,
            item.input,
            workflow.version,
            item.session_id,
            tenant,
            classification,
            item.queue,
            item.priority,
            None,
            item.start_at,
            origin.trace_id,
            origin.traceparent,
            item.attributes,
            origin.by,
        )
        run = self._make(record, at)
        view = _view(record, run)
        if item.id is not None:  # the next one who asks for it may come before the journal has it
            self._undurable[record.id] = (view, record.input)
        return m.StartedRun(run=view, created=True), run

    def _owner(self, item: m.StartRun) -> tuple[str | None, str]:
        """The tenant and classification of a new run: its session's, where it has one, and the stricter of two."""
        if item.session_id is None:
            return item.tenant, item.classification
        tenant, classification = self._owner_of(item.session_id)
        if item.tenant not in (None, tenant):
            whose = "no tenant" if tenant is None else f"tenant {tenant!r}"
            raise InvalidInput(f"$.tenant: session {item.session_id!r} is of {whose}, not of {item.tenant!r}")
        return tenant, "client" if item.classification == "client" else classification

    def start_child(self, parent: RunInfo, fact: r.ChildStarted) -> None:
        """Make the run that a workflow asked for, in the commit that says so; it begins in its turn. Raises
        UnknownWorkflow, InvalidInput, IdConflict."""
        workflow = self._engine.registry.workflows.get(fact.name)
        if workflow is None:
            raise UnknownWorkflow(f"no workflow {fact.name!r} is registered")
        decode_input(workflow, fact.input)
        record = r.RunStarted(
            fact.child_id,
            fact.name,
            fact.input,
            workflow.version,
            parent.session_id,
            parent.tenant,
            parent.classification,
            parent_id=parent.id,
            trace_id=parent.trace_id,
            traceparent=parent.traceparent,
            parent_call=fact.key,
        )
        self.begin_in_turn(self.record_new(record))

    def record_new(self, record: r.RunStarted) -> ActiveRun:
        """Record the start of a run under an id that is to be new. Raises IdConflict."""
        if self.is_taken(record.id):
            raise IdConflict(f"run {record.id!r} exists")
        run = self._make(record, self._engine.clock.now_us())
        view = _view(record, run)
        self._undurable[record.id] = (view, record.input)
        self._writer.when_durable(view.seq, self._forget, [record.id])
        return run

    def is_taken(self, run_id: str) -> bool:
        """Whether there is a run with this id, durable or not."""
        known = run_id in self._undurable or run_id in self._engine.active.by_id
        return known or bool(self._reader.run_ids_among([run_id]))

    def begin_in_turn(self, run: ActiveRun) -> None:
        """Let a new run begin when it is its turn, here or in its queue."""
        if run.start_at is not None:
            self._engine.sleep_until_begun([run])
        else:
            self._ready.put(run)

    def _make(self, record: r.RunStarted, at: int) -> ActiveRun:
        engine = self._engine
        run = ActiveRun(self._writer.next_run_key(), record.id, record.workflow, 0)
        run.first, run.started_at, run.start_at = record, at, record.start_at
        weight = len(record.input) + (len(encode(record.attributes)) if record.attributes else 0)
        seq = engine.append(run, record, weight, at)
        engine.active.add(run)
        engine.started_total += 1
        run.queue, run.priority = record.queue, record.priority
        if record.start_at is not None:
            engine.timers.set(seq, record.start_at, run.run_key, "")
        elif record.queue is not None:
            run.start_at = at
            engine.queues.wait(record.queue, run.run_key, record.priority)
        return run

    def _forget(self, ids: list[str]) -> None:
        for id in ids:
            del self._undurable[id]

    def _existing(
        self, run_id: str, item: m.StartRun, workflow: Workflow, value: Any, recorded: set[str]
    ) -> RunView | None:
        undurable = self._undurable.get(run_id)
        if undurable is not None:
            view, given = undurable
            self._same(run_id, item.input, workflow, value, view.workflow, given)
            return view
        found = self._reader.run_view(run_id) if run_id in recorded else None
        if found is None:
            return None
        self._same(run_id, item.input, workflow, value, found.workflow, found.input)
        return RunView(**{name: getattr(found, name) for name in RunView.__struct_fields__})

    def _same(self, run_id: str, given: Raw, workflow: Workflow, value: Any, there: str, input_there: Raw) -> None:
        same = there == workflow.name and bytes(given) == bytes(input_there)
        if there == workflow.name and not same:
            try:
                same = bool(decode_input(workflow, input_there) == value)
            except Exception:  # noqa: BLE001 - it does not decode any more, or a type's own comparison raises
                same = False
        if not same:
            raise IdConflict(f"run {run_id!r} exists with another {'input' if there == workflow.name else 'workflow'}")


_told = lru_cache(maxsize=16)(rfc3339)  # the runs of a batch share their instants


def _view(record: r.RunStarted, run: ActiveRun) -> RunView:
    at = _told(run.started_at)
    return RunView(
        id=record.id,
        workflow=record.workflow,
        status="queued" if record.start_at is not None or record.queue is not None else "running",
        waiting_on="timer" if record.start_at is not None else "queue" if record.queue is not None else None,
        waiting_until=None if record.start_at is None else _told(record.start_at),
        version=record.version,
        session_id=record.session_id,
        tenant=record.tenant,
        classification=record.classification,
        queue=record.queue,
        priority=record.priority,
        parent_id=record.parent_id,
        trace_id=record.trace_id,
        attributes=record.attributes,
        created_at=at,
        updated_at=at,
        seq=run.last_seq,
    )
