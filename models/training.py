"""Trains the regressor, then a loss head on what the finished regressor sees; neither touches the other.

examples -> `train_regressor` -> `observe` (frozen, eval mode: feature maps and true losses) ->
`train_loss_head`. The head gets numbers without a gradient, so the regressor's predictions are
bit-identical with and without it. Same seed, machine and thread count: same weights.
"""

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from itertools import repeat

import numpy as np
import torch
from lightning_fabric import Fabric
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from models.loss_head import Architecture, LossHead
from models.objectives import Objective, learning_loss, learning_loss_pp
from models.regressors import normalise
from models.tasks.protocol import Examples, RegressionTask

WEIGHT_DECAY = 1e-4
WARM_UP = 0.2  # share of the steps before the learning rate falls

Progress = Callable[[str, int, int], None]  # what is being done, steps done, steps in all
BatchLoss = Callable[[Tensor, nn.Module], Tensor]  # (rows of the batch, module) -> scalar


def silent(_what: str, _done: int, _total: int) -> None:
    """The progress callback of library use."""


@dataclass(frozen=True, slots=True)
class TrainingConfig:
    seed: int = 0
    objective: Objective = "learning_loss_pp"
    head: Architecture = "convolutional"
    batch_size: int = 32
    trunk_epochs: int = 60  # each on views that no epoch before has seen
    trunk_views: int = 4  # of every source image in an epoch
    trunk_learning_rate: float = 4e-3
    head_views: int = 8
    head_epochs: int = 8
    head_learning_rate: float = 2e-3
    margin: float = 1.0  # of learning_loss, in scores

    def scaled(self, effort: float) -> "TrainingConfig":
        """The same with `effort` times as many epochs, at least one of each."""
        trunk, head = (max(1, round(effort * usual)) for usual in (self.trunk_epochs, self.head_epochs))
        return replace(self, trunk_epochs=trunk, head_epochs=head)

    @classmethod
    def tiny(cls) -> "TrainingConfig":
        """Seconds instead of minutes, for tests of everything that follows training."""
        return cls(trunk_epochs=1, trunk_views=1, head_views=1, head_epochs=1)


@dataclass(frozen=True, slots=True)
class Observations:
    """What a frozen regressor makes of n examples, and how wrong it is on each."""

    maps: tuple[Tensor, ...]  # [n, c_i, h_i, w_i], finest first
    embeddings: Tensor  # [n, e]
    losses: NDArray[np.float64]  # [n], true losses in the task's unit


def train_regressor(
    regressor: nn.Module, task: RegressionTask, config: TrainingConfig, progress: Progress = silent
) -> None:
    """Fits `regressor` in place to the trunk split (smooth L1, in canvas units); leaves it in eval mode.

    Every epoch draws fresh views: canvases seen twenty times are learned by heart (2.3 px against 6.7 on unseen).
    """

    def batch_loss(images: Tensor, targets: Tensor, rows: Tensor, model: nn.Module) -> Tensor:
        return functional.smooth_l1_loss(model(normalise(images[rows])).prediction, targets[rows])

    def epochs() -> Iterator[BatchLoss]:
        for epoch in range(config.trunk_epochs):
            views = task.examples("trunk", config.trunk_views, config.seed, first_view=epoch * config.trunk_views)
            yield partial(batch_loss, torch.from_numpy(views.images), torch.from_numpy(views.targets))

    size = len(task.examples("trunk")) * config.trunk_views
    plan = _Plan(size, config.trunk_epochs, config.batch_size, config.trunk_learning_rate)
    with reproducible(config.seed):
        _fit(regressor, epochs(), plan, partial(progress, "trunk"))


def observe(regressor: nn.Module, examples: Examples, task: RegressionTask, batch_size: int = 64) -> Observations:
    """Runs the frozen regressor in eval mode over `examples`; nothing it returns carries a gradient."""
    regressor.eval()
    with torch.no_grad():
        batches = [
            regressor(normalise(images)) for images in torch.split(torch.from_numpy(examples.images), batch_size)
        ]
    preds = torch.cat([batch.prediction for batch in batches]).numpy()
    return Observations(
        maps=tuple(torch.cat(maps) for maps in zip(*(batch.maps for batch in batches), strict=True)),
        embeddings=torch.cat([batch.embedding for batch in batches]),
        losses=task.true_loss(preds, examples.targets),
    )


def train_loss_head(
    head: LossHead, observations: Observations, config: TrainingConfig, progress: Progress = silent
) -> None:
    """Fits `head` in place to rank the true losses by the chosen objective and leaves it in eval mode."""
    losses = torch.from_numpy(observations.losses).to(torch.float32)

    def batch_loss(rows: Tensor, model: nn.Module) -> Tensor:
        scores = model([one[rows] for one in observations.maps])
        if config.objective == "learning_loss":
            return learning_loss(scores, losses[rows], config.margin)
        return learning_loss_pp(scores, losses[rows])

    plan = _Plan(len(losses), config.head_epochs, config.batch_size, config.head_learning_rate)
    with reproducible(config.seed):
        _fit(head, repeat(batch_loss, plan.epochs), plan, partial(progress, "loss head"))


@contextmanager
def reproducible(seed: int) -> Iterator[None]:
    """Seeds PyTorch and allows deterministic algorithms only, and puts both back as they were."""
    before = torch.are_deterministic_algorithms_enabled()
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        torch.use_deterministic_algorithms(mode=True)
        try:
            yield
        finally:
            torch.use_deterministic_algorithms(mode=before)


@dataclass(frozen=True, slots=True)
class _Plan:
    size: int  # examples
    epochs: int
    batch_size: int
    learning_rate: float

    @property
    def steps(self) -> int:
        return self.epochs * (self.size // self.rows)

    @property
    def rows(self) -> int:
        """Of a batch: fewer than asked for only when there are not that many examples."""
        return min(self.batch_size, self.size)

    def batches(self) -> tuple[Tensor, ...]:
        """One epoch's rows, shuffled; what does not fill a batch waits for the next shuffle."""
        return torch.split(torch.randperm(self.size)[: self.size // self.rows * self.rows], self.rows)


def _fit(module: nn.Module, epochs: Iterable[BatchLoss], plan: _Plan, progress: Callable[[int, int], None]) -> None:
    fabric = Fabric(accelerator="cpu", devices=1)
    optimizer = torch.optim.AdamW(module.parameters(), plan.learning_rate, weight_decay=WEIGHT_DECAY)
    rates = torch.optim.lr_scheduler.OneCycleLR(optimizer, plan.learning_rate, plan.steps, pct_start=WARM_UP)
    model, optimizer = fabric.setup(module.train(), optimizer)
    steps = ((batch_loss, rows) for batch_loss in epochs for rows in plan.batches())
    for step, (batch_loss, rows) in enumerate(steps, start=1):
        optimizer.zero_grad()
        fabric.backward(batch_loss(rows, model))
        optimizer.step()
        rates.step()
        progress(step, plan.steps)
    module.eval()
