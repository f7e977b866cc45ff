"""The refiner's metrics, on a port of its own."""

from typing import Literal

from prometheus_client import CollectorRegistry, Counter, Gauge, disable_created_metrics, start_http_server

Result = Literal["passed", "refused", "failed", "busy"]
disable_created_metrics()  # type: ignore[no-untyped-call]  # as in the service: nobody reads creation times
RESULTS: tuple[Result, ...] = ("passed", "refused", "failed", "busy")


class RefinerMetrics:
    """Of one model."""

    def __init__(self, model: str, wanted_labels: int) -> None:
        self.registry = CollectorRegistry()
        self.running = self._gauge("running", "1 while a refinement runs.", model)
        self.new_labels = self._gauge("new_labels", "Labels since the last refinement began.", model)
        self.last_run = self._gauge("last_run_timestamp_seconds", "Unix time at which the last one ended.", model)
        self.run_seconds = self._gauge("last_run_seconds", "How long the last refinement took.", model)
        self.waiting_since = self._gauge(
            "candidate_waiting_since_timestamp_seconds",
            "Unix time since which a candidate that passed waits to be promoted; 0: none waits.",
            model,
        )
        self._gauge("wanted_labels", "New labels that start a refinement.", model).set(wanted_labels)
        runs = Counter(
            "losscast_refiner_runs",
            "Refinements by result: the gates passed it or refused it, it failed, or another host was at it (busy).",
            ["model", "result"],
            registry=self.registry,
        )
        self.runs = {result: runs.labels(model, result) for result in RESULTS}
        errors = Counter(
            "losscast_refiner_errors",
            "Times that the service could not be asked, or a candidate not promoted.",
            ["model"],
            registry=self.registry,
        )
        self.errors = errors.labels(model)

    def serve(self, host: str, port: int) -> int:
        """At /metrics. port: 0 picks a free one. Returns the port. Raises OSError if it is taken."""
        server, _ = start_http_server(port, host, self.registry)
        return int(server.server_port)

    def _gauge(self, name: str, text: str, model: str) -> Gauge:
        return Gauge(f"losscast_refiner_{name}", text, ["model"], registry=self.registry).labels(model)
