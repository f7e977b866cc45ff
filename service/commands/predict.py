"""`losscast predict`: sends images to a running service and prints the replies as a table or as JSON."""

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import orjson
import typer
from rich.console import Console
from rich.table import Table

from service.client import DEFAULT_URL, ClientError, LosscastClient
from service.commands.console import ApiKey, AsJson, Model, Url, connected, fail, print_json, table
from service.schemas.predictions import PredictionFields, PredictReply

FEW = 4  # values that a cell of the table can hold


def predict(
    images: Annotated[list[Path], typer.Argument(help="JPEG, PNG or WebP files.", exists=True, dir_okay=False)],
    url: Url = DEFAULT_URL,
    api_key: ApiKey = None,
    model: Model = None,
    operating_point: Annotated[
        str | None, typer.Option(help="The operating point whose guarantee the verdict keeps.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Ask a running service about images: prediction, predicted loss and verdict.

    Example: losscast predict photos/*.jpg --json | jq .predicted_loss
    """
    with connected(url, api_key) as client:
        replies = [(path, _ask(client, path, model, operating_point)) for path in images]
    if as_json:
        for path, reply in replies:
            print_json({"file": str(path), **_fields(reply)})
    else:
        Console().print(_prediction_table(replies))
    if any(isinstance(reply, ClientError) for _, reply in replies):
        raise typer.Exit(1)


def _ask(
    client: LosscastClient, path: Path, model: str | None, operating_point: str | None
) -> PredictReply | ClientError:
    try:
        return client.predict(path, model=model, operating_point=operating_point)
    except ClientError as error:
        if error.status is None:
            fail(str(error))  # there is no service, so the other images would fail as well
        return error


def _fields(reply: PredictReply | ClientError) -> dict[str, Any]:
    return {"error": str(reply)} if isinstance(reply, ClientError) else reply.model_dump(exclude_none=True)


def _prediction_table(replies: Sequence[tuple[Path, PredictReply | ClientError]]) -> Table:
    units = {reply.loss_unit for _, reply in replies if not isinstance(reply, ClientError)}  # one model: one unit
    rows = table("image", "prediction", ", ".join(("predicted loss", *units)), "OOD score", "verdict", "queue")
    for path, reply in replies:
        if isinstance(reply, ClientError):
            rows.add_row(str(path), f"[red]{reply}[/red]")
            continue
        verdict = f"[yellow]lossy: {', '.join(reply.verdict.reasons)}[/yellow]" if reply.verdict.lossy else "passed"
        loss = f"{reply.predicted_loss:.3g}"
        rows.add_row(str(path), _short(reply.prediction), loss, f"{reply.ood_score:.3g}", verdict, reply.queue)
    return rows


def _short(prediction: PredictionFields) -> str:
    """The values, if there are few. Otherwise their number, and the one with the largest predicted loss."""
    if len(prediction.values) <= FEW:
        return " ".join(str(orjson.dumps(_rounded(value)), "ascii") for value in prediction.values)
    count = f"{len(prediction.values)} {'keypoints' if prediction.kind == 'keypoints' else 'values'}"
    if prediction.predicted_loss is None:
        return count
    loss, name = max(zip(prediction.predicted_loss, prediction.names, strict=True))
    return f"{count}, worst {name} ({loss:.2g})"


def _rounded(value: Any) -> Any:
    return [round(part, 1) for part in value] if isinstance(value, list) else round(value, 3)
