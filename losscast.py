"""The command line: the online commands of `service` and the offline commands of `models`."""

import typer

import models.cli
import service.cli

HELP = """Serve an image-regression model that predicts, for each image, the loss it is about to make.

Start with `losscast serve`, then run `losscast predict photo.jpg`. `losscast queue` has the images to label.
"""


def main() -> None:
    app = typer.Typer(help=HELP, no_args_is_help=True, rich_markup_mode="markdown", pretty_exceptions_enable=False)
    app.add_typer(service.cli.app)
    app.add_typer(models.cli.app)
    app()


if __name__ == "__main__":
    main()
