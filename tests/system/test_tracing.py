"""Spans of the real daemon, as a receiver on the loopback gets them over OTLP/HTTP."""

from __future__ import annotations

from functools import partial

import h11
import pytest
import trio
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from tests.system.conftest import Running
from tests.system.daemon_process import Daemon

pytestmark = [pytest.mark.trio, pytest.mark.slow]

TRACE, CALLER = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"


class Receiver:
    """Takes OTLP requests; keeps their bodies."""

    def __init__(self) -> None:
        self.bodies: list[bytes] = []
        self.paths: list[bytes] = []

    async def serve(self, stream: trio.SocketStream) -> None:
        """One request; of one that is broken off, nothing."""
        async with stream:
            try:
                await self._serve(stream)
            except (h11.RemoteProtocolError, trio.BrokenResourceError):
                return

    async def _serve(self, stream: trio.SocketStream) -> None:
        peer, body = h11.Connection(h11.SERVER), b""
        while True:
            event = peer.next_event()
            if event is h11.NEED_DATA:
                peer.receive_data(await stream.receive_some(65_536))
            elif isinstance(event, h11.Request):
                self.paths.append(event.target)
            elif isinstance(event, h11.Data):
                body += bytes(event.data)
            elif isinstance(event, h11.EndOfMessage):
                self.bodies.append(body)
                reply = h11.Response(status_code=200, headers=[("content-length", "0"), ("connection", "close")])
                await stream.send_all((peer.send(reply) or b"") + (peer.send(h11.EndOfMessage()) or b""))
                return
            else:
                return

    @property
    def spans(self) -> dict[str, object]:
        """The spans that came, by name."""
        requests = [ExportTraceServiceRequest.FromString(body) for body in self.bodies]
        scopes = [scope for request in requests for sent in request.resource_spans for scope in sent.scope_spans]
        return {span.name: span for scope in scopes for span in scope.spans}


async def trace_one_run(daemon: Daemon) -> None:
    """A run, asked for as part of a trace, and the end of the daemon."""
    async with daemon.client() as client:
        body = {"workflow": "resting", "input": 0.123456789}
        headers = {"traceparent": f"00-{TRACE}-{CALLER}-01"}
        started = await client.post("/v1/runs", json=body, headers=headers)
        assert started.status_code == 201
        assert (await client.get(f"/v1/runs/{started.json()['id']}/result?wait=25")).json() == 0.123456789
        metrics = (await client.get("/metrics")).text
        assert 'runtimed_trace_spans_total{outcome="dropped"} 0.0' in metrics
    assert await daemon.stop() == 0


async def test_a_request_its_run_and_its_step_arrive_in_one_trace(running: Running, nursery: trio.Nursery) -> None:
    """POST with a traceparent: the request, the run and the attempt are sent as spans of that trace, by the time the
    daemon has ended; the payload is in none of them. The end waits no longer than two seconds: where the machine stood
    still for those, it is tried again."""
    receiver = Receiver()
    listeners = await nursery.start(partial(trio.serve_tcp, receiver.serve, 0, host="127.0.0.1"))
    port = listeners[0].socket.getsockname()[1]
    environ = {"RUNTIMED__TELEMETRY__OTLP_ENDPOINT": f"http://127.0.0.1:{port}", "NO_PROXY": "127.0.0.1"}
    async with running(started=False, environ=environ) as daemon:
        for _ in range(3):
            receiver.bodies.clear()
            await daemon.start()
            await trace_one_run(daemon)
            if {"POST /v1/runs", "resting", "rest"} <= set(receiver.spans):
                break
    assert set(receiver.paths) == {b"/v1/traces"}
    spans = receiver.spans
    request, run, step = spans["POST /v1/runs"], spans["resting"], spans["rest"]
    assert {span.trace_id.hex() for span in (request, run, step)} == {TRACE}  # type: ignore[attr-defined]
    assert request.parent_span_id.hex() == run.parent_span_id.hex() == CALLER  # type: ignore[attr-defined]
    assert step.parent_span_id == run.span_id  # type: ignore[attr-defined]
    assert b"123456789" not in b"".join(receiver.bodies)
    assert not any("health" in name or "metrics" in name for name in spans)


async def test_a_receiver_that_is_not_there_holds_up_nothing(running: Running) -> None:
    """Nobody listens: runs go on, the drain ends in time, and the log says once that spans do not arrive."""
    environ = {"RUNTIMED__TELEMETRY__OTLP_ENDPOINT": "http://127.0.0.1:9", "NO_PROXY": "127.0.0.1"}
    async with running(environ=environ, options=("--drain-timeout", "1")) as daemon:
        async with daemon.client() as client:
            await client.post("/v1/runs", json={"workflow": "resting", "input": 0.0, "id": "one"})
            assert (await client.get("/v1/runs/one/result?wait=25")).status_code == 200
        with trio.fail_after(20.0):
            assert await daemon.stop() == 0
        assert daemon.log_tail(200).count("spans do not arrive") <= 1
        assert "Traceback" not in daemon.log_tail(200)
