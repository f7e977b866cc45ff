"""LearningLoss++ for a loss head that scores every joint: over pairs of joints, of images, or both.

scores and losses of one batch, [images, joints] -> pairs of annotated cells -> the objectives of
`models.objectives.learning_loss` over those pairs. A joint that is not annotated has loss NaN and is in no pair.
"""

from collections.abc import Callable, Mapping
from typing import Literal

import torch
from torch import Tensor

from models.objectives.pairs import Pairs, all_pairs, check_values, divergences, masses, relative_mass

Among = Literal["joints", "images", "both"]
JointObjective = Literal["learning_loss_pp", "learning_loss_pp_weighted"]


def joint_learning_loss_pp(scores: Tensor, losses: Tensor, among: Among = "both") -> Tensor:
    """Mean over pairs of KL(p || q) in nats, as `models.objectives.learning_loss.learning_loss_pp`, a scalar.

    scores [n, k]; losses [n, k] >= 0, NaN where a joint is not annotated. A pair is two joints of one image
    (`joints`), one joint in two images (`images`), or either (`both`). With `joints` alone the scores of every image
    are free up to a constant, and with `images` alone the scores of every joint. Only `both` makes the scores of
    different joints of different images comparable. Raises ValueError on unequal or other
    shapes, on annotated losses that are negative or infinite, NaN scores, and when there is no pair.
    """
    flat_scores, flat_losses, pairs = _annotated(scores, losses, among)
    return divergences(flat_scores, flat_losses, pairs).mean()


def joint_learning_loss_pp_weighted(
    scores: Tensor, losses: Tensor, among: Among = "both", mean_loss: float | None = None
) -> Tensor:
    """The same with each pair weighted by l_i + l_j, as `models.objectives.learning_loss.learning_loss_pp_weighted`.

    mean_loss: mean over the annotated joints of the training data; None: the batch's own.
    """
    flat_scores, flat_losses, pairs = _annotated(scores, losses, among)
    value = (masses(flat_losses, pairs) * divergences(flat_scores, flat_losses, pairs)).sum()
    return value * relative_mass(flat_losses, mean_loss)


def _annotated(scores: Tensor, losses: Tensor, among: Among) -> tuple[Tensor, Tensor, Pairs]:
    """Scores and losses [n k], with 0 for losses that are not annotated, and the pairs of annotated cells."""
    if scores.ndim != 2 or scores.shape != losses.shape:  # noqa: PLR2004 - images by joints
        raise ValueError(f"scores and losses must both be [n, k], not {list(scores.shape)} and {list(losses.shape)}")
    annotated = ~torch.isnan(losses)
    flat_losses = torch.where(annotated, losses, torch.zeros_like(losses)).flatten()
    flat_scores = scores.flatten()
    check_values(flat_scores, flat_losses)
    images, joints = scores.shape
    first, second = _PAIRS[among](images, joints, scores.device)
    kept = annotated.flatten()[first] & annotated.flatten()[second]
    if not bool(kept.any()):
        raise ValueError(f"no two annotated joints to compare among {among}: a larger batch is needed")
    return flat_scores, flat_losses, (first[kept], second[kept])


def _of_joints(images: int, joints: int, device: torch.device) -> Pairs:
    """Cells are numbered image by image."""
    first, second = all_pairs(joints, device)
    start = joints * torch.arange(images, device=device)[:, None]
    return (start + first).flatten(), (start + second).flatten()


def _of_images(images: int, joints: int, device: torch.device) -> Pairs:
    first, second = all_pairs(images, device)
    joint = torch.arange(joints, device=device)[:, None]
    return (joint + joints * first).flatten(), (joint + joints * second).flatten()


def _of_both(images: int, joints: int, device: torch.device) -> Pairs:
    one, other = _of_joints(images, joints, device), _of_images(images, joints, device)
    return torch.cat((one[0], other[0])), torch.cat((one[1], other[1]))


_PAIRS: Mapping[Among, Callable[[int, int, torch.device], Pairs]] = {
    "joints": _of_joints,
    "images": _of_images,
    "both": _of_both,
}

# Objectives by name; all take (scores [n, k], losses [n, k], among).
JOINT_OBJECTIVES: Mapping[JointObjective, Callable[[Tensor, Tensor, Among], Tensor]] = {
    "learning_loss_pp": joint_learning_loss_pp,
    "learning_loss_pp_weighted": joint_learning_loss_pp_weighted,
}
