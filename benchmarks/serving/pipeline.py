"""The work of every server on an image: the service's own decoding, the same ONNX Runtime options, the same JSON.

So the benchmark compares servers and not codecs. The service does all this, and the verdict, the journal and the
metrics as well.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import orjson
from numpy.typing import NDArray

from models.contract.bundle import read_manifest, read_onnx
from models.contract.runtime import open_session
from service.inference.decode import Picture, decode

MAX_PIXELS = 40_000_000


@dataclass(frozen=True, slots=True)
class Row:
    """One row of the outputs, as ONNX Runtime gives them."""

    prediction: NDArray[np.float32]
    predicted_loss: float
    ood_score: float
    keypoint_loss: NDArray[np.float32] | None


class Pipeline:
    """decode -> infer -> reply; called with the bytes of one image it does all three."""

    def __init__(self, bundle: Path) -> None:
        cv2.setNumThreads(1)  # the server shares out the cores
        self.manifest = read_manifest(bundle)
        self._session = open_session(read_onnx(bundle, self.manifest))
        self._outputs = list(self.manifest.output_shapes)

    def __call__(self, body: bytes) -> bytes:
        picture = self.decode(body)
        return self.reply(picture, self.infer([picture])[0])

    def decode(self, body: bytes) -> Picture:
        return decode(body, self.manifest.preprocessing, MAX_PIXELS)

    def infer(self, pictures: Sequence[Picture]) -> list[Row]:
        batch = np.stack([picture.canvas for picture in pictures])
        found = dict(zip(self._outputs, self._session.run(self._outputs, {"image": batch}), strict=True))
        losses = found.get("keypoint_loss", [None] * len(pictures))
        columns = found["prediction"], found["predicted_loss"].tolist(), found["ood_score"].tolist(), losses
        return [Row(*row) for row in zip(*columns, strict=True)]

    def reply(self, picture: Picture, row: Row) -> bytes:
        prediction = {
            "kind": self.manifest.task.kind,
            "names": self.manifest.task.names,
            "values": picture.placement.to_image(row.prediction).tolist(),
        }
        if row.keypoint_loss is not None:
            prediction["predicted_loss"] = row.keypoint_loss.tolist()
        return orjson.dumps(
            {"prediction": prediction, "predicted_loss": row.predicted_loss, "ood_score": row.ood_score}
        )
