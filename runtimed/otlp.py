"""Spans over OTLP/HTTP, by OpenTelemetry's own encoder and exporter. Imported only where telemetry is configured."""

from __future__ import annotations

import logging
from typing import Final

from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export import SpanExportResult
from opentelemetry.sdk.util.instrumentation import InstrumentationScope
from opentelemetry.trace import SpanContext, SpanKind, TraceFlags
from opentelemetry.trace.status import Status, StatusCode

from runtimed.settings import Telemetry
from runtimed.tracing import Span
from runtimed.version import VERSION

KINDS: Final = {"server": SpanKind.SERVER, "internal": SpanKind.INTERNAL, "client": SpanKind.CLIENT}
SAMPLED: Final = TraceFlags(TraceFlags.SAMPLED)
SEND_TIMEOUT_S: Final = 5.0
TRACES_PATH: Final = "/v1/traces"


class OtlpSender:
    """Called with a batch, in a thread: sends it, and gives whether it was taken. It never raises.

    Headers (a token, for example) come from OpenTelemetry's own variable OTEL_EXPORTER_OTLP_HEADERS."""

    def __init__(self, settings: Telemetry) -> None:
        assert settings.otlp_endpoint is not None
        endpoint = settings.otlp_endpoint.rstrip("/").removesuffix(TRACES_PATH) + TRACES_PATH
        self._exporter = OTLPSpanExporter(endpoint=endpoint, timeout=SEND_TIMEOUT_S)
        self._resource = Resource({"service.name": settings.service_name, "service.version": VERSION})
        self._scope = InstrumentationScope("runtimed", VERSION)
        # It logs each failure with the address, credentials in it and all; the tracer tells when it begins and ends.
        logging.getLogger("opentelemetry").setLevel(logging.CRITICAL)

    def __call__(self, batch: list[Span]) -> bool:
        """Send the batch. Blocks for `SEND_TIMEOUT_S` at most."""
        return self._exporter.export([self._readable(span) for span in batch]) is SpanExportResult.SUCCESS

    def _readable(self, span: Span) -> ReadableSpan:
        trace_id = int(span.trace_id, 16)
        return ReadableSpan(
            name=span.name,
            context=SpanContext(trace_id, int(span.span_id, 16), is_remote=False, trace_flags=SAMPLED),
            parent=(
                SpanContext(trace_id, int(span.parent_id, 16), is_remote=True, trace_flags=SAMPLED)
                if span.parent_id is not None
                else None
            ),
            resource=self._resource,
            attributes=dict(span.attributes) | ({"error.type": span.error} if span.error is not None else {}),
            kind=KINDS[span.kind],
            instrumentation_scope=self._scope,
            status=Status(StatusCode.ERROR) if span.error is not None else Status(StatusCode.UNSET),
            start_time=span.start_ns,
            end_time=span.end_ns,
        )
