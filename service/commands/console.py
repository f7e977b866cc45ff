"""Shared by the commands that talk to a service: their options, how they print, and how they fail."""

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Annotated, Any, NoReturn

import orjson
import typer
from rich.console import Console
from rich.progress import Progress
from rich.table import Table
from stamina.instrumentation import set_on_retry_hooks

from service.client import ClientError, LosscastClient

RETRY_S = 3.0  # short, because a person waits for the answer
Url = Annotated[str, typer.Option("--url", envvar="LOSSCAST_URL", help="Address of the service.")]
ApiKey = Annotated[
    str | None, typer.Option("--api-key", envvar="LOSSCAST_API_KEY", help="API key, if the service needs one.")
]
Model = Annotated[str | None, typer.Option("--model", "-m", help="Name of the model; default: that of the service.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON for other programs, one object per line.")]


@contextmanager
def connected(url: str, api_key: str | None) -> Iterator[LosscastClient]:
    """A client. Its errors end the command."""
    set_on_retry_hooks([])  # else structlog prints every retry between the output
    try:
        with LosscastClient(url, api_key=api_key, retry_s=RETRY_S) as client:
            yield client
    except ClientError as error:
        fail(str(error))


def fail(message: str) -> NoReturn:
    """Ends the command with one line on stderr and exit code 1."""
    line = " ".join(message.split())
    Console(stderr=True, soft_wrap=True, highlight=False).print(f"losscast: {line}", markup=False, style="red")
    raise typer.Exit(1)


def say(message: str) -> None:
    """Prints one line without wrapping or markup."""
    Console(soft_wrap=True, highlight=False).print(message, markup=False)


def print_json(fields: Any) -> None:
    sys.stdout.write(orjson.dumps(fields).decode() + "\n")


def table(*columns: str) -> Table:
    made = Table()
    for column in columns:
        made.add_column(column, overflow="fold")  # ids and paths must not be cut off
    return made


@contextmanager
def label_progress(client: LosscastClient, model: str | None) -> Iterator[Callable[[int], None]]:
    """A progress bar over all labels of a model, on a terminal. Call what it yields with the number of labels done."""
    console = Console(stderr=True)
    with Progress(console=console, transient=True, disable=not console.is_terminal) as progress:
        task = progress.add_task("labels", total=client.stats(model=model)["labelled"])
        yield lambda number: progress.advance(task, number)
