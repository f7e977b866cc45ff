"""A `losscast serve` of one's own: on a free port, with a state folder of its own, gone at the end."""

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
STOP_LIMIT_S = 60.0  # the service gives its requests, its drain and its queue about half of that
POLL_S = 0.1
LOG_LINES = 20


class NotServing(RuntimeError):  # noqa: N818 - it says what is the matter
    """The service did not come up; the message holds the end of its log."""


@contextmanager
def running_service(bundles: Path, model: str, state: Path, **settings: str) -> Iterator[str]:
    """URL of a service that is ready. It is stopped on the way out, whatever the reason.

    bundles: the bundle store; model: which of it; state: an empty folder for journal, blobs, queue and log; settings:
    further LOSSCAST_ variables. Raises NotServing when the service ends early or is not ready within START_LIMIT_S.
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
        # In a session of its own Ctrl-C reaches the demo alone, which then ends the service in order.
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
