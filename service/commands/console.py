"""What the commands that talk to a service share: their options, how they print, how they fail."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Annotated, Any, NoReturn

import orjson
import typer
from rich.console import Console
from rich.table import Table
from stamina.instrumentation import set_on_retry_hooks

from service.client import ClientError, LosscastClient

RETRY_S = 3.0  # somebody waits for the answer
Url = Annotated[str, typer.Option("--url", envvar="LOSSCAST_URL", help="Where the service runs.")]
ApiKey = Annotated[
    str | None, typer.Option("--api-key", envvar="LOSSCAST_API_KEY", help="Needed if the service has keys.")
]
Model = Annotated[str | None, typer.Option("--model", "-m", help="Which model; the service's default when left out.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON, one object a line, for other programs.")]


@contextmanager
def connected(url: str, api_key: str | None) -> Iterator[LosscastClient]:
    """A client; its errors end the command."""
    set_on_retry_hooks([])  # else every retry is printed, by structlog among the output
    try:
        with LosscastClient(url, api_key=api_key, retry_s=RETRY_S) as client:
            yield client
    except ClientError as error:
        fail(str(error))


def fail(message: str) -> NoReturn:
    """Ends the command with one line on stderr."""
    line = " ".join(message.split())
    Console(stderr=True, soft_wrap=True, highlight=False).print(f"losscast: {line}", markup=False, style="red")
    raise typer.Exit(1)


def say(message: str) -> None:
    """One line, as it is."""
    Console(soft_wrap=True, highlight=False).print(message, markup=False)


def print_json(fields: Any) -> None:
    sys.stdout.write(orjson.dumps(fields).decode() + "\n")


def table(*columns: str) -> Table:
    made = Table()
    for column in columns:
        made.add_column(column, overflow="fold")  # an id or a path that is cut off is of no use
    return made
