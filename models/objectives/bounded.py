"""Cross-entropy for losses that are at most one: the objective whose score is the log of an expectation outright."""

import torch
from torch import Tensor

from models.objectives.pairs import check

NEAREST = 1e-6  # of a score to zero, where the logarithm of the rest ends


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
