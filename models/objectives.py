"""Objectives for a loss head: pure functions of its scores and the true losses of one batch.

Both compare every pair i < j of the batch. Learning Loss (Yoo & Kweon, "Learning Loss for Active
Learning", CVPR 2019, eq. 3) asks for the right order by a margin; LearningLoss++ (Shukla & Ahmed, "A
Mathematical Analysis of Learning Loss for Active Learning in Regression", CVPR Workshops 2021) asks
that the pair's softmax match its share of the losses. The gradients for a linear head
s_i = w . theta_i are here in closed form, beside the objectives they belong to.
"""

from typing import Literal, NamedTuple

import torch
from torch import Tensor
from torch.nn import functional

Objective = Literal["learning_loss_pp", "learning_loss"]


class LinearHeadGradient(NamedTuple):
    """Gradient of an objective through the linear head s_i = w . theta_i."""

    weight: Tensor  # with respect to w: [d]
    features: Tensor  # with respect to every theta_i: [n, d]


def learning_loss(scores: Tensor, losses: Tensor, margin: float = 1.0) -> Tensor:
    """Mean over pairs of max(0, margin - sign(l_i - l_j) (s_i - s_j)), a scalar.

    scores [n], losses [n] >= 0; a pair of equal losses has no order and costs nothing. Raises
    ValueError on n < 2, unequal shapes, negative or not finite losses, NaN scores, margin <= 0.
    """
    _check(scores, losses)
    _check_margin(margin)
    (score_gap, order), _ = _hinge_terms(scores, losses)
    return (order.abs() * functional.relu(margin - order * score_gap)).mean()


def learning_loss_pp(scores: Tensor, losses: Tensor) -> Tensor:
    """Mean over pairs of KL(p || q) in nats, p = l_i / (l_i + l_j), q = sigmoid(s_i - s_j), a scalar.

    scores [n], losses [n] >= 0; when both losses of a pair are zero neither is worse: p = 1/2. Raises
    ValueError as `learning_loss` does.
    """
    _check(scores, losses)
    first, second = _pairs(len(scores), scores.device)
    p = _shares(losses, first, second)
    logit = scores[first] - scores[second]
    cross_entropy = p * functional.softplus(-logit) + (1 - p) * functional.softplus(logit)
    return (cross_entropy + torch.xlogy(p, p) + torch.xlogy(1 - p, 1 - p)).mean()


def learning_loss_gradient(weight: Tensor, features: Tensor, losses: Tensor, margin: float = 1.0) -> LinearHeadGradient:
    """Gradient of `learning_loss` for the scores features @ weight: weight [d], features [n, d].

    A pair inside the margin adds -sign(l_i - l_j)(theta_i - theta_j) for w and -/+ sign(l_i - l_j) w
    for theta_i and theta_j; at the kink itself the gradient is zero, as PyTorch takes it.
    """
    scores = features @ weight
    _check(scores, losses)
    _check_margin(margin)
    (score_gap, order), pairs = _hinge_terms(scores, losses)
    return _through_linear_head(-order * (margin - order * score_gap > 0), pairs, weight, features)


def learning_loss_pp_gradient(weight: Tensor, features: Tensor, losses: Tensor) -> LinearHeadGradient:
    """Gradient of `learning_loss_pp` for the scores features @ weight: weight [d], features [n, d].

    A pair adds (q_i - p_i)(theta_i - theta_j) for w, (q_i - p_i) w for theta_i and its negative for theta_j.
    """
    scores = features @ weight
    _check(scores, losses)
    first, second = _pairs(len(scores), scores.device)
    q = torch.sigmoid(scores[first] - scores[second])
    return _through_linear_head(q - _shares(losses, first, second), (first, second), weight, features)


def _through_linear_head(
    slope: Tensor, pairs: tuple[Tensor, Tensor], weight: Tensor, features: Tensor
) -> LinearHeadGradient:
    """slope: derivative of every pair's term with respect to s_i - s_j, [pairs]."""
    first, second = pairs
    score_gradient = features.new_zeros(len(features))
    score_gradient = score_gradient.index_add(0, first, slope).index_add(0, second, -slope) / len(slope)
    return LinearHeadGradient(score_gradient @ features, torch.outer(score_gradient, weight))


def _hinge_terms(scores: Tensor, losses: Tensor) -> tuple[tuple[Tensor, Tensor], tuple[Tensor, Tensor]]:
    first, second = _pairs(len(scores), scores.device)
    return (scores[first] - scores[second], torch.sign(losses[first] - losses[second])), (first, second)


def _pairs(size: int, device: torch.device) -> tuple[Tensor, Tensor]:
    """Indices i < j of all pairs: two tensors [size (size - 1) / 2]."""
    first, second = torch.triu_indices(size, size, offset=1, device=device)
    return first, second


def _shares(losses: Tensor, first: Tensor, second: Tensor) -> Tensor:
    """p_i = l_i / (l_i + l_j) for every pair, 1/2 where both are zero."""
    # Dividing by the larger loss first keeps the sum of two huge losses finite.
    larger = torch.maximum(losses[first], losses[second])
    scale = torch.where(larger > 0, larger, torch.ones_like(larger))
    one, other = losses[first] / scale, losses[second] / scale
    return torch.where(larger > 0, one / torch.where(larger > 0, one + other, scale), torch.full_like(one, 0.5))


def _check_margin(margin: float) -> None:
    if not margin > 0:
        raise ValueError(f"margin must be positive, not {margin}")


def _check(scores: Tensor, losses: Tensor) -> None:
    if scores.ndim != 1 or scores.shape != losses.shape:
        raise ValueError(f"scores and losses must both be [n], not {list(scores.shape)} and {list(losses.shape)}")
    if len(scores) < 2:  # noqa: PLR2004 - a pair
        raise ValueError("at least two examples are needed to make a pair")
    if not torch.isfinite(losses).all() or bool((losses < 0).any()):
        raise ValueError("losses must be finite and not negative")
    if bool(torch.isnan(scores).any()):
        raise ValueError("scores hold NaN: the loss head has diverged; lower its learning rate")
