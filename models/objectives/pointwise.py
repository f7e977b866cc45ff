"""Objectives that compare each score with its own loss: regression of the log loss, and a Gamma likelihood.

Both read the score as a log, so that exp(score) is a loss. They depend on the unit of the losses: hand
in losses divided by their mean over the training data.
"""

import torch
from torch import Tensor

from models.objectives.pairs import check

LOG_FLOOR = 1e-2  # of the mean loss
MAX_LOG_RATIO = 10.0
NEAREST = 1e-6  # of a score to zero, where the logarithm of the rest ends


def log_loss_regression(scores: Tensor, losses: Tensor, floor: float = LOG_FLOOR) -> Tensor:
    """Mean of (s_i - log(l_i + floor))^2, a scalar.

    scores [n], losses [n] >= 0, in units of their mean. The floor, a hundredth of the mean loss, is what a
    zero loss counts as: -4.6 instead of minus infinity, since nobody cares by what factor two losses differ
    that are both a hundred times smaller than usual, and without it the few smallest rule the square.
    Raises ValueError as `models.objectives.learning_loss.learning_loss` does, and on floor <= 0.
    """
    check(scores, losses)
    if not floor > 0:
        raise ValueError(f"floor must be positive, not {floor}")
    return (scores - torch.log(losses + floor)).square().mean()


def gamma_likelihood(scores: Tensor, losses: Tensor) -> Tensor:
    """Mean of s_i + l_i exp(-s_i): the negative log likelihood of Gamma losses of mean exp(s_i), a scalar.

    scores [n], losses [n] >= 0, in units of their mean. Up to what does not depend on the scores. The shape k
    is fixed, at 1: any other shape multiplies the objective by k and leaves the optimum where it is, whatever
    the law of the losses (Gourieroux, Monfort & Trognon, "Pseudo Maximum Likelihood Methods: Theory",
    Econometrica 1984). Beyond l_i = e^10 exp(s_i) it goes on linearly in the score, so that a wild score
    cannot overflow. Raises ValueError as `models.objectives.learning_loss.learning_loss` does.
    """
    check(scores, losses)
    log_ratio = torch.log(losses) - scores  # minus infinity for a zero loss, whose ratio is 0
    beyond = (log_ratio - MAX_LOG_RATIO).clamp(min=0)
    ratio = torch.exp(log_ratio.clamp(max=MAX_LOG_RATIO)) * (1 + beyond)
    return (scores + ratio).mean()


def bounded_cross_entropy(scores: Tensor, losses: Tensor) -> Tensor:
    """Mean of -(l_i s_i + (1 - l_i) log(1 - exp s_i)), a scalar.

    scores [n] <= 0, logs of predicted losses; losses [n] in 0..1. The optimum is s = log E[l | x] with no constant
    left open, whatever the law of the losses, as it is the likelihood of a coin that shows a loss of one. Raises
    ValueError as `models.objectives.learning_loss.learning_loss` does, and on losses or predicted losses above one.
    """
    check(scores, losses)
    if bool((losses > 1).any()) or bool((scores > 0).any()):
        raise ValueError("cross-entropy needs losses of at most 1, and scores of at most 0")
    rest = torch.log(-torch.expm1(scores.clamp(max=-NEAREST)))
    return -(losses * scores + (1 - losses) * rest).mean()
