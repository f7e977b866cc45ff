"""Shared by the objectives: checks of their inputs, the pairs of a batch, and the divergence of one pair.

scores and losses of one batch -> checked -> pairs of rows -> one number for each pair; an objective averages them.
"""

import math

import torch
from torch import Tensor
from torch.nn import functional

Pairs = tuple[Tensor, Tensor]  # rows of the first and of the second member of every pair


def check(scores: Tensor, losses: Tensor) -> None:
    """Raises ValueError unless both are [n >= 2], losses finite and not negative, scores without NaN."""
    if scores.ndim != 1 or scores.shape != losses.shape:
        raise ValueError(f"scores and losses must both be [n], not {list(scores.shape)} and {list(losses.shape)}")
    if len(scores) < 2:  # noqa: PLR2004 - a pair
        raise ValueError("at least two examples are needed to make a pair")
    check_values(scores, losses)


def check_values(scores: Tensor, losses: Tensor) -> None:
    """The checks of `check` that do not depend on the shape."""
    if not torch.isfinite(losses).all() or bool((losses < 0).any()):
        raise ValueError("losses must be finite and not negative")
    if bool(torch.isnan(scores).any()):
        raise ValueError("scores hold NaN: the loss head has diverged; lower its learning rate")


def all_pairs(size: int, device: torch.device) -> Pairs:
    """Indices i < j of all pairs: two tensors [size (size - 1) / 2]."""
    first, second = torch.triu_indices(size, size, offset=1, device=device)
    return first, second


def shares(losses: Tensor, pairs: Pairs) -> Tensor:
    """p_i = l_i / (l_i + l_j) for every pair, 1/2 where both are zero."""
    # Dividing by the larger loss first keeps the sum of two huge losses finite.
    first, second = pairs
    larger = torch.maximum(losses[first], losses[second])
    scale = torch.where(larger > 0, larger, torch.ones_like(larger))
    one, other = losses[first] / scale, losses[second] / scale
    return torch.where(larger > 0, one / torch.where(larger > 0, one + other, scale), torch.full_like(one, 0.5))


def masses(losses: Tensor, pairs: Pairs) -> Tensor:
    """The weight of every pair, in proportion to l_i + l_j; all zero when the losses are."""
    first, second = pairs
    relative = losses / positive(losses.max())  # so that the sum of huge losses stays finite
    mass = relative[first] + relative[second]
    return mass / positive(mass.sum())


def relative_mass(losses: Tensor, mean_loss: float | None) -> Tensor | float:
    """The mean of `losses` [n] over `mean_loss`, 1 for None. Raises ValueError on mean_loss <= 0."""
    if mean_loss is None:
        return 1.0
    if not 0 < mean_loss < math.inf:
        raise ValueError(f"mean_loss must be positive and finite, not {mean_loss}")
    return (losses / mean_loss).mean()


def divergences(scores: Tensor, losses: Tensor, pairs: Pairs) -> Tensor:
    """KL(p || q) in nats of every pair, p its share of the losses and q = sigmoid(s_i - s_j)."""
    first, second = pairs
    p = shares(losses, pairs)
    logit = scores[first] - scores[second]
    cross_entropy = p * functional.softplus(-logit) + (1 - p) * functional.softplus(logit)
    return cross_entropy + torch.xlogy(p, p) + torch.xlogy(1 - p, 1 - p)


def positive(total: Tensor) -> Tensor:
    """`total` as a divisor: 1 where it is zero."""
    return torch.where(total > 0, total, torch.ones_like(total))
