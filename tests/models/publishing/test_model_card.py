from models.contract.loss_definition import KeypointLoss
from models.contract.manifest import Manifest, OperatingPoint
from models.contract.reference import EmbeddingReference
from models.publishing.model_card import model_card


def test_the_card_states_target_figures_promises_and_data(tiny_version: Manifest) -> None:
    manifest = tiny_version.model_copy(update={"evaluation": {"rank_correlation": 0.731234}})
    card = model_card(manifest, "Data of the tests.", "A network of the tests.")
    assert card.startswith("# tiny, version 1\n")
    assert "2 points (a, b)" in card
    assert "A true loss above 2 pixels counts as a failure" in card
    assert "| rank correlation | 0.7312 |" in card
    assert "**budget**: made for tests" in card
    assert "Data of the tests." in card
    assert "A network of the tests." in card


def test_the_card_states_how_far_a_budget_scatters(tiny_version: Manifest) -> None:
    # level .1 from 100 images: sqrt(.1 * .9 / 100) = .03
    assert "at most about 3.0 points in a hundred" in model_card(tiny_version, "", "")


def test_the_card_says_which_images_trained_the_loss_head(tiny_version: Manifest) -> None:
    assert "the head split trains the loss head" in model_card(tiny_version, "", "")
    of_keypoints = tiny_version.model_copy(update={"keypoint_loss": True})
    assert "both it and the head split, with mirror images, train the loss head" in model_card(of_keypoints, "", "")


def test_the_card_states_the_watched_signals_and_whether_labels_correct_the_estimate(tiny_version: Manifest) -> None:
    card = " ".join(model_card(tiny_version, "", "").split())
    assert "100 calibration images: score, ood_score. Their predicted" in card
    assert "do not correct it, as the loss is not declared" in card
    whole = tiny_version.model_copy(
        update={
            "loss": tiny_version.loss.model_copy(update={"definition": KeypointLoss()}),
            "embedding_reference": EmbeddingReference(size=9, projection=((1.0,) * 4,) * 3, offset=(0.0,) * 3),
        }
    )
    card = " ".join(model_card(whole, "", "").split())
    assert "ood_score, and the mean of the embedding in 3 directions" in card
    assert "labels of the audit lane correct it" in card


def test_the_card_counts_one_value_as_one(tiny_version: Manifest) -> None:
    tilt = tiny_version.task.model_copy(update={"kind": "vector", "names": ("tilt",)})
    assert "Predicts 1 value (tilt)" in model_card(tiny_version.model_copy(update={"task": tilt}), "", "")


def test_the_card_of_an_adopted_network_claims_neither_its_training_nor_its_licence(tiny_version: Manifest) -> None:
    made = tiny_version.provenance.model_copy(update={"split_sizes": {"trunk": 0, "head": 400}})
    card = model_card(tiny_version.model_copy(update={"provenance": made}), "", "")
    assert "The regressor was trained elsewhere" in card
    assert "Made by `models.adoption.adopt`" in card
    assert "on the owner's terms" in card
    for claim in ("losscast train", "losscast evaluate", "The trunk split trains", "Apache"):
        assert claim not in card
        assert claim in model_card(tiny_version, "", "")


def test_the_card_states_other_promises_and_refused_ones(tiny_version: Manifest) -> None:
    risk = OperatingPoint(
        guarantee="The loss that passes is small.",
        kind="joint_risk",
        level=3.0,
        loss_bound=8.0,
        calibration_size=100,
        score_threshold=0.0,
        ood_threshold=0.0,
    )
    points = {**tiny_version.operating_points, "joint_risk": risk}
    changes = {"operating_points": points, "refused_operating_points": {"miss_rate": "too few failures"}}
    card = model_card(tiny_version.model_copy(update=changes), "", "")
    assert "- **joint_risk**: The loss that passes is small.\n" in card
    assert "- *miss_rate* is not offered: too few failures.\n" in card
