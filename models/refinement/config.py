"""The settings of a refinement."""

from dataclasses import dataclass, replace
from typing import Literal, Self

Arm = Literal["head", "decoder", "all"]

KEEPS_STATISTICS = 2000  # new labels below which batch normalisation keeps the parent's statistics
USUAL_STEPS = 300
BUSY = 75  # exit status of `losscast refine` while another refinement of the model runs
PASSES = 3  # over the new labels, at least


class RefinementError(ValueError):
    """The refinement cannot start or continue; the message says why and what to do."""


class Busy(RefinementError):  # noqa: N818 - the condition is the name
    """Another refinement of the model is running."""


@dataclass(frozen=True, slots=True)
class RefinementConfig:
    """How a version learns from new labels. The placebo has the same settings."""

    seed: int = 0
    arm: Arm = "all"  # what learns, beside the loss head: nothing, the last layers, or the whole regressor
    steps: int = USUAL_STEPS  # of the optimiser
    pairs: int = 16  # new images in a batch, each beside `replay` old ones
    replay: int = 1
    learning_rate: float = 3e-4
    weight_decay: float = 1e-4
    keep_statistics: bool = True  # of batch normalisation
    mixtures: tuple[float, ...] = (0.0, 0.125, 0.25, 0.5, 0.75, 1.0)  # shares of the new weights that are tried
    forgotten: float = 0.01  # by which the mean loss on the old calibration split may rise; a gate allows 0.02
    folds: int = 2
    honest_ratio: float = 0.9  # of losses on images learned from to those held out; above it both are alike
    head_effort: float = 1.0  # epochs of the loss head as a multiple of the usual
    command: str = ""  # of a program that trains in place of all this: see `models.refinement.outside`

    def for_labels(self, count: int, effort: float = 1.0) -> Self:
        """The same settings with the steps and statistics that suit `count` new labels."""
        wanted = max(self.steps, PASSES * count // self.pairs)
        return replace(
            self,
            steps=max(1, round(effort * wanted)),
            keep_statistics=count < KEEPS_STATISTICS,
            head_effort=effort,
        )
