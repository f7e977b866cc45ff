"""What watching costs: processor time of an image on its way, and of the leader at a flush.

    python -m benchmarks.drift.cost

On the shipped bundles with a made-up reference of every signal: the cost does not depend on what is in it. Best of
several runs, on one thread, by the processor's clock.
"""

import time
from pathlib import Path
from unittest.mock import patch

import numpy as np

from models.contract.manifest import Manifest, OrderStatistics, parse_manifest
from models.contract.reference import MAX_DIRECTIONS, EmbeddingReference, LossReference
from models.contract.signals import SIGNALS
from service.drift import transition
from service.drift.audit import AuditPage
from service.drift.detector_state import DetectorState
from service.drift.layout import Layout
from service.drift.ledger import LedgerSums
from service.drift.report.decision import Terms
from service.drift.report.report import drift_report
from service.drift.tally import Tally
from service.inference.outcome import Forecast

BUNDLES = Path(__file__).resolve().parents[2] / "bundles"
NO_LABELS = AuditPage([], "")
IMAGES, ROUNDS, FLUSHES = 64 * 100, 5, 40
KINDS = ((0, None), (10**9, None), (0, "a source"))  # image signals measured at once, source


def main() -> None:
    print("| model | canvas | scores, embedding, loss | with image signals | thinned |\n|---|---|---:|---:|---:|")
    for model in ("digits", "pose"):
        layout = _layout(model)
        canvas = "x".join(map(str, layout.manifest.preprocessing.canvas_shape))
        cells = [f"{_image_us(layout, burst, source):.1f} us" for burst, source in KINDS]
        print(f"| {model} | {canvas} | {' | '.join(cells)} |")
    leader_ms, state_kb, report_kb = _leader(_layout("digits"))
    print(f"\nThe leader: {leader_ms:.0f} ms for each flush; state {state_kb:.0f} kB, report {report_kb:.0f} kB.")


class _Traffic:
    def __init__(self, layout: Layout) -> None:
        rng, manifest = np.random.default_rng(1), layout.manifest
        embeddings = rng.normal(size=(64, manifest.embedding_size)).astype(np.float32)
        points = np.zeros(manifest.task.prediction_shape, np.float32)
        rows = zip(rng.random(64).tolist(), embeddings, strict=True)
        self._forecasts = [Forecast(points, score, score, score, row) for score, row in rows]
        self._canvases = [rng.integers(0, 256, manifest.preprocessing.canvas_shape, np.uint8) for _ in range(64)]

    def feed(self, tally: Tally, source: str | None) -> None:
        for number in range(IMAGES):
            tally.observe(self._forecasts[number % 64], self._canvases[number % 64], (640, 480), source)


def _layout(model: str) -> Layout:
    newest = max((BUNDLES / model).glob("[0-9]*"), key=lambda path: int(path.name))
    return Layout(_with_references(parse_manifest((newest / "manifest.json").read_bytes())))


def _with_references(manifest: Manifest) -> Manifest:
    even = OrderStatistics(size=999, ranks=tuple(range(1, 1000)), values=tuple(n / 1000 for n in range(1, 1000)))
    directions = np.random.default_rng(0).normal(size=(MAX_DIRECTIONS, manifest.embedding_size)).tolist()
    whitening = EmbeddingReference(size=999, projection=tuple(map(tuple, directions)), offset=(0.0,) * MAX_DIRECTIONS)
    return manifest.model_copy(
        update={
            "drift_reference": dict.fromkeys(SIGNALS, even),
            "embedding_reference": whitening,
            "loss_reference": LossReference(mean_predicted_loss=0.5, sd=0.3, n=999),
        }
    )


def _image_us(layout: Layout, burst: int, source: str | None) -> float:
    traffic, best = _Traffic(layout), np.inf
    with patch("service.drift.tally.BURST", burst), patch("service.drift.tally.IMAGES_PER_S", float(burst)):
        tally = Tally(layout, 1e9)
        for _ in range(ROUNDS):
            began = time.process_time()
            traffic.feed(tally, source)
            tally.take()
            best = min(best, time.process_time() - began)
    return 1e6 * best / IMAGES


def _leader(layout: Layout) -> tuple[float, float, float]:
    """Median ms of a flush, and kB of state and report."""
    traffic, tally = _Traffic(layout), Tally(layout, 1e9)
    totals, state, spent, written, report = layout.empty(), DetectorState.fresh(layout), [], b"", ""
    for flush in range(FLUSHES):
        traffic.feed(tally, None)
        taken = tally.take()
        totals = totals if taken is None else totals + taken
        sums = LedgerSums(1.8e9 + 5 * flush, "1", totals, totals, state.to_json(), 1.0)
        began = time.process_time()
        state = transition.update(layout, transition.read(layout, sums), sums, NO_LABELS)
        written, report = state.to_json(), drift_report(layout, Terms(), state, sums).model_dump_json()
        spent.append(time.process_time() - began)
    return 1e3 * float(np.median(spent)), len(written) / 1000, len(report) / 1000


if __name__ == "__main__":
    main()
