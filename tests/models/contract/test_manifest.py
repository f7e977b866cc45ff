import json
from typing import Any

import numpy as np
import pytest

from models.contract.loss_definition import KeypointLoss, TorsoScale
from models.contract.manifest import Manifest, ManifestError, OrderStatistics, parse_manifest
from models.contract.reference import EmbeddingReference, LossReference
from models.contract.signals import SIGNALS

SCALE = {"kind": "torso", "diagonals": [[0, 1]], "limbs": [], "ratios": [], "extent_ratio": 0.5, "smallest": 1.0}


def spoiled(manifest: Manifest, **changes: Any) -> bytes:
    return json.dumps({**json.loads(manifest.to_json()), **changes}).encode()


def test_a_manifest_survives_the_round_trip(tiny_version: Manifest) -> None:
    assert parse_manifest(tiny_version.to_json()) == tiny_version


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"default_operating_point": "none"}, "not among operating_points"),
        ({"refused_operating_points": {"budget": "why"}}, "either there or refused"),
        ({"drift_reference": {}}, "lacks ood_score, score"),
        ({"drift_reference": {"mood": {}}}, "drift_reference"),
        ({"loss_reference": {"mean_predicted_loss": 1.0, "sd": -1.0, "n": 3}}, "loss_reference.sd"),
        ({"embedding_reference": {"size": 9, "projection": [[1.0]], "offset": [0.0]}}, "of 1 numbers, not 4"),
        ({"onnx_sha256": "abc"}, "onnx_sha256"),
        ({"unknown": 1}, "unknown"),
        ({"evaluation": {"aurc": None}}, "evaluation"),
        ({"model": "../escape"}, "model"),
        ({"version": "../../escape"}, "version"),
    ],
)
def test_what_does_not_fit_is_refused_by_name(tiny_version: Manifest, changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ManifestError, match=message):
        parse_manifest(spoiled(tiny_version, **changes))


@pytest.mark.parametrize("field", ["loss_reference", "embedding_reference", "refused_operating_points"])
def test_a_manifest_that_lacks_a_field_is_refused_by_its_name(tiny_version: Manifest, field: str) -> None:
    fields = json.loads(tiny_version.to_json())
    del fields[field]
    with pytest.raises(ManifestError, match=f"manifest.json is damaged: {field}: Field required"):
        parse_manifest(json.dumps(fields).encode())


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"level": 1.0}, "probability below 1"),
        ({"kind": "miss_rate", "level": 2.0}, "probability below 1"),
        ({"kind": "joint_risk", "level": 3.0}, "loss_bound above its level"),
        ({"kind": "joint_risk", "level": 3.0, "loss_bound": 3.0}, "loss_bound above its level"),
        ({"kind": "selective_risk", "level": 3.0, "loss_bound": 8.0}, "a selective_risk has a delta"),
        ({"delta": 0.1}, "nothing else does"),
        ({"level": 0.0}, "greater than 0"),
        ({"kind": "wish"}, "kind"),
    ],
)
def test_a_promise_that_says_too_little_or_too_much_is_refused(
    tiny_version: Manifest, changes: dict[str, Any], message: str
) -> None:
    points = json.loads(tiny_version.to_json())["operating_points"]
    with pytest.raises(ManifestError, match=message):
        parse_manifest(spoiled(tiny_version, operating_points={"budget": {**points["budget"], **changes}}))


def test_the_references_of_drift_survive_the_round_trip_and_take_few_lines(tiny_version: Manifest) -> None:
    scale = TorsoScale(diagonals=((0, 1),), limbs=((1, 0),), ratios=(None,), extent_ratio=0.5, smallest=1.0)
    full = tiny_version.model_copy(
        update={
            "drift_reference": dict.fromkeys(SIGNALS, OrderStatistics(size=1, ranks=(1,), values=(0.5,), jitter=1e-3)),
            "loss": tiny_version.loss.model_copy(update={"definition": KeypointLoss(scale=scale, cap=1.0)}),
            "loss_reference": LossReference(mean_predicted_loss=0.25, sd=0.125, n=400),
            "embedding_reference": EmbeddingReference(
                size=400, projection=((0.5, 0.25, -1.0, 3.0), (1.0, 0.0, 0.0, 0.0)), offset=(1.0, 2.0)
            ),
        }
    )
    assert parse_manifest(full.to_json()) == full
    assert b"\n      [0.5,0.25,-1.0,3.0],\n" in full.to_json()
    assert b'\n      "ranks": [1],\n' in full.to_json()


@pytest.mark.parametrize(
    ("definition", "message"),
    [
        ({"kind": "vector", "error": "absolute"}, "a loss of vector is declared for a task of keypoints"),
        ({"kind": "keypoints", "scale": {**SCALE, "diagonals": [[0, 2]]}}, "a point that does not exist"),
        ({"kind": "keypoints", "scale": {**SCALE, "kind": "head"}}, "loss.definition.keypoints.scale.kind"),
        ({"kind": "pixels"}, "loss.definition"),
    ],
)
def test_a_loss_that_the_task_cannot_have_is_refused(
    tiny_version: Manifest, definition: dict[str, Any], message: str
) -> None:
    loss = {**json.loads(tiny_version.to_json())["loss"], "definition": definition}
    with pytest.raises(ManifestError, match=message):
        parse_manifest(spoiled(tiny_version, loss=loss))


def test_a_skeleton_to_nowhere_is_refused(tiny_version: Manifest) -> None:
    task = {**json.loads(tiny_version.to_json())["task"], "skeleton": [[0, 2]]}
    with pytest.raises(ManifestError, match="a point that does not exist"):
        parse_manifest(spoiled(tiny_version, task=task))


def test_a_vector_task_predicts_one_number_for_each_name(tiny_version: Manifest) -> None:
    task = {
        "name": "gaze",
        "kind": "vector",
        "names": ["yaw", "pitch"],
        "units": ["degrees", "degrees"],
        "skeleton": [],
    }
    manifest = parse_manifest(spoiled(tiny_version, task=task))
    assert manifest.output_shapes["prediction"] == (2,)


@pytest.mark.parametrize(
    ("ranks", "values"),
    [((1, 1), (0.0, 1.0)), ((1, 2), (1.0, 0.0)), ((0, 2), (0.0, 1.0)), ((1, 4), (0.0, 1.0)), ((1,), (0.0, 1.0))],
)
def test_order_statistics_are_in_order(ranks: tuple[int, ...], values: tuple[float, ...]) -> None:
    with pytest.raises(ValueError, match=r"ranks|values"):
        OrderStatistics(size=3, ranks=ranks, values=values)


def test_an_operating_point_flags_many_inputs_as_it_flags_each(tiny_version: Manifest) -> None:
    point = tiny_version.operating_points["budget"]  # score above 0.5, OOD score above 0.9
    scores, ood_scores = np.array([0.5, 0.51, 0.0, 1.0]), np.array([0.9, 0.0, 0.91, 1.0])
    flags = {reason: column.tolist() for reason, column in point.flags(scores, ood_scores).items()}
    assert flags == {"predicted_loss": [False, True, False, True], "ood_score": [False, False, True, True]}
    each = [point.flags(*pair) for pair in zip(scores.tolist(), ood_scores.tolist(), strict=True)]
    assert {reason: [one[reason] for one in each] for reason in each[0]} == flags
