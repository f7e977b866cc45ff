import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from models.contract.bundle import read_manifest
from models.contract.snapshot import SnapshotError, read_rows
from models.publishing.export import run_onnx, state_dict
from models.refinement.config import RefinementConfig
from models.refinement.fine_tuning import Refined, fine_tune
from models.tasks.digits import Digits
from models.training.config import silent
from models.training.loop import Trainer
from tests.models.refinement.snapshots import write_folder


def test_a_candidate_learns_from_the_labels_that_train_and_says_so(
    refined: Refined, snapshot: Path, parent: Path
) -> None:
    made = refined.manifest.provenance
    rows = list(read_rows(snapshot / "rows.ndjson"))
    assert set(refined.learned) == {row.sample_id for row in rows if row.split == "train"}
    assert (made.parent_version, made.split_sizes["labels"], made.split_sizes["audit labels"]) == ("1", 24, 80)
    assert made.snapshot is not None
    assert made.split_sizes["calibration"] == 110 + 80
    assert made.data_fingerprint != read_manifest(parent).provenance.data_fingerprint


def test_its_weights_lie_between_those_of_the_parent_and_those_it_learned(refined: Refined, parent: Path) -> None:
    assert refined.mixture is not None
    assert refined.mixture.share == 0.5
    assert "its weights lie 0.5 of the way" in refined.network
    before = state_dict((parent / "model.onnx").read_bytes(), "regressor")
    after = state_dict(refined.onnx, "regressor")
    moved = {name for name, value in after.items() if not torch.equal(value, before[name])}
    assert "votes.weight" in moved
    assert not {name for name in moved if "running" in name}


def test_it_predicts_the_new_images_better(refined: Refined, parent: Path, few_digits: Digits) -> None:
    seen = few_digits.examples("trunk", 4, first_view=500)
    images = 255 - seen.images
    losses = [
        few_digits.true_loss(run_onnx(onnx, images)["prediction"], seen.targets).mean()
        for onnx in ((parent / "model.onnx").read_bytes(), refined.onnx)
    ]
    assert losses[1] < losses[0]


def test_the_losses_of_its_head_come_from_folds_or_are_alike(refined: Refined) -> None:
    assert refined.honest_ratio is not None
    assert 0 < refined.honest_ratio < 1.5


@pytest.mark.parametrize("count", [0, 1])
def test_no_label_or_one_label_is_refused_with_what_to_do(  # noqa: PLR0913, PLR0917 - fixtures
    tmp_path: Path, parent: Path, few_digits: Digits, snapshot: Path, quick: RefinementConfig, count: int
) -> None:
    rows = list(read_rows(snapshot / "rows.ndjson"))
    rows = [row for row in rows if row.split != "train"] + [row for row in rows if row.split == "train"][:count]
    images = [(snapshot / "images" / row.sample_id).read_bytes() for row in rows]
    folder = write_folder(tmp_path / "s", "digits", few_digits.task, rows, images)
    with pytest.raises(SnapshotError, match=f"has {count} labels to learn from: label more samples"):
        fine_tune(parent, few_digits, folder, quick, silent, Trainer.start())


def test_a_snapshot_whose_images_are_gone_is_refused_and_names_the_first(
    tmp_path: Path, parent: Path, few_digits: Digits, snapshot: Path, quick: RefinementConfig
) -> None:
    shutil.copytree(snapshot, tmp_path / "s")
    shutil.rmtree(tmp_path / "s" / "images")
    with pytest.raises(SnapshotError, match="24 were left out, the first one because its image is gone"):
        fine_tune(parent, few_digits, tmp_path / "s", quick, silent, Trainer.start())


def test_constant_losses_are_refused(
    parent: Path, snapshot: Path, quick: RefinementConfig, few_digits: Digits, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(few_digits, "true_loss", lambda preds, _targets: np.ones(len(preds)))
    with pytest.raises(ValueError, match="there is nothing for a loss head to learn"):
        fine_tune(parent, few_digits, snapshot, replace(quick, arm="head"), silent, Trainer.start())
