"""`losscast serve`: runs the service until it is stopped."""

from pathlib import Path
from typing import Annotated

import typer

from service.commands.console import fail
from service.errors import StartError


def serve(
    host: Annotated[
        str | None, typer.Option(help="Address to bind to. An address other than loopback needs LOSSCAST_API_KEYS.")
    ] = None,
    port: Annotated[int | None, typer.Option(help="Port to bind to; 0 takes a free one.")] = None,
    bundles: Annotated[Path | None, typer.Option(help="Folder of the bundle store.")] = None,
    model: Annotated[str | None, typer.Option(help="The default model; it must be in the bundle store.")] = None,
    state: Annotated[
        Path | None, typer.Option(help="Folder for the journal, the images and the private Valkey server.")
    ] = None,
    provider: Annotated[str | None, typer.Option(help="cpu or gpu.")] = None,
) -> None:
    """Serve a model: predictions with their predicted loss, and the labelling queue.

    Each option is also an environment variable, and there are more: LOSSCAST_PORT=9000,
    LOSSCAST_REDIS_URL=redis://host:6379/0, LOSSCAST_API_KEYS=one,two (see docs/operations.md).

    Example: losscast serve --port 9000
    """
    from service.server import run  # noqa: PLC0415 - uvicorn, ONNX Runtime and the rest are slow to import

    options = {"host": host, "port": port, "bundles": bundles, "model": model, "state": state, "provider": provider}
    try:
        run({name: value for name, value in options.items() if value is not None})
    except StartError as error:
        fail(str(error))
