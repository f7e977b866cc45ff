"""Runs a `losscast serve` on a free port with its own state folder, and stops it at the end."""

import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import httpx

START_LIMIT_S = 60.0
STOP_LIMIT_S = 60.0  # the service itself gives its requests, its drain and its queue about half of it
POLL_S = 0.1
LOG_LINES = 20


class NotServing(RuntimeError):  # noqa: N818 - the condition is the name
    """The service did not start; the message contains the end of its log."""


@contextmanager
def running_service(bundles: Path, model: str, state: Path, **settings: str) -> Iterator[str]:
    """Yields the URL of a service that is ready, and stops the service at the end, also after an error.

    bundles: the bundle store; model: the served model; state: an empty folder for journal, blobs, queue and log;
    settings: further LOSSCAST_ variables. Raises NotServing when the service ends early or is not ready within
    START_LIMIT_S.
    """
    port, log = _free_port(), state / "service.log"
    own = {
        "LOSSCAST_PORT": str(port),
        "LOSSCAST_STATE": str(state),
        "LOSSCAST_BUNDLES": str(bundles),
        "LOSSCAST_MODEL": model,
        **settings,
    }
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("LOSSCAST_")}
    with log.open("wb") as output:
        # In its own session the service does not get Ctrl-C. The demo gets it and stops the service.
        process = subprocess.Popen(
            [sys.executable, "-m", "losscast", "serve"],
            env=inherited | own,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        try:
            url = f"http://127.0.0.1:{port}"
            _wait_until_ready(process, url, log)
            yield url
        finally:
            _stop(process)


def _wait_until_ready(process: subprocess.Popen[bytes], url: str, log: Path) -> None:
    deadline = time.monotonic() + START_LIMIT_S
    while process.poll() is None and time.monotonic() < deadline:
        with suppress(httpx.TransportError):
            if httpx.get(f"{url}/v2/health/ready", timeout=POLL_S * 10).is_success:
                return
        time.sleep(POLL_S)
    code = process.poll()
    what = f"was not ready within {START_LIMIT_S:g} s" if code is None else f"ended with exit status {code}"
    tail = "\n".join(log.read_text(errors="replace").splitlines()[-LOG_LINES:])
    raise NotServing(f"the service {what}; the end of its log:\n{tail}")


def _stop(process: subprocess.Popen[bytes]) -> None:
    process.terminate()
    try:
        process.wait(STOP_LIMIT_S)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
