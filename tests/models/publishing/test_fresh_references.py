"""The bundle of digits that ships, and ones of photographs made for the occasion, get their references again."""

import hashlib
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx.parser
import pytest

from models.contract.bundle import BundleError, publish, read_manifest
from models.contract.index import ModelIndex, read_index, write_index
from models.contract.loss_definition import VectorLoss
from models.contract.manifest import Manifest, Provenance
from models.contract.signals import SIGNALS
from models.evaluation.bundle import evaluate_bundle, run_bundle
from models.publishing.fresh_references import renew_references
from models.publishing.model_card import model_card
from models.tasks.digits import Digits
from models.tasks.pose import Pose

DIGITS = Path(__file__).resolve().parents[3] / "bundles" / "digits" / "1"

# Says where the middle of the canvas is, fourteen times; brighter is worse.
MIDDLE = """
<ir_version: 10, opset_import: ["" : 21]>
middle (uint8[batch, 128, 128, 3] image) => (
    float[batch, 14, 2] prediction, float[batch] score, float[batch] predicted_loss, float[batch] ood_score,
    float[batch, 2] embedding
)
<int64[3] axes = {1, 2, 3}, float full = {255.0}, float one = {1.0}, float zero = {0.0},
 int64[3] as_points = {-1, 1, 1}, int64[2] as_embedding = {-1, 1}, float[1, 1, 2] middle = {64.0, 64.0},
 float[1, 14, 1] each = {1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0},
 float[1, 2] directions = {1.0, 0.0}>
{
    pixels = Cast <to = 1> (image)
    mean = ReduceMean <keepdims = 0> (pixels, axes)
    score = Div (mean, full)
    predicted_loss = Exp (score)
    ood_score = Sub (one, score)
    column = Reshape (score, as_embedding)
    embedding = Mul (column, directions)
    cube = Reshape (score, as_points)
    nothing = Mul (cube, zero)
    points = Add (nothing, each)
    prediction = Mul (points, middle)
}
"""


def silent(_what: str, _done: int, _total: int) -> None:
    """Nobody watches."""


@pytest.fixture(scope="module")
def pose(pose_folder: Path) -> Pose:
    return Pose(pose_folder)


@pytest.fixture
def old_pose(tmp_path: Path, pose: Pose, tiny_version: Manifest) -> Path:
    """A version of before there were references of images, live in a store of its own."""
    content = onnx.parser.parse_model(MIDDLE).SerializeToString()
    made = Provenance(**{**tiny_version.provenance.model_dump(), "task": "pose", "data_fingerprint": pose.fingerprint})
    manifest = tiny_version.model_copy(
        update={
            "model": "pose",
            "task": pose.task,
            "preprocessing": pose.preprocessing,
            "loss": pose.loss.model_copy(update={"definition": None}),
            "embedding_size": 2,
            "provenance": made,
            "onnx_sha256": hashlib.sha256(content).hexdigest(),
        }
    )
    card = model_card(manifest, pose.card, "A network that knows the middle.")
    folder = publish(tmp_path / "old", manifest, {"model.onnx": content, "model_card.md": card.encode()})
    write_index(folder.parent, ModelIndex(live=1))
    return folder


def test_photographs_get_all_references_and_their_loss_is_declared(old_pose: Path, pose: Pose) -> None:
    steps: list[int] = []
    folder = renew_references(old_pose, pose, old_pose.parents[1], lambda _what, done, _total: steps.append(done))
    manifest = read_manifest(folder)
    assert steps == [1, 2, 3]
    assert tuple(manifest.drift_reference) == SIGNALS
    assert {reference.size for reference in manifest.drift_reference.values()} == {120}
    size = manifest.drift_reference["size"]
    assert np.log(90 * 110) / 2 == pytest.approx(size.values[0], abs=size.jitter)
    assert manifest.loss == pose.loss
    assert manifest.embedding_reference is not None
    assert len(manifest.embedding_reference.offset) == 1
    card = (folder / "model_card.md").read_text()
    assert "A network that knows the middle." in card
    assert "120 calibration images: score, ood_score, luminance, contrast, sharpness, aspect, size" in card


def test_in_its_own_store_it_is_the_next_version_with_a_parent_and_live(old_pose: Path, pose: Pose) -> None:
    folder = renew_references(old_pose, pose, old_pose.parents[1], silent)
    assert folder.name == "2"
    assert read_manifest(folder).provenance.parent_version == "1"
    assert read_index(folder.parent) == ModelIndex(live=2, previous=1)


def test_beside_another_onnx_it_is_not_made_live(old_pose: Path, pose: Pose) -> None:
    other = old_pose.parent / "5"
    content = onnx.parser.parse_model(MIDDLE.replace("64.0, 64.0", "60.0, 60.0")).SerializeToString()
    changes: dict[str, Any] = {"version": "5", "onnx_sha256": hashlib.sha256(content).hexdigest()}
    publish(old_pose.parents[1], read_manifest(old_pose).model_copy(update=changes), {"model.onnx": content})
    write_index(old_pose.parent, ModelIndex(live=5, previous=1))
    assert renew_references(old_pose, pose, old_pose.parents[1], silent).name == "6"
    assert other.exists()
    assert read_index(old_pose.parent) == ModelIndex(live=5, previous=1)


@pytest.mark.slow
def test_what_ships_is_what_the_command_makes_of_it_with_the_same_onnx_figures_and_thresholds(
    digits: Digits, tmp_path: Path
) -> None:
    folder = renew_references(DIGITS, digits, tmp_path, silent)
    old, new = read_manifest(DIGITS), read_manifest(folder)
    references = {"drift_reference", "loss_reference", "embedding_reference"}
    assert new.model_dump(exclude=references) == old.model_dump(exclude=references)
    assert (folder / "model.onnx").read_bytes() == (DIGITS / "model.onnx").read_bytes()
    assert (folder / "model_card.md").read_bytes() == (DIGITS / "model_card.md").read_bytes()
    assert evaluate_bundle(folder, digits) == pytest.approx(new.evaluation, rel=1e-4)
    for name, reference in new.drift_reference.items():
        shipped = old.drift_reference[name]
        assert shipped.ranks == reference.ranks
        np.testing.assert_allclose(shipped.values, reference.values, atol=3 * reference.jitter)
    assert old.loss_reference.mean_predicted_loss == pytest.approx(new.loss_reference.mean_predicted_loss, rel=1e-4)
    assert old.embedding_reference is not None
    assert new.embedding_reference is not None
    embeddings = run_bundle(DIGITS, digits, digits.examples("calibration"))[1]["embedding"]
    for directions in (old.embedding_reference, new.embedding_reference):
        np.testing.assert_allclose(directions.whitening()(embeddings).mean(axis=0), 0, atol=1e-3)


def test_other_data_than_it_was_made_from_is_refused(old_pose: Path, digits: Digits) -> None:
    with pytest.raises(BundleError, match=r"made from other data .* train it again"):
        renew_references(old_pose, digits, old_pose.parents[1], silent)


def damaged(folder: Path) -> None:
    (folder / "model.onnx").write_bytes(b"")


def without_card(folder: Path) -> None:
    (folder / "model_card.md").unlink()


def other_card(folder: Path) -> None:
    (folder / "model_card.md").write_text("# notes\n")


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (damaged, "does not have the SHA-256"),
        (without_card, "model_card.md cannot be read"),
        (other_card, "was not written with the bundle"),
        (shutil.rmtree, "is not a bundle"),
    ],
)
def test_a_bundle_that_is_damaged_is_refused_and_nothing_is_published(
    old_pose: Path, pose: Pose, tmp_path: Path, spoil: Callable[[Path], None], message: str
) -> None:
    spoil(old_pose)
    with pytest.raises(BundleError, match=message):
        renew_references(old_pose, pose, tmp_path / "new", silent)
    assert not list((tmp_path / "new").glob("*"))


def test_a_task_that_declares_another_loss_than_it_computes_is_refused(old_pose: Path, pose_folder: Path) -> None:
    wrong = Pose(pose_folder)
    wrong.loss = wrong.loss.model_copy(update={"definition": VectorLoss(error="absolute")})
    with pytest.raises(ValueError, match="declares a loss of vector"):
        renew_references(old_pose, wrong, old_pose.parents[1], silent)
