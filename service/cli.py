"""The online commands: serve, predict, drift, and the labelling queue. Heavy imports are inside commands."""

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import orjson
import typer
from rich.console import Console
from rich.table import Table

from service.client import DEFAULT_URL, ClientError, LosscastClient
from service.commands import queue
from service.commands.console import ApiKey, AsJson, Model, Url, connected, fail, print_json, table
from service.commands.drift import drift
from service.errors import StartError
from service.schemas.predictions import PredictionFields, PredictReply

FEW = 4  # values that a cell of the table holds

app = typer.Typer()
app.add_typer(queue.app, name="queue", rich_help_panel="Online")
app.command(rich_help_panel="Online")(drift)


@app.command(rich_help_panel="Online")
def serve(
    host: Annotated[
        str | None, typer.Option(help="Address to bind to. Beyond loopback needs LOSSCAST_API_KEYS.")
    ] = None,
    port: Annotated[int | None, typer.Option(help="Port to bind to; 0 takes a free one.")] = None,
    bundles: Annotated[Path | None, typer.Option(help="The bundle store.")] = None,
    model: Annotated[str | None, typer.Option(help="The default model, of all in the store.")] = None,
    state: Annotated[
        Path | None, typer.Option(help="Folder of the journal, the images and the private Valkey.")
    ] = None,
    provider: Annotated[str | None, typer.Option(help="cpu or gpu.")] = None,
) -> None:
    """Serve a model: predictions with their predicted loss, and the labelling queue.

    Every option can also be set in the environment, with more beside them: LOSSCAST_PORT=9000,
    LOSSCAST_REDIS_URL=redis://host:6379/0, LOSSCAST_API_KEYS=one,two (see docs/operations.md).

    Example: losscast serve --port 9000
    """
    from service.server import run  # noqa: PLC0415 - uvicorn, ONNX Runtime and the rest load only here

    options = {"host": host, "port": port, "bundles": bundles, "model": model, "state": state, "provider": provider}
    try:
        run({name: value for name, value in options.items() if value is not None})
    except StartError as error:
        fail(str(error))


@app.command(rich_help_panel="Online")
def predict(
    images: Annotated[list[Path], typer.Argument(help="JPEG, PNG or WebP files.", exists=True, dir_okay=False)],
    url: Url = DEFAULT_URL,
    api_key: ApiKey = None,
    model: Model = None,
    operating_point: Annotated[str | None, typer.Option(help="Whose promise the verdict is to keep.")] = None,
    as_json: AsJson = False,
) -> None:
    """Ask a running service about images: prediction, predicted loss and verdict.

    Example: losscast predict photos/*.jpg --json | jq .predicted_loss
    """
    with connected(url, api_key) as client:
        replies = [(path, _ask(client, path, model, operating_point)) for path in images]
    if as_json:
        for path, reply in replies:
            print_json({"file": str(path), **_plain(reply)})
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
            fail(str(error))  # no service: the other images would fare no better
        return error


def _plain(reply: PredictReply | ClientError) -> dict[str, Any]:
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
    """All values if they are few; else how many, and which one the model expects to be worst."""
    if len(prediction.values) <= FEW:
        return " ".join(str(orjson.dumps(_rounded(value)), "ascii") for value in prediction.values)
    count = f"{len(prediction.values)} {'keypoints' if prediction.kind == 'keypoints' else 'values'}"
    if prediction.predicted_loss is None:
        return count
    loss, name = max(zip(prediction.predicted_loss, prediction.names, strict=True))
    return f"{count}, worst {name} ({loss:.2g})"


def _rounded(value: Any) -> Any:
    return [round(part, 1) for part in value] if isinstance(value, list) else round(value, 3)
