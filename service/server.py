"""`losscast serve`: settings, socket, application and uvicorn, each failing with one line.

The lifespan is entered here and not by uvicorn, so that what stops the start is raised to us and
not printed as a traceback.
"""

import asyncio
import logging
import os
import signal
import socket
from collections.abc import Mapping
from typing import Any

import uvicorn
from pydantic import ValidationError
from rich.console import Console

from models.contract.bundle import BundleError
from models.contract.runtime import RuntimeMissing
from service.app import create_app
from service.engine import EngineError
from service.errors import ServiceError
from service.labelling.embedded import EmbeddedError
from service.labelling.journal import JournalBusy, JournalDamaged, JournalUnavailable
from service.settings import Settings

STOPPERS = (
    RuntimeMissing,
    BundleError,
    EngineError,
    JournalBusy,
    JournalDamaged,
    JournalUnavailable,
    EmbeddedError,
    ServiceError,
    ValueError,
    OSError,
)


class StartError(RuntimeError):
    """The service cannot start; the message is one line that says why and what to do."""


def run(options: Mapping[str, Any]) -> None:
    """Serves until SIGTERM or Ctrl-C. options override the environment. Raises StartError."""
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    try:
        settings = Settings(**options)
        asyncio.run(_serve(settings, _bind(settings)))
    except ValidationError as error:
        raise StartError(_first_line(error)) from error
    except STOPPERS as error:
        raise StartError(str(error)) from error


async def _serve(settings: Settings, listener: socket.socket) -> None:
    app = create_app(settings)
    config = uvicorn.Config(
        app,
        lifespan="off",
        log_config=None,
        log_level="warning",
        access_log=False,
        server_header=False,
        timeout_graceful_shutdown=int(settings.request_timeout_s) + 1,
    )
    with listener:
        async with app.router.lifespan_context(app):
            # uvicorn stops on these, then raises them again for us: the lifespan must still be closed.
            for number in (signal.SIGINT, signal.SIGTERM):
                signal.signal(number, lambda *_: None)
            _greet(settings, listener)
            await uvicorn.Server(config).serve(sockets=[listener])


def _bind(settings: Settings) -> socket.socket:
    family = socket.AF_INET6 if ":" in settings.host else socket.AF_INET
    try:
        return socket.create_server((settings.host, settings.port), family=family, backlog=2048)
    except OSError as error:
        raise StartError(
            f"cannot bind to {settings.host}:{settings.port} ({os.strerror(error.errno or 0)}): "
            "choose another with --port or LOSSCAST_PORT"
        ) from error


def _greet(settings: Settings, listener: socket.socket) -> None:
    host, port = listener.getsockname()[:2]
    url = f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"
    Console().print(
        f"Losscast serves {settings.model} on {url}\n"
        f"  try it   curl --data-binary @photo.jpg -H 'Content-Type: image/jpeg' {url}/v1/predict\n"
        f"  read     {url}/docs\n"
        f"  watch    {url}/metrics",
        highlight=False,
        soft_wrap=True,
    )


def _first_line(error: ValidationError) -> str:
    first = error.errors()[0]
    where = "".join(f"LOSSCAST_{str(part).upper()}: " for part in first["loc"][:1])
    return where + first["msg"].removeprefix("Value error, ")
