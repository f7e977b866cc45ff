"""`losscast train`: a model with its loss head, from its task to a live version."""

from dataclasses import replace
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import typer

from models.commands.console import TASKS, Data, load_task, one_line_errors, progress_bars


class Objective(StrEnum):
    LEARNING_LOSS_PP = "learning_loss_pp"
    LEARNING_LOSS_PP_WEIGHTED = "learning_loss_pp_weighted"
    LISTWISE = "listwise"
    LEARNING_LOSS = "learning_loss"
    LOG_LOSS = "log_loss"
    GAMMA = "gamma"


class Head(StrEnum):
    CONVOLUTIONAL = "convolutional"
    POOLED = "pooled"
    KEYPOINT = "keypoint"


def train(
    task: Annotated[str, typer.Argument(help=f"The task: {', '.join(TASKS)}.")],
    out: Annotated[Path, typer.Option(help="The bundle store for the new version.")] = Path("bundles"),
    seed: Annotated[int, typer.Option(min=0, help="The same seed and machine give the same weights.")] = 0,
    objective: Annotated[
        Objective | None, typer.Option(help="The objective of the loss head; unset: the task's usual.")
    ] = None,
    head: Annotated[Head | None, typer.Option(help="The kind of loss head; unset: the task's usual.")] = None,
    effort: Annotated[float, typer.Option(min=0.01, help="Training time as a multiple of the usual.")] = 1.0,
    data: Data = None,
    run: Annotated[
        Path | None, typer.Option(help="Folder for TensorBoard logs and checkpoints: a killed run resumes there.")
    ] = None,
    accelerator: Annotated[str, typer.Option(help="cpu, gpu, or another accelerator of Lightning Fabric.")] = "auto",
    devices: Annotated[str, typer.Option(help="The number of devices, or a list such as 0,2.")] = "1",
    precision: Annotated[
        str | None, typer.Option(help="Such as 32-true or bf16-mixed; unset: the task's usual.")
    ] = None,
) -> None:
    """Train a model with its loss head, calibrate and export it, and make it the live version.

    Digits are drawn during the training; pose reads the folder of --data. At the end a table shows the
    figures of the new version, measured on its own ONNX file. The version that was live becomes the
    previous one. This needs more than serving: pip install 'losscast[train,cpu]'.

    Examples: losscast train digits --out bundles

    losscast train digits --out /tmp/try --effort 0.1 --objective learning_loss

    losscast train pose --data lspet --run runs/pose-0 --devices 2
    """
    with one_line_errors():
        to_learn = load_task(task, data, seed)  # first: a wrong name should not wait for the heavy imports
        from models.evaluation.report import print_report  # noqa: PLC0415 - heavy imports are inside commands
        from models.pipeline import train_bundle  # noqa: PLC0415 - as above
        from models.training.loop import Trainer  # noqa: PLC0415 - heavy imports are inside commands
        from models.training.recipes import recipe  # noqa: PLC0415 - as above

        usual = recipe(to_learn)
        chosen: dict[str, Any] = {"objective": objective, "head": head}
        config = replace(usual.config, seed=seed, **{name: one.value for name, one in chosen.items() if one})
        config = config.scaled(effort)
        trainer = Trainer.start(accelerator, devices, precision or usual.precision, run)
        with progress_bars() as progress:
            folder = train_bundle(to_learn, out, config, progress, trainer)
        if trainer.fabric.is_global_zero:
            print_report(_figures(folder), f"{folder}, on the test split")


def _figures(folder: Path) -> dict[str, float]:
    from models.contract.bundle import read_manifest  # noqa: PLC0415 - heavy imports are inside commands

    return read_manifest(folder).evaluation
