"""The runtime: everything but the network, as what `runtimed.opening` started gives it to its callers.

The daemon is a shell round this; embedded, it is what a program opens for itself.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import msgspec
import trio
from msgspec import Raw

from actors import errors as e
from actors import messages as m
from actors.clock import Clock
from actors.flow.definitions import Registry, Workflow
from actors.fork_desk import fork_of
from actors.statistics import HistogramValues
from actors.supervisor import Supervisor
from runtimed.assembly import Actors
from runtimed.care import Care
from runtimed.connectors import check_names
from runtimed.disk_trend import DiskTrend
from runtimed.http.surface import Health, Histogram, RuntimeStatistics
from runtimed.readers import Readers
from runtimed.runtime_approvals import ApprovalVerbs
from runtimed.runtime_calls import CallVerbs, UnwrittenAnswers
from runtimed.runtime_connectors import ConnectorVerbs
from runtimed.runtime_schedules import ScheduleVerbs
from runtimed.runtime_secrets import SecretVerbs
from runtimed.runtime_tokens import TokenVerbs
from runtimed.settings import Settings
from runtimed.settling import Watch
from runtimed.version import VERSION
from runtimed.webhooks.specs import secret_names, webhooks_of
from wal import records as r
from wal.codec import payload_fault
from wal.errors import RuntimedError
from wal.queries import Reader
from wal.views import ActorView, RunDetail

T = TypeVar("T")
WATCH_S = 1.0
WRITER_LATE_S = 10.0
INTAKE = (m.StartRuns, m.ForkRun, m.TakePage, m.TakeWebhook)
"""What is refused while the disk is nearly full."""
EMBEDDED = m.Origin(by="embedded")
ENDED = ("completed", "failed", "cancelled")
SETTLED = (*ENDED, "blocked")


class Handle:
    """A run that was started or found: its id, and ways to ask after it."""

    def __init__(self, runtime: Runtime, run_id: str, created: bool = False) -> None:
        self._runtime, self.id, self.created = runtime, run_id, created

    async def result(self, timeout: float | None = None) -> Any:
        """Wait for the result, as the workflow's type. Raises RunFailed, RunCancelled, RunBlocked, or TimeoutError."""
        return await self._runtime.result(self.id, timeout)

    async def status(self) -> str:
        """The run's status now."""
        return (await self._runtime.run(self.id)).status

    def __repr__(self) -> str:
        return f"<run {self.id}>"


class Runtime(ApprovalVerbs, CallVerbs, ConnectorVerbs, ScheduleVerbs, SecretVerbs, TokenVerbs):
    """What `open_runtime` gives. All verbs that change something return when that is on disk."""

    def __init__(self, actors: Actors, readers: Readers, registry: Registry, settings: Settings, clock: Clock) -> None:
        self.actors, self.registry, self.settings, self.clock = actors, registry, settings, clock
        self._readers = readers
        self.feed = actors.feed
        self.calls_at_work: dict[tuple[str, str], trio.Event] = {}
        self.unwritten = UnwrittenAnswers()
        self.secrets = actors.secrets
        self.tokens = actors.tokens
        self.tokens.load()
        self.started = self._closed = False
        self.draining = False  # readiness fails, but what comes is still served; `drain` ends that
        self.remarks: dict[str, str] = {}  # what people should know, by subject; health tells it as `warn`
        self._disk_free: int | None = None
        self._disk_trend = DiskTrend()
        self.webhooks = webhooks_of(settings, registry)
        check_names(actors.connectors.specs, self.webhooks, registry.schedules)
        told = [each.secret for each in settings.notifications.values()]
        self.note_missing([*secret_names(self.webhooks), *told])
        self._loop_lag_s = 0.0
        actors.secret, actors.has_room = self.secret, lambda: self._disk_has_room
        self.care = Care(
            journal=readers.path,
            settings=settings.journal,
            clock=clock,
            writer=actors.writer,
            coordinator=actors.coordinator,
            read=self.read,
            ask=self.ask,
            remarks=self.remarks,
        )

    # --- the seams that HTTP uses

    async def ask(self, command: m.Message) -> Any:
        """Send a command to the actor that owns it. Raises what it refuses with; MailboxFull, Draining."""
        if self._closed:
            raise e.Draining("the runtime is stopping")
        if isinstance(command, INTAKE) and not self._disk_has_room:
            raise e.Overloaded(
                "the disk is nearly full", hint="Free some space; what runs goes on, nothing new is taken in."
            )
        return await self.actors.mailbox_of(command).ask(command)

    async def read(self, query: Callable[[Reader], T]) -> T:
        """Run a query on a read-only connection, in a thread."""
        return await self._readers.read(query)

    async def settled(self, run_id: str, timeout: float | None) -> RunDetail:
        """The run once it has ended or is blocked, or as it stands after `timeout` seconds. Raises RunNotFound."""
        found = (await self._settle(run_id, timeout))[1]
        return found if found is not None else self._point_read(run_id)

    async def _settle(self, run_id: str, timeout: float | None) -> tuple[Watch, RunDetail | None]:
        """Wait until the run has settled: what was told of it then, or the run as it is, if it had settled before."""
        with self.actors.settling.watch(run_id) as watch:
            if not self.actors.coordinator.is_going_on(run_id):
                found = self._point_read(run_id)
                if found.status in SETTLED:
                    return watch, found
            if timeout is None:
                await watch.event.wait()
            else:
                with trio.move_on_after(timeout):
                    await watch.event.wait()
        return watch, None

    def _point_read(self, run_id: str) -> RunDetail:
        # By its key, on the loop: some 30 microseconds, a third of what the way to a thread and back costs.
        found = self._readers.on_loop.run_view(run_id)
        if found is None:
            raise e.RunNotFound(f"there is no run {run_id!r}")
        return found

    async def restart_actor(
        self, path: str, *, origin: m.Origin = m.NOBODY, reason: str | None = None
    ) -> ActorView | None:
        """Restart an actor by its path; None if there is none. Who asked for it is on disk before it happens."""
        if path in (self.root.name, f"{self.root.name}/journal"):
            raise e.Conflict(
                f"{path} is not restarted by itself", hint="Restart the daemon: nothing that is on disk is lost."
            )
        if all(actor.path != path for actor in self.tree()):
            return None
        await self.audit("actor.restart", path, origin, reason)
        try:
            self.root.restart(path)
        except e.NotFound:  # it ended meanwhile
            return None
        return next((actor for actor in self.tree() if actor.path == path), None)

    @property
    def root(self) -> Supervisor:
        """The supervisor of all actors."""
        return self.actors.root

    def tree(self) -> list[ActorView]:
        """The supervision tree, parents before children."""
        return self.root.tree()

    def health(self) -> Health:
        """How the runtime is, from memory alone."""
        writer, reasons = self.actors.writer, [*self.remarks.values(), *self.care.overdue()]
        busy = writer.busy_since
        live = busy is None or trio.current_time() - busy < WRITER_LATE_S
        if not live:
            reasons.append(f"the journal has not confirmed a commit for {WRITER_LATE_S:.0f} s")
        if self.draining:
            reasons.append("the daemon is stopping")
        if self.tokens.remark is not None:
            reasons.append(self.tokens.remark)
        if not self._disk_has_room:
            reasons.append("the disk is nearly full")
        if writer.crowded:
            reasons.append("too many records wait for the disk")
        down = [actor.path for actor in self.tree() if actor.status in ("restarting", "failed")]
        reasons.extend(f"{path} is not up" for path in down)
        reasons.extend(f"connector {name} is quarantined" for name in self.actors.connectors.quarantined())
        ready = self.started and live and not self.draining and self._disk_has_room and not writer.crowded
        return Health(live=live, ready=ready, started=self.started, reasons=reasons)

    def statistics(self) -> RuntimeStatistics:
        """The runtime's figures."""
        writer, steps = self.actors.writer.statistics(), self.actors.steps
        lag, records, errors = self.actors.connectors.figures()
        runs, coordinator = self._readers.on_loop.counts(), self.actors.coordinator.statistics()
        open_runs = sum(n for (_, status), n in runs.items() if status not in ENDED)
        return RuntimeStatistics(
            version=VERSION,
            journal_seq=writer.seq,
            runs=runs,
            runs_started_total=coordinator.started_total,
            runs_in_memory=coordinator.active,
            runs_parked=max(0, open_runs - coordinator.active),
            queue_runs={
                ("default", "ready"): coordinator.ready,
                ("default", "active"): coordinator.active,
                **self.actors.coordinator.engine.queues.counts(),
            },
            step_seconds={key: _histogram(values) for key, values in steps.seconds().items()},
            step_attempts_total=dict(steps.outcomes),
            commit_seconds=_histogram(writer.commit_seconds),
            commit_records=_histogram(writer.commit_records),
            sqlite_wal_bytes=writer.wal_bytes,
            disk_free_bytes=self._disk_free,
            disk_full_days=self._disk_full_days(),
            backup_age_seconds=self.care.backup_age_s(),
            runs_without_wake_source=self.care.unwakeable,
            loop_lag_seconds=self._loop_lag_s,
            trace_spans_total=dict(self.actors.tracer.outcomes) if self.actors.tracer is not None else {},
            approvals_open=self._readers.on_loop.approvals_open(),
            connector_lag_seconds=lag,
            connector_records_total=records,
            connector_errors_total=errors,
        )

    # --- the verbs of the contract

    async def start(
        self,
        workflow: Workflow | str,
        input: Any = None,
        *,
        id: str | None = None,
        session_id: str | None = None,
        queue: str | None = None,
        priority: int = 0,
        start_at: int | None = None,
        attributes: dict[str, Any] | None = None,
        tenant: str | None = None,
        classification: str = "platform",
    ) -> Handle:
        """Start a run (or find it, where `id` exists with the same input). On disk when it returns.

        Raises UnknownWorkflow, InvalidInput, IdConflict, PayloadTooLarge, SessionEnded."""
        item = m.StartRun(
            workflow=workflow if isinstance(workflow, str) else workflow.name,
            input=_json(input),
            id=id,
            session_id=session_id,
            queue=queue,
            priority=priority,
            start_at=start_at,
            attributes=attributes or {},
            tenant=tenant,
            classification=classification,
        )
        started: m.StartedRuns = await self.ask(m.StartRuns(items=[item], origin=EMBEDDED))
        one = started.items[0]
        if one.problem is not None:
            raise as_error(one.problem)
        assert one.run is not None
        return Handle(self, one.run.id, one.created)

    async def signal(self, run_id: str, name: str, value: Any = None, *, signal_id: str | None = None) -> int:
        """Send a signal; gives the seq of its record. Raises RunNotFound, RunEnded, InvalidInput."""
        command = m.SignalRun(run_id=run_id, name=name, value=_json(value), signal_id=signal_id, origin=EMBEDDED)
        return await self._accepted(command)

    async def cancel(self, run_id: str, reason: str | None = None) -> int:
        """Cancel a run: its completed steps are undone. Raises RunNotFound, RunEnded."""
        return await self._accepted(m.CancelRun(run_id=run_id, reason=reason, origin=EMBEDDED))

    async def pause(self, run_id: str, reason: str | None = None) -> int:
        """Hold a run where it stands; what arrives is recorded and applied later."""
        return await self._accepted(m.PauseRun(run_id=run_id, reason=reason, origin=EMBEDDED))

    async def resume(self, run_id: str, reason: str | None = None) -> int:
        """Let a paused run go on."""
        return await self._accepted(m.ResumeRun(run_id=run_id, reason=reason, origin=EMBEDDED))

    async def retry(self, run_id: str, reason: str | None = None) -> int:
        """Let a blocked run try again from where it stands. Raises NotBlocked."""
        return await self._accepted(m.RetryRun(run_id=run_id, reason=reason, origin=EMBEDDED))

    async def resolve(
        self, run_id: str, call: str, *, happened: bool, result: Any = None, reason: str | None = None
    ) -> int:
        """Say whether a call of unknown outcome happened, and with which result."""
        command = m.ResolveCall(
            run_id=run_id, call=call, happened=happened, result=_json(result), reason=reason, origin=EMBEDDED
        )
        return await self._accepted(command)

    async def fork(self, run_id: str, at_seq: int, *, id: str | None = None, reason: str | None = None) -> Handle:
        """Start a run with the past of another, as it was at its record `at_seq`. What was open there it asks for anew,
        and what was done it undoes if it fails. Raises RunNotFound, InvalidInput where that is no record of the run,
        ForkRefused where it was ended or being undone by then or waited for a child, IdConflict, SessionEnded."""
        command = await self.read(lambda reader: fork_of(reader, run_id, at_seq, id=id, reason=reason, origin=EMBEDDED))
        accepted: m.Accepted = await self.ask(command)
        return Handle(self, accepted.id, created=True)

    async def _accepted(self, command: m.Message) -> int:
        accepted: m.Accepted = await self.ask(command)
        return accepted.seq

    async def run(self, run_id: str) -> RunDetail:
        """A run, whole. Raises RunNotFound."""
        found = await self.read(lambda reader: reader.run_view(run_id))
        if found is None:
            raise e.RunNotFound(f"there is no run {run_id!r}")
        return found

    async def status(self, run_id: str) -> str:
        """A run's status."""
        return (await self.run(run_id)).status

    async def runs(self, **filters: Any) -> Any:
        """A page of runs, newest first; the filters are those of `wal.queries.Reader.runs`."""
        return await self.read(lambda reader: reader.runs(**filters))

    async def history(self, run_id: str, after: int = 0, limit: int = 500) -> Any:
        """A page of a run's records."""
        return await self.read(lambda reader: reader.history_page(run_id, after=after, limit=limit))

    async def result(self, run_id: str, timeout: float | None = None) -> Any:
        """Wait for a run's result; see `Handle.result`."""
        watch, found = await self._settle(run_id, timeout)
        if isinstance(watch.how, r.RunCompleted):
            return self._decoded(watch.workflow, watch.how.result)
        found = found or self._point_read(run_id)
        if found.status == "completed":
            return self._decoded(found.workflow, found.result)
        raise outcome_error(found)

    def _decoded(self, workflow_name: str, result: Raw) -> Any:
        workflow = self.registry.workflows.get(workflow_name)
        return workflow.result.decode(result) if workflow is not None else msgspec.json.decode(result)

    def handle(self, run_id: str) -> Handle:
        """A handle on a run that exists."""
        return Handle(self, run_id)

    # --- upkeep

    @property
    def _disk_has_room(self) -> bool:
        return self._disk_free is None or self._disk_free >= self.settings.journal.disk_free_min_bytes

    def _disk_full_days(self) -> float | None:
        free = self._disk_free
        return None if free is None else self._disk_trend.full_in_days(trio.current_time(), free)

    async def watch(self, folder: Path | None) -> None:
        """Measure, once a second, what health and metrics tell from memory: free disk and the lag of the loop."""
        while True:
            self.measure(folder)
            due = trio.current_time() + WATCH_S
            await trio.sleep_until(due)
            self._loop_lag_s = max(0.0, trio.current_time() - due)
            self.tokens.note_used()

    def measure(self, folder: Path | None) -> None:
        """See how much is free; before anything is taken in, and then by `watch`."""
        if folder is not None:
            self._disk_free = shutil.disk_usage(folder).free
            self._disk_trend.note(trio.current_time(), self._disk_free)

    async def drain(self, timeout_s: float) -> None:
        """Take nothing new, and let steps in flight finish for so long; the rest is parked as after a crash."""
        self.draining = self._closed = True
        self.actors.connectors.drain()
        self.tokens.note_used(now=True)
        self.actors.coordinator.engine.draining = True
        self.actors.settling.close()
        self.feed.close()
        runner, mailbox = self.actors.runner, self.actors.coordinator.mailbox
        with trio.move_on_after(timeout_s):
            await self.actors.connectors.wait_idle()
            # Until attempts have ended and the coordinator has taken in how. It happens once in a life, and an event
            # for it would be set all day.
            while runner.busy or mailbox.statistics().size:  # noqa: ASYNC110
                await trio.sleep(0.01)


def outcome_error(found: RunDetail) -> Exception:
    """How a run that has no result stands, as the exception that `result` raises."""
    error = found.error
    kinds = {"failed": e.RunFailed, "cancelled": e.RunCancelled, "blocked": e.RunBlocked}
    kind = kinds.get(found.status)
    if kind is None:
        return TimeoutError(f"run {found.id} is {found.status}")
    said = f": {error.type}: {error.message}" if error is not None else ""
    return kind(
        f"run {found.id} is {found.status}{said}",
        run_id=found.id,
        type=error.type if error is not None else "",
        step=error.step if error is not None else None,
    )


def as_error(problem: m.ProblemData) -> Exception:
    """A refusal as the exception that it was."""
    for kind in vars(e).values():
        if (
            isinstance(kind, type)
            and issubclass(kind, RuntimedError)
            and kind.code == problem.code
            and kind.status == problem.status
        ):
            return kind(problem.detail, hint=problem.hint or None)
    return RuntimedError(problem.detail, hint=problem.hint or None)


def _json(value: Any) -> Raw:
    try:
        data = msgspec.json.encode(value)
        if (fault := payload_fault(data)) is not None:
            raise ValueError(f"it {fault}")
        return Raw(data)
    except (TypeError, ValueError) as error:
        raise e.InvalidInput(f"the value cannot be carried as JSON: {error}") from None


def _histogram(values: HistogramValues) -> Histogram:
    return Histogram(values.bounds, values.buckets, values.total)
