"""The online commands, mounted. Each is a file of `service.commands`."""

import typer

from service.commands import queue
from service.commands.drift import drift
from service.commands.predict import predict
from service.commands.serve import serve
from service.commands.snapshot import snapshot
from service.commands.versions import candidates, history, promote, rollback

PANEL = "Online"  # the heading of these commands in `losscast --help`

app = typer.Typer()
for command in (serve, predict, drift, snapshot, promote, rollback, history, candidates):
    app.command(rich_help_panel=PANEL)(command)
app.add_typer(queue.app, name="queue", rich_help_panel=PANEL)
