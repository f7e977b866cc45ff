"""What a task is to training, evaluation and export: data in four disjoint splits, and a true loss.

A task needs no torch: whoever only evaluates or demonstrates a bundle can import it.
"""

from dataclasses import dataclass
from typing import Literal, Protocol

import numpy as np
from numpy.typing import NDArray

from models.contract import manifest

Split = Literal["trunk", "head", "calibration", "test"]
SPLITS: tuple[Split, ...] = ("trunk", "head", "calibration", "test")


@dataclass(frozen=True, slots=True)
class Examples:
    """Canvases with their ground truth; rows belong together."""

    images: NDArray[np.uint8]  # [n, height, width, channels]
    targets: NDArray[np.float32]  # [n, k, 2] in canvas pixels for keypoints, [n, k] for a vector
    source: NDArray[np.int64]  # [n] id of the source image; no id occurs in two splits
    stratum: NDArray[np.int64]  # [n] group within which rank correlation is also reported

    def __len__(self) -> int:
        return len(self.images)


class RegressionTask(Protocol):
    """A data set with its target and its loss, in the words of the manifest."""

    @property
    def task(self) -> manifest.Task: ...

    @property
    def preprocessing(self) -> manifest.Preprocessing: ...

    @property
    def loss(self) -> manifest.Loss: ...

    @property
    def card(self) -> str:
        """Markdown for the model card: the data with its citation and licence, the target, known limits."""

    @property
    def fingerprint(self) -> str:
        """Changes when the data, the splits or the way examples are made change, the code that makes them included.

        The same on every machine: whoever compares it to that of a bundle need not have trained it.
        """

    def examples(self, split: Split, views: int = 1, seed: int = 0, first_view: int = 0) -> Examples:
        """`views` examples of every source image of a split, ordered by source, then by view.

        The same (split, source, seed, view number) gives the same example, whatever else is asked for;
        view numbers count from `first_view`, so that fresh examples never run out.
        """

    def true_loss(self, preds: NDArray[np.floating], targets: NDArray[np.floating]) -> NDArray[np.float64]:
        """preds, targets: [n, ...] in canvas units -> loss [n] in the unit of `loss`."""
