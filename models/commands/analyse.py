"""`losscast analyse`: the paper's analysis of similar losses, and of one's own."""

from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console

from models.commands.console import Data, load_task, one_line_errors


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
    with one_line_errors():
        if losses is not None and bundle is not None:
            raise ValueError("give --losses or --bundle, not both")
        if losses is not None:
            from models.analysis.similar_pairs import read_losses  # noqa: PLC0415 - heavy imports are inside commands

            _analyse_losses(read_losses(losses), delta, margin, plot)
        elif bundle is not None:
            from models.contract.bundle import read_manifest  # noqa: PLC0415 - as above
            from models.evaluation.bundle import true_losses  # noqa: PLC0415 - as above

            made = read_manifest(bundle).provenance
            task = load_task(made.task, data, made.seed)
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
