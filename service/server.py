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
OPEN_FILES = 65_536  # at most. A connection is one, and a slow upload keeps it open for up to LOSSCAST_UPLOAD_TIMEOUT_S


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
    """Secrets that the log hides: keys of this service, of the queue's server, and of the receiver of spans."""
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
    """On the signal to stop it says at once that it is not ready, and accepts requests for `drain_s` more.

    Load balancers need that time to notice. Meanwhile each reply closes its connection, so that no client keeps a
    connection that the end of the process would cut.
    """

    def __init__(self, config: uvicorn.Config, drain_s: float, draining: asyncio.Event) -> None:
        super().__init__(config)
        self._drain_s = drain_s
        self._draining = draining
        self._loop = asyncio.get_running_loop()

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        if self._draining.is_set() or not self._drain_s:  # a second signal means: now
            self._draining.set()
            super().handle_exit(sig, frame)
            return
        self._draining.set()
        closing = (b"connection", b"close")
        self.config.encoded_headers.append(closing)  # for connections that uvicorn answers from its next tick on
        self.server_state.default_headers.append(closing)  # for those before it
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
        proxy_headers=False,  # the client's address is not used
        # Admitted requests are answered, those that are still uploading included.
        timeout_graceful_shutdown=math.ceil(settings.upload_timeout_s + settings.request_timeout_s) + 1,
    )
    loop, opening = asyncio.get_running_loop(), asyncio.current_task()
    with listener:
        for number in (signal.SIGINT, signal.SIGTERM):  # a signal during the start closes the resources that are open
            loop.add_signal_handler(number, opening.cancel if opening else loop.stop)
        async with app.router.lifespan_context(app):
            for number in (signal.SIGINT, signal.SIGTERM):
                loop.remove_signal_handler(number)
                # uvicorn stops on a signal and raises it again; ignored here, so that the lifespan is closed.
                signal.signal(number, lambda *_: None)
            gc.collect()
            gc.freeze()  # the garbage collector, which stops all threads, need not look at loaded models again
            listener.listen(BACKLOG)
            resources: Resources = app.state.resources
            models = resources.models
            _greet([name for name in models.names if models.live_version(name)], listener)
            await _Server(config, settings.drain_s, resources.draining).serve(sockets=[listener])


def _allow_open_files() -> None:
    """Raises the limit on open files as far as the system allows: 1,024, the usual one, is too few connections."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = OPEN_FILES if hard == resource.RLIM_INFINITY else min(OPEN_FILES, hard)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        with suppress(ValueError, OSError):  # a system may allow less than it says; then the old limit stays
            resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))


def _bind(settings: Settings) -> socket.socket:
    """A socket that is bound and does not listen yet: while models load, clients are refused and do not wait."""
    family = socket.AF_INET6 if ":" in settings.host else socket.AF_INET
    # asyncio sets TCP_NODELAY only when the protocol is named; without it replies wait 40 ms for an ACK.
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
