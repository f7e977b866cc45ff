"""Prometheus metrics: the only importer of prometheus_client.

Outcomes and requests are observed as they happen; what lives elsewhere (journal, drain, queue) is
read when /metrics is scraped. Children are bound once: looking one up costs more than using it.
"""

import math
from collections.abc import Callable, Iterable, Mapping, Sequence

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    Summary,
    disable_created_metrics,
    generate_latest,
)
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from models.contract.manifest import Manifest
from service.outcome import Outcome
from service.statistics import Statistics

STATIONS = ("decode", "wait", "infer", "journal", "total")
SECONDS = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
BATCH_SIZES = (1, 2, 4, 8, 16, 32, 64)
RANKS = (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 0.95, 0.99, 0.999)

disable_created_metrics()  # type: ignore[no-untyped-call]  # shipped without types; a creation time beside every counter doubles the series and is read by nobody

HOURS = (1 / 60, 0.25, 1.0, 4.0, 12.0, 24.0, 72.0, 168.0, 720.0)
STATES = ("pending", "leased", "labelled", "rejected", "dead", "evicted", "erased")  # a sample is in one of them
EVENTS = ("accepted", "expired", "duplicates")  # how often it happened; the other events are states as well
AMOUNTS = {
    "oldest_age_s": ("losscast_queue_oldest_age_seconds", "Age of the oldest pending sample."),
    "pending_audit": ("losscast_queue_pending_audit", "Pending samples of the audit lane."),
    "pending_ood": ("losscast_queue_pending_ood", "Pending samples flagged by their OOD score alone."),
    "bytes": ("losscast_queue_bytes", "Bytes of images that are pending or leased."),
    "budget_left": ("losscast_queue_budget_left", "Samples that may still be leased this hour; -1: no limit."),
}

Readings = Mapping[str, tuple[str, Callable[[], float]]]  # metric name -> (help, reading)


class Metrics:
    """One registry per service. CONTENT_TYPE goes with `render`."""

    CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"

    def __init__(self) -> None:
        self._registry = CollectorRegistry()
        self._families = _Families(self._registry)
        self._live: dict[str, str] = {}  # model -> version

    def for_model(self, manifest: Manifest) -> "ModelMetrics":
        """What one served model observes."""
        return ModelMetrics(self._families, manifest)

    def request(self, endpoint: str, code: int) -> None:
        self._families.requests.labels(endpoint, str(code)).inc()

    def live(self, model: str, version: str | None) -> None:
        """That version is served from now on; None: none is."""
        if was := self._live.pop(model, None):
            self._families.model_info.remove(model, was)
        if version is not None:
            self._families.model_info.labels(model, version).set(1)
            self._live[model] = version

    def load_failed(self, model: str) -> None:
        self._families.load_failures.labels(model).inc()

    def queue(self, model: str, counts: Mapping[str, int] | None) -> None:
        """counts: `LabelQueue.stats`, or None when the server is away: old counts are then withdrawn."""
        self._families.queue_up.labels(model).set(counts is not None)
        self._families.queue.counts[model] = counts or {}

    def labelled(self, model: str, age_s: float) -> None:
        """A label came for a sample that was flagged that long ago."""
        self._families.label_age.labels(model).observe(age_s)

    def watch(self, gauges: Readings, counters: Readings) -> None:
        """Takes these readings at every scrape."""
        self._registry.register(_Watched(gauges, counters))

    def render(self) -> bytes:
        """The exposition of everything, in Prometheus' text format."""
        return generate_latest(self._registry)


class ModelMetrics:
    def __init__(self, families: "_Families", manifest: Manifest) -> None:
        model = manifest.model
        self.statistics = Statistics()
        self._stations = {name: families.station.labels(name) for name in STATIONS}
        self._batch_size = families.batch_size.labels(model)
        self._predicted_loss = families.predicted_loss.labels(model)
        self._rank = families.predicted_loss_rank.labels(model)
        self._verdicts = {lossy: families.verdicts.labels(model, ("passed", "lossy")[lossy]) for lossy in (False, True)}
        self._flags = {reason: families.flags.labels(model, reason) for reason in ("predicted_loss", "ood_score")}
        self._audited = families.audited.labels(model)
        self._samples = {state: families.samples.labels(model, state) for state in ("accepted", "none", "unavailable")}

    def observe(self, outcome: Outcome, batch_size: int) -> None:
        self.statistics.observe(outcome, batch_size)
        for station, seconds in outcome.station_s.items():
            self._stations[station].observe(seconds)
        self._batch_size.observe(batch_size)
        self._predicted_loss.observe(outcome.forecast.predicted_loss)
        self._rank.observe(-math.expm1(-outcome.value))
        self._verdicts[outcome.verdict.lossy].inc()
        for reason in outcome.verdict.reasons:
            self._flags[reason].inc()
        self._samples[outcome.queue].inc()
        if outcome.audited:
            self._audited.inc()


class _Families:
    """Every metric family, made once; models bind their children to it."""

    def __init__(self, registry: CollectorRegistry) -> None:
        def counter(name: str, text: str, *labels: str) -> Counter:
            return Counter(f"losscast_{name}", text, labels, registry=registry)

        def gauge(name: str, text: str, *labels: str) -> Gauge:
            return Gauge(f"losscast_{name}", text, labels, registry=registry)

        def histogram(name: str, text: str, label: str, buckets: Sequence[float]) -> Histogram:
            return Histogram(f"losscast_{name}", text, [label], buckets=buckets, registry=registry)

        self.requests = counter("requests", "HTTP requests answered.", "endpoint", "code")
        self.station = histogram(
            "station_seconds", "Time an image spent at each station of the line.", "station", SECONDS
        )
        self.batch_size = histogram("batch_size", "Size of the batch each image was in.", "model", BATCH_SIZES)
        self.predicted_loss = Summary(
            "losscast_predicted_loss", "Predicted loss in the task's loss unit.", ["model"], registry=registry
        )
        self.predicted_loss_rank = histogram(
            "predicted_loss_rank", "Tail-safe quantile of the predicted loss in the reference.", "model", RANKS
        )
        self.verdicts = counter("verdicts", "Images by verdict: passed or lossy.", "model", "verdict")
        self.flags = counter("flags", "Images flagged, by reason.", "model", "reason")
        self.audited = counter("audited", "Images drawn for the audit lane, whatever their verdict.", "model")
        self.samples = counter("samples", "Images by the queue state they were answered with.", "model", "queue")
        self.model_info = gauge("model_info", "The live version of a model.", "model", "version")
        self.load_failures = counter("model_load_failures", "Versions that could not be loaded.", "model")
        self.label_age = Histogram(
            "losscast_flag_to_label_seconds",
            "Time from an image's request to its label.",
            ["model"],
            buckets=[3600 * hours for hours in HOURS],
            registry=registry,
        )
        self.queue = _QueueFigures()
        registry.register(self.queue)
        self.queue_up = gauge("queue_up", "Whether the labelling queue's server answers.", "model")


class _QueueFigures(Collector):
    """The queue's own figures, by model. Replicas share the queue and report the same: take max, not sum."""

    def __init__(self) -> None:
        self.counts: dict[str, Mapping[str, int]] = {}

    def collect(self) -> Iterable[Metric]:
        states = GaugeMetricFamily("losscast_queue_samples", "Samples by state.", labels=["model", "state"])
        events = CounterMetricFamily("losscast_queue_events", "Events of the queue.", labels=["model", "event"])
        amounts = {key: GaugeMetricFamily(name, text, labels=["model"]) for key, (name, text) in AMOUNTS.items()}
        for model, counts in self.counts.items():
            for name in (*STATES, *EVENTS, *AMOUNTS):
                if name not in counts:
                    continue
                if name in AMOUNTS:
                    amounts[name].add_metric([model], counts[name])
                else:
                    (states if name in STATES else events).add_metric([model, name], counts[name])
        return states, events, *amounts.values()


class _Watched(Collector):
    def __init__(self, gauges: Readings, counters: Readings) -> None:
        self._gauges = gauges
        self._counters = counters

    def collect(self) -> Iterable[Metric]:
        for name, (text, reading) in self._gauges.items():
            yield GaugeMetricFamily(name, text, value=reading())
        for name, (text, reading) in self._counters.items():
            yield CounterMetricFamily(name, text, value=reading())
