"""The offline commands: train, refine, evaluate, reference, analyse.

Heavy imports are inside them, because serving needs none.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any, NoReturn

import typer
from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from models.contract.runtime import RuntimeMissing

app = typer.Typer()

TASKS = ("digits", "pose")


class Objective(StrEnum):
    LEARNING_LOSS_PP = "learning_loss_pp"
    LEARNING_LOSS_PP_WEIGHTED = "learning_loss_pp_weighted"
    LISTWISE = "listwise"
    LEARNING_LOSS = "learning_loss"
    LOG_LOSS = "log_loss"
    GAMMA = "gamma"


class Arm(StrEnum):
    HEAD = "head"
    DECODER = "decoder"
    ALL = "all"


class Head(StrEnum):
    CONVOLUTIONAL = "convolutional"
    POOLED = "pooled"
    KEYPOINT = "keypoint"


Data = Annotated[Path | None, typer.Option(help="Folder of the task's data, for a task that does not make its own.")]


@app.command(rich_help_panel="Offline")
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
    with _one_line_errors():
        to_learn = _load_task(task, data, seed)  # first: a wrong name should not wait for the heavy imports
        from models.evaluation.report import print_report  # noqa: PLC0415 - heavy imports are inside commands
        from models.pipeline import train_bundle  # noqa: PLC0415 - as above
        from models.training.loop import Trainer  # noqa: PLC0415 - heavy imports are inside commands
        from models.training.recipes import recipe  # noqa: PLC0415 - as above

        usual = recipe(to_learn)
        chosen: dict[str, Any] = {"objective": objective, "head": head}
        config = replace(usual.config, seed=seed, **{name: one.value for name, one in chosen.items() if one})
        config = config.scaled(effort)
        trainer = Trainer.start(accelerator, devices, precision or usual.precision, run)
        with _progress_bars() as progress:
            folder = train_bundle(to_learn, out, config, progress, trainer)
        if trainer.fabric.is_global_zero:
            print_report(_figures(folder), f"{folder}, on the test split")


@app.command(rich_help_panel="Offline")
def refine(
    model: Annotated[str, typer.Argument(help="Name of the model, whose live version learns.")],
    snapshot: Annotated[
        Path | None, typer.Option(help="Folder of a snapshot; unset: a new one is taken from the service.")
    ] = None,
    url: Annotated[str | None, typer.Option(help="The service that has the labels, for a new snapshot.")] = None,
    data: Data = None,
    store: Annotated[Path, typer.Option(help="The bundle store with the live version.")] = Path("bundles"),
    effort: Annotated[float, typer.Option(min=0.01, help="Training time as a multiple of the usual.")] = 1.0,
    arm: Annotated[
        Arm, typer.Option(help="What learns: the loss head, also the last layers of the network, or all of it.")
    ] = Arm.ALL,
    seed: Annotated[int, typer.Option(min=0, help="The same seed, snapshot and machine give the same weights.")] = 0,
    trainer: Annotated[
        str, typer.Option(help="A program that trains instead: it gets the folders SNAPSHOT PARENT OUT.")
    ] = "",
    who: Annotated[str, typer.Option(envvar="LOSSCAST_WHO", help="Who asks for it; it is kept.")] = "unknown",
    accelerator: Annotated[str, typer.Option(help="cpu, gpu, or another accelerator of Lightning Fabric.")] = "auto",
) -> None:
    """Make a candidate out of the live version and new labels, and let the gates judge it.

    The live version stays as it is: a candidate that passed goes live by `losscast promote`. It learns
    from the flagged labels of a snapshot, with an old image beside each new one, and is calibrated on
    labels of the audit lane. A second training on old images alone, the placebo, shows what the labels
    were worth. A refinement that was killed goes on where it stopped: run the same command again.

    Examples: losscast refine digits --url http://localhost:8000

    losscast refine pose --data lspet --snapshot snapshots/first --effort 0.5 --arm decoder

    losscast refine digits --trainer "python my_training.py"
    """
    with _one_line_errors():
        from models.contract.bundle import read_manifest  # noqa: PLC0415 - heavy imports are inside commands
        from models.refinement.command import ask, print_outcome, refine_model  # noqa: PLC0415 - as above

        wish = ask(model, store, snapshot, url, who, effort, arm.value, seed, trainer)
        made = read_manifest(wish.live).provenance
        with _progress_bars() as progress:
            outcome = refine_model(wish, _load_task(made.task, data, made.seed), accelerator, progress)
        print_outcome(outcome)


@app.command(rich_help_panel="Offline")
def evaluate(
    bundle: Annotated[Path, typer.Argument(help="Folder of one version, such as bundles/digits/1.")],
    data: Data = None,
) -> None:
    """Measure a bundle on its task's test split, from its ONNX alone: the table at the end of its training.

    Example: losscast evaluate bundles/digits/1
    """
    with _one_line_errors():
        from models.contract.bundle import read_manifest  # noqa: PLC0415 - heavy imports are inside commands
        from models.evaluation.bundle import evaluate_bundle  # noqa: PLC0415 - as above
        from models.evaluation.report import print_report  # noqa: PLC0415 - as above

        made = read_manifest(bundle).provenance
        task = _load_task(made.task, data, made.seed)
        print_report(evaluate_bundle(bundle, task), f"{bundle}, on the test split")


@app.command(rich_help_panel="Offline")
def reference(
    bundle: Annotated[Path, typer.Argument(help="Folder of one version, such as bundles/digits/1.")],
    out: Annotated[Path, typer.Option(help="The bundle store for the new version.")],
    data: Data = None,
) -> None:
    """Compute the references for drift monitoring again, without training.

    The same ONNX, thresholds and figures become the next version in the store of --out, with references
    from the calibration split of the data that the bundle was made from. It goes live if the store has
    no such model yet or serves the same ONNX; otherwise model.json stays as it is.

    Examples: losscast reference bundles/digits/1 --out bundles

    losscast reference bundles/pose/1 --data lspet --out bundles
    """
    with _one_line_errors():
        from models.contract.bundle import read_manifest  # noqa: PLC0415 - heavy imports are inside commands
        from models.contract.index import read_index  # noqa: PLC0415 - as above

        made = read_manifest(bundle).provenance
        if made.task not in TASKS:
            raise ValueError(f"{bundle} is of {made.task!r}, whose data this command does not know: adopt it again")
        from models.publishing.fresh_references import renew_references  # noqa: PLC0415 - as above

        task = _load_task(made.task, data, made.seed)
        with _progress_bars() as progress:
            folder = renew_references(bundle, task, out, progress)
        live = read_index(folder.parent).live
        state = "live" if str(live) == folder.name else f"not live: version {live} is, with another ONNX"
        watched = ", ".join(read_manifest(folder).drift_reference)
        Console(soft_wrap=True, highlight=False).print(f"{folder} is {state}. Watched: {watched}.", markup=False)


@app.command(rich_help_panel="Offline")
def analyse(
    losses: Annotated[Path | None, typer.Option(help="True losses: one number a line, or a .npy file.")] = None,
    bundle: Annotated[Path | None, typer.Option(help="Take the true losses of this bundle's test split.")] = None,
    delta: Annotated[
        float | None, typer.Option(min=0, help="Losses at most this far apart are alike; unset: a quarter of the mean.")
    ] = None,
    margin: Annotated[float, typer.Option(min=0, help="The margin of the hinge, in the unit of the losses.")] = 1.0,
    plot: Annotated[Path | None, typer.Option(help="Also draw the analysis: a .png, .svg or .pdf file.")] = None,
    data: Data = None,
) -> None:
    """Show how often two losses are alike, and the effect on Learning Loss: the paper's analysis.

    Without losses it prints the paper's two tables beside the values of the law behind them. With losses
    it fits a Gamma law, says how well it fits, and counts the pairs that the hinge penalises although
    their losses are alike and the scores are right. This needs: pip install 'losscast[train,cpu]'.

    Examples: losscast analyse --plot paper.png

    losscast analyse --bundle bundles/digits/1 --delta 0.5

    losscast analyse --losses losses.txt --margin 0.5 --plot losses.png
    """
    with _one_line_errors():
        if losses is not None and bundle is not None:
            raise ValueError("give --losses or --bundle, not both")
        if losses is not None:
            from models.analysis.similar_pairs import read_losses  # noqa: PLC0415 - heavy imports are inside commands

            _analyse_losses(read_losses(losses), delta, margin, plot)
        elif bundle is not None:
            from models.contract.bundle import read_manifest  # noqa: PLC0415 - as above
            from models.evaluation.bundle import true_losses  # noqa: PLC0415 - as above

            made = read_manifest(bundle).provenance
            task = _load_task(made.task, data, made.seed)
            _analyse_losses(true_losses(bundle, task), delta, margin, plot)
        else:
            _analyse_paper(plot)


def _analyse_paper(plot: Path | None) -> None:
    from models.analysis.similar_pairs import TABLE_1, print_paper, solve_law  # noqa: PLC0415 - heavy imports are inside commands

    (law,) = solve_law(TABLE_1)
    print_paper(law, Console())
    if plot is not None:
        from models.analysis.plots import draw_paper, save  # noqa: PLC0415 - as above

        save(draw_paper(law), plot)


def _analyse_losses(values: Any, delta: float | None, margin: float, plot: Path | None) -> None:
    from models.analysis.similar_pairs import analyse_losses, print_losses  # noqa: PLC0415 - heavy imports are inside commands

    found = analyse_losses(values, margin, delta)
    print_losses(found, Console())
    if plot is not None:
        from models.analysis.plots import draw_losses, save  # noqa: PLC0415 - as above

        save(draw_losses(values, found), plot)


def _load_task(name: str, data: Path | None, seed: int) -> Any:
    """The task for the model of one seed. Pose models of different seeds hold out different images for their heads."""
    if name not in TASKS:
        raise ValueError(f"unknown task {name!r}: choose one of {', '.join(TASKS)}")
    if name == "pose":
        from models.tasks.pose import FOLDS, Pose  # noqa: PLC0415 - heavy imports are inside commands

        if data is None:
            raise ValueError("pose needs --data, the folder with labels.json and crops-*.tar")
        return Pose(data, seed % FOLDS)
    if data is not None:
        raise ValueError(f"{name} makes its own data and takes no --data")
    from models.tasks.digits import Digits  # noqa: PLC0415 - heavy imports are inside commands

    return Digits()


def _figures(folder: Path) -> dict[str, float]:
    from models.contract.bundle import read_manifest  # noqa: PLC0415 - heavy imports are inside commands

    return read_manifest(folder).evaluation


@contextmanager
def _progress_bars() -> Iterator[Callable[[str, int, int], None]]:
    """A callback that shows one bar for each kind of work."""
    columns = (TextColumn("{task.description:<20}"), BarColumn(), TimeElapsedColumn(), TimeRemainingColumn())
    bars: dict[str, TaskID] = {}
    progress = Progress(*columns, console=Console(stderr=True))

    def update(what: str, done: int, total: int) -> None:
        if not bars:
            progress.start()  # not earlier: an immediate refusal is one line
        bar = bars.get(what)
        if bar is None:
            bar = bars[what] = progress.add_task(what, total=total)
        progress.update(bar, completed=done)

    try:
        yield update
    finally:
        if bars:
            progress.stop()


@contextmanager
def _one_line_errors() -> Iterator[None]:
    """Turns an error that the user can fix into one line with exit code 1. Other errors keep their traceback."""
    try:
        yield
    except ModuleNotFoundError as error:
        _fail(f"{error.name} is not installed; training needs more than serving: pip install 'losscast[train,cpu]'")
    except (RuntimeMissing, ValueError, OSError) as error:
        _fail(" ".join(str(error).split()))


def _fail(message: str) -> NoReturn:
    Console(stderr=True, soft_wrap=True, highlight=False).print(f"losscast: {message}", markup=False, style="red")
    raise typer.Exit(1)
