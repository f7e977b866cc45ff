"""Collects the labels of a model with their images into a folder from which the model can be refined."""

import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Annotated

import typer

from service.client import DEFAULT_URL, ClientError, LosscastClient
from service.commands.console import ApiKey, Url, connected, fail, label_progress, say
from service.schemas.labelling import LabelLine, SampleReply

NOT_FOUND = 404
RECENT, PAGE = 500, 100  # audits without a label that are taken along, at most, and in one request
RECENT_DAYS, DAY_S = 7.0, 86_400.0


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
    lane calibrate or judge (half each), and never train. Erased samples are left out. The newest audits without a
    label come along, because a flag budget needs none. If the command is cut off, run it
    again: it goes on where it stopped.

    Example: losscast snapshot pose --out snapshots/first
    """
    from models.contract.snapshot import SnapshotError  # noqa: PLC0415 - numpy and OpenCV are slow to import
    from service.formats.snapshot_folder import Audits, write_snapshot  # noqa: PLC0415 - as above

    try:
        with connected(url, api_key) as client, label_progress(client, model) as advance:
            made = write_snapshot(
                out,
                model,
                client.model(model)["task"],
                pages=_pages(client, model, advance),
                fetch=lambda line: _image(client, line),
                previous=previous,
                audits=Audits(
                    _recent(client, model),
                    lambda one: _found(client, one),
                    client.stats(model=model).get("rejected_audit", 0),
                ),
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


def _recent(client: LosscastClient, model: str) -> list[SampleReply]:
    """The newest audits without a label. They come in pages while new ones may arrive, so one may come twice."""
    found = dict[str, SampleReply]()
    oldest = time.time() - RECENT_DAYS * DAY_S
    for start in range(0, RECENT, PAGE):
        page = client.audits(model=model, start=start, n=PAGE).samples
        found |= {sample.sample_id: sample for sample in page if sample.flagged_at >= oldest}
        if len(page) < PAGE:
            break
    return list(found.values())


def _image(client: LosscastClient, line: LabelLine) -> bytes | str:
    """The image, or that it is gone. Raises ClientError."""
    return _found(client, line) or "its image is gone"


def _found(client: LosscastClient, sample: LabelLine | SampleReply) -> bytes | None:
    try:
        return client.image(sample.sample_id, model=sample.model)
    except ClientError as error:
        if error.status != NOT_FOUND:
            raise
        return None
