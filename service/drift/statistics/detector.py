"""Detectors with their state: of one signal, and of all signals of one model version.

They are frozen: `update` returns the next one. So a state that could not be written is simply dropped.
Arrays may have leading axes, as in `evidence`: the benchmark simulates many days at once.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from service.drift.statistics import dependence, evidence, rhythm
from service.drift.statistics.bins import Bins
from service.drift.statistics.evidence import PERIOD_S, Evidence
from service.drift.statistics.rhythm import Rhythm

HOUR_S = 3600.0

Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True, eq=False)
class Flush:
    """New observations of one signal, from all replicas."""

    counts: Floats  # [..., b]
    statistics: Floats  # [..., dependence.SIZE]


@dataclass(frozen=True, slots=True, eq=False)
class Signal:
    evidence: Evidence
    dependence: Floats  # [..., dependence.SIZE]
    rhythm: Rhythm

    @classmethod
    def fresh(cls, bins: Bins, shape: tuple[int, ...] = ()) -> Self:
        of_signal = Evidence.fresh(bins, shape)
        return cls(of_signal, np.zeros((*shape, dependence.SIZE)), Rhythm.fresh(shape))

    @classmethod
    def from_json(cls, fields: dict[str, Any]) -> Self:
        statistics = np.array(fields["dependence"], dtype=np.float64)
        return cls(Evidence.from_json(fields["evidence"]), statistics, Rhythm.from_json(fields["rhythm"]))

    def to_json(self) -> dict[str, Any]:
        parts = {"evidence": self.evidence.to_json(), "rhythm": self.rhythm.to_json()}
        return parts | {"dependence": self.dependence.tolist()}

    def design_effect(self, bins: Bins, replicas: Floats | float) -> Floats:
        """D >= 1, [...], estimated from the traffic so far."""
        short = dependence.design_effect(self.dependence, bins, replicas)
        return np.maximum(short, rhythm.design_effect(self.rhythm))

    def update(self, bins: Bins, flush: Flush, *, at: float, share: float, replicas: Floats | float) -> Self:
        """The signal after a flush that began at `at` (unix seconds) and covers that share of the period.

        The flush is divided by the design effect of the traffic before it. It does not count until that is known.
        """
        known = dependence.is_known(self.dependence)
        weighed = np.where(known[..., None], flush.counts, 0.0)
        effect = self.design_effect(bins, replicas)
        return replace(
            self,
            evidence=evidence.update(self.evidence, bins, weighed, design_effect=effect, share=share),
            dependence=dependence.update(self.dependence, flush.statistics),
            rhythm=rhythm.update(self.rhythm, bins, flush.counts, int(at % PERIOD_S // HOUR_S)),
        )

    def restart(self, bins: Bins) -> Self:
        """At the end of a period evidence restarts; the estimate of dependence stays."""
        fresh = Evidence.fresh(bins, self.dependence.shape[:-1])
        return replace(self, evidence=fresh, rhythm=rhythm.end_day(self.rhythm, bins))


@dataclass(frozen=True, slots=True, eq=False)
class Detector:
    """All signals of a version, in the order of `bins`."""

    signals: Mapping[str, Signal]
    log10_peak: Floats  # [...], largest evidence since the restart
    updated_s: float  # unix seconds; 0: never

    @classmethod
    def fresh(cls, bins: Mapping[str, Bins], shape: tuple[int, ...] = ()) -> Self:
        return cls({name: Signal.fresh(one, shape) for name, one in bins.items()}, np.zeros(shape), 0.0)

    @classmethod
    def from_json(cls, fields: dict[str, Any]) -> Self:
        signals = {name: Signal.from_json(one) for name, one in fields["signals"].items()}
        return cls(signals, np.array(fields["log10_peak"], dtype=np.float64), fields["updated_s"])

    def to_json(self) -> dict[str, Any]:
        signals = {name: one.to_json() for name, one in self.signals.items()}
        return {"signals": signals, "log10_peak": self.log10_peak.tolist(), "updated_s": self.updated_s}

    @property
    def log10(self) -> Floats:
        """Evidence of all signals together: log10, [...]."""
        return evidence.average(np.stack([one.evidence.log10 for one in self.signals.values()]))

    @property
    def is_known(self) -> NDArray[np.bool_]:
        """Whether the dependence of any signal is known, [...]. Until then there is no evidence."""
        known = [dependence.is_known(one.dependence) for one in self.signals.values()]
        result: NDArray[np.bool_] = np.logical_or.reduce(known)
        return result

    def update(
        self, bins: Mapping[str, Bins], flush: Mapping[str, Flush], now_s: float, replicas: Floats | float = 1.0
    ) -> Self:
        """The detector after the observations since the last update.

        now_s: unix seconds, not before the last update. replicas: as in `dependence.design_effect`.
        """
        current = self
        if now_s // PERIOD_S != self.updated_s // PERIOD_S:
            signals = {name: one.restart(bins[name]) for name, one in self.signals.items()}
            current = replace(self, signals=signals, log10_peak=np.zeros_like(self.log10_peak))
        began = max(self.updated_s, now_s // PERIOD_S * PERIOD_S) if self.updated_s else now_s
        share = (now_s - began) / PERIOD_S
        signals = {
            name: one.update(bins[name], flush[name], at=began, share=share, replicas=replicas)
            for name, one in current.signals.items()
        }
        after = replace(current, signals=signals, updated_s=now_s)
        return replace(after, log10_peak=np.maximum(current.log10_peak, after.log10))
