"""The statistics of one version since it was loaded, in the form of Triton's statistics extension.

Each image is an inference, through every interface. All times are sums, so the difference of two readings tells what
happened between them.
"""

import time
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from service.inference.outcome import Outcome


class TritonStatistics:
    def __init__(self) -> None:
        self._last_inference_s = 0.0  # unix seconds
        self._success, self._fail, self._queue = _Duration(), _Duration(), _Duration()
        self._input, self._infer, self._output = _Duration(), _Duration(), _Duration()
        self._batches: defaultdict[int, _Duration] = defaultdict(
            _Duration
        )  # the images and the duration of their runs, by batch size

    @contextmanager
    def inference(self) -> Iterator[None]:
        """Put it around the way of one image: it counts an image whose way ends in an error."""
        started = time.perf_counter()
        try:
            yield
        except Exception:
            self._fail.add(time.perf_counter() - started)
            raise

    def observe(self, outcome: Outcome, batch_size: int) -> None:
        """Counts an answered image that was in a batch of that size."""
        stations = outcome.station_s
        self._last_inference_s = time.time()
        self._success.add(stations["total"])
        self._queue.add(stations["wait"])
        self._input.add(stations["decode"])
        self._infer.add(stations["infer"])
        self._output.add(stations["total"] - stations["wait"] - stations["decode"] - stations["infer"])
        self._batches[batch_size].add(stations["infer"])

    def read(self) -> dict[str, Any]:
        """The fields of Triton's `model_stats`. compute_input is decoding; compute_output is verdict and journal."""
        batches = [_batch(size, images) for size, images in sorted(self._batches.items())]
        return {
            "last_inference": int(self._last_inference_s * 1000),
            "inference_count": self._success.count,
            "execution_count": sum(batch["compute_infer"]["count"] for batch in batches),
            "inference_stats": {
                "success": self._success.read(),
                "fail": self._fail.read(),
                "queue": self._queue.read(),
                "compute_input": self._input.read(),
                "compute_infer": self._infer.read(),
                "compute_output": self._output.read(),
                "cache_hit": _Duration().read(),
                "cache_miss": _Duration().read(),
            },
            "batch_stats": batches,
        }


class _Duration:
    """How often something happened, and how long it took in total."""

    __slots__ = ("count", "seconds")

    def __init__(self, count: int = 0, seconds: float = 0.0) -> None:
        self.count = count
        self.seconds = seconds

    def add(self, seconds: float) -> None:
        self.count += 1
        self.seconds += seconds

    def read(self) -> dict[str, int]:
        return {"count": self.count, "ns": int(self.seconds * 1e9)}


def _batch(size: int, images: _Duration) -> dict[str, Any]:
    """Each image had the whole run. A run whose caller left or failed counts fewer images than `size`: round up."""
    runs = _Duration(-(-images.count // size), images.seconds / size)
    apart = _Duration().read()  # a batch is assembled and split within its run
    return {"batch_size": size, "compute_input": apart, "compute_infer": runs.read(), "compute_output": apart}
