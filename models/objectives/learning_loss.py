"""Objectives for a loss head: pure functions of its scores and the true losses of one batch.

The objectives here compare every pair i < j of the batch. Learning Loss (Yoo & Kweon, "Learning Loss for Active
Learning", CVPR 2019, eq. 3) asks for the right order by a margin; LearningLoss++ (Shukla & Ahmed, "A
Mathematical Analysis of Learning Loss for Active Learning in Regression", CVPR Workshops 2021) asks
that the softmax of a pair's scores match the shares of its losses. The gradients for a linear head s_i = w . theta_i
are here in closed form. `OBJECTIVES` names these objectives and their rivals; docs/objectives.md explains the
estimate at the optimum of each one.
"""

from collections.abc import Callable, Mapping
from typing import Literal, NamedTuple

import torch
from torch import Tensor
from torch.nn import functional

from models.objectives.pairs import Pairs, all_pairs, check, divergences, masses, positive, relative_mass, shares
from models.objectives.pointwise import gamma_likelihood, log_loss_regression

Objective = Literal["learning_loss_pp", "learning_loss_pp_weighted", "listwise", "learning_loss", "log_loss", "gamma"]
ObjectiveFunction = Callable[[Tensor, Tensor], Tensor]  # (scores [n], losses [n]) -> scalar


class LinearHeadGradient(NamedTuple):
    """Gradient of an objective through the linear head s_i = w . theta_i."""

    weight: Tensor  # with respect to w: [d]
    features: Tensor  # with respect to every theta_i: [n, d]


def learning_loss(scores: Tensor, losses: Tensor, margin: float = 1.0) -> Tensor:
    """Mean over pairs of max(0, margin - sign(l_i - l_j) (s_i - s_j)), a scalar.

    scores [n], losses [n] >= 0; a pair of equal losses has no order and costs nothing. Raises
    ValueError on n < 2, unequal shapes, negative or not finite losses, NaN scores, margin <= 0.
    """
    check(scores, losses)
    _check_margin(margin)
    (score_gap, order), _ = _hinge_terms(scores, losses)
    return (order.abs() * functional.relu(margin - order * score_gap)).mean()


def learning_loss_pp(scores: Tensor, losses: Tensor) -> Tensor:
    """Mean over pairs of KL(p || q) in nats, p = l_i / (l_i + l_j), q = sigmoid(s_i - s_j), a scalar.

    scores [n], losses [n] >= 0; when both losses of a pair are zero neither is worse: p = 1/2. Raises
    ValueError as `learning_loss` does.
    """
    check(scores, losses)
    return divergences(scores, losses, all_pairs(len(scores), scores.device)).mean()


def learning_loss_pp_weighted(scores: Tensor, losses: Tensor, mean_loss: float | None = None) -> Tensor:
    """Sum over pairs of (l_i + l_j) KL(p || q), divided by the sum of l_i + l_j, a scalar.

    p and q are those of `learning_loss_pp`.

    scores [n], losses [n] >= 0; pairs of two zeros have no weight, and a batch of zeros costs nothing. With
    `mean_loss`, the mean over the training data, the divisor is its expectation (n - 1) n mean_loss: the
    optimum is then s = log E[l | x] + const for any n; with the batch's own sum this holds for large n.
    Raises ValueError as `learning_loss` does, and on mean_loss <= 0.
    """
    check(scores, losses)
    pairs = all_pairs(len(scores), scores.device)
    value = (masses(losses, pairs) * divergences(scores, losses, pairs)).sum()
    return value * relative_mass(losses, mean_loss)


def listwise(scores: Tensor, losses: Tensor, mean_loss: float | None = None) -> Tensor:
    """-sum_i l_i log softmax(s)_i / sum_i l_i over the batch, in nats, a scalar.

    The cross-entropy of ListNet (Cao et al., "Learning to Rank", ICML 2007) with the losses themselves as the
    target. scores [n], losses [n] >= 0; a batch of zeros costs nothing. `mean_loss` as in
    `learning_loss_pp_weighted`, the divisor being n mean_loss. Raises ValueError as that does.
    """
    check(scores, losses)
    share = losses / positive(losses.max())  # so that the sum of huge losses stays finite
    share = share / positive(share.sum())
    return -(share * functional.log_softmax(scores, dim=0)).sum() * relative_mass(losses, mean_loss)


def learning_loss_gradient(weight: Tensor, features: Tensor, losses: Tensor, margin: float = 1.0) -> LinearHeadGradient:
    """Gradient of `learning_loss` for the scores features @ weight: weight [d], features [n, d].

    A pair inside the margin adds -sign(l_i - l_j)(theta_i - theta_j) for w and -/+ sign(l_i - l_j) w for theta_i and
    theta_j. At the kink itself the gradient is zero, as in PyTorch.
    """
    scores = features @ weight
    check(scores, losses)
    _check_margin(margin)
    (score_gap, order), pairs = _hinge_terms(scores, losses)
    return _through_linear_head(-order * (margin - order * score_gap > 0), pairs, weight, features)


def learning_loss_pp_gradient(weight: Tensor, features: Tensor, losses: Tensor) -> LinearHeadGradient:
    """Gradient of `learning_loss_pp` for the scores features @ weight: weight [d], features [n, d].

    A pair adds (q_i - p_i)(theta_i - theta_j) for w, (q_i - p_i) w for theta_i and its negative for theta_j.
    """
    scores = features @ weight
    check(scores, losses)
    first, second = pairs = all_pairs(len(scores), scores.device)
    q = torch.sigmoid(scores[first] - scores[second])
    return _through_linear_head(q - shares(losses, pairs), pairs, weight, features)


def _through_linear_head(slope: Tensor, pairs: Pairs, weight: Tensor, features: Tensor) -> LinearHeadGradient:
    """slope: derivative of every pair's term with respect to s_i - s_j, [pairs]."""
    first, second = pairs
    score_gradient = features.new_zeros(len(features))
    score_gradient = score_gradient.index_add(0, first, slope).index_add(0, second, -slope) / len(slope)
    return LinearHeadGradient(score_gradient @ features, torch.outer(score_gradient, weight))


def _hinge_terms(scores: Tensor, losses: Tensor) -> tuple[tuple[Tensor, Tensor], Pairs]:
    first, second = pairs = all_pairs(len(scores), scores.device)
    return (scores[first] - scores[second], torch.sign(losses[first] - losses[second])), pairs


def _check_margin(margin: float) -> None:
    if not margin > 0:
        raise ValueError(f"margin must be positive, not {margin}")


# Objectives by name; all take (scores [n], losses [n]).
OBJECTIVES: Mapping[Objective, ObjectiveFunction] = {
    "learning_loss_pp": learning_loss_pp,
    "learning_loss_pp_weighted": learning_loss_pp_weighted,
    "listwise": listwise,
    "learning_loss": learning_loss,
    "log_loss": log_loss_regression,
    "gamma": gamma_likelihood,
}
