"""Starts `losscast serve` as the fork of a process that has done its imports, which are most of a start.

`python -m tests.forking` reads a request a line from its standard input and answers each with a line: to start a
service, the number of its process; to wait for one that has ended, its exit code. Everything after the imports is
what `losscast serve` does.
"""

import atexit
import functools
import json
import os
import select
import signal
import subprocess
import sys
import threading
from collections.abc import Mapping
from pathlib import Path
from typing import Any


class Forked:
    """A process as `subprocess.Popen` shows one."""

    def __init__(self, environment: Mapping[str, str], log: Path) -> None:
        self._starter = _starter()
        self.pid = self._starter.ask({"environment": dict(environment), "log": str(log)})
        self._ended = os.pidfd_open(self.pid)
        self.returncode: int | None = None

    def poll(self) -> int | None:
        return self._code_within(0)

    def wait(self, timeout: float) -> int:
        """Raises subprocess.TimeoutExpired."""
        code = self._code_within(timeout)
        if code is None:
            raise subprocess.TimeoutExpired("losscast serve", timeout)
        return code

    def send_signal(self, number: int) -> None:
        if self.poll() is None:
            signal.pidfd_send_signal(self._ended, number)

    def kill(self) -> None:
        self.send_signal(signal.SIGKILL)

    def _code_within(self, seconds: float) -> int | None:
        if self.returncode is None and select.select([self._ended], [], [], seconds)[0]:
            self.returncode = self._starter.ask({"wait": self.pid})
            os.close(self._ended)
        return self.returncode


class _Starter:
    def __init__(self) -> None:
        command = [sys.executable, "-m", "tests.forking"]
        root = Path(__file__).resolve().parents[1]
        self._process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, cwd=root)
        self._lock = threading.Lock()
        atexit.register(self._close)

    def ask(self, request: Mapping[str, Any]) -> int:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        with self._lock:
            self._process.stdin.write(json.dumps(request).encode() + b"\n")
            self._process.stdin.flush()
            return int(self._process.stdout.readline())

    def _close(self) -> None:
        self._process.communicate()


@functools.cache
def _starter() -> _Starter:
    return _Starter()


def _answer_requests() -> None:
    from losscast import main  # noqa: PLC0415 - only the starter needs the program
    from service import server  # noqa: F401, PLC0415 - as above; `losscast serve` imports it when it runs

    running = set[int]()
    for line in sys.stdin.buffer:
        request = json.loads(line)
        if "wait" in request:
            running.remove(request["wait"])
            code = os.waitstatus_to_exitcode(os.waitpid(request["wait"], 0)[1])
        else:
            code = os.fork()
            if not code:
                _become_service(request)
                main()
                return
            running.add(code)
        sys.stdout.write(f"{code}\n")
        sys.stdout.flush()
    for process in running:  # the tests were interrupted
        os.kill(process, signal.SIGKILL)


def _become_service(request: Mapping[str, Any]) -> None:
    os.environ.clear()
    os.environ.update(request["environment"])
    sys.argv = ["losscast", "serve"]
    log = os.open(request["log"], os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
    nothing = os.open(os.devnull, os.O_RDONLY)
    for standard, own in enumerate((nothing, log, log)):
        os.dup2(own, standard)


if __name__ == "__main__":
    _answer_requests()
