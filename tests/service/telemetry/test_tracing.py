"""When spans are made at all."""

import subprocess
import sys
from pathlib import Path

import pytest

from service.errors import StartError
from service.telemetry.tracing import open_tracing

ENDPOINT = "OTEL_EXPORTER_OTLP_ENDPOINT"
REPOSITORY = Path(__file__).resolve().parents[3]
WITHOUT_SDK = """
import sys

class Blocked:
    def find_spec(self, name, path=None, target=None):
        if name.startswith(("opentelemetry.sdk", "opentelemetry.exporter", "opentelemetry.proto")):
            raise ModuleNotFoundError(name + " is blocked", name=name)

sys.meta_path.insert(0, Blocked())
"""
MAKE = """
import sys
from service.app import create_app
from service.settings import Settings

app = create_app(Settings())
print([middleware.cls.__name__ for middleware in app.user_middleware])
# FastAPI imports the API, and redis the metrics of an SDK that is installed.
print(sorted(name for name in sys.modules if name.startswith(("opentelemetry.sdk.trace", "opentelemetry.exporter"))))
"""


@pytest.fixture(autouse=True)
def _no_variables(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in (ENDPOINT, "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "OTEL_SDK_DISABLED", "OTEL_TRACES_EXPORTER"):
        monkeypatch.delenv(name, raising=False)


def test_off_there_is_no_layer_for_it_and_the_sdk_is_not_imported() -> None:
    made = _python(MAKE)
    assert made.stdout.splitlines() == ["['Edge', 'Predict']", "[]"]


def test_on_there_is_one_layer_in_front_of_all() -> None:
    made = _python(MAKE, **{ENDPOINT: "http://127.0.0.1:9"})
    assert made.stdout.splitlines()[0] == "['around', 'Edge', 'Predict']"


def test_an_endpoint_without_the_extra_is_told_in_one_line_and_the_service_goes_on() -> None:
    made = _python(WITHOUT_SDK + MAKE, **{ENDPOINT: "http://127.0.0.1:9"})
    assert made.stdout.splitlines() == ["['Edge', 'Predict']", "[]"]
    assert made.stderr.count("\n") == 1
    assert "pip install 'losscast[otel]'" in made.stderr


@pytest.mark.parametrize(
    "environment",
    [
        {},
        {ENDPOINT: ""},
        {ENDPOINT: "http://127.0.0.1:9", "OTEL_SDK_DISABLED": "True"},
        {ENDPOINT: "http://127.0.0.1:9", "OTEL_TRACES_EXPORTER": "none"},
    ],
)
def test_it_is_off_when_the_variables_say_so(environment: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    assert open_tracing("1") is None


@pytest.mark.parametrize("other", [{"OTEL_TRACES_EXPORTER": "zipkin"}, {"OTEL_EXPORTER_OTLP_PROTOCOL": "grpc"}])
def test_what_is_not_there_is_told_and_not_sent(
    other: dict[str, str], monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    for name, value in {ENDPOINT: "http://127.0.0.1:9", **other}.items():
        monkeypatch.setenv(name, value)
    assert open_tracing("1") is None
    assert next(iter(other.values())) in caplog.text


def test_a_variable_that_cannot_be_used_stops_the_start(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(ENDPOINT, "http://127.0.0.1:9")
    monkeypatch.setenv("OTEL_SPAN_ATTRIBUTE_COUNT_LIMIT", "-1")
    with pytest.raises(StartError, match=r"cannot be used: OTEL_SPAN_ATTRIBUTE_COUNT_LIMIT"):
        open_tracing("1")


def _python(code: str, **environment: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", code]
    made = subprocess.run(command, cwd=REPOSITORY, env=environment, capture_output=True, text=True, check=False)
    assert made.returncode == 0, made.stderr
    return made
