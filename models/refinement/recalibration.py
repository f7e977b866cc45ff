"""The flag budget of recent traffic.

Loss map and promises about losses come from the old calibration split and audit labels together. What share of the
traffic is flagged depends on the traffic alone, and needs no labels. So the budget comes from images of the audit lane
alone, labelled or not, if there are enough of them.
"""

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from models.calibration.data import CalibrationData
from models.calibration.guarantees import FLAG_BUDGET, Infeasible, flag_budget
from models.contract.manifest import OperatingPoint
from models.contract.snapshot import read_recent
from models.publishing.export import run_onnx
from models.refinement.dataset import Labelled, canvas_of
from models.refinement.refined_task import equally_drawn
from models.tasks.protocol import RegressionTask

FEWEST = 100  # audit images: with fewer no OOD threshold can be promised
DAYS = 7.0  # before the newest image: older traffic does not count as recent
DAY_S = 86_400.0


def recent_images(snapshot: Path, calibrate: Labelled, task: RegressionTask, model: str) -> NDArray[np.uint8]:
    """[n, h, w, c]: audit images of recent days that calibrate, or that have no label yet, each with the same chance.

    Images that judge are not among them: the gate on the flag share must not see what set the threshold. Raises
    SnapshotError.
    """
    unlabelled = [(one, canvas_of(snapshot, one, task.preprocessing)) for one in read_recent(snapshot)]
    found = [(one.sample_id, one.inclusion_probability, one.flagged_at, image) for one, image in unlabelled]
    found += [
        (row.sample_id, row.inclusion_probability or 1.0, row.flagged_at, image)
        for row, image in zip(calibrate.rows, calibrate.images, strict=True)
    ]
    newest = max((at for _, _, at, _ in found), default=0.0)
    usable = [(name, p, image) for name, p, at, image in found if image is not None and at >= newest - DAYS * DAY_S]
    stay = equally_drawn([(name, p) for name, p, _ in usable], model)
    empty = np.zeros((0, *task.preprocessing.canvas_shape), np.uint8)
    return np.stack([usable[i][2] for i in stay]) if stay else empty


def recent_budget(onnx: bytes, recent: NDArray[np.uint8], task: RegressionTask) -> dict[str, OperatingPoint]:
    """The operating point `budget` of these images alone; nothing if they are too few for it."""
    if len(recent) < FEWEST:
        return {}
    outputs = run_onnx(onnx, recent)
    losses = np.zeros(len(recent))  # a budget does not read them
    data = CalibrationData.of(outputs["score"], outputs["ood_score"], losses, task.loss)
    try:
        return {"budget": flag_budget(data, FLAG_BUDGET)}
    except Infeasible:
        return {}
