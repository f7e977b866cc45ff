"""`losscast refine`: a candidate out of the live version and new labels, once or again and again."""

import signal
import sys
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import typer

from models.commands.console import TASKS, Data, fail, load_task, one_line_errors, progress_bars

WATCH: dict[str, Any] = {"rich_help_panel": "By itself"}


class Promote(StrEnum):
    NEVER = "never"
    GATED = "gated"


class Arm(StrEnum):
    HEAD = "head"
    DECODER = "decoder"
    ALL = "all"


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
    watch: Annotated[
        bool, typer.Option("--watch", help="Stay, and refine whenever labels, time or drift say so.", **WATCH)
    ] = False,
    labels: Annotated[int, typer.Option(min=1, help="New labels that start a refinement.", **WATCH)] = 200,
    hours: Annotated[
        float, typer.Option(min=0, help="Hours after the last one that start one, with new labels.", **WATCH)
    ] = 24.0,
    fewest: Annotated[
        int, typer.Option(min=1, help="New labels without which neither time nor drift starts one.", **WATCH)
    ] = 50,
    promote: Annotated[
        Promote, typer.Option(help="Whether a candidate that passed goes live.", **WATCH)
    ] = Promote.NEVER,
    poll_s: Annotated[float, typer.Option(min=0.1, help="Seconds between two looks at the service.", **WATCH)] = 60.0,
    metrics_host: Annotated[str, typer.Option(help="Address of the refiner's /metrics.", **WATCH)] = "127.0.0.1",
    metrics_port: Annotated[int, typer.Option(min=0, max=65535, help="Its port; 0: a free one.", **WATCH)] = 9108,
) -> None:
    """Make a candidate out of the live version and new labels, and let the gates judge it.

    The live version stays as it is: a candidate that passed goes live by `losscast promote`. It learns
    from the flagged labels of a snapshot, with an old image beside each new one, and is calibrated on
    labels of the audit lane. A second training on old images alone, the placebo, shows what the labels
    were worth. A refinement that was killed goes on where it stopped: run the same command again.

    With --watch it stays, looks at the service, and does all this by itself, one refinement at a time
    over all hosts. It promotes nothing unless --promote gated says so.

    Examples: losscast refine digits --url http://localhost:8000

    losscast refine pose --data lspet --snapshot snapshots/first --effort 0.5 --arm decoder

    losscast refine digits --trainer "python my_training.py"

    losscast refine pose --data lspet --watch --labels 300 --promote gated
    """
    with one_line_errors():
        if watch:
            from models.refinement.by_itself.triggers import Wanted  # noqa: PLC0415 - heavy imports are inside commands
            from models.refinement.by_itself.watch import watch as stay  # noqa: PLC0415 - as above

            if snapshot is not None:
                raise ValueError("--watch takes a new snapshot for each refinement: leave --snapshot out")
            options = _options(data, effort, arm, seed, trainer, accelerator)
            stay(
                model,
                store,
                url,
                options,
                Wanted(labels, hours, fewest),
                poll_s,
                promote is Promote.GATED,
                who,
                metrics_host,
                metrics_port,
            )
            return
        from models.contract.bundle import read_manifest  # noqa: PLC0415 - as above
        from models.refinement.command import alone, ask, print_outcome, refine_model  # noqa: PLC0415 - as above
        from models.refinement.config import BUSY, Busy  # noqa: PLC0415 - as above

        signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))  # the lock is given back
        try:
            with alone(model, store, snapshot, url) as lock:
                wish = ask(model, store, snapshot, url, who, effort, arm.value, seed, trainer)
                made = read_manifest(wish.live).provenance
                if made.task not in TASKS:
                    raise ValueError(
                        f"{model} was adopted, and only its owner has its data: refine it in Python with "
                        "models.refinement.adopted.refine_adopted (docs/adopt.md)"
                    )
                task = load_task(made.task, data, made.seed)
                with progress_bars() as progress:
                    outcome = refine_model(wish, task, accelerator, progress, lock)
        except Busy as error:
            fail(str(error), BUSY)
        print_outcome(outcome)


def _options(data: Path | None, effort: float, arm: Arm, seed: int, trainer: str, accelerator: str) -> list[str]:
    """For the command line of one refinement."""
    options = ["--effort", str(effort), "--arm", arm.value, "--seed", str(seed), "--accelerator", accelerator]
    options += ["--data", str(data)] if data else []
    return [*options, *(["--trainer", trainer] if trainer else [])]
