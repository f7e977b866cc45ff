"""`losscast evaluate` and `reference`: figures and references of a version, from its ONNX."""

from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from models.commands.console import TASKS, Data, load_task, one_line_errors, progress_bars


def evaluate(
    bundle: Annotated[Path, typer.Argument(help="Folder of one version, such as bundles/digits/1.")],
    data: Data = None,
) -> None:
    """Measure a bundle on its task's test split, from its ONNX alone: the table at the end of its training.

    Example: losscast evaluate bundles/digits/1
    """
    with one_line_errors():
        from models.contract.bundle import read_manifest  # noqa: PLC0415 - heavy imports are inside commands
        from models.evaluation.bundle import evaluate_bundle  # noqa: PLC0415 - as above
        from models.evaluation.report import print_report  # noqa: PLC0415 - as above

        made = read_manifest(bundle).provenance
        task = load_task(made.task, data, made.seed)
        print_report(evaluate_bundle(bundle, task), f"{bundle}, on the test split")


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
    with one_line_errors():
        from models.contract.bundle import read_manifest  # noqa: PLC0415 - heavy imports are inside commands
        from models.contract.index import read_index  # noqa: PLC0415 - as above

        made = read_manifest(bundle).provenance
        if made.task not in TASKS:
            raise ValueError(f"{bundle} is of {made.task!r}, whose data this command does not know: adopt it again")
        from models.publishing.fresh_references import renew_references  # noqa: PLC0415 - as above

        task = load_task(made.task, data, made.seed)
        with progress_bars() as progress:
            folder = renew_references(bundle, task, out, progress)
        live = read_index(folder.parent).live
        state = "live" if str(live) == folder.name else f"not live: version {live} is, with another ONNX"
        watched = ", ".join(read_manifest(folder).drift_reference)
        Console(soft_wrap=True, highlight=False).print(f"{folder} is {state}. Watched: {watched}.", markup=False)
