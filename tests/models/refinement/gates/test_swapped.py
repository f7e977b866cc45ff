"""Labels with left and right exchanged: found, and honest annotators left alone."""

import numpy as np
import pytest
from numpy.typing import NDArray

from models.refinement.gates.annotators import FEWEST, Sided, judge
from models.refinement.gates.swapped import side_evidence, swapped_share, usual_rates
from models.training.augmentation import mirror_order

NAMES = ("left_eye", "right_eye", "nose")
ORDER = mirror_order(NAMES)


def _faces(count: int, confused: float, rng: np.random.Generator) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Predictions and honest labels [n, 3, 2]; the model confuses the sides in a share of the images."""
    labels = np.array([[10.0, 10.0], [30.0, 10.0], [20.0, 20.0]]) + rng.normal(0, 2, (count, 3, 2))
    preds = labels + rng.normal(0, 2, labels.shape)
    wrong = rng.random(count) < confused
    preds[wrong] = preds[wrong][:, ORDER]
    return preds, labels


def _annotator(count: int, exchanged: float, seed: int, confused: float = 0.1) -> Sided:
    rng = np.random.default_rng(seed)
    trusted = side_evidence(*_faces(500, confused, rng), ORDER)
    preds, labels = _faces(count, confused, rng)
    swaps = rng.random(count) < exchanged
    labels[swaps] = labels[swaps][:, ORDER]
    evidence = side_evidence(preds, labels, ORDER)
    rates = usual_rates(trusted, rng.random(500), evidence, rng.random(count))
    return Sided(evidence, rates, ("ann",) * count)


def test_evidence_is_negative_where_the_exchanged_label_is_nearer() -> None:
    preds, labels = _faces(20, 0.0, np.random.default_rng(0))
    assert (side_evidence(preds, labels, ORDER) > 0).all()
    assert (side_evidence(preds, labels[:, ORDER], ORDER) < 0).all()


def test_labels_without_a_sided_point_say_nothing() -> None:
    labels = np.array([[[np.nan, np.nan], [np.nan, np.nan], [20.0, 20.0]]])
    assert np.isnan(side_evidence(np.zeros((1, 3, 2)), labels, ORDER)).all()


def test_the_share_of_exchanged_labels_is_estimated() -> None:
    sided = _annotator(2000, 0.2, seed=0)
    share = swapped_share(sided.evidence, sided.rates, 0.05)
    assert share.estimate == pytest.approx(0.2, abs=0.04)
    assert share.low < share.estimate < share.high


def test_an_annotator_who_exchanges_a_fifth_is_refused_in_fifty_of_fifty_runs() -> None:
    assert [judge(_annotator(300, 0.2, seed)).outcome for seed in range(50)] == ["failed"] * 50


def test_honest_annotators_pass_whatever_the_model_confuses() -> None:
    outcomes = [judge(_annotator(300, 0.0, seed, confused=0.2)).outcome for seed in range(50)]
    assert outcomes.count("failed") <= 2
    assert outcomes.count("passed") >= 45


def test_one_bad_annotator_among_good_ones_is_named() -> None:
    good, bad = _annotator(900, 0.0, 0), _annotator(100, 0.4, 1)
    both = Sided(
        np.concatenate((good.evidence, bad.evidence)),
        np.concatenate((good.rates, bad.rates)),
        ("good",) * 900 + ("bad",) * 100,
    )
    answer = judge(both)
    assert answer.outcome == "failed"
    assert "labels of bad" in answer.sentence


@pytest.mark.parametrize("count", [0, 1, 10])
def test_too_few_labels_exclude_nothing_and_say_how_many_are_needed(count: int) -> None:
    assert count < FEWEST
    answer = judge(_annotator(count, 0.0, 0))
    assert answer.outcome == "too_few_labels"
    assert answer.needed
