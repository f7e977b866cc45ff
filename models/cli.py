"""The offline commands: train, refine, evaluate, reference, analyse. Each is in `models.commands`.

Heavy imports are inside the commands, because serving needs none.
"""

import typer

from models.commands.analyse import analyse
from models.commands.evaluate import evaluate, reference
from models.commands.refine import refine
from models.commands.train import train

app = typer.Typer()
for command in (train, refine, evaluate, reference, analyse):
    app.command(rich_help_panel="Offline")(command)
