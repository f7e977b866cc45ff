"""The true loss of a label, computed by the service as the task of the bundle would compute it.

The label and the prediction are in pixels of the image as posted, but a loss is measured on the canvas. The letterbox
of an image of that size takes both there.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from models.contract.manifest import Manifest
from models.contract.preprocess import place


def true_loss(
    manifest: Manifest, prediction: Sequence[Any], label: Sequence[Any], width: int | None, height: int | None
) -> float | None:
    """The loss of `prediction` given `label`, in the unit of the manifest's loss.

    prediction, label: for keypoints [k][2] in pixels of the image as posted, null for a point that the annotator could
    not place; for a vector [k]. width, height: of the image as posted, upright, in pixels; a vector needs none.
    Returns None when the manifest declares no loss, the size of the image is not known, or no point is placed.
    Raises ValueError on numbers of other shapes than the task's.
    """
    definition = manifest.loss.definition
    if definition is None:
        return None
    shape = manifest.task.prediction_shape
    preds, targets = _array(prediction, shape), _array(label, shape)
    if manifest.task.kind == "keypoints":
        if width is None or height is None:
            return None
        placement = place(width, height, manifest.preprocessing)
        preds, targets = placement.to_canvas(preds), placement.to_canvas(targets)
    loss = float(definition(preds[None], targets[None])[0])
    return loss if np.isfinite(loss) else None


def _array(values: Sequence[Any], shape: tuple[int, ...]) -> NDArray[np.float64]:
    missing = [np.nan] * shape[-1]
    rows = [missing if value is None else value for value in values] if len(shape) > 1 else values
    array = np.array(rows, np.float64)
    if array.shape != shape:
        raise ValueError(f"numbers of shape {list(shape)} are needed, not {list(array.shape)}")
    return array
