"""A camera that posts canvases to the service all the while, at a steady rate, and keeps what came back.

Canvases are of glyphs that the model's own test split does not show. From the moment that `meet` is called, half of
them are negatives: a corruption that no training has seen.
"""

import itertools
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple, Self

import cv2
import numpy as np
from numpy.typing import NDArray

from models.tasks.corruption import corrupt
from models.tasks.digits import Digits
from service.client import ClientError, LosscastClient

STRENGTH, SHARE = 1.0, 0.5  # of the corruption, and of the canvases that it hits
FIRST_VIEW = 70_000  # of the glyphs: no training draws these


class Posted(NamedTuple):
    """A canvas with what the service said about it."""

    version: str
    predicted_loss: float
    true_loss: float  # in pixels; only a demonstration knows it


@dataclass(frozen=True, slots=True)
class Canvas:
    """image: uint8 [h, w, 1]; corners: [4, 2] in pixels."""

    image: NDArray[np.uint8]
    corners: NDArray[np.float32]

    @property
    def png(self) -> bytes:
        return cv2.imencode(".png", self.image)[1].tobytes()


def harmed(canvas: Canvas, rng: np.random.Generator) -> Canvas:
    """The same canvas, or by chance its negative."""
    if rng.random() >= SHARE:
        return canvas
    return Canvas(corrupt(canvas.image, rng, "inversion", STRENGTH), canvas.corners)


class Traffic:
    """Posts until it is closed. Use it as a context manager."""

    def __init__(self, client: LosscastClient, task: Digits, rate: float, seed: int = 0) -> None:
        """client: one that sends each request once, so that a failed one is seen. rate: canvases a second."""
        self.rate = rate
        self.posted: list[Posted] = []
        self.failed: list[str] = []  # why, for each request that failed
        self.truth: dict[str, NDArray[np.float32]] = {}  # corners by sample id, for the annotator
        self._client, self._task, self._seed = client, task, seed
        self._rng = np.random.default_rng(seed)
        self._meets = threading.Event()
        self._ends = threading.Event()
        self._thread = threading.Thread(target=self._run, name="traffic", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ends.set()
        self._thread.join()

    def meet(self) -> None:
        """From now on canvases are corrupted."""
        self._meets.set()

    def wait_for(self, count: int) -> None:
        """Returns once `count` canvases more have been answered, or failed."""
        goal = len(self.posted) + len(self.failed) + count
        while len(self.posted) + len(self.failed) < goal and self._thread.is_alive():
            time.sleep(0.05)

    def _run(self) -> None:
        due = time.monotonic()
        for canvas in self._canvases():
            due = max(due + 1 / self.rate, time.monotonic() - 1)  # a slow spell is not made up for by a burst
            if self._ends.wait(max(0.0, due - time.monotonic())):
                return
            self._post(harmed(canvas, self._rng) if self._meets.is_set() else canvas)

    def _post(self, canvas: Canvas) -> None:
        try:
            reply = self._client.predict(canvas.png)
        except ClientError as error:
            self.failed.append(str(error))
            return
        preds = np.array([reply.prediction.values])
        loss = float(self._task.true_loss(preds, canvas.corners[None])[0])
        self.truth[reply.sample_id] = canvas.corners
        self.posted.append(Posted(reply.version, reply.predicted_loss, loss))

    def _canvases(self) -> Iterator[Canvas]:
        for view in itertools.count(FIRST_VIEW):
            parts = [self._task.examples(split, 1, self._seed, view) for split in ("trunk", "head", "calibration")]
            images = np.concatenate([part.images for part in parts])
            corners = np.concatenate([part.targets for part in parts])
            for row in self._rng.permutation(len(images)).tolist():
                yield Canvas(images[row], corners[row])
