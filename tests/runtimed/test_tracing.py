"""Tracing: absent unless wanted, bounded, joined by traceparent, and silent about payloads."""

from __future__ import annotations

import logging
import subprocess
import sys
import time
from collections.abc import AsyncIterator

import pytest
import trio

from actors.errors import SourceError
from actors.step_runner import StepRunner
from runtimed import App, Context, Failure, Page, Poll, Retry, Transaction, open_runtime
from runtimed.config_layers import ConfigError
from runtimed.settings import Telemetry
from runtimed.tracing import Span, TracedStepRunner, Tracer, open_tracer, span_id_of_run, trace_id_of_run

TRACE, CALLER = "a" * 32, "b" * 16
TRACEPARENT = f"00-{TRACE}-{CALLER}-01"
CANARY = "canary-4242"
app = App("traced")


class Declined(Failure):
    """The card was declined."""


@app.step(retry=Retry(initial_interval=0.001, max_attempts=5))
async def work(secret: str) -> str:
    if secret.startswith("bad"):
        raise Declined(secret)
    return secret


@app.transaction
def note(tx: Transaction, what: str) -> None:
    tx.state.put("note", what)


@app.workflow
async def noting(ctx: Context, what: str) -> None:
    await ctx.step(note, what)


@app.workflow
async def job(ctx: Context, secret: str) -> str:
    return str(await ctx.step(work, secret))


def a_span(number: int = 0) -> Span:
    return Span(f"s{number}", "internal", TRACE, CALLER, None, 1, 2, {})


def test_without_an_endpoint_there_is_no_tracer_and_nothing_is_loaded() -> None:
    """The daemon's modules load nothing of OpenTelemetry, and the settings' default gives no tracer."""
    code = "import sys, runtimed.daemon; sys.exit(any(name.startswith('opentelemetry') for name in sys.modules))"
    assert subprocess.run([sys.executable, "-P", "-c", code], check=False).returncode == 0
    assert open_tracer(Telemetry()) is None


@pytest.mark.trio
async def test_without_a_tracer_the_step_runner_is_the_plain_one() -> None:
    """Tracing that is off costs a step nothing: its runner's class is the one without the hook."""
    async with open_runtime(app, writer="memory") as rt:
        assert type(rt.actors.runner) is StepRunner
        assert rt.statistics().trace_spans_total == {}


def test_an_endpoint_without_the_extra_is_a_configuration_error(monkeypatch: pytest.MonkeyPatch) -> None:
    """Exit 78 and a sentence that says what to install."""
    monkeypatch.delitem(sys.modules, "runtimed.otlp", raising=False)
    monkeypatch.setitem(sys.modules, "opentelemetry.exporter.otlp.proto.http.trace_exporter", None)
    with pytest.raises(ConfigError, match=r"telemetry\.otlp_endpoint is set, and OpenTelemetry is not") as refused:
        open_tracer(Telemetry(otlp_endpoint="http://127.0.0.1:4318"))
    assert refused.value.exit_code == 78
    assert "runtimed-daemon[otel]" in (refused.value.hint or "")


class Collected:
    """In the exporter's place: keeps what it is sent."""

    def __init__(self) -> None:
        self.spans: list[Span] = []

    def __call__(self, batch: list[Span]) -> bool:
        self.spans += batch
        return True


@pytest.fixture
def collected(monkeypatch: pytest.MonkeyPatch) -> Collected:
    """Every runtime that is opened has a tracer that sends here."""
    sink = Collected()
    monkeypatch.setattr("runtimed.tracing.FLUSH_S", 30.0)
    monkeypatch.setattr("runtimed.assembly.open_tracer", lambda settings: Tracer(sink, queue_spans_max=1_000))
    return sink


async def ran(run_id: str, value: str, traceparent: str | None, workflow: str = "job") -> None:
    """Start a run with this traceparent, and wait for its end."""
    from actors import messages as m
    from runtimed.runtime import _json

    async with open_runtime(app, writer="memory") as rt:
        assert type(rt.actors.runner) is TracedStepRunner
        trace_id = traceparent.split("-")[1] if traceparent else None
        origin = m.Origin(by="test", trace_id=trace_id, traceparent=traceparent)
        item = m.StartRun(workflow=workflow, input=_json(value), id=run_id)
        await rt.ask(m.StartRuns(items=[item], origin=origin))
        await rt.settled(run_id, 20.0)


@pytest.mark.trio
async def test_a_run_and_its_attempts_are_joined(collected: Collected) -> None:
    """The run is a child of whoever asked for it, its attempts are children of the run, all in the caller's trace."""
    await ran("r1", CANARY, TRACEPARENT)
    step, run = collected.spans
    assert (run.name, run.trace_id, run.parent_id, run.span_id) == ("job", TRACE, CALLER, span_id_of_run("r1"))
    assert (step.name, step.trace_id, step.parent_id) == ("work", TRACE, run.span_id)
    assert step.attributes["runtimed.attempt"] == 1
    assert run.attributes["runtimed.status"] == "completed"
    assert run.error is step.error is None
    assert run.start_ns <= run.end_ns
    assert step.start_ns <= step.end_ns


@pytest.mark.trio
async def test_failed_attempts_are_told_without_what_they_said(collected: Collected) -> None:
    """Each attempt is a span of its own with the type of its error; no payload and no message of an error is in it."""
    await ran("r2", f"bad {CANARY}", TRACEPARENT)
    *steps, run = collected.spans
    assert [span.attributes["runtimed.attempt"] for span in steps] == [1, 2, 3, 4, 5]
    assert {span.error for span in steps} == {"Declined"}
    assert (run.error, run.attributes["runtimed.status"]) == ("StepFailed", "failed")
    assert CANARY not in repr(collected.spans)


@pytest.mark.trio
async def test_a_transaction_is_an_attempt(collected: Collected) -> None:
    """It has a span, as an attempt of another step has, though no worker runs it."""
    await ran("r3", CANARY, TRACEPARENT, "noting")
    step, run = collected.spans
    assert (step.name, step.trace_id, step.parent_id) == ("note", TRACE, run.span_id)
    assert step.attributes["runtimed.outcome"] == "completed"


@pytest.mark.trio
async def test_a_run_of_nobodys_trace_has_one_of_its_own(collected: Collected) -> None:
    """Without a traceparent run and attempts are in one trace that is the run's; there is no parent."""
    await ran("r3", "x", None)
    step, run = collected.spans
    assert step.trace_id == run.trace_id == trace_id_of_run("r3")
    assert (run.parent_id, step.parent_id) == (None, run.span_id)


@pytest.mark.trio
async def test_what_the_caller_does_not_sample_is_not_sent(collected: Collected) -> None:
    """A traceparent whose sampled flag is off is respected."""
    await ran("r4", "x", f"00-{TRACE}-{CALLER}-00")
    assert collected.spans == []


polled = App("polled")


@polled.workflow
async def welcome(ctx: Context, person: dict[str, str]) -> None:
    """What a record starts."""


@polled.connector(every=3600.0, key="id", deliver=welcome)
async def people(poll: Poll[int]) -> AsyncIterator[Page]:
    """One record, then a fault of the source."""
    yield Page(records=[{"id": "a", "card": CANARY}], cursor=1)
    raise SourceError(f"the source said {CANARY}")


@pytest.mark.trio
async def test_a_poll_and_what_it_starts_are_one_trace(collected: Collected) -> None:
    """A poll begins a trace; the run that its record starts is a child of it. How it failed is told by type alone."""
    async with open_runtime(polled, writer="memory") as rt:
        await rt.poll_connector("people")
        await rt.actors.connectors.wait_idle()
        found = await rt.settled("people:a", 20.0)
        assert found.status == "completed"
    by_name = {span.name: span for span in reversed(collected.spans)}  # the first: after the fault it polls again
    poll, run = by_name["poll people"], by_name["welcome"]
    assert (poll.kind, poll.error, poll.attributes["runtimed.records"]) == ("client", "SourceError", 1)
    assert (run.trace_id, run.parent_id) == (poll.trace_id, poll.span_id)
    assert CANARY not in repr(collected.spans)


def test_a_request_is_a_child_of_the_callers_span_or_begins_the_trace() -> None:
    """With the client's traceparent the request is its child; without one its own id is what the answer told."""
    sink = Collected()
    tracer = Tracer(sink, queue_spans_max=10)
    tracer.request(TRACEPARENT, True, "POST", "/v1/runs", 201, time.time_ns())
    tracer.request(TRACEPARENT, False, "GET", "/v1/runs/{id}", 500, time.time_ns())
    first, second = tracer._queue
    assert (first.parent_id, first.error, first.name) == (CALLER, None, "POST /v1/runs")
    assert first.span_id != CALLER
    assert (second.parent_id, second.span_id, second.error) == (None, CALLER, "500")


@pytest.mark.trio
async def test_a_receiver_that_hangs_costs_spans_and_nothing_else(
    nursery: trio.Nursery, mock_clock: trio.testing.MockClock
) -> None:
    """While a batch hangs, adding never waits: the queue fills to its limit, what is more is dropped and counted."""
    tracer = Tracer(lambda batch: False, queue_spans_max=100)
    began = time.perf_counter()
    for number in range(100_000):
        tracer.add(a_span(number))
    assert time.perf_counter() - began < 30.0  # a millisecond for each would be a hundred seconds
    assert len(tracer._queue) == 100
    assert tracer.outcomes["dropped"] == 99_900


@pytest.mark.trio
async def test_a_receiver_that_refuses_is_told_once(
    caplog: pytest.LogCaptureFixture, autojump_clock: trio.testing.MockClock
) -> None:
    """The log says when spans stop arriving and when they arrive again, not for each batch; the figures count all."""
    answers = [False, False, True]
    tracer = Tracer(lambda batch: answers.pop(0), queue_spans_max=10)
    with caplog.at_level(logging.INFO, "runtimed.tracing"):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(tracer.run)
            for number in range(3):
                tracer.add(a_span(number))
                while tracer.outcomes.total() <= number:  # noqa: ASYNC110 - a thread's progress
                    await trio.sleep(0.1)
            nursery.cancel_scope.cancel()
    assert dict(tracer.outcomes) == {"sent": 1, "failed": 2, "dropped": 0}
    assert [record.getMessage() for record in caplog.records] == ["spans do not arrive", "spans arrive"]


@pytest.mark.trio
async def test_the_last_spans_are_sent_at_the_end(monkeypatch: pytest.MonkeyPatch) -> None:
    """What waits when the runtime stops is sent before it is gone."""
    monkeypatch.setattr("runtimed.tracing.FLUSH_S", 30.0)
    sink = Collected()
    tracer = Tracer(sink, queue_spans_max=10)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(tracer.run)
        tracer.add(a_span())
        await trio.testing.wait_all_tasks_blocked()
        nursery.cancel_scope.cancel()
    assert [span.name for span in sink.spans] == ["s0"]
