"""The online commands: serve, predict, and the labelling queue. Heavy imports are inside commands."""

import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any, NoReturn

import orjson
import typer
from rich.console import Console
from rich.table import Table

from service.client import DEFAULT_URL, ClientError, LosscastClient
from service.schemas import LeasedSample, PredictReply

app = typer.Typer()
queue = typer.Typer(no_args_is_help=True, help="Pull the most valuable samples for labelling, and send labels back.")
app.add_typer(queue, name="queue", rich_help_panel="Online")

Url = Annotated[str, typer.Option("--url", envvar="LOSSCAST_URL", help="Where the service runs.")]
ApiKey = Annotated[
    str | None, typer.Option("--api-key", envvar="LOSSCAST_API_KEY", help="Needed if the service has keys.")
]
Model = Annotated[str | None, typer.Option("--model", "-m", help="Which model; the service's default when left out.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON, one object a line, for other programs.")]
By = Annotated[str, typer.Option("--annotator", "-a", envvar="LOSSCAST_ANNOTATOR", help="Who labels.")]


@app.command(rich_help_panel="Online")
def serve(
    host: Annotated[
        str | None, typer.Option(help="Address to bind to. Beyond loopback needs LOSSCAST_API_KEYS.")
    ] = None,
    port: Annotated[int | None, typer.Option(help="Port to bind to; 0 takes a free one.")] = None,
    bundles: Annotated[Path | None, typer.Option(help="The bundle store.")] = None,
    model: Annotated[str | None, typer.Option(help="The model to serve.")] = None,
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
    from service.server import StartError, run  # noqa: PLC0415 - uvicorn, ONNX Runtime and the rest load only here

    options = {"host": host, "port": port, "bundles": bundles, "model": model, "state": state, "provider": provider}
    try:
        run({name: value for name, value in options.items() if value is not None})
    except StartError as error:
        _fail(str(error))


@app.command(rich_help_panel="Online")
def predict(
    images: Annotated[list[Path], typer.Argument(help="JPEG, PNG or WebP files.", exists=True, dir_okay=False)],
    url: Url = DEFAULT_URL,
    api_key: ApiKey = None,
    model: Model = None,
    as_json: AsJson = False,
) -> None:
    """Ask a running service about images: prediction, predicted loss and verdict.

    Example: losscast predict photos/*.jpg --json | jq .predicted_loss
    """
    with LosscastClient(url, api_key=api_key) as client:
        replies = [(path, _ask(client, path, model)) for path in images]
    if as_json:
        for path, reply in replies:
            _print_json({"file": str(path), **_plain(reply)})
    else:
        Console().print(_prediction_table(replies))
    if any(isinstance(reply, ClientError) for _, reply in replies):
        raise typer.Exit(1)


@queue.command()
def stats(url: Url = DEFAULT_URL, api_key: ApiKey = None, model: Model = None, as_json: AsJson = False) -> None:
    """How many samples are pending, leased, labelled."""
    with _connected(url, api_key) as client:
        counts = client.stats(model=model)
    if as_json:
        _print_json(counts)
        return
    table = _table("state", "samples")
    for state, count in counts.items():
        table.add_row(state, str(count))
    Console().print(table)


@queue.command()
def lease(
    annotator: By,
    n: Annotated[int, typer.Option("-n", min=1, max=100, help="How many samples.")] = 1,
    token: Annotated[str | None, typer.Option(help="Repeat a token to get the same samples again.")] = None,
    lease_s: Annotated[float | None, typer.Option(min=1, help="Seconds to keep them.")] = None,
    url: Url = DEFAULT_URL,
    api_key: ApiKey = None,
    model: Model = None,
    as_json: AsJson = False,
) -> None:
    """Take the most valuable samples; unlabelled, they return to the queue when the lease runs out.

    Example: losscast queue lease -n 3 -a ada
    """
    with _connected(url, api_key) as client:
        samples = client.lease(n, annotator=annotator, token=token, model=model, lease_s=lease_s).samples
    if as_json:
        for sample in samples:
            _print_json(sample.model_dump(exclude_none=True))
    elif samples:
        Console().print(_lease_table(samples, url))
    else:
        Console().print("Nothing is pending: no lossy input waits for a label.")


@queue.command()
def label(
    sample_id: Annotated[str, typer.Argument(help="As printed by `losscast queue lease`.")],
    values: Annotated[str, typer.Argument(help="JSON: [[x, y], ...] in image pixels, or one number per name.")],
    annotator: By,
    token: Annotated[str | None, typer.Option(help="Repeat a token to retry safely.")] = None,
    url: Url = DEFAULT_URL,
    api_key: ApiKey = None,
    model: Model = None,
) -> None:
    """Send the label of one sample back.

    Example: losscast queue label 3f6c... '[[10.5, 12], [50, 12], [50, 52], [10, 51]]' -a ada
    """
    try:
        parsed = orjson.loads(values)
    except orjson.JSONDecodeError as error:
        _fail(f"the values are not JSON ({error}): write them like '[[10.5, 12], [50, 12]]'")
    if not isinstance(parsed, list):
        _fail("the values must be a JSON list: one [x, y] or one number per name")
    with _connected(url, api_key) as client:
        client.label(sample_id, parsed, annotator=annotator, token=token, model=model)
    Console().print(f"{sample_id} is labelled.")


@contextmanager
def _connected(url: str, api_key: str | None) -> Iterator[LosscastClient]:
    try:
        with LosscastClient(url, api_key=api_key) as client:
            yield client
    except ClientError as error:
        _fail(str(error))


def _ask(client: LosscastClient, path: Path, model: str | None) -> PredictReply | ClientError:
    try:
        return client.predict(path, model=model)
    except ClientError as error:
        if error.status is None:
            _fail(str(error))  # no service: the other images would fare no better
        return error


def _plain(reply: PredictReply | ClientError) -> dict[str, Any]:
    return {"error": str(reply)} if isinstance(reply, ClientError) else reply.model_dump(exclude_none=True)


def _prediction_table(replies: Sequence[tuple[Path, PredictReply | ClientError]]) -> Table:
    table = _table("image", "prediction", "predicted loss", "OOD score", "verdict", "queue")
    for path, reply in replies:
        if isinstance(reply, ClientError):
            table.add_row(str(path), f"[red]{reply}[/red]")
            continue
        values = " ".join(str(orjson.dumps(_rounded(value)), "ascii") for value in reply.prediction.values)
        verdict = f"[yellow]lossy: {', '.join(reply.verdict.reasons)}[/yellow]" if reply.verdict.lossy else "passed"
        loss = f"{reply.predicted_loss:.3g} {reply.loss_unit}"
        table.add_row(str(path), values, loss, f"{reply.ood_score:.3g}", verdict, reply.queue)
    return table


def _lease_table(samples: Sequence[LeasedSample], url: str) -> Table:
    table = _table("sample", "reasons", "predicted loss", "value", "image")
    for sample in samples:
        loss = f"{sample.predicted_loss:.3g}"
        table.add_row(sample.sample_id, ", ".join(sample.reasons), loss, f"{sample.value:.3g}", url + sample.image)
    return table


def _table(*columns: str) -> Table:
    table = Table()
    for column in columns:
        table.add_column(column, overflow="fold")  # an id or a path that is cut off is of no use
    return table


def _rounded(value: Any) -> Any:
    return [round(part, 1) for part in value] if isinstance(value, list) else round(value, 3)


def _print_json(fields: Any) -> None:
    sys.stdout.write(orjson.dumps(fields).decode() + "\n")


def _fail(message: str) -> NoReturn:
    Console(stderr=True, soft_wrap=True, highlight=False).print(f"losscast: {message}", markup=False, style="red")
    raise typer.Exit(1)
