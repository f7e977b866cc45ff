"""The Prometheus metrics of the service. Only `service.telemetry` imports prometheus_client.

Outcomes and requests are observed as they happen. Figures of other parts (journal, drain, queue, drift) are read when
/metrics is scraped. Children are bound once, because looking one up costs more than using it.
"""

import math
import time
from collections.abc import Iterator, Mapping
from typing import Final

from prometheus_client import CollectorRegistry, Counter, ProcessCollector, generate_latest

from models.contract.manifest import Manifest
from service.errors import ServiceError
from service.inference.outcome import Outcome
from service.schemas.drift import DriftReport
from service.telemetry.collectors import DriftFigures, QueueFigures, QueueReadings, Watched
from service.telemetry.families import STATIONS, Families
from service.telemetry.triton_statistics import TritonStatistics

CLIENT_LEFT: Final = "client_left"  # the reason of a prediction that nobody waited for; no error is raised then


class Metrics:
    """One registry per service. CONTENT_TYPE is the type of `render`."""

    CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"

    def __init__(self, provider: str = "cpu") -> None:
        """provider: that of all engines, cpu or gpu."""
        self._registry = CollectorRegistry()
        self._families = Families(self._registry)
        self._queue, self._drift = QueueFigures(), DriftFigures()
        for collector in (self._queue, self._drift):
            self._registry.register(collector)
        ProcessCollector(namespace="losscast", registry=self._registry)
        self._provider = provider
        self._live: dict[str, str] = {}  # model -> version
        self._requests: dict[tuple[str, int], Counter] = {}
        # They start at 0, so that the first rejection is an increase as well.
        self._rejected = {reason: self._families.rejected.labels(reason) for reason in (*_codes(), CLIENT_LEFT)}

    def for_model(self, manifest: Manifest) -> "ModelMetrics":
        """The metrics of one version."""
        return ModelMetrics(self._families, manifest)

    def built(self, version: str, python: str, onnxruntime: str) -> None:
        """States the versions of the program, once, at the start."""
        self._families.build_info.labels(version, python, onnxruntime).set(1)

    def request(self, endpoint: str, code: int) -> None:
        child = self._requests.get((endpoint, code))
        if child is None:
            child = self._requests[endpoint, code] = self._families.requests.labels(endpoint, str(code))
        child.inc()

    def rejected(self, reason: str) -> None:
        """Counts a prediction that was refused or failed. reason: the code of its error, or CLIENT_LEFT."""
        self._rejected[reason].inc()

    def live(self, model: str, version: str | None) -> None:
        """The version that is served from now on; None: no version is."""
        if was := self._live.pop(model, None):
            self._families.model_info.remove(model, was)
            self._families.engine_info.remove(model, was, self._provider)
            self._drift.reports.pop(model, None)  # evidence belongs to a version
        if version is not None:
            self._families.model_info.labels(model, version).set(1)
            self._families.engine_info.labels(model, version, self._provider).set(1)
            self._live[model] = version

    def load_failed(self, model: str) -> None:
        self._families.load_failures.labels(model).inc()

    def live_changed(self, model: str, event: str) -> None:
        """A version was promoted, or rolled_back, by a request to this replica."""
        self._families.live_changes.labels(model, event).inc()

    def on_probation(self, model: str, *, is_on: bool) -> None:
        self._families.probation.labels(model).set(is_on)

    def probation_ended(self, model: str, outcome: str) -> None:
        """outcome: passed, rolled_back, ended by another change, or failed to roll back."""
        self._families.probations.labels(model, outcome).inc()

    def versions_failed(self, model: str, n: int) -> None:
        """The number of wanted versions that are missing now. An unreadable model.json counts as one."""
        self._families.versions_failed.labels(model).set(n)

    def queue(self, model: str, counts: Mapping[str, int] | None) -> None:
        """counts: `LabelQueue.stats`. None means that the server is away; the old counts then disappear."""
        self._families.queue_up.labels(model).set(counts is not None)
        self._queue.counts[model] = counts or {}

    def labelled(self, model: str, age_s: float) -> None:
        """A label arrived for a sample that was flagged age_s ago."""
        self._families.label_age.labels(model).observe(age_s)

    def drift(self, report: DriftReport) -> None:
        """Replaces the drift report of a model. It disappears with its version.

        The report's time is by another machine's clock, so its age tells when it was made.
        """
        self._drift.reports[report.model] = report.model_copy(update={"updated_at": time.time() - report.age_s})

    def drift_observed(self, model: str, outcome: str, n: int = 1) -> None:
        """Drift detection has seen n more images. outcome: counted, thinned, or not_finite for those of counted."""
        self._families.drift_observations.labels(model, outcome).inc(n)

    def watch(self, gauges: QueueReadings, counters: QueueReadings) -> None:
        """Takes these readings at every scrape."""
        self._registry.register(Watched(gauges, counters))

    def render(self) -> bytes:
        """All metrics, in Prometheus' text format."""
        return generate_latest(self._registry)


class ModelMetrics:
    """The metrics of one version of a model, with their children bound."""

    def __init__(self, families: Families, manifest: Manifest) -> None:
        model = manifest.model
        self.triton_statistics = TritonStatistics()
        self._stations = {name: families.station.labels(model, name) for name in STATIONS}
        self._batch_size = families.batch_size.labels(model)
        self._predicted_loss = families.predicted_loss.labels(model)
        self._predicted_loss_rank = families.predicted_loss_rank.labels(model)
        self._ood_score_rank = families.ood_score_rank.labels(model)
        self._verdicts = {lossy: families.verdicts.labels(model, ("passed", "lossy")[lossy]) for lossy in (False, True)}
        self._flags = {reason: families.flags.labels(model, reason) for reason in ("predicted_loss", "ood_score")}
        self._audited = families.audited.labels(model)
        self._samples = {state: families.samples.labels(model, state) for state in ("accepted", "none", "unavailable")}
        families.label_age.labels(model)  # it starts at 0, because an alert asks for models without any label
        families.load_failures.labels(model)
        for event in ("promoted", "rolled_back"):
            families.live_changes.labels(model, event)
        families.probation.labels(model)
        for end in ("passed", "rolled_back", "ended", "failed"):
            families.probations.labels(model, end)

    def observe(self, outcome: Outcome, batch_size: int) -> None:
        self.triton_statistics.observe(outcome, batch_size)
        for station, seconds in outcome.station_s.items():
            self._stations[station].observe(seconds)
        self._batch_size.observe(batch_size)
        self._predicted_loss.observe(outcome.forecast.predicted_loss)
        self._predicted_loss_rank.observe(_rank(outcome.value))
        self._ood_score_rank.observe(_rank(outcome.ood_value))
        self._verdicts[outcome.verdict.lossy].inc()
        for reason in outcome.verdict.reasons:
            self._flags[reason].inc()
        self._samples[outcome.queue].inc()
        if outcome.audited:
            self._audited.inc()


def _rank(nats: float) -> float:
    """The quantile of a surprise in nats, in [0, 1]. It is below 1 as far as floats can tell."""
    return -math.expm1(-nats)


def _codes(kind: type[ServiceError] = ServiceError) -> Iterator[str]:
    """Every code that an error can have. A code that classes share is repeated."""
    yield kind.code
    for special in kind.__subclasses__():
        yield from _codes(special)
