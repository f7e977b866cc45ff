"""The metric families that are counted as things happen. `service.telemetry.metrics` binds their children.

docs/metrics.md lists them, with those of `service.telemetry.collectors`. A test compares the list with the code.
"""

from collections.abc import Sequence

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, Summary, disable_created_metrics

STATIONS = ("decode", "wait", "infer", "journal", "total")
SECONDS = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
BATCH_SIZES = (1, 2, 4, 8, 16, 32, 64, 128)
RANKS = (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 0.95, 0.99, 0.999)  # quantiles of each version's reference
HOURS = (1 / 60, 0.25, 1.0, 4.0, 12.0, 24.0, 72.0, 168.0, 720.0)

disable_created_metrics()  # type: ignore[no-untyped-call]  # it has no types; creation times of counters would double the series, and nobody reads them


class _Make:
    """Makes families with the prefix of all our metrics."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self._registry = registry

    def counter(self, name: str, text: str, *labels: str) -> Counter:
        return Counter(f"losscast_{name}", text, labels, registry=self._registry)

    def gauge(self, name: str, text: str, *labels: str) -> Gauge:
        return Gauge(f"losscast_{name}", text, labels, registry=self._registry)

    def histogram(self, name: str, text: str, buckets: Sequence[float], *labels: str) -> Histogram:
        return Histogram(f"losscast_{name}", text, labels, buckets=buckets, registry=self._registry)


class Families:
    def __init__(self, registry: CollectorRegistry) -> None:
        make = _Make(registry)

        # Requests
        self.requests = make.counter("requests", "HTTP requests answered.", "endpoint", "code")
        self.rejected = make.counter("rejected", "Predictions refused or failed, by error code.", "reason")

        # The way of an image through predictor.py
        self.station = make.histogram(
            "station_seconds", "Time of an image at each station of its way.", SECONDS, "model", "station"
        )
        self.batch_size = make.histogram("batch_size", "Size of the batch of each image.", BATCH_SIZES, "model")
        self.predicted_loss = Summary(
            "losscast_predicted_loss", "Predicted loss in the task's loss unit.", ["model"], registry=registry
        )
        self.predicted_loss_rank = make.histogram(
            "predicted_loss_rank", "Tail-safe quantile of the predicted loss in the reference.", RANKS, "model"
        )
        self.ood_score_rank = make.histogram(
            "ood_score_rank", "Tail-safe quantile of the OOD score in the reference.", RANKS, "model"
        )
        self.verdicts = make.counter("verdicts", "Images by verdict: passed or lossy.", "model", "verdict")
        self.flags = make.counter("flags", "Images flagged, by reason.", "model", "reason")
        self.audited = make.counter(
            "audited", "Images drawn for the audit lane, independently of their verdict.", "model"
        )
        self.samples = make.counter("samples", "Images by the queue state in their reply.", "model", "queue")

        # Drift, counted by this replica
        self.drift_observations = make.counter(
            "drift_observations",
            "Images seen by drift detection; images of not_finite are also in counted.",
            "model",
            "outcome",
        )

        # Labelling
        self.label_age = make.histogram(
            "flag_to_label_seconds",
            "Time from an image's request to its label.",
            [3600 * hours for hours in HOURS],
            "model",
        )
        self.queue_up = make.gauge("queue_up", "1 while the labelling queue's server answers, else 0.", "model")

        # The program and its versions
        self.model_info = make.gauge("model_info", "The live version of a model.", "model", "version")
        self.engine_info = make.gauge(
            "engine_info", "The provider that the live version of a model runs on.", "model", "version", "provider"
        )
        self.build_info = make.gauge(
            "build_info", "The versions of the program, Python and ONNX Runtime.", "version", "python", "onnxruntime"
        )
        self.load_failures = make.counter("model_load_failures", "Failed attempts to load a version.", "model")
        self.live_changes = make.counter(
            "version_changes", "Promotions and rollbacks that this replica made.", "model", "event"
        )
        self.probation = make.gauge("probation", "1 while the live version is on probation after a promotion.", "model")
        self.probations = make.counter(
            "probations", "Probations that ended here: passed, rolled_back, ended or failed.", "model", "outcome"
        )
        self.versions_failed = make.gauge(
            "model_versions_failed", "Versions named by model.json that could not be loaded.", "model"
        )
