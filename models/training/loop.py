"""The training loop: epochs of shuffled batches on one device or many, logged, and resumable after a kill.

columns of an epoch -> shuffled rows -> batch on the device -> scalar loss -> optimiser step -> running average
of the weights. With a folder, the state after every epoch is written there in one step, with the random state. So a
run that was killed and is started again ends with the same weights as a run without the kill. All random numbers come
from PyTorch's CPU generator, and every process of a run draws the same ones.
"""

import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any, Self

import torch
from lightning_fabric import Fabric
from lightning_fabric.loggers.logger import Logger
from lightning_fabric.loggers.tensorboard import TensorBoardLogger
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

WARM_UP = 0.2  # share of the steps in which the learning rate rises

Columns = Callable[[int], tuple[Tensor, ...]]  # epoch -> training data, one row for each example
Loss = Callable[..., Tensor]  # (module, a batch of each column) -> scalar
Measure = Callable[[nn.Module], Mapping[str, float]]  # the averaged module, in eval mode -> figures to log


class TrainingError(ValueError):
    """Training cannot start, continue or resume; the message says why."""


@dataclass(frozen=True, slots=True)
class Trainer:
    """The devices of a training, and the folder for its logs and checkpoints. None: they are not kept."""

    fabric: Fabric
    folder: Path | None = None

    @classmethod
    def start(
        cls, accelerator: str = "cpu", devices: int | str = 1, precision: Any = "32-true", folder: Path | None = None
    ) -> Self:
        """Uses any accelerator, number of devices and precision that Lightning Fabric knows.

        With several devices this starts a process for each by running the same command line again.
        Raises TrainingError for devices that do not exist.
        """
        loggers: list[Logger] = [] if folder is None else [TensorBoardLogger(folder, name="", version="")]
        try:
            fabric = Fabric(accelerator=accelerator, devices=devices, precision=precision, loggers=loggers)
            fabric.launch()
        except (RuntimeError, ValueError) as error:
            raise TrainingError(f"cannot train on {devices} {accelerator!r} in {precision}: {error}") from error
        return cls(fabric, folder)


@dataclass(frozen=True, slots=True)
class Plan:
    """How one module is fitted. `average`: decay per step of the running average of the weights; 0 keeps none.

    about: everything else that identifies this training, such as data, seed and objective. A checkpoint of another
    training is refused.
    """

    name: str
    size: int  # examples
    epochs: int
    batch_size: int
    learning_rate: float
    weight_decay: float
    average: float = 0.0
    about: str = ""

    @property
    def steps(self) -> int:
        return self.epochs * (self.size // self.rows)

    @property
    def rows(self) -> int:
        """Rows of a batch: `batch_size`, or the number of examples if there are fewer."""
        return min(self.batch_size, self.size)

    def batches(self) -> tuple[Tensor, ...]:
        """One epoch's rows, shuffled. Rows that do not fill a batch are left out of this epoch."""
        return torch.split(torch.randperm(self.size)[: self.size // self.rows * self.rows], self.rows)


def fit(  # noqa: PLR0913, PLR0917 - module, data, loss, settings, device, and two callbacks
    module: nn.Module,
    columns: Columns,
    loss: Loss,
    plan: Plan,
    trainer: Trainer,
    progress: Callable[[int, int], None],
    watch: Measure | None = None,
) -> None:
    """Fits `module` in place and leaves it in eval mode, on the trainer's device. The module docstring gives the steps.

    Raises TrainingError when the loss is no longer finite, when a checkpoint belongs to another plan, and when a batch
    cannot be shared evenly among the devices.
    """
    run = _Run(module, plan, trainer)
    watched = watch if trainer.fabric.is_global_zero else None
    for epoch in range(run.resume(), plan.epochs):
        done = epoch * run.length
        mean = run.epoch(columns(epoch), loss, partial(_report, progress, done, plan.steps))
        figures = {} if watched is None else watched(run.averaged.eval())
        run.log(epoch, {"loss": mean, **figures})
        run.save(epoch + 1)
    run.finish()


def _report(progress: Callable[[int, int], None], done: int, steps: int, step: int) -> None:
    progress(done + step, steps)


class _Run:
    """The state of one `fit`."""

    def __init__(self, module: nn.Module, plan: Plan, trainer: Trainer) -> None:
        self.plan, self.fabric, self.folder = plan, trainer.fabric, trainer.folder
        if plan.rows % self.fabric.world_size:
            raise TrainingError(f"batches of {plan.rows} cannot be shared among {self.fabric.world_size} devices")
        self.module = module
        optimizer = torch.optim.AdamW(module.parameters(), plan.learning_rate, weight_decay=plan.weight_decay)
        warm_up = max(
            WARM_UP, min(0.75, 2 / plan.steps)
        )  # at least one step: OneCycleLR divides by the steps that are left
        self.rates = torch.optim.lr_scheduler.OneCycleLR(optimizer, plan.learning_rate, plan.steps, pct_start=warm_up)
        self.model, self.optimizer = self.fabric.setup(module, optimizer)
        average = get_ema_multi_avg_fn(plan.average)  # type: ignore[no-untyped-call]  # PyTorch ships it without types
        self.average = AveragedModel(module, multi_avg_fn=average, use_buffers=True) if plan.average else None

    @property
    def averaged(self) -> nn.Module:
        return self.module if self.average is None else self.average.module

    @property
    def length(self) -> int:
        return self.plan.steps // self.plan.epochs

    def epoch(self, columns: tuple[Tensor, ...], loss: Loss, progress: Callable[[int], None]) -> float:
        """One pass over the data; returns the mean loss of its batches, on this device."""
        self.model.train()
        total = torch.zeros((), device=self.fabric.device)
        for step, rows in enumerate(self.plan.batches(), start=1):
            mine = rows[self.fabric.global_rank :: self.fabric.world_size]
            batch = self.fabric.to_device(tuple(column[mine] for column in columns))
            self.optimizer.zero_grad()
            value = loss(self.model, *batch)
            self.fabric.backward(value)
            self.optimizer.step()
            self.rates.step()
            if self.average is not None:
                self.average.update_parameters(self.module)
            total += value.detach()
            progress(step)
        mean = float(total) / self.length
        if not torch.isfinite(torch.tensor(mean)):
            raise TrainingError(
                f"the loss of the {self.plan.name} is {mean}: lower the learning rate, check the targets"
            )
        return mean

    def log(self, epoch: int, figures: Mapping[str, float]) -> None:
        """To TensorBoard, as `<plan>/<figure>` over epochs."""
        everything = {"learning_rate": self.rates.get_last_lr()[0], **figures}
        self.fabric.log_dict({f"{self.plan.name}/{key}": value for key, value in everything.items()}, epoch)
        for logger in self.fabric.loggers:
            logger.save()  # so that a kill loses no finished epoch

    def save(self, epochs: int) -> None:
        """Writes the state after `epochs` epochs in one step: a kill leaves this checkpoint or the one before."""
        if self._path is not None and self.fabric.is_global_zero:
            scratch = self._path.with_suffix(".part")
            with scratch.open("wb") as file:
                torch.save({"plan": asdict(self.plan), "epochs": epochs, **self._state()}, file)
                file.flush()
                os.fsync(file.fileno())
            scratch.replace(self._path)
        self.fabric.barrier()

    def resume(self) -> int:
        """Loads the checkpoint if there is one; returns how many epochs are done."""
        if self._path is None or not self._path.exists():
            return 0
        found = torch.load(self._path, map_location="cpu", weights_only=True)
        if found["plan"] != asdict(self.plan):
            raise TrainingError(
                f"{self._path} is of another training: {found['plan']}; give another folder, or delete it"
            )
        for name, part in self._parts().items():
            part.load_state_dict(found[name])
        torch.set_rng_state(found["random"])
        return int(found["epochs"])

    def finish(self) -> None:
        """Copies the averaged weights into the module."""
        if self.average is not None:
            self.module.load_state_dict(self.average.module.state_dict())
        self.module.eval()

    @property
    def _path(self) -> Path | None:
        return None if self.folder is None else self.folder / f"{self.plan.name.replace(' ', '-')}.pt"

    def _parts(self) -> dict[str, Any]:
        parts = {"module": self.module, "optimizer": self.optimizer, "rates": self.rates, "average": self.average}
        return {name: part for name, part in parts.items() if part is not None}

    def _state(self) -> dict[str, Any]:
        return {"random": torch.get_rng_state()} | {name: part.state_dict() for name, part in self._parts().items()}


@contextmanager
def reproducible(seed: int) -> Iterator[None]:
    """Seeds PyTorch and allows only deterministic algorithms; restores both at the end.

    CUDA has no deterministic algorithm for some operations: there the same seed gives nearly the same weights, and a
    warning.
    """
    before = torch.are_deterministic_algorithms_enabled(), torch.is_deterministic_algorithms_warn_only_enabled()
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        torch.use_deterministic_algorithms(mode=True, warn_only=torch.cuda.is_available())
        try:
            yield
        finally:
            torch.use_deterministic_algorithms(mode=before[0], warn_only=before[1])
