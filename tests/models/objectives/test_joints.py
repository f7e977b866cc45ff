"""LearningLoss++ over joints: which pairs count, and which constants each choice of pairs leaves free."""

import math

import pytest
import torch
from torch import Tensor

from models.objectives.joints import (
    JOINT_OBJECTIVES,
    Among,
    JointObjective,
    joint_learning_loss_pp,
    joint_learning_loss_pp_weighted,
)
from models.objectives.learning_loss import learning_loss_pp, learning_loss_pp_weighted

IMAGES, JOINTS = 4, 3


def batch() -> tuple[Tensor, Tensor]:
    """Scores and losses [4, 3]; one joint is annotated only once, one image has only one joint."""
    generator = torch.Generator().manual_seed(1)
    losses = torch.rand(IMAGES, JOINTS, generator=generator).double()
    losses[0, 1] = losses[2, 0] = losses[2, 1] = losses[3, 1] = math.nan
    return torch.randn(IMAGES, JOINTS, generator=generator).double(), losses


def pairs_of(scores: Tensor, losses: Tensor, among: Among) -> list[tuple[Tensor, Tensor]]:
    """(scores [2], losses [2]) of every annotated pair, written out."""
    cells = [(i, j) for i in range(IMAGES) for j in range(JOINTS) if not losses[i, j].isnan()]
    return [
        (torch.stack([scores[a], scores[b]]), torch.stack([losses[a], losses[b]]))
        for a in cells
        for b in cells
        if (among != "images" and a[0] == b[0] and a[1] < b[1]) or (among != "joints" and a[1] == b[1] and a[0] < b[0])
    ]


@pytest.mark.parametrize("among", ["joints", "images", "both"])
def test_it_is_the_mean_over_annotated_pairs(among: Among) -> None:
    scores, losses = batch()
    expected = torch.stack([learning_loss_pp(*pair) for pair in pairs_of(scores, losses, among)]).mean()
    torch.testing.assert_close(joint_learning_loss_pp(scores, losses, among), expected)


@pytest.mark.parametrize("among", ["joints", "images", "both"])
def test_the_weighted_form_weights_each_pair_by_its_mass(among: Among) -> None:
    scores, losses = batch()
    pairs = pairs_of(scores, losses, among)
    weights = torch.stack([pair[1].sum() for pair in pairs])
    values = torch.stack([learning_loss_pp_weighted(*pair) for pair in pairs])
    expected = (weights * values).sum() / weights.sum()
    torch.testing.assert_close(joint_learning_loss_pp_weighted(scores, losses, among), expected)


def test_one_joint_is_the_objective_of_images_and_one_image_that_of_its_joints() -> None:
    scores, losses = torch.randn(5).double(), torch.rand(5).double()
    expected = learning_loss_pp(scores, losses)
    torch.testing.assert_close(joint_learning_loss_pp(scores[:, None], losses[:, None], "images"), expected)
    torch.testing.assert_close(joint_learning_loss_pp(scores[None], losses[None], "joints"), expected)


@pytest.mark.parametrize(("among", "open_shape"), [("joints", (IMAGES, 1)), ("images", (1, JOINTS))])
def test_each_kind_of_pairs_alone_leaves_constants_free_that_both_determine(
    among: Among, open_shape: tuple[int, int]
) -> None:
    scores, losses = batch()
    shifted = scores + 3 * torch.arange(max(open_shape)).reshape(open_shape)
    torch.testing.assert_close(
        joint_learning_loss_pp(shifted, losses, among), joint_learning_loss_pp(scores, losses, among)
    )
    assert joint_learning_loss_pp(shifted, losses) > joint_learning_loss_pp(scores, losses) + 0.1


@pytest.mark.parametrize("name", sorted(JOINT_OBJECTIVES))
def test_a_joint_that_is_not_annotated_has_no_gradient(name: JointObjective) -> None:
    scores, losses = batch()
    (gradient,) = torch.autograd.grad(JOINT_OBJECTIVES[name](scores.requires_grad_(), losses, "both"), scores)
    assert (gradient[losses.isnan()] == 0).all()
    assert torch.isfinite(gradient).all()
    assert (gradient != 0).sum() == (~losses.isnan()).sum()


@pytest.mark.parametrize("name", sorted(JOINT_OBJECTIVES))
@pytest.mark.parametrize(
    ("scores", "losses", "message"),
    [
        ([[1.0, 2.0]], [[1.0, math.inf]], "finite"),
        ([[1.0, 2.0]], [[1.0, -1.0]], "not negative"),
        ([[1.0, math.nan]], [[1.0, 2.0]], "NaN"),
        ([1.0, 2.0], [1.0, 2.0], r"\[n, k\]"),
        ([[1.0, 2.0]], [[1.0], [2.0]], r"\[n, k\]"),
        ([[1.0, 2.0]], [[1.0, math.nan]], "no two annotated joints"),
    ],
)
def test_inputs_that_cannot_be_compared_are_refused_by_name(
    name: JointObjective, scores: list[float], losses: list[float], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        JOINT_OBJECTIVES[name](torch.tensor(scores), torch.tensor(losses), "both")
