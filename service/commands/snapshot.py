"""Collects the labels of a model with their images into a folder from which the model can be refined."""

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Annotated

import typer

from service.client import DEFAULT_URL, ClientError, LosscastClient
from service.commands.console import ApiKey, Url, connected, fail, label_progress, say
from service.schemas.labelling import LabelLine

NOT_FOUND = 404


def snapshot(
    model: Annotated[str, typer.Argument(help="Name of the model whose labels are collected.")],
    out: Annotated[Path, typer.Option(help="Folder to make; it must not exist.")],
    previous: Annotated[
        Path | None, typer.Option(help="An older snapshot of this model, whose images are not fetched again.")
    ] = None,
    url: Url = DEFAULT_URL,
    api_key: ApiKey = None,
) -> None:
    """Freeze all labels of a model, with their images, in a folder for training.

    Each sample belongs to one split for good. Flagged samples train (90 %) or are watched (10 %). Samples of the audit
    lane calibrate or judge (half each), and never train. Erased samples are left out. If the command is cut off, run it
    again: it goes on where it stopped.

    Example: losscast snapshot pose --out snapshots/first
    """
    from models.contract.snapshot import SnapshotError  # noqa: PLC0415 - numpy and OpenCV are slow to import
    from service.formats.snapshot_folder import write_snapshot  # noqa: PLC0415 - as above

    try:
        with connected(url, api_key) as client, label_progress(client, model) as advance:
            made = write_snapshot(
                out,
                model,
                client.model(model)["task"],
                pages=_pages(client, model, advance),
                fetch=lambda line: _image(client, line),
                previous=previous,
                rejected_audits=client.stats(model=model).get("rejected_audit", 0),
            )
    except SnapshotError as error:
        fail(str(error))
    except OSError as error:
        fail(f"{out} cannot be written: {error.strerror}")
    splits = ", ".join(f"{number} {split}" for split, number in sorted(made.splits.items()))
    say(f"{out}: {made.rows} labelled samples ({splits}), fingerprint {made.fingerprint[:16]}")
    if made.left_out:
        say(f"{made.left_out} labels are left out; {out / 'left_out.ndjson'} has the reasons")


def _pages(client: LosscastClient, model: str, advance: Callable[[int], None]) -> Iterator[Sequence[LabelLine]]:
    """All labels that are there now. A page counts as done when the next one is asked for."""
    cursor = ""
    while (page := client.label_page(cursor, model=model)).labels:
        yield page.labels
        advance(len(page.labels))
        cursor = page.cursor


def _image(client: LosscastClient, line: LabelLine) -> bytes | str:
    """The image, or that it is gone. Raises ClientError."""
    try:
        return client.image(line.sample_id, model=line.model)
    except ClientError as error:
        if error.status != NOT_FOUND:
            raise
        return "its image is gone"
