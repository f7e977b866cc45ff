"""Sends the labels of a folder to the service, and exports all labels of the service into one file."""

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, BinaryIO, Literal

import orjson
import typer

from service.client import DEFAULT_URL, ClientError, LosscastClient
from service.commands.console import ApiKey, Model, Url, connected, fail, label_progress, say
from service.formats import folder as label_folder
from service.formats.folder import FolderError


def send_folder(client: LosscastClient, folder: Path) -> None:
    """Sends every label that was filled in, and prints the outcome for each file. Raises ClientError without a service.

    It may be repeated: the token of the lease lets the service recognise a label that was sent before.
    """
    outcomes = {"labelled": 0, "already labelled": 0, "refused": 0, "not filled in": 0}
    for path in label_folder.files(folder):
        outcome, why = _send(client, path)
        outcomes[outcome] += 1
        if outcome != "not filled in":
            say(f"{path.name}: {outcome}{why}")
    say(", ".join(f"{number} {outcome}" for outcome, number in outcomes.items()))
    if outcomes["refused"]:
        raise typer.Exit(1)


def export(
    form: Annotated[
        Literal["ndjson", "coco"],
        typer.Option("--format", help="One JSON line per label, or COCO keypoints."),
    ] = "ndjson",
    out: Annotated[Path | None, typer.Option(help="File to write; default: standard output.")] = None,
    url: Url = DEFAULT_URL,
    api_key: ApiKey = None,
    model: Model = None,
) -> None:
    """Export all labels, oldest first.

    Example: losscast queue labels --format coco --out labels.json
    """
    write = {"ndjson": _write_lines, "coco": _write_coco}[form]
    with connected(url, api_key) as client, _opened(out) as file, label_progress(client, model) as advance:
        number = write(client, model, file, advance)
    if out:
        say(f"{number} labels are in {out}.")


def _send(client: LosscastClient, path: Path) -> tuple[str, str]:
    """The outcome for a file, and the reason if it was refused."""
    try:
        file = label_folder.read(path)
        if file.label is None:
            return "not filled in", ""
        reply = client.label(file.sample_id, file.label, annotator=file.annotator, token=file.token, model=file.model)
    except FolderError as error:
        return "refused", f": {error}"
    except ClientError as error:
        if error.status is None or error.status in {401, 403, 503}:
            raise  # the other files would fail as well
        return "refused", f": {error}"
    return ("already labelled", "") if reply.repeated else ("labelled", "")


def _write_lines(client: LosscastClient, model: str | None, file: BinaryIO, advance: Callable[[int], None]) -> int:
    number = 0
    for number, line in enumerate(client.labels(model=model), start=1):  # noqa: B007 - the last number is the count
        file.write(line.model_dump_json().encode() + b"\n")
        advance(1)
    return number


def _write_coco(client: LosscastClient, model: str | None, file: BinaryIO, advance: Callable[[int], None]) -> int:
    document, cursor = client.coco_page(model=model)
    size = len(document["images"])
    while size:
        advance(size)
        page, cursor = client.coco_page(cursor, model=model)
        document["images"] += page["images"]
        document["annotations"] += page["annotations"]
        size = len(page["images"])
    file.write(orjson.dumps(document) + b"\n")
    return len(document["images"])


@contextmanager
def _opened(out: Path | None) -> Iterator[BinaryIO]:
    """The file, which is written whole or not at all; standard output if out is None."""
    if out is None:
        yield sys.stdout.buffer
        return
    part = out.with_name(f".{out.name}.part")
    try:
        with part.open("wb") as file:
            yield file
        part.replace(out)
    except OSError as error:
        fail(f"{out} cannot be written: {error.strerror}")
    finally:
        part.unlink(missing_ok=True)
