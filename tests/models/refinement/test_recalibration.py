from pathlib import Path

import numpy as np

from models.publishing.export import run_onnx
from models.refinement.dataset import Labelled
from models.refinement.recalibration import recent_budget
from models.tasks.digits import Digits
from tests.models.refinement.snapshots import row_of


def audit(few_digits: Digits, count: int) -> Labelled:
    seen = few_digits.examples("calibration", 1)
    images = 255 - seen.images[:count]
    return Labelled([row_of(i, b"", [], "calibrate") for i in range(count)], images, seen.targets[:count], [])


def test_the_budget_holds_on_the_audit_images(parent: Path, few_digits: Digits) -> None:
    onnx = (parent / "model.onnx").read_bytes()
    seen = audit(few_digits, 110)
    point = recent_budget(onnx, seen, few_digits)["budget"]
    outputs = run_onnx(onnx, seen.images)
    flags = point.flags(outputs["score"].astype(np.float64), outputs["ood_score"].astype(np.float64))
    assert point.calibration_size == 110
    assert 0.05 < np.logical_or(*flags.values()).mean() <= 0.1


def test_a_few_audit_images_set_no_budget(parent: Path, few_digits: Digits) -> None:
    assert recent_budget((parent / "model.onnx").read_bytes(), audit(few_digits, 99), few_digits) == {}
