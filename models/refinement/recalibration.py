"""The flag budget of recent traffic.

Loss map and promises about losses come from the old calibration split and audit labels together. What share of the
traffic is flagged depends on the traffic alone. So the budget comes from the audit lane alone, if it has enough images.
"""

import numpy as np

from models.calibration.data import CalibrationData
from models.calibration.guarantees import FLAG_BUDGET, Infeasible, flag_budget
from models.contract.manifest import OperatingPoint
from models.publishing.export import run_onnx
from models.refinement.dataset import Labelled
from models.tasks.protocol import RegressionTask

FEWEST = 100  # audit images: with fewer no OOD threshold can be promised


def recent_budget(onnx: bytes, audit: Labelled, task: RegressionTask) -> dict[str, OperatingPoint]:
    """The operating point `budget` of the audit images alone; nothing if they are too few for it."""
    if len(audit) < FEWEST:
        return {}
    outputs = run_onnx(onnx, audit.images)
    losses = np.zeros(len(audit))  # a budget does not read them
    data = CalibrationData.of(outputs["score"], outputs["ood_score"], losses, task.loss)
    try:
        return {"budget": flag_budget(data, FLAG_BUDGET)}
    except Infeasible:
        return {}
