"""The detector of a version: it waits for dependence, restarts each day, and survives a change of leader."""

import json
from collections.abc import Iterator

import numpy as np
import pytest

from service.drift.statistics import dependence
from service.drift.statistics.detector import Detector, Flush
from service.drift.statistics.evidence import AT_RESTART, PERIOD_S
from tests.service.drift.references import normal_bins

BINS = {"score": normal_bins(0), "ood_score": normal_bins(1)}
MIDNIGHT = 20_000 * PERIOD_S


def flushes(seed: int, n: int = 128, shift: float = 0.0) -> Iterator[dict[str, Flush]]:
    """Of one replica: n images each; the score shifted."""
    rng, waiting = np.random.default_rng(seed), {name: np.empty(0) for name in BINS}
    while True:
        made = {}
        for name, bins in BINS.items():
            index = bins.index(rng.standard_normal(n) + (shift if name == "score" else 0.0))
            blocks, waiting[name] = dependence.cut(np.append(waiting[name], bins.normal_scores[index]))
            counts = np.bincount(index, minlength=len(bins.alpha)).astype(float)
            made[name] = Flush(counts, dependence.statistics(blocks))
        yield made


def run(detector: Detector, source: Iterator[dict[str, Flush]], n: int, began_s: float) -> Detector:
    for i in range(n):
        detector = detector.update(BINS, next(source), began_s + 5 * i)
    return detector


def test_there_is_no_evidence_before_dependence_is_known() -> None:
    source = flushes(0, shift=3.0)
    early = run(Detector.fresh(BINS), source, 7, MIDNIGHT + 100)
    assert not early.is_known
    assert float(early.log10) == pytest.approx(0, abs=1e-9)
    later = run(early, source, 3, MIDNIGHT + 200)
    assert later.is_known
    assert float(later.log10_peak) > 2


def test_the_signal_that_moved_has_the_evidence() -> None:
    quiet = run(Detector.fresh(BINS), flushes(1), 40, MIDNIGHT + 100)
    assert float(quiet.log10_peak) < 1
    moved = run(quiet, flushes(2, shift=0.7), 6, MIDNIGHT + 400)
    evidence = {name: float(signal.evidence.log10) for name, signal in moved.signals.items()}
    assert evidence["score"] > 2
    assert evidence["ood_score"] < 0.5
    assert float(moved.log10) == pytest.approx(evidence["score"] - np.log10(2), abs=0.01)


def test_evidence_restarts_at_midnight_and_the_estimate_of_dependence_stays() -> None:
    moved = run(Detector.fresh(BINS), flushes(3, shift=0.7), 30, MIDNIGHT - 400)
    assert float(moved.log10_peak) > 2
    after = moved.update(BINS, next(flushes(4)), MIDNIGHT + 2)
    assert float(after.log10_peak) < 1
    assert after.is_known
    assert float(after.signals["score"].evidence.spent) == pytest.approx(AT_RESTART, abs=1e-4)
    assert after.signals["score"].evidence.counts.sum() < 200
    assert not np.isnan(after.signals["score"].dependence).any()


def test_a_peak_stays_until_the_restart_even_if_evidence_falls() -> None:
    moved = run(Detector.fresh(BINS), flushes(5, shift=0.7), 30, MIDNIGHT + 100)
    calm = run(moved, flushes(6), 400, MIDNIGHT + 300)
    assert float(calm.log10_peak) >= float(moved.log10_peak) > 2


def test_a_new_leader_continues_the_written_state() -> None:
    source = flushes(7)
    before = run(Detector.fresh(BINS), source, 12, MIDNIGHT + 100)
    read = Detector.from_json(json.loads(json.dumps(before.to_json(), allow_nan=False)))
    flush = next(source)
    went_on, took_over = (one.update(BINS, flush, MIDNIGHT + 200) for one in (before, read))
    assert json.dumps(went_on.to_json()) == json.dumps(took_over.to_json())


def test_days_simulated_together_give_the_same_as_alone() -> None:
    sources = [flushes(8), flushes(9, shift=1.0)]
    alone, together = [Detector.fresh(BINS)] * 2, Detector.fresh(BINS, (2,))
    for i in range(14):
        made = [next(source) for source in sources]
        both = {
            name: Flush(*(np.stack([getattr(one[name], part) for one in made]) for part in ("counts", "statistics")))
            for name in BINS
        }
        together = together.update(BINS, both, MIDNIGHT + 60 * i)
        alone = [one.update(BINS, flush, MIDNIGHT + 60 * i) for one, flush in zip(alone, made, strict=True)]
    assert together.log10.tolist() == pytest.approx([float(one.log10) for one in alone])
    assert together.log10_peak.shape == (2,)
