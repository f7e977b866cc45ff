"""Spans by OpenTelemetry: one per request, below it one per image, and below that one per station.

request -> `around` starts its span, below the caller's if the request has a W3C `traceparent` -> `line` makes the spans
of an answered image afterwards, from the times that were measured anyway -> a bounded queue -> a thread -> OTLP/HTTP.
The OTEL_ variables set the endpoint, the sampling and the length of the queue. While the endpoint is away, spans are
lost, and nothing else happens.
"""

import asyncio
import logging
import threading
import time
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import Any, Final
from uuid import uuid4

from opentelemetry.context import Context, attach
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import OTELResourceDetector, Resource
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExporter, SpanExportResult
from opentelemetry.trace import Span, SpanKind, StatusCode, format_trace_id, get_current_span, set_span_in_context
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from service.errors import StartError
from service.inference.outcome import Outcome
from service.telemetry.request_ids import TRACE_ID

log = logging.getLogger(__name__)

UNTRACED = ("/v2/health/live", "/v2/health/ready", "/metrics")  # machines ask these every few seconds
METHODS = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS")
FLUSH_S: Final = 2.0
SERVER_ERROR: Final = 500


class Spans:
    """Implements `service.telemetry.tracing.Tracing`. Raises ValueError for unusable OTEL_ variables."""

    def __init__(self, version: str) -> None:
        own = {"service.name": "losscast", "service.version": version, "service.instance.id": str(uuid4())}
        resource = Resource.create(own).merge(OTELResourceDetector().detect())  # OTEL_SERVICE_NAME and others override
        self._exporter = ToldOnce(OTLPSpanExporter())
        self._provider = TracerProvider(resource=resource, shutdown_on_exit=False)
        self._tracer = self._provider.get_tracer("losscast", version)
        self._propagator = TraceContextTextMapPropagator()

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        try:
            self._provider.add_span_processor(BatchSpanProcessor(self._exporter))
        except ValueError as error:
            raise StartError(f"an OTEL_BSP_ variable cannot be used: {error}") from error
        sdk = logging.getLogger("opentelemetry")
        sdk.propagate = False  # it repeats its errors while an endpoint is away
        sdk.addHandler(self._exporter.reasons)
        try:
            yield
        finally:
            # It waits up to half a minute for an endpoint that hangs. A daemon thread does not keep the process alive.
            end = threading.Thread(target=self._provider.shutdown, name="last-spans", daemon=True)
            end.start()
            await asyncio.to_thread(end.join, FLUSH_S)
            sdk.removeHandler(self._exporter.reasons)
            sdk.propagate = True

    def around(self, app: ASGIApp) -> ASGIApp:
        async def traced(scope: Scope, receive: Receive, send: Send) -> None:
            if scope["type"] != "http" or scope["path"] in UNTRACED:
                await app(scope, receive, send)
                return
            span, status = self._start(scope), 0

            async def noted(message: Message) -> None:
                nonlocal status
                if message["type"] == "http.response.start":
                    status = message["status"]
                await send(message)

            try:
                await app(scope, receive, noted)
            finally:
                _describe(span, scope, status)
                span.end()

        return traced

    def line(self, outcome: Outcome, batch_size: int) -> None:
        if not get_current_span().is_recording():
            return
        stations = intervals(outcome.station_s, time.time_ns())
        (_, start, _), (_, _, end) = stations[0], stations[-1]
        span = self._tracer.start_span("predict", start_time=start, attributes=_of_outcome(outcome))
        below = set_span_in_context(span)
        for station, since, until in stations:
            attributes = {"losscast.batch_size": batch_size} if station == "infer" else None
            self._tracer.start_span(station, below, start_time=since, attributes=attributes).end(until)
        span.end(end)

    def _start(self, scope: Scope) -> Span:
        headers = dict(scope["headers"])
        given = {name: headers.get(name.encode(), b"").decode("latin-1") for name in self._propagator.fields}
        # A fresh context: a pipelined request starts in the context of the request before it.
        context = self._propagator.extract(given, Context())
        method = scope["method"] if scope["method"] in METHODS else "_OTHER"
        attributes = {"http.request.method": method, "url.scheme": scope.get("scheme", "http")}
        span = self._tracer.start_span(method, context, SpanKind.SERVER, attributes)
        scope.setdefault("state", {})[TRACE_ID] = format_trace_id(span.get_span_context().trace_id)
        attach(set_span_in_context(span, context))  # never detached: the task ends with the request
        return span


class ToldOnce(SpanExporter):
    """Wraps an exporter. It logs when failures begin and when they end. Meanwhile spans are lost."""

    def __init__(self, exporter: SpanExporter) -> None:
        self.reasons = _Last()
        self._exporter = exporter
        self._lost = 0

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        result = self._exporter.export(spans)
        if result is SpanExportResult.SUCCESS:
            if self._lost:
                log.warning("spans are sent again; at least %d were lost", self._lost)
            self._lost = 0
            return result
        if not self._lost:
            log.warning("spans are not sent, and lost until they are: %s", self.reasons.message)
        self._lost += len(spans)
        return result

    def shutdown(self) -> None:
        self._exporter.shutdown()

    def force_flush(self, timeout_millis: int = 30_000) -> bool:
        return self._exporter.force_flush(timeout_millis)


class _Last(logging.Handler):
    """Keeps the last message of the SDK's loggers: there exporters say why they failed."""

    message = "no reason is given"

    def emit(self, record: logging.LogRecord) -> None:
        self.message = " ".join(record.getMessage().split())


def intervals(station_s: Mapping[str, float], end_ns: int) -> list[tuple[str, int, int]]:
    """(station, start, end) in ns since the epoch, without gaps. `end_ns` is the end of the image's way.

    station_s: seconds, as in `Outcome`. The time between inference and the journal (or the end) is that of the verdict:
    waking up, mapping back to the image, deciding.
    """
    start_ns = end_ns - _ns(station_s["total"])
    journal_ns = end_ns - _ns(station_s.get("journal", 0.0))
    at = start_ns
    found = [
        (station, at, at := min(at + _ns(station_s.get(station, 0.0)), journal_ns))
        for station in ("decode", "wait", "infer")
    ]
    found.append(("verdict", at, journal_ns))
    if "journal" in station_s:
        found.append(("journal", journal_ns, end_ns))
    return found


def _ns(seconds: float) -> int:
    return round(1e9 * seconds)


def _of_outcome(outcome: Outcome) -> dict[str, Any]:
    return {
        "losscast.request_id": outcome.request_id,
        "losscast.sample_id": outcome.sample_id,
        "losscast.model": outcome.model,
        "losscast.version": outcome.version,
        "losscast.predicted_loss": outcome.forecast.predicted_loss,
        "losscast.ood_score": outcome.forecast.ood_score,
        "losscast.lossy": outcome.verdict.lossy,
        "losscast.reasons": outcome.verdict.reasons,
        "losscast.operating_point": outcome.verdict.operating_point,
        "losscast.queue": outcome.queue,
        "losscast.audited": outcome.audited,
    }


def _describe(span: Span, scope: Scope, status: int) -> None:
    """Describes a request at its end. Its path and query are left out, because they may contain anything."""
    state, route = scope["state"], getattr(scope.get("route"), "path", None)
    if route is not None:
        span.update_name(f"{scope['method']} {route}")
        span.set_attribute("http.route", route)
    if status:
        span.set_attribute("http.response.status_code", status)
    span.set_attribute("losscast.request_id", state.get("request_id", ""))
    if code := state.get("error_code"):
        span.set_attribute("error.type", code)
    if status >= SERVER_ERROR or (not status and code != "client_left"):
        span.set_status(StatusCode.ERROR, code)
