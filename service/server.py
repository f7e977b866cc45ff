"""`losscast serve`: settings, log, socket, application, uvicorn. A failure of each is one line.

The lifespan is entered here and not by uvicorn, which would print an error that stops the start as a traceback.
"""

import asyncio
import gc
import math
import os
import re
import resource
import signal
import socket
from collections.abc import Mapping, Sequence
from contextlib import suppress
from types import FrameType
from typing import Any

import stamina.instrumentation
import uvicorn
from pydantic import ValidationError
from rich.console import Console

from service.app import create_app
from service.edge.connection import Connection
from service.errors import StartError
from service.resources import Resources
from service.settings import Settings

BACKLOG = 2048
OPEN_FILES = 65_536  # at most: each connection is one, and a slow upload keeps its for LOSSCAST_UPLOAD_TIMEOUT_S


def run(options: Mapping[str, Any]) -> None:
    """Serves until SIGTERM or Ctrl-C. options override the environment. Raises StartError."""
    stamina.instrumentation.set_on_retry_hooks([stamina.instrumentation.LoggingOnRetryHook])
    try:
        settings = Settings(**options)
        _open_log(settings)
        _allow_open_files()
        with asyncio.Runner(loop_factory=uvicorn.Config("", loop="auto", log_config=None).get_loop_factory()) as runner:
            runner.run(_serve(settings, _bind(settings)))
    except asyncio.CancelledError:
        return  # stopped before it was open
    except ValidationError as error:
        raise StartError(_first_line(error)) from error
    except OSError as error:  # the system may refuse anything, such as a folder for images
        raise StartError(str(error)) from error


def _open_log(settings: Settings) -> None:
    try:
        from service.telemetry.logs import configure  # noqa: PLC0415 - structlog comes with the runtime's extra
    except ModuleNotFoundError as error:
        raise StartError(f"{error.name} is missing: pip install 'losscast[cpu]', or [gpu]") from error
    configure(settings.log_format, _secrets(settings))


def _secrets(settings: Settings) -> list[str]:
    """What nobody may read in the log: keys of this service, of its queue's server, of the spans' receiver."""
    url = settings.redis_url.get_secret_value() if settings.redis_url else ""
    receivers = [
        value for name, value in os.environ.items() if re.fullmatch(r"OTEL_EXPORTER_OTLP_(\w+_)?HEADERS", name)
    ]
    return [
        *(key.get_secret_value() for key in settings.api_keys),
        *re.findall(r"://[^/@:\s]*:([^/@\s]+)@", url),
        *(pair.partition("=")[2].strip() for headers in receivers for pair in headers.split(",")),
    ]


class _Server(uvicorn.Server):
    """Told to stop, it is not ready at once, and accepts for `drain_s` more, until balancers have noticed.

    Replies close their connection meanwhile, so that no client is left with one that the end would cut.
    """

    def __init__(self, config: uvicorn.Config, drain_s: float, draining: asyncio.Event) -> None:
        super().__init__(config)
        self._drain_s = drain_s
        self._draining = draining
        self._loop = asyncio.get_running_loop()

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        if self._draining.is_set() or not self._drain_s:  # told twice is told to hurry
            self._draining.set()
            super().handle_exit(sig, frame)
            return
        self._draining.set()
        closing = (b"connection", b"close")
        self.config.encoded_headers.append(closing)  # from the next tick on
        self.server_state.default_headers.append(closing)  # and until then
        self._loop.call_soon_threadsafe(self._loop.call_later, self._drain_s, super().handle_exit, sig, frame)


async def _serve(settings: Settings, listener: socket.socket) -> None:
    app = create_app(settings)
    config = uvicorn.Config(
        app,
        http=Connection,
        lifespan="off",
        log_config=None,
        log_level="warning",
        access_log=False,
        server_header=False,
        proxy_headers=False,  # nobody asks for the client's address
        # What was admitted is answered, also what is still being uploaded.
        timeout_graceful_shutdown=math.ceil(settings.upload_timeout_s + settings.request_timeout_s) + 1,
    )
    loop, opening = asyncio.get_running_loop(), asyncio.current_task()
    with listener:
        for number in (signal.SIGINT, signal.SIGTERM):  # while it opens: close again what is open so far
            loop.add_signal_handler(number, opening.cancel if opening else loop.stop)
        async with app.router.lifespan_context(app):
            for number in (signal.SIGINT, signal.SIGTERM):
                loop.remove_signal_handler(number)
                # uvicorn stops on them, then raises them again for us: the lifespan must still be closed.
                signal.signal(number, lambda *_: None)
            gc.collect()
            gc.freeze()  # what is loaded stays: no collection, which stops every thread, has to look at it again
            listener.listen(BACKLOG)
            resources: Resources = app.state.resources
            models = resources.models
            _greet([name for name in models.names if models.live_version(name)], listener)
            await _Server(config, settings.drain_s, resources.draining).serve(sockets=[listener])


def _allow_open_files() -> None:
    """As many as the system lets us have: its first limit, mostly 1,024, is meant for programs of another time."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = OPEN_FILES if hard == resource.RLIM_INFINITY else min(OPEN_FILES, hard)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        with suppress(ValueError, OSError):  # a system may allow less than it says: what there is must do
            resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))


def _bind(settings: Settings) -> socket.socket:
    """Bound and not yet listening: whoever comes while the model loads is refused, and not left waiting."""
    family = socket.AF_INET6 if ":" in settings.host else socket.AF_INET
    # With the protocol named, asyncio sets TCP_NODELAY on what it accepts; else replies wait 40 ms for an ACK.
    listener = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((settings.host, settings.port))
    except OSError as error:
        listener.close()
        raise StartError(
            f"cannot bind to {settings.host}:{settings.port} ({error.strerror}): "
            "choose another with --port or LOSSCAST_PORT"
        ) from error
    return listener


def _greet(models: Sequence[str], listener: socket.socket) -> None:
    host, port = listener.getsockname()[:2]
    url = f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"
    Console().print(
        f"Losscast serves {', '.join(models)} on {url}\n"
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
