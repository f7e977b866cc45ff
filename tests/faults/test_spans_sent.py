"""A real service and a real receiver of OTLP over HTTP: the spans that arrive, and a receiver that is away."""

import http.server
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import orjson
import pytest
import stamina
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.trace.v1.trace_pb2 import Span, Status

from tests.running import Service

LOSSY, FINE, RAISES = 0.7, 0.4, 0.8
PNG = {"Content-Type": "image/png"}
CALLERS_TRACE, CALLERS_SPAN = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"
GIVEN = f"00-{CALLERS_TRACE}-{CALLERS_SPAN}"
SOON = {"OTEL_BSP_SCHEDULE_DELAY": "50"}
StartService = Callable[..., Any]


class Receiver(http.server.ThreadingHTTPServer):
    """Takes spans at /v1/traces. `status`: of its replies."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.status = 200
        self.batches: list[ExportTraceServiceRequest] = []
        self.headers: list[dict[str, str]] = []

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"

    @property
    def spans(self) -> list[Span]:
        return [
            span
            for batch in self.batches
            for resource in batch.resource_spans
            for scope in resource.scope_spans
            for span in scope.spans
        ]

    def wait(self, *names: str) -> list[Span]:
        """All spans, once there are as many of each name as given here."""
        for attempt in stamina.retry_context(on=AssertionError, attempts=None, timeout=20, wait_max=0.05):
            with attempt:
                have = [span.name for span in self.spans]
                assert all(have.count(name) >= names.count(name) for name in names), have
        return self.spans


class _Handler(http.server.BaseHTTPRequestHandler):
    server: Receiver

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        if self.server.status == 200 and self.path == "/v1/traces":
            self.server.headers.append({name.lower(): value for name, value in self.headers.items()})
            self.server.batches.append(ExportTraceServiceRequest.FromString(body))
        self.send_response(self.server.status)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *_: object) -> None:
        """Keeps the test's output quiet."""


@contextmanager
def _receiving() -> Iterator[Receiver]:
    with Receiver() as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        yield server
        server.shutdown()
        thread.join()


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    """A receiver of the test's own."""
    with _receiving() as server:
        yield server


@pytest.fixture(scope="module")
def shared(faulty_store: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Service, Receiver]]:
    with _receiving() as server:
        folder = tmp_path_factory.mktemp("traced")
        service = Service(faulty_store, folder, OTEL_EXPORTER_OTLP_ENDPOINT=server.url, **SOON)
        service.start()
        yield service, server
        assert service.stop() == 0


@pytest.fixture
def traced(shared: tuple[Service, Receiver]) -> tuple[Service, Receiver]:
    """A service and its receiver, which several tests share; the receiver has no spans yet.

    Each test waits for the last span that it causes, so that none comes to the next test.
    """
    shared[1].batches.clear()
    return shared


def _named(spans: list[Span], name: str) -> Span:
    (found,) = [span for span in spans if span.name == name]
    return found


def _attributes(span: Span) -> dict[str, Any]:
    return {one.key: getattr(one.value, one.value.WhichOneof("value")) for one in span.attributes}


def _lines(log: str) -> list[dict[str, Any]]:
    return [orjson.loads(line) for line in log.split("\n") if line.startswith("{")]


def test_a_request_is_a_span_below_the_callers_with_the_stations_of_its_image_below_it(
    traced: tuple[Service, Receiver], grey: Callable[..., bytes]
) -> None:
    service, receiver = traced
    before, read = time.time_ns(), len(service.log)
    headers = {**PNG, "traceparent": f"{GIVEN}-01", "X-Request-Id": "mine"}
    reply = service.http.post("/v1/predict", content=grey(LOSSY), headers=headers).json()
    spans = receiver.wait("POST /v1/predict", "predict", "journal")
    request, image = _named(spans, "POST /v1/predict"), _named(spans, "predict")
    stations = [_named(spans, name) for name in ("decode", "wait", "infer", "verdict", "journal")]

    assert {span.trace_id.hex() for span in spans} == {CALLERS_TRACE}
    assert request.parent_span_id.hex() == CALLERS_SPAN
    assert image.parent_span_id == request.span_id
    assert {station.parent_span_id for station in stations} == {image.span_id}
    assert request.kind == Span.SPAN_KIND_SERVER

    assert sum(station.end_time_unix_nano - station.start_time_unix_nano for station in stations) == (
        image.end_time_unix_nano - image.start_time_unix_nano
    )
    assert (stations[0].start_time_unix_nano, stations[-1].end_time_unix_nano) == (
        image.start_time_unix_nano,
        image.end_time_unix_nano,
    )
    assert before <= request.start_time_unix_nano <= image.start_time_unix_nano
    assert image.end_time_unix_nano <= request.end_time_unix_nano <= time.time_ns()

    assert _attributes(request) == {
        "http.request.method": "POST",
        "url.scheme": "http",
        "http.route": "/v1/predict",
        "http.response.status_code": 200,
        "losscast.request_id": "mine",
    }
    said = _attributes(image)
    assert said["losscast.sample_id"] == reply["sample_id"]
    assert said["losscast.predicted_loss"] == pytest.approx(reply["predicted_loss"])
    assert (said["losscast.model"], said["losscast.version"], said["losscast.queue"]) == ("tiny", "1", "accepted")
    assert _attributes(_named(spans, "infer")) == {"losscast.batch_size": 1}

    (line,) = [line for line in _lines(service.log[read:]) if line["event"] == "sample journalled"]
    assert (line["trace_id"], line["request_id"], line["sample_id"]) == (CALLERS_TRACE, "mine", reply["sample_id"])


def test_images_of_one_request_are_spans_beside_each_other(
    traced: tuple[Service, Receiver], grey: Callable[..., bytes]
) -> None:
    service, receiver = traced
    files = [("image", ("x.png", grey(FINE, tag=tag), "image/png")) for tag in range(3)]
    assert service.http.post("/v1/predict", files=files).status_code == 200
    spans = receiver.wait("POST /v1/predict", *3 * ["predict"], *3 * ["verdict"])
    request = _named(spans, "POST /v1/predict")
    images = [span for span in spans if span.name == "predict"]
    assert [image.parent_span_id for image in images] == 3 * [request.span_id]
    infers = [span for span in spans if span.name == "infer"]
    assert {span.parent_span_id for span in infers} == {image.span_id for image in images}
    assert not [span for span in spans if span.name == "journal"]


def test_an_invalid_traceparent_is_ignored(traced: tuple[Service, Receiver], grey: Callable[..., bytes]) -> None:
    service, receiver = traced
    garbage = ("garbage", f"{GIVEN}-01-more", f"ff{GIVEN[2:]}-01", "é" * 30, "0" * 4000, GIVEN, "")
    for traceparent in garbage:
        headers = [(b"content-type", b"image/png"), (b"traceparent", traceparent.encode())]
        assert service.http.post("/v1/predict", content=grey(FINE), headers=headers).status_code == 200
    spans = receiver.wait(*len(garbage) * ["POST /v1/predict"])
    requests = [span for span in spans if span.name == "POST /v1/predict"]
    assert len({span.trace_id for span in requests} | {bytes.fromhex(CALLERS_TRACE)}) == len(garbage) + 1
    assert {span.parent_span_id for span in requests} == {b""}


def test_a_failed_request_has_a_span_with_its_error_type_and_only_faults_of_the_service_are_errors(
    traced: tuple[Service, Receiver], grey: Callable[..., bytes]
) -> None:
    service, receiver = traced
    assert service.http.post("/v1/predict?operating_point=secret", content=grey(FINE), headers=PNG).status_code == 400
    assert service.http.post("/v1/models/tiny/predict", content=grey(RAISES), headers=PNG).status_code == 500
    assert service.http.get("/secret").status_code == 404
    spans = receiver.wait("POST /v1/predict", "POST /v1/models/{model}/predict", "GET")
    refused, failed, lost = (
        _named(spans, name) for name in ("POST /v1/predict", "POST /v1/models/{model}/predict", "GET")
    )
    assert [_attributes(span)["error.type"] for span in (refused, failed, lost)] == [
        "malformed", "model_fault", "not_found",
    ]  # fmt: skip
    assert [span.status.code for span in (refused, failed, lost)] == [
        Status.STATUS_CODE_UNSET, Status.STATUS_CODE_ERROR, Status.STATUS_CODE_UNSET,
    ]  # fmt: skip
    assert "secret" not in str(receiver.batches)
    assert "secret" not in service.log


def test_a_caller_that_does_not_sample_gets_no_spans_and_probes_get_none_either(
    traced: tuple[Service, Receiver], grey: Callable[..., bytes]
) -> None:
    service, receiver = traced
    read = len(service.log)
    headers = {**PNG, "traceparent": f"{GIVEN}-00"}
    for path in ("/v2/health/live", "/v2/health/ready", "/metrics"):
        assert service.http.get(path).status_code == 200
    assert service.http.post("/v1/predict", content=grey(LOSSY), headers=headers).status_code == 200
    assert service.http.get("/v1/models").status_code == 200  # the last one, so that spans of the others would be there
    assert [span.name for span in receiver.wait("GET /v1/models")] == ["GET /v1/models"]
    (line,) = [line for line in _lines(service.log[read:]) if line["event"] == "sample journalled"]
    assert line["trace_id"] == CALLERS_TRACE


def test_the_standard_variables_name_the_service_the_headers_and_the_path(
    start_service: StartService, receiver: Receiver
) -> None:
    service = start_service(
        OTEL_EXPORTER_OTLP_TRACES_ENDPOINT=f"{receiver.url}/v1/traces",
        OTEL_EXPORTER_OTLP_HEADERS="x-key=of-the-receiver",
        OTEL_EXPORTER_OTLP_COMPRESSION="none",
        OTEL_SERVICE_NAME="pose-eu",
        OTEL_RESOURCE_ATTRIBUTES="deployment.environment.name=test",
        **SOON,
    )
    assert service.http.get("/v1/models").status_code == 200
    receiver.wait("GET /v1/models")
    said = {one.key: one.value.string_value for one in receiver.batches[0].resource_spans[0].resource.attributes}
    assert (said["service.name"], said["deployment.environment.name"]) == ("pose-eu", "test")
    assert said["service.version"]
    assert said["service.instance.id"]
    assert receiver.headers[0]["x-key"] == "of-the-receiver"
    assert "of-the-receiver" not in service.log


def test_spans_that_were_not_sent_yet_are_sent_when_the_service_stops(
    start_service: StartService, receiver: Receiver
) -> None:
    service = start_service(OTEL_EXPORTER_OTLP_ENDPOINT=receiver.url, OTEL_BSP_SCHEDULE_DELAY="60000")
    assert service.http.get("/v1/models").status_code == 200
    assert receiver.spans == []
    assert service.stop() == 0
    assert [span.name for span in receiver.spans] == ["GET /v1/models"]


@contextmanager
def _silent() -> Iterator[str]:
    """A receiver that takes connections and never answers."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"


def _closed() -> str:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return f"http://127.0.0.1:{listener.getsockname()[1]}"


def test_a_receiver_that_is_away_costs_spans_and_one_line_and_is_used_when_it_is_there(
    start_service: StartService, receiver: Receiver, grey: Callable[..., bytes]
) -> None:
    receiver.status = 400  # not tried again by the exporter: each batch fails at once
    service = start_service(OTEL_EXPORTER_OTLP_ENDPOINT=receiver.url, OTEL_BSP_SCHEDULE_DELAY="10")
    for attempt in stamina.retry_context(on=AssertionError, attempts=None, timeout=20, wait_max=0.05):
        with attempt:
            assert service.http.post("/v1/predict", content=grey(FINE), headers=PNG).status_code == 200
            assert "spans are not sent" in service.log
    for _ in range(100):
        assert service.http.post("/v1/predict", content=grey(FINE), headers=PNG).status_code == 200
    receiver.status = 200
    receiver.wait()
    for attempt in stamina.retry_context(on=AssertionError, attempts=None, timeout=20, wait_max=0.05):
        with attempt:
            assert service.http.get("/v1/models").status_code == 200
            assert "spans are sent again" in service.log
    told = [line["event"] for line in _lines(service.log) if line["level"] != "INFO"]
    assert len(told) == 2
    assert "400" in told[0]


@pytest.mark.slow
def test_neither_a_closed_nor_a_silent_receiver_keeps_requests_or_the_end_waiting(
    start_service: StartService, grey: Callable[..., bytes]
) -> None:
    with _silent() as silent:
        for endpoint in (_closed(), silent):
            service = start_service(
                OTEL_EXPORTER_OTLP_ENDPOINT=endpoint,
                OTEL_BSP_SCHEDULE_DELAY="10",
                OTEL_BSP_MAX_QUEUE_SIZE="16",
                OTEL_BSP_MAX_EXPORT_BATCH_SIZE="16",
                LOSSCAST_REQUEST_TIMEOUT_S="2",
            )
            for _ in range(200):  # more spans than the exporter's queue takes
                assert service.http.post("/v1/predict", content=grey(FINE), headers=PNG).status_code == 200
            assert service.stop() == 0
            told = [line["event"] for line in _lines(service.log) if line["level"] != "INFO"]
            assert told in ([], [line for line in told if "spans are not sent" in line][:1])
