"""Spans of requests, runs, attempts of steps and polls, for OpenTelemetry; nothing of it exists unless it is wanted.

Without `[telemetry] otlp_endpoint` there is no tracer: the plain step runner is used and no hook is asked. With it, the
loop makes a small value per span and puts it into a bounded queue; one task takes them out in batches and hands each to
a thread for the length of one request. OpenTelemetry's own batching is not used: it starts a thread that nobody owns.
A full queue drops spans and counts them: telemetry may be lost, the journal may not, and neither may slow the other.

How they are joined. A request's span is a child of the `traceparent` that came with it, or begins the trace. A run's is
a child of the same `traceparent`, which its first record keeps, so that it can be told after a restart, weeks later.
Its own id is made from the run's, so that attempts name it as their parent without knowing more than their run.
What spans carry are names, ids, numbers and the types of errors: never a payload, and no message of an error.
"""

from __future__ import annotations

import logging
import os
import time
from collections import Counter, deque
from collections.abc import Callable, Mapping
from hashlib import blake2b
from typing import Any, Final, Literal

import msgspec
import trio

from actors.connector_poller import ConnectorPoller, Tools
from actors.connector_spec import ConnectorSpec
from actors.messages import Origin
from actors.step_runner import Attempt, StepRunner
from runtimed.config_layers import ConfigError
from runtimed.settings import Telemetry
from wal import records as r
from wal.queries import Reader
from wal.rows import RunRow

BATCH_SPANS_MAX: Final = 512
GATHER_S: Final = 1.0
"""How long the first span of a batch waits for others."""
FLUSH_S: Final = 2.0
"""What the end of the daemon waits for the last batch, at most."""
log = logging.getLogger("runtimed.tracing")

Kind = Literal["server", "internal", "client"]


class Span(msgspec.Struct, frozen=True, gc=False):
    """One span, ended. Ids are hexadecimal, instants nanoseconds since the epoch; `error` is the type of what went
    wrong."""

    name: str
    kind: Kind
    trace_id: str
    span_id: str
    parent_id: str | None
    start_ns: int
    end_ns: int
    attributes: Mapping[str, str | int]
    error: str | None = None


class Parent(msgspec.Struct, frozen=True, gc=False):
    """What a `traceparent` says."""

    trace_id: str
    span_id: str
    sampled: bool

    @classmethod
    def of(cls, traceparent: str | None) -> Parent | None:
        """Its parts, or None without one. It has been checked at the door."""
        if traceparent is None:
            return None
        _, trace_id, span_id, flags = traceparent.split("-")[:4]
        return cls(trace_id, span_id, bool(int(flags, 16) & 1))


def new_traceparent() -> str:
    """A new trace, sampled, as W3C Trace Context writes it."""
    text = os.urandom(24).hex()
    return f"00-{text[:32]}-{text[32:]}-01"


def new_span_id() -> str:
    """An id of its own."""
    return os.urandom(8).hex()


def span_id_of_run(run_id: str) -> str:
    """The span of a run, known to whoever knows the run."""
    return blake2b(run_id.encode(), digest_size=8, person=b"rtd-span").hexdigest()


def trace_id_of_run(run_id: str) -> str:
    """The trace of a run that nobody's trace began."""
    return blake2b(run_id.encode(), digest_size=16, person=b"rtd-trace").hexdigest()


class Tracer:
    """Takes spans without ever waiting, and sends them. `send` gives whether a batch arrived; it runs in a thread."""

    def __init__(self, send: Callable[[list[Span]], bool], *, queue_spans_max: int) -> None:
        self._send, self._queue_max = send, queue_spans_max
        self._queue: deque[Span] = deque()
        self._wake = trio.Event()
        self._thread = trio.CapacityLimiter(1)
        self.outcomes: Counter[str] = Counter({"sent": 0, "dropped": 0, "failed": 0})
        self._failing = False

    def add(self, span: Span) -> None:
        """One more; dropped and counted if too many wait."""
        if len(self._queue) >= self._queue_max:
            self.outcomes["dropped"] += 1
            return
        self._queue.append(span)
        self._wake.set()

    # --- the task

    async def run(self) -> None:
        """Send until cancelled; what waits then is sent within `FLUSH_S`, or dropped."""
        try:
            while True:
                await self._wake.wait()
                await trio.sleep(GATHER_S if len(self._queue) < BATCH_SPANS_MAX else 0.0)
                await self._send_some()
        finally:
            with trio.move_on_after(FLUSH_S, shield=True):
                while self._queue:
                    await self._send_some()
            self.outcomes["dropped"] += len(self._queue)

    async def _send_some(self) -> None:
        batch = [self._queue.popleft() for _ in range(min(len(self._queue), BATCH_SPANS_MAX))]
        if not self._queue:
            self._wake = trio.Event()
        if not batch:
            return
        try:
            arrived = await trio.to_thread.run_sync(self._send, batch, abandon_on_cancel=True, limiter=self._thread)
        except trio.Cancelled:
            self.outcomes["dropped"] += len(batch)  # they may arrive all the same; nobody waits for it
            raise
        self.outcomes["sent" if arrived else "failed"] += len(batch)
        if arrived is self._failing:  # told at each change, not at each batch
            self._failing = not arrived
            log.log(logging.INFO if arrived else logging.WARNING, "spans %s", "arrive" if arrived else "do not arrive")

    # --- what spans are made of

    def request(self, traceparent: str, came_along: bool, method: str, route: str, status: int, start_ns: int) -> None:
        """A request was answered. `came_along` says whether the `traceparent` is the client's: then it is the parent,
        else it is this span's own name."""
        parent = Parent.of(traceparent)
        if parent is None or not parent.sampled:
            return
        self.add(
            Span(
                f"{method} {route}", "server", parent.trace_id, new_span_id() if came_along else parent.span_id,
                parent.span_id if came_along else None, start_ns, time.time_ns(),
                {"http.request.method": method, "http.route": route, "http.response.status_code": status},
                str(status) if status >= 500 else None,
            )
        )  # fmt: skip

    def attempt(self, attempt: Attempt) -> None:
        """An attempt of a step or a compensation has ended."""
        current = attempt.current
        parent = Parent.of(current.traceparent)
        if parent is not None and not parent.sampled:
            return
        end_ns = time.time_ns() - round((time.perf_counter() - attempt.ended_at) * 1e9)
        took_s = attempt.ended_at - (attempt.started_at or attempt.ended_at)
        attributes: dict[str, str | int] = {
            "runtimed.run_id": current.run_id, "runtimed.workflow": attempt.workflow, "runtimed.step": current.name,
            "runtimed.kind": current.kind, "runtimed.attempt": attempt.attempt, "runtimed.outcome": attempt.outcome,
        }  # fmt: skip
        trace_id = parent.trace_id if parent is not None else trace_id_of_run(current.run_id)
        error = None if attempt.error is None else attempt.error.type
        self.add(
            Span(
                current.name, "internal", trace_id, new_span_id(), span_id_of_run(current.run_id),
                end_ns - round(took_s * 1e9), end_ns, attributes, error,
            )
        )  # fmt: skip

    def ended_run(self, row: RunRow, traceparent: str | None, how: r.Fact) -> None:
        """A run has ended: completed, failed or cancelled."""
        parent = Parent.of(traceparent)
        if parent is not None and not parent.sampled:
            return
        error = how.error.type if isinstance(how, r.RunFailed) else None
        attributes = {"runtimed.run_id": row.id, "runtimed.workflow": row.workflow, "runtimed.status": row.status}
        end_us = row.ended_at if row.ended_at is not None else row.updated_at
        self.add(
            Span(
                row.workflow, "internal", parent.trace_id if parent is not None else trace_id_of_run(row.id),
                span_id_of_run(row.id), parent.span_id if parent is not None else None,
                row.created_at * 1000, end_us * 1000, attributes, error,
            )
        )  # fmt: skip

    def poll(self, spec: ConnectorSpec, traceparent: str, start_ns: int, records: int, error: str | None) -> None:
        """A poll of a connector has ended."""
        mine = Parent.of(traceparent)
        assert mine is not None
        attributes: dict[str, str | int] = {
            "runtimed.connector": spec.name,
            "runtimed.kind": spec.kind,
            "runtimed.records": records,
        }
        self.add(
            Span(
                f"poll {spec.name}", "client", mine.trace_id, mine.span_id, None, start_ns, time.time_ns(), attributes,
                error,
            )
        )  # fmt: skip


class TracedStepRunner(StepRunner):
    """The step runner that tells how each attempt ended. Only made when there is a tracer, so that the plain one has
    nothing to ask."""

    def __init__(self, *, tracer: Tracer, **given: Any) -> None:
        super().__init__(**given)
        self._tracer = tracer

    def _end(self, attempt: Attempt, outcome: Any, message: str = "", error: BaseException | None = None) -> None:
        super()._end(attempt, outcome, message, error)
        self._tracer.attempt(attempt)


class TracedPoller(ConnectorPoller):
    """The poller that tells how each poll ended; what it starts is of the poll's trace."""

    def __init__(self, tracer: Tracer, spec: ConnectorSpec, tools: Tools) -> None:
        super().__init__(spec, tools)
        self._tracer = tracer
        self._traceparent, self._began_ns = new_traceparent(), 0

    @property
    def _origin(self) -> Origin:
        return Origin(by=f"connector:{self.spec.name}", trace_id=self._traceparent[3:35], traceparent=self._traceparent)

    async def _poll_once(self) -> None:
        self._traceparent, self._began_ns = new_traceparent(), time.time_ns()
        await super()._poll_once()

    async def _judge(self, drawn: Any, error: BaseException | None) -> None:
        kind = None if error is None else type(error).__name__
        self._tracer.poll(self.spec, self._traceparent, self._began_ns, drawn.records, kind)
        await super()._judge(drawn, error)


class _Started(msgspec.Struct, frozen=True):
    """What a run's first record says of where it came from."""

    traceparent: str | None = None


Settled = Callable[[str, str, r.Fact | None], None]


def traced_ends(tracer: Tracer | None, reader: Reader, then: Settled) -> Settled:
    """What is to be called when a run has settled: `then`, and before it the tracer, if there is one. The run is read
    from the journal, where its end is by then: some 50 microseconds, once in its life."""
    if tracer is None:
        return then
    tell = tracer.ended_run

    def settled(run_id: str, workflow: str, how: r.Fact | None) -> None:
        if isinstance(how, (r.RunCompleted, r.RunFailed, r.RunCancelled)) and (row := reader.run(run_id)) is not None:
            first = reader.events(row.first_seq - 1, 1)
            started = msgspec.json.decode(first[0].data, type=_Started) if first else _Started()
            tell(row, started.traceparent, how)
        then(run_id, workflow, how)

    return settled


def open_tracer(settings: Telemetry) -> Tracer | None:
    """The tracer that the settings ask for; None, with nothing imported, if they do not. Raises ConfigError where
    OpenTelemetry is not installed."""
    if settings.otlp_endpoint is None:
        return None
    try:
        from runtimed.otlp import OtlpSender
    except ModuleNotFoundError as error:
        if not (error.name or "").startswith("opentelemetry"):
            raise
        raise ConfigError(
            f"telemetry.otlp_endpoint is set, and OpenTelemetry is not installed ({error.name})",
            hint="Install it beside us: pip install 'runtimed-daemon[otel]'; or take the setting away.",
        ) from None
    return Tracer(OtlpSender(settings), queue_spans_max=settings.queue_spans_max)
