from dataclasses import replace
from pathlib import Path

import numpy as np

from models.refinement.dataset import load_split
from models.refinement.refined_task import refined_task, with_equal_chances
from models.tasks.digits import Digits
from models.tasks.protocol import SPLITS


def test_audit_labels_join_the_calibration_split_and_weigh_like_its_sources(snapshot: Path, few_digits: Digits) -> None:
    audit = load_split(snapshot, "calibrate", few_digits.task, few_digits.preprocessing)
    refined = refined_task(few_digits, audit, "f" * 64)
    seen = refined.examples("calibration", 3)
    old = few_digits.examples("calibration", 3)
    assert len(seen) == len(old) + 3 * len(audit)
    counts = np.unique(seen.source, return_counts=True)[1]
    assert set(counts.tolist()) == {3}
    assert np.array_equal(seen.images[-3], audit.images[-1])
    assert seen.sizes is not None
    assert seen.sizes[-1].tolist() == [64, 64]


def test_sources_of_labels_never_meet_those_of_the_task(snapshot: Path, few_digits: Digits) -> None:
    audit = load_split(snapshot, "calibrate", few_digits.task, few_digits.preprocessing)
    refined = refined_task(few_digits, audit, "f" * 64)
    theirs = np.concatenate([few_digits.examples(split).source for split in SPLITS])
    ours = refined.examples("calibration").source[-len(audit) :]
    assert not np.isin(ours, theirs).any()


def test_the_other_splits_stay_as_they_are(snapshot: Path, few_digits: Digits) -> None:
    audit = load_split(snapshot, "calibrate", few_digits.task, few_digits.preprocessing)
    refined = refined_task(few_digits, audit, "f" * 64)
    assert all(len(refined.examples(split)) == len(few_digits.examples(split)) for split in ("trunk", "head", "test"))
    assert refined.fingerprint != few_digits.fingerprint


def test_rows_that_were_likelier_to_be_drawn_are_thinned(snapshot: Path, few_digits: Digits) -> None:
    audit = load_split(snapshot, "calibrate", few_digits.task, few_digits.preprocessing)
    rows = [
        audit.rows[0].model_copy(update={"sample_id": f"s{i}", "inclusion_probability": 0.01 if i % 2 else 0.04})
        for i in range(4000)
    ]
    images, targets = np.repeat(audit.images[:1], 4000, axis=0), np.repeat(audit.targets[:1], 4000, axis=0)
    kept = with_equal_chances(replace(audit, rows=rows, images=images, targets=targets), "digits").rows
    rare = sum(row.inclusion_probability == 0.01 for row in kept)
    assert rare == 2000
    assert abs(len(kept) - rare - 500) < 80  # a quarter of the others; the standard deviation is 19


def test_equal_probabilities_keep_every_row(snapshot: Path, few_digits: Digits) -> None:
    audit = load_split(snapshot, "calibrate", few_digits.task, few_digits.preprocessing)
    assert len(with_equal_chances(audit, "digits")) == len(audit)
