"""Collectors, which are read when /metrics is scraped: the queue's figures, the latest drift reports, and readings of
other parts (journal, drain, admission).

All replicas report the same figures of the queue and of drift: take their max, not their sum.
"""

import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import get_args

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from service.schemas.drift import DriftReport, DriftState

STATES = ("pending", "leased", "labelled", "rejected", "dead", "evicted", "erased")  # of a sample
EVENTS = ("accepted", "expired", "duplicates")  # how often they happened; the other events are states
AMOUNTS = {
    "oldest_age_s": ("losscast_queue_oldest_age_seconds", "Age of the oldest pending sample."),
    "pending_audit": ("losscast_queue_pending_audit", "Pending samples of the audit lane."),
    "rejected_audit": ("losscast_queue_rejected_audit", "Rejected samples of the audit lane."),
    "pending_ood": ("losscast_queue_pending_ood", "Pending samples flagged by their OOD score alone."),
    "bytes": ("losscast_queue_bytes", "Bytes of images that are pending or leased."),
    "budget_left": ("losscast_queue_budget_left", "Samples that may still be leased in this hour; -1: no limit."),
}
ALL_SIGNALS = "all"  # the label of the evidence of all signals, which decides about the alert

QueueReadings = Mapping[str, tuple[str, Callable[[], float]]]  # metric name -> (help, reading)


class QueueFigures(Collector):
    """`LabelQueue.stats` by model; empty while the queue's server is away."""

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


class DriftFigures(Collector):
    """The latest drift report of each model. A figure that the report lacks has no series."""

    def __init__(self) -> None:
        self.reports: dict[str, DriftReport] = {}

    def collect(self) -> Iterator[Metric]:
        reports = self.reports.values()
        yield _gauge(
            "state", "1 for the present state of drift detection, 0 for the others.", "state", map(_states, reports)
        )
        yield _gauge(
            "evidence_log10",
            "log10 of the evidence of a change, by signal; all: of all signals together.",
            "signal",
            map(_evidence, reports),
        )
        yield _gauge(
            "shift",
            "Mean rank in the reference, minus 1/2.",
            "signal",
            (_signals(one, "shift") for one in reports),
        )
        yield _gauge(
            "psi", "Population stability index of the window.", "signal", (_signals(one, "psi") for one in reports)
        )
        for name, (text, reading) in OF_REPORT.items():
            family = GaugeMetricFamily(name, text, labels=["model"])
            for report in reports:
                if (value := reading(report)) is not None:
                    family.add_metric([report.model], value)
            yield family


def _states(report: DriftReport) -> dict[tuple[str, str], float]:
    return {(report.model, state): float(state == report.state) for state in get_args(DriftState)}


def _evidence(report: DriftReport) -> dict[tuple[str, str], float]:
    return _signals(report, "evidence") | {(report.model, ALL_SIGNALS): report.evidence}


def _signals(report: DriftReport, field: str) -> dict[tuple[str, str], float]:
    return {(report.model, signal.name): getattr(signal, field) for signal in report.signals}


def _gauge(name: str, text: str, label: str, series: Iterable[Mapping[tuple[str, str], float]]) -> Metric:
    family = GaugeMetricFamily(f"losscast_drift_{name}", text, labels=["model", label])
    for labels, value in (item for one in series for item in one.items()):
        family.add_metric(labels, value)
    return family


OF_REPORT: Mapping[str, tuple[str, Callable[[DriftReport], float | None]]] = {
    "losscast_drift_threshold_log10": ("log10 from which evidence counts.", lambda report: report.threshold),
    "losscast_estimated_loss": (
        "Estimated mean loss of the window, in the task's loss unit.",
        lambda report: report.loss.value if report.loss else None,
    ),
    "losscast_estimated_loss_low": (
        "Lower end of the interval of the estimated loss.",
        lambda report: report.loss.low if report.loss else None,
    ),
    "losscast_estimated_loss_high": (
        "Upper end of the interval of the estimated loss.",
        lambda report: report.loss.high if report.loss else None,
    ),
    "losscast_reference_loss": (
        "Mean predicted loss of the reference.",
        lambda report: report.loss.reference if report.loss else None,
    ),
    "losscast_ood_exceedance_ratio": (
        "Share of images whose OOD score is above the reference's 95 % point.",
        lambda report: report.ood.rate if report.ood else None,
    ),
    "losscast_drift_embedding_shift": (
        "Length of the mean embedding, in standard deviations of the reference, minus its expectation by chance.",
        lambda report: report.embedding_shift,
    ),
    "losscast_drift_report_age_seconds": (
        "Age of the latest drift report.",
        lambda report: max(time.time() - report.updated_at, 0.0),
    ),
}


class Watched(Collector):
    """Readings that are taken at every scrape."""

    def __init__(self, gauges: QueueReadings, counters: QueueReadings) -> None:
        self._gauges = gauges
        self._counters = counters

    def collect(self) -> Iterable[Metric]:
        for name, (text, reading) in self._gauges.items():
            yield GaugeMetricFamily(name, text, value=reading())
        for name, (text, reading) in self._counters.items():
            yield CounterMetricFamily(name, text, value=reading())
