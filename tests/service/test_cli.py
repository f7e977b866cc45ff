"""The mounted commands, in a process of their own."""

import os
import subprocess
import sys

import pytest

from service.cli import app


@pytest.mark.parametrize("command", ["serve", "predict", "drift", "queue", "promote", "rollback", "history"])
def test_every_online_command_is_mounted(command: str) -> None:
    mounted = {one.callback.__name__ for one in app.registered_commands if one.callback}
    assert command in mounted | {group.name for group in app.registered_groups}


def test_help_names_every_command() -> None:
    environment = {**os.environ, "COLUMNS": "200", "NO_COLOR": "1"}
    command = [sys.executable, "-m", "losscast", "--help"]
    said = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=60, check=True).stdout
    for name in ("serve", "predict", "drift", "queue", "promote", "rollback", "history", "train", "evaluate"):
        assert f" {name} " in said
