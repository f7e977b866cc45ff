"""`losscast queue`: the labelling queue from the command line."""

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import orjson
import typer
from rich.console import Console
from rich.table import Table

from service.client import DEFAULT_URL, ClientError, LosscastClient
from service.commands.console import ApiKey, AsJson, Model, Url, connected, fail, print_json, say, table
from service.commands.labels import export, send_folder
from service.formats import folder as label_folder
from service.formats.folder import FolderError
from service.schemas.labelling import MAX_LEASE, LeasedSample

app = typer.Typer(
    no_args_is_help=True,
    help="Get the most valuable samples for labelling, and send labels back.\n\n"
    "With files: run `losscast queue lease -n 20 -a ada --out todo`, fill in `label` in each todo/*.json, then run "
    "`losscast queue label --from todo`.",
)

By = Annotated[str, typer.Option("--annotator", "-a", envvar="LOSSCAST_ANNOTATOR", help="Who labels.")]
Samples = Annotated[
    list[str], typer.Argument(help="Sample ids, or JSON files that `losscast queue lease --out` wrote.")
]
MaybeBy = Annotated[
    str | None,
    typer.Option("--annotator", "-a", envvar="LOSSCAST_ANNOTATOR", help="Who labels; a JSON file has the name."),
]
Token = Annotated[str | None, typer.Option(help="The token of the lease; a JSON file has it.")]


@app.command()
def stats(url: Url = DEFAULT_URL, api_key: ApiKey = None, model: Model = None, as_json: AsJson = False) -> None:
    """Count the samples that are pending, leased, labelled, rejected and so on."""
    with connected(url, api_key) as client:
        counts = client.stats(model=model)
    if as_json:
        print_json(counts)
        return
    rows = table("state", "number")
    for state, count in counts.items():
        rows.add_row(state, str(count))
    Console().print(rows)


@app.command()
def lease(
    annotator: By,
    n: Annotated[int, typer.Option("-n", min=1, max=MAX_LEASE, help="How many samples.")] = 1,
    out: Annotated[Path | None, typer.Option(help="Folder for the image and a JSON file of each sample.")] = None,
    token: Annotated[str | None, typer.Option(help="Repeat a token to get the same samples again.")] = None,
    lease_s: Annotated[float | None, typer.Option(min=1, help="Seconds until the samples return to the queue.")] = None,
    url: Url = DEFAULT_URL,
    api_key: ApiKey = None,
    model: Model = None,
    as_json: AsJson = False,
) -> None:
    """Lease the most valuable samples. Those without a label return to the queue when the lease runs out.

    Example: losscast queue lease -n 20 -a ada --lease-s 7200 --out todo
    """
    with connected(url, api_key) as client:
        samples = client.lease(n, annotator=annotator, token=token, model=model, lease_s=lease_s).samples
        if out:
            _write(client, out, samples)
    if as_json:
        for sample in samples:
            print_json(sample.model_dump(exclude_none=True))
    elif not samples:
        say("Nothing was leased: no sample is pending, or the budget of this hour is spent (see losscast queue stats).")
    elif out:
        say(f"{_counted(len(samples))} in {out}: fill in `label` in each JSON, then losscast queue label --from {out}")
    else:
        Console().print(_lease_table(samples, url))


@app.command()
def label(
    sample_id: Annotated[str | None, typer.Argument(help="The id that `losscast queue lease` printed.")] = None,
    values: Annotated[
        str | None,
        typer.Argument(help="JSON: [x, y] in image pixels or null for each keypoint; or one number for each value."),
    ] = None,
    folder: Annotated[
        Path | None,
        typer.Option(
            "--from",
            exists=True,
            file_okay=False,
            help="Send every label that was filled in, of all JSON files in this folder.",
        ),
    ] = None,
    annotator: MaybeBy = None,
    token: Annotated[str | None, typer.Option(help="The token of the lease. Repeat it to retry safely.")] = None,
    url: Url = DEFAULT_URL,
    api_key: ApiKey = None,
    model: Model = None,
) -> None:
    """Send the label of one sample, or all labels of a folder.

    A folder can be sent again at any time: labels that were sent before are reported as such, and no file changes.

    Example: losscast queue label --from todo

    Example: losscast queue label 3f6c... '[[10.5, 12], null, [50, 52], [10, 51]]' -a ada
    """
    if folder:
        if sample_id:
            fail("give either a sample and its values, or --from with a folder")
        with connected(url, api_key) as client:
            send_folder(client, folder)
        return
    if sample_id is None or values is None or annotator is None:
        fail("give a sample, its values and --annotator; or --from with the folder of `losscast queue lease --out`")
    parsed = _parse(values)
    with connected(url, api_key) as client:
        reply = client.label(sample_id, parsed, annotator=annotator, token=token, model=model)
    say(f"{sample_id} {'already has this label' if reply.repeated else 'is labelled'}.")


app.command("labels")(export)


@app.command()
def skip(
    samples: Samples,
    annotator: MaybeBy = None,
    token: Token = None,
    url: Url = DEFAULT_URL,
    api_key: ApiKey = None,
    model: Model = None,
) -> None:
    """Leave samples to others. They return to the queue at once, and this annotator does not get them again.

    Example: losscast queue skip todo/3f6c....json
    """
    with connected(url, api_key) as client:
        for given in samples:
            reply = client.skip(**_whose(given, annotator, token, model))
            say(f"{reply.sample_id} is skipped.")


@app.command()
def reject(
    samples: Samples,
    reason: Annotated[str, typer.Option(help="Why they cannot be labelled: blurred, nobody in it, ...")],
    annotator: MaybeBy = None,
    token: Token = None,
    url: Url = DEFAULT_URL,
    api_key: ApiKey = None,
    model: Model = None,
) -> None:
    """Remove samples from the queue because they cannot be labelled.

    Example: losscast queue reject todo/3f6c....json --reason blurred
    """
    with connected(url, api_key) as client:
        for given in samples:
            reply = client.reject(reason=reason, **_whose(given, annotator, token, model))
            say(f"{reply.sample_id} is rejected.")


@app.command()
def requeue(
    samples: Annotated[list[str] | None, typer.Argument(help="Sample ids; default: all dead letters.")] = None,
    url: Url = DEFAULT_URL,
    api_key: ApiKey = None,
    model: Model = None,
) -> None:
    """Make dead letters pending again. These are samples whose leases ran out too often.

    Example: losscast queue requeue
    """
    with connected(url, api_key) as client:
        say(f"{_counted(client.requeue(samples or None, model=model).requeued)} pending again.")


@app.command()
def erase(
    samples: Annotated[list[str], typer.Argument(help="Sample ids.")],
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask for confirmation.")] = False,
    url: Url = DEFAULT_URL,
    api_key: ApiKey = None,
    model: Model = None,
) -> None:
    """Erase samples everywhere: the image, the place in the queue and the label. This cannot be undone.

    Example: losscast queue erase 3f6c... --yes
    """
    if not yes:
        what = f"{len(samples)} samples with their images and labels"
        typer.confirm(
            f"Erase {what if len(samples) > 1 else '1 sample with its image and label'} for good?", abort=True
        )
    with connected(url, api_key) as client:
        for sample_id in samples:
            erased = client.erase(sample_id, model=model).erased
            say(f"{sample_id} {'is erased' if erased else 'is not known: there is nothing to erase'}.")


def _write(client: LosscastClient, folder: Path, samples: Sequence[LeasedSample]) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for sample in samples:
            label_folder.write(folder, sample, client.image(sample))
    except (OSError, FolderError, ClientError) as error:
        again = f"; the samples are leased: try again with --token {samples[0].token}" if samples else ""
        fail(f"{error}{again}")


def _counted(n: int) -> str:
    return "1 sample is" if n == 1 else f"{n} samples are"


def _parse(values: str) -> list[Any] | dict[str, Any]:
    try:
        parsed = orjson.loads(values)
    except orjson.JSONDecodeError as error:
        fail(f"the values are not JSON ({error}): write them like '[[10.5, 12], [50, 12]]'")
    if not isinstance(parsed, list | dict):
        fail("the values must be a JSON list, one [x, y] or one number per name, or an object with them by name")
    return parsed


def _whose(given: str, annotator: str | None, token: str | None, model: str | None) -> dict[str, Any]:
    """Arguments for the client's skip and reject. given: a sample id or a JSON file."""
    if not given.endswith(".json"):
        return {"sample": given, "annotator": annotator, "token": token, "model": model}
    try:
        file = label_folder.read(Path(given))
    except FolderError as error:
        fail(str(error))
    return {"sample": file.sample_id, "annotator": file.annotator, "token": file.token, "model": file.model}


def _lease_table(samples: Sequence[LeasedSample], url: str) -> Table:
    rows = table("sample", "lane", "reasons", "predicted loss", "value", "image")
    for sample in samples:
        loss, value = f"{sample.predicted_loss:.3g}", f"{sample.value:.3g}"
        rows.add_row(sample.sample_id, sample.lane, ", ".join(sample.reasons), loss, value, url + sample.image)
    return rows
