"""Teaches a regressor new labels in small steps, with an old image beside each new one.

new rows and fresh views of the trunk split -> pairs -> batches -> the regressor's own loss. Then the new weights are
mixed with the parent's, in the share that is best on the calibration split.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from models.calibration.references import CALIBRATION_SEED
from models.networks.regressors import Regressor, normalise
from models.refinement.config import RefinementConfig
from models.refinement.refined_task import RefinedTask
from models.refinement.weights import TunedPart, Weights, copied, mixed
from models.tasks.protocol import Examples, RegressionTask
from models.training.augmentation import augment, mirror_order
from models.training.config import Progress
from models.training.loop import Plan, Trainer, fit, reproducible
from models.training.recipes import recipe

EPOCHS = 10  # after each of which a killed refinement resumes
FIRST_VIEW = 1_000_000  # of replayed images: where a task draws its views, no training has drawn these
BATCH = 64
STANDARD_ERRORS = 1.0  # by which a mixture must beat the parent

Array = NDArray[np.float64]


def tune(  # noqa: PLR0913, PLR0917 - as `train_regressor`
    regressor: Regressor,
    old: RegressionTask,
    new: Examples | None,
    config: RefinementConfig,
    name: str,
    progress: Progress,
    trainer: Trainer,
) -> None:
    """Fits the arm's part of `regressor` in place and leaves the whole in eval mode on the CPU.

    new: None for the placebo, which replays old images in place of new ones. name: of this work, for its progress and
    its checkpoint.
    """
    epochs = min(EPOCHS, config.steps)
    rows = config.pairs * (config.steps // epochs)
    order, augmentation = mirror_order(old.task.names), recipe(old).config.augmentation

    def loss(model: nn.Module, images: Tensor, targets: Tensor) -> Tensor:
        flat, wanted = images.flatten(0, 1), targets.flatten(0, 1)
        if augmentation is not None:
            flat, wanted = augment(flat, wanted, order, augmentation)
        return regressor.training_loss(model(normalise(flat)), wanted)

    # One pool for all epochs: a replayed image is seen a few times, and drawing takes longer than learning.
    pool = old.examples("trunk", recipe(old).config.trunk_views, config.seed, FIRST_VIEW)
    plan = Plan(
        name=name,
        size=rows,
        epochs=epochs,
        batch_size=config.pairs,
        learning_rate=config.learning_rate,
        weight_decay=config.weight_decay,
        about=f"data {old.fingerprint}, {0 if new is None else len(new)} labels, {config}",
    )
    tunable = TunedPart(regressor, config.arm, keep_statistics=config.keep_statistics)
    with reproducible(config.seed):
        fit(tunable, partial(_pairs, pool, new, rows, config), loss, plan, trainer, partial(progress, name))
    tunable.requires_grad_(requires_grad=False)
    regressor.cpu().eval()


def _pairs(
    pool: Examples, new: Examples | None, rows: int, config: RefinementConfig, epoch: int
) -> tuple[Tensor, Tensor]:
    """Images [rows, 1 + replay, h, w, c] and targets of an epoch: a new one, then old ones out of `pool`."""
    rng = np.random.default_rng((config.seed, epoch))
    chosen = [_drawn(pool, rows, rng) for _ in range(config.replay)]
    first = _drawn(pool if new is None else new, rows, rng)
    images, targets = (np.stack(column, axis=1) for column in zip(first, *chosen, strict=True))
    return torch.from_numpy(images), torch.from_numpy(targets)


def _drawn(pool: Examples, rows: int, rng: np.random.Generator) -> tuple[NDArray[np.uint8], NDArray[np.float32]]:
    """As many rows, each example as often as any other, but for one."""
    turns = -(-rows // len(pool))
    order = np.concatenate([rng.permutation(len(pool)) for _ in range(turns)])[:rows]
    return pool.images[order], pool.targets[order]


@dataclass(frozen=True, slots=True)
class Mixture:
    """The chosen share of the new weights, and the mean loss on the calibration split of each share that was tried."""

    share: float
    losses: Mapping[float, float]


def choose_mixture(
    regressor: Regressor,
    parent: Weights,
    task: RefinedTask,
    config: RefinementConfig,
    progress: Callable[[int, int], None],
) -> Mixture:
    """Leaves `regressor` with the weights of the best share; its own are those of share 1.

    The best share has the smallest mean loss on the calibration split, a source counting once. Shares that make the
    task's own part of it worse by more than `config.forgotten` are no choice. The best one must beat the parent by more
    than the standard error of their difference, else the share is 0: among several tries one is always a little better
    by chance.
    """
    child = copied(regressor)
    examples = task.examples("calibration", task.calibration_views, CALIBRATION_SEED)
    losses: dict[float, Array] = {}
    shares = sorted({0.0, *config.mixtures})
    for done, share in enumerate(shares, start=1):
        regressor.load_state_dict(mixed(parent, child, share))
        losses[share] = _source_losses(regressor, examples, task)
        progress(done, len(shares))
    share = _best(losses, len(losses[0.0]) - len(task.calibrate), config.forgotten)
    regressor.load_state_dict(mixed(parent, child, share))
    return Mixture(share, {tried: float(column.mean()) for tried, column in losses.items()})


def predictions(regressor: Regressor, images: NDArray[np.uint8]) -> NDArray[np.float32]:
    """images: [n, h, w, c] -> [n, ...] in canvas units, in eval mode."""
    regressor.eval()
    with torch.no_grad():
        batches = torch.split(torch.from_numpy(images), BATCH)
        return torch.cat([regressor(normalise(batch)).prediction for batch in batches]).numpy()


def _source_losses(regressor: Regressor, examples: Examples, task: RegressionTask) -> Array:
    """[m]: the mean loss of each source."""
    losses = task.true_loss(predictions(regressor, examples.images), examples.targets)
    _, source = np.unique(examples.source, return_inverse=True)
    return np.asarray(np.bincount(source, losses) / np.bincount(source), np.float64)


def _best(losses: Mapping[float, Array], old: int, forgotten: float) -> float:
    """old: how many of the sources, the first ones, are the task's own."""
    allowed = (1 + forgotten) * losses[0.0][:old].mean()
    kept = [share for share, column in losses.items() if share == 0 or column[:old].mean() <= allowed]
    best = min(kept, key=lambda share: (losses[share].mean(), share))
    gain = losses[0.0] - losses[best]
    error = gain.std(ddof=1) / np.sqrt(gain.size) if gain.size > 1 else np.inf
    return best if gain.mean() > STANDARD_ERRORS * error else 0.0
