"""Decides from OpenTelemetry's environment variables whether spans are made. `service.telemetry.spans` makes them.

That module, and with it OpenTelemetry's SDK, is imported only then: the extra `otel` installs it.
"""

import logging
import os
from contextlib import AbstractAsyncContextManager
from typing import Protocol

from starlette.types import ASGIApp

from service.errors import StartError
from service.inference.outcome import Outcome

log = logging.getLogger(__name__)

EXPORTER, PROTOCOL = "otlp", "http/protobuf"  # the only ones supported


class Tracing(Protocol):
    def around(self, app: ASGIApp) -> ASGIApp:
        """The application with a span around each of its requests."""

    def line(self, outcome: Outcome, batch_size: int) -> None:
        """Makes the spans of an answered image and its stations."""

    def running(self) -> AbstractAsyncContextManager[None]:
        """Sends spans while the block runs; at its end the last ones get a moment."""


def open_tracing(version: str) -> Tracing | None:
    """None, which costs nothing, unless the environment names an OTLP endpoint. version: of the service.

    Raises StartError for OTEL_ variables that OpenTelemetry cannot use.
    """
    if not _of_traces("ENDPOINT") or os.environ.get("OTEL_SDK_DISABLED", "").strip().lower() == "true":
        return None
    exporter = os.environ.get("OTEL_TRACES_EXPORTER") or EXPORTER
    protocol = _of_traces("PROTOCOL") or PROTOCOL
    if exporter == "none":
        return None
    if exporter != EXPORTER or protocol != PROTOCOL:
        log.warning(
            "no spans are sent: only %s over %s is supported, not %s over %s", EXPORTER, PROTOCOL, exporter, protocol
        )
        return None
    try:
        from service.telemetry.spans import Spans  # noqa: PLC0415 - its dependencies may not be installed, and are slow to import

        return Spans(version)
    except ModuleNotFoundError as error:
        log.warning("no spans are sent, %s is missing: pip install 'losscast[otel]'", error.name)
        return None
    except ValueError as error:
        raise StartError(f"an OTEL_ variable cannot be used: {error}") from error


def _of_traces(name: str) -> str | None:
    specific, general = f"OTEL_EXPORTER_OTLP_TRACES_{name}", f"OTEL_EXPORTER_OTLP_{name}"
    return os.environ.get(specific) or os.environ.get(general)
