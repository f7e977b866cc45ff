"""Runs `losscast ...` in this process, which saves a second for each command: the imports of a new process."""

import io
import os
import sys
from collections.abc import Mapping
from contextlib import redirect_stderr, redirect_stdout
from subprocess import CompletedProcess
from unittest.mock import patch

import losscast


def run(*arguments: object, environment: Mapping[str, str]) -> "CompletedProcess[str]":
    """What the command prints, and its exit code. environment: replaces that of this process. Its input is empty."""
    command = ["losscast", *map(str, arguments)]
    out, err = (io.TextIOWrapper(io.BytesIO(), "utf-8", write_through=True) for _ in range(2))
    with (
        patch.dict(os.environ, environment, clear=True),
        patch.object(sys, "argv", command),
        patch.object(sys, "stdin", io.StringIO()),
        redirect_stdout(out),
        redirect_stderr(err),
    ):
        code = _exit_code()
    return CompletedProcess(command, code, _text(out), _text(err))


def _exit_code() -> int:
    try:
        losscast.main()
    except SystemExit as end:
        return int(end.code or 0)
    return 0


def _text(stream: io.TextIOWrapper) -> str:
    stream.flush()
    buffer = stream.buffer
    assert isinstance(buffer, io.BytesIO)
    return buffer.getvalue().decode()
