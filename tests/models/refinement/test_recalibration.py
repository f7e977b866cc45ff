import hashlib
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from models.contract.snapshot import RECENT, RecentAudit, SnapshotError, Split, read_recent
from models.publishing.export import run_onnx
from models.refinement.dataset import Labelled, load_split
from models.refinement.recalibration import recent_budget, recent_images
from models.tasks.digits import Digits
from tests.models.refinement.snapshots import png, row_of, write_folder


def audit(few_digits: Digits, count: int) -> Labelled:
    seen = few_digits.examples("calibration", 1)
    images = 255 - seen.images[:count]
    return Labelled([row_of(i, b"", [], "calibrate") for i in range(count)], images, seen.targets[:count], [])


def test_the_budget_holds_on_the_audit_images(parent: Path, few_digits: Digits) -> None:
    onnx = (parent / "model.onnx").read_bytes()
    seen = audit(few_digits, 110)
    point = recent_budget(onnx, seen.images, few_digits)["budget"]
    outputs = run_onnx(onnx, seen.images)
    flags = point.flags(outputs["score"].astype(np.float64), outputs["ood_score"].astype(np.float64))
    assert point.calibration_size == 110
    assert 0.05 < np.logical_or(*flags.values()).mean() <= 0.1


def test_a_few_audit_images_set_no_budget(parent: Path, few_digits: Digits) -> None:
    assert recent_budget((parent / "model.onnx").read_bytes(), audit(few_digits, 99).images, few_digits) == {}


def test_images_without_a_label_count_and_those_that_judge_do_not(tmp_path: Path, few_digits: Digits) -> None:
    seen = few_digits.examples("trunk", 1)
    splits: list[Split] = ["train", "judge", "calibrate", "calibrate"]
    images = [png(image) for image in seen.images[:4]]
    rows = [row_of(i, images[i], seen.targets[i].tolist(), split) for i, split in enumerate(splits)]
    folder = write_folder(tmp_path / "snapshot", "digits", few_digits.task, rows, images)
    known = load_split(folder, "calibrate", few_digits.task, few_digits.preprocessing)
    assert len(recent_images(folder, known, few_digits, "digits")) == 2  # a snapshot without recent audits
    recent = [audit_of(folder, number, seen.images[number], at=1000.0 + number) for number in (10, 11, 12)]
    old = audit_of(folder, 13, seen.images[13], at=1000.0 - 8 * 86_400)
    gone = audit_of(folder, 14, seen.images[14], at=1000.0)
    (folder / "images" / gone.sample_id).unlink()
    lines = (one.model_dump_json().encode() + b"\n" for one in (*recent, old, gone))
    (folder / RECENT).write_bytes(b"".join(lines))
    found = recent_images(folder, known, few_digits, "digits")
    expected = [*(seen.images[number] for number in (10, 11, 12)), *seen.images[2:4]]
    assert np.array_equal(found, np.stack(expected))


def test_images_that_were_drawn_more_often_stay_less_often(tmp_path: Path, few_digits: Digits) -> None:
    seen = few_digits.examples("trunk", 1)
    none = Labelled([], seen.images[:0], seen.targets[:0], [])
    (tmp_path / "images").mkdir()
    often = [audit_of(tmp_path, number, seen.images[number % 40], 1.0, chance=0.5) for number in range(200)]
    seldom = [audit_of(tmp_path, number, seen.images[number % 40], 1.0, chance=0.05) for number in range(200, 220)]
    (tmp_path / RECENT).write_bytes(b"".join(one.model_dump_json().encode() + b"\n" for one in (*often, *seldom)))
    found = len(recent_images(tmp_path, none, few_digits, "digits"))
    assert 20 + 5 < found < 20 + 40  # a tenth of 200


def test_a_damaged_list_of_recent_audits_is_told(tmp_path: Path) -> None:
    (tmp_path / RECENT).write_text("{}\n")
    with pytest.raises(SnapshotError, match=r"recent\.ndjson is damaged"):
        read_recent(tmp_path)


def audit_of(folder: Path, number: int, image: NDArray[np.uint8], at: float, chance: float = 0.01) -> RecentAudit:
    """A recent audit whose image is in the folder."""
    content = png(image)
    (folder / "images" / f"recent-{number}").write_bytes(content)
    sha256 = hashlib.sha256(content).hexdigest()
    return RecentAudit(sample_id=f"recent-{number}", sha256=sha256, inclusion_probability=chance, flagged_at=at)
