"""The sums of one version on one replica since its last flush.

observe (each answered image, on the event loop: it appends) -> fold (every CHUNK images: numpy) -> take (each flush).
Image signals are measured for at most IMAGES_PER_S images, spread evenly over time. So their cost has a bound, however
heavy the traffic is. docs/drift.md has the measured cost.
"""

import logging
import time
from collections.abc import Callable
from typing import Final

import numpy as np
from numpy.typing import NDArray

from models.contract.signals import IMAGE_SIGNALS, image_signals, jitter
from service.drift.layout import Floats, Layout
from service.drift.statistics import dependence
from service.drift.thinning import Thinning
from service.inference.outcome import Forecast

CHUNK: Final = 64  # forecasts that are counted together by numpy
IMAGE_CHUNK: Final = 16  # canvases that are measured together; few, because they need memory
IMAGES_PER_S: Final = 100.0  # images measured per second, on average
BURST: Final = 4096  # images measured in a burst after a quiet time: enough to learn their dependence

Canvas = NDArray[np.uint8]
Size = tuple[int, int]  # width and height of an image as posted, upright
OF_SIZE: Final = ("aspect", "size")  # signals of the posted image; a client that posts a canvas gives no size
NO_SIZE: Final = (1, 1)

log = logging.getLogger(__name__)


class Tally:
    """Counts answered images. Not thread-safe. `layout` names the sections of the sums."""

    def __init__(
        self,
        layout: Layout,
        source_interval_s: float,
        clock: Callable[[], float] = time.monotonic,
        seed: int | None = None,
    ) -> None:
        """seed: of the jitter; None: a random one."""
        self.layout = layout
        self._thinning = Thinning(source_interval_s, clock)
        self._clock = clock
        self._rng = np.random.default_rng(seed)
        self._measures_images = any(name in layout.signals for name in IMAGE_SIGNALS)
        self._allowed, self._allowed_at_s = float(BURST), clock()
        self._forecasts: list[Forecast] = []
        self._images: list[tuple[Canvas, Size | None]] = []
        # Normal scores that wait until a block is whole. A flush does not cut a block.
        self._waiting = {name: np.empty(0) for name in layout.signals}
        self._thinned = 0
        self._sums = layout.empty()
        self.unflushed = 0  # images observed since `take`
        self.faults = 0  # images whose observation failed

    def observe(self, forecast: Forecast, canvas: Canvas, size: Size | None, source: str | None) -> bool:
        """Observes one answered image. size: None for a posted canvas. Returns whether the image counts.

        Raises nothing, because a fault here must not cost a prediction. Faults are counted; the first is logged.
        """
        self.unflushed += 1
        try:
            return self._observe(forecast, canvas, size, source)
        except Exception:
            if not self.faults:
                log.exception("drift of %s %s", self.layout.manifest.model, self.layout.manifest.version)
            self.faults += 1
            return False

    def _observe(self, forecast: Forecast, canvas: Canvas, size: Size | None, source: str | None) -> bool:
        if source is not None and not self._thinning.counts(source):
            self._thinned += 1
            return False
        self._forecasts.append(forecast)
        if len(self._forecasts) >= CHUNK:
            self._fold_forecasts()
        if self._measures_images and self._may_measure():
            self._images.append((canvas, size))
            if len(self._images) >= IMAGE_CHUNK:
                self._fold_images()
        return True

    def take(self) -> Floats | None:
        """Takes the sums since the last call: float64 [size of the layout]. None if no image was observed."""
        if not self.unflushed:
            return None
        self._fold_forecasts()
        self._fold_images()
        self.layout.of(self._sums, "outcomes")[1] += self._thinned
        taken, self._sums = self._sums, self.layout.empty()
        self._thinned = self.unflushed = 0
        return taken

    def _may_measure(self) -> bool:
        now_s = self._clock()
        allowed = min(self._allowed + (now_s - self._allowed_at_s) * IMAGES_PER_S, float(BURST))
        self._allowed_at_s = now_s
        self._allowed = allowed - 1 if allowed >= 1 else allowed
        return allowed >= 1

    def _fold_forecasts(self) -> None:
        forecasts, self._forecasts = self._forecasts, []
        if not forecasts:
            return
        of, sums = self.layout.of, self._sums
        table = np.array([(one.score, one.ood_score, one.predicted_loss) for one in forecasts])
        self._count("score", table[:, 0])
        self._count("ood_score", table[:, 1])
        of(sums, "loss")[:] += len(table), table[:, 2].sum(), table[:, 2] @ table[:, 2]
        of(sums, "outcomes")[0] += len(table)
        self._add_embeddings(np.array([one.embedding for one in forecasts]))

    def _fold_images(self) -> None:
        images, self._images = self._images, []
        if not images:
            return
        canvases, sizes = zip(*images, strict=True)
        measured = image_signals(np.stack(canvases), np.array([size or NO_SIZE for size in sizes]))
        has_size = np.array([size is not None for size in sizes])
        for name, values in zip(IMAGE_SIGNALS, measured.T, strict=True):
            if name in self.layout.bins:
                self._count(name, values[has_size] if name in OF_SIZE else values)

    def _count(self, name: str, values: Floats) -> None:
        bins = self.layout.bins[name]
        index = bins.index(jitter(values, self.layout.jitters[name], self._rng))
        self.layout.of(self._sums, f"counts:{name}")[:] += np.bincount(index, minlength=len(bins.alpha))
        blocks, self._waiting[name] = dependence.cut(np.append(self._waiting[name], bins.normal_scores[index]))
        if len(blocks):
            self.layout.of(self._sums, f"dependence:{name}")[:] += dependence.statistics(blocks)

    def _add_embeddings(self, embeddings: NDArray[np.float32]) -> None:
        """embeddings: [n, e]. Adding them up before the projection costs only one matrix product."""
        section, whitening = self.layout.of(self._sums, "embedding"), self.layout.whitening
        if whitening is None:
            return
        n, total = len(embeddings), embeddings.sum(axis=0, dtype=np.float64)
        if not np.isfinite(total).all():
            fine = np.isfinite(embeddings).all(axis=1)
            n, total = int(fine.sum()), embeddings[fine].sum(axis=0, dtype=np.float64)
            self.layout.of(self._sums, "outcomes")[2] += len(embeddings) - n
        section[0] += n
        section[1:] += whitening(total, n)
